//! A backup and a restore are killed (SIGKILL) half-way and run again: what is complete is whole, what is not is refused or
//! finished by the next run, and the store that is backed up stays as it is.
//!
//! The moments of the kills go from the start of a run to about its end. `ES_BACKUP_KILLS=500` for many.

use std::fs;
use std::time::{Duration, Instant};

use es_core::model::Table;
use es_core::{Commit, EventType, ExpectedRevision, NewEvent};
use serde_json::json;

use crate::support::{TestDir, stream};

/// The exit code of damage.
const DAMAGED: i32 = 4;

fn kills() -> u32 {
    std::env::var("ES_BACKUP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Some commits with events, rows and unique keys.
fn commits(from: usize, count: usize) -> impl Iterator<Item = Commit> {
    (from..from + count).map(|number| {
        let event = |index: usize| {
            let payload = json!({"number": number, "index": index, "filling": "x".repeat(number * 37 % 900)});
            NewEvent::json(EventType::new("t").expect("a name"), payload.to_string())
        };
        Commit::to(&stream(&format!("a-{}", number % 17)), ExpectedRevision::Any, (0..4).map(event)).put_row(
            Table::new("rows").expect("a name"),
            format!("{number}"),
            "value",
        )
    })
}

/// Runs the program and kills it at a moment, if it has not ended by then; says whether it was killed.
fn kill_when(dir: &TestDir, args: &[&str], is_time: impl Fn(Duration) -> bool) -> bool {
    let mut child = dir.command(args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let child = child.as_mut().expect("it starts");
    let started = Instant::now();
    while !is_time(started.elapsed()) {
        if child.try_wait().expect("it can be asked").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    true
}

/// How long a run takes, to know where to kill others.
fn time(dir: &TestDir, args: &[&str]) -> Duration {
    let started = Instant::now();
    dir.done(args);
    started.elapsed()
}

#[test]
fn a_backup_that_is_killed_is_no_backup_and_the_next_one_is_whole() {
    let dir = TestDir::with(commits(0, 400));
    let whole = time(&dir, &["backup", "measured"]);
    let mut killed = 0;
    for kill in 0..kills() {
        // NOTE: every third time there is more to back up, so that some backups are the first and some continue others.
        if kill % 3 == 2 {
            dir.commit(commits(400 + 10 * kill as usize, 10));
        }
        let before = dir.done(&["export"]);
        killed += u32::from(kill_when(&dir, &["backup", "backups"], |time| time >= whole * kill / kills()));
        assert_eq!(dir.done(&["export"]), before, "kill {kill}: the source has changed");

        let restored = dir.run(&["restore", "backups", "--to", "restored"]);
        match restored.code {
            // NOTE: the last complete one, which may be older than the store.
            Some(0) => {
                let found = dir.done(&["--store", "restored", "export"]);
                assert!(before.starts_with(&found) && !found.is_empty(), "kill {kill}: another history");
                fs::remove_dir_all(dir.path("restored")).expect("removed");
            }
            code => {
                assert_eq!(code, Some(1), "kill {kill}: {}", restored.err);
                assert!(
                    restored.err.contains("expected backups in backups, found none"),
                    "kill {kill}: {}",
                    restored.err
                );
                assert!(!dir.path("restored").exists());
            }
        }
        // NOTE: repeated only every second time, so that some backups find the rest of several.
        if kill % 2 == 1 {
            dir.done(&["backup", "backups"]);
            dir.done(&["restore", "backups", "--to", "restored"]);
            assert_eq!(dir.done(&["--store", "restored", "export"]), before, "kill {kill}");
            fs::remove_dir_all(dir.path("restored")).expect("removed");
        }
    }
    assert!(killed * 2 > kills(), "only {killed} of {} runs were killed", kills());
    assert_eq!(dir.json(&["verify"])["sound"], json!(true));
    println!("{killed} of {} backups were killed", kills());
}

#[test]
fn a_restore_that_is_killed_is_refused_or_whole() {
    let dir = TestDir::with(commits(0, 400));
    dir.done(&["backup", "backups"]);
    let export = dir.done(&["export"]);
    dir.done(&["restore", "backups", "--to", "measured"]);
    let files = |name: &str| fs::read_dir(dir.path(name)).map_or(0, Iterator::count);
    let whole = files("measured");
    let (mut killed, mut opened) = (0, 0);
    for kill in 0..kills() {
        // NOTE: a copy is quick and its verification is not, so that a moment is a number of files and not a time.
        let goal = kill as usize % whole;
        killed += u32::from(kill_when(&dir, &["restore", "backups", "--to", "target"], |_| files("target") > goal));
        if dir.path("target").exists() {
            let found = dir.run(&["--store", "target", "export"]);
            match found.code {
                Some(0) => {
                    assert_eq!(found.out, export, "kill {kill}: a part of a store opens");
                    opened += 1;
                }
                code => assert!(matches!(code, Some(1 | DAMAGED)), "kill {kill}: {code:?} {}", found.err),
            }
            // NOTE: a service that is started too early must not make a new store of half a restore.
            if found.code != Some(0) {
                let made = dir.run(&["--store", "target", "append", "a-1", "--type", "t", "--data", "{}"]);
                assert_ne!(made.code, Some(0), "kill {kill}: half a restore takes events");
            }
        }
        let again = dir.run(&["restore", "backups", "--to", "target"]);
        if again.code != Some(0) {
            let expected = "expected an empty or a new directory in target, found files; choose another";
            assert!(again.err.contains(expected), "kill {kill}: {}", again.err);
            fs::remove_dir_all(dir.path("target")).expect("removed");
            dir.done(&["restore", "backups", "--to", "target"]);
        }
        assert_eq!(dir.done(&["--store", "target", "export"]), export, "kill {kill}");
        fs::remove_dir_all(dir.path("target")).expect("removed");
    }
    assert_eq!(dir.done(&["export"]), export);
    assert!(killed > opened, "no kill came half-way");
    println!("{killed} of {} restores were killed, of which {opened} were whole already", kills());
}
