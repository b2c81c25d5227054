//! Kills a backup and a restore (SIGKILL) and repeats them. A backup that has a name is complete. An incomplete backup
//! is removed by the next one, an incomplete restore does not open, and the store that is backed up does not change.
//!
//! A run is killed when the files that it has written show a certain progress, and not after a time, so that the test
//! does not depend on the load of the machine. `ES_BACKUP_KILLS=500` runs it longer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use es_core::model::Table;
use es_core::{Commit, EventType, ExpectedRevision, NewEvent};
use serde_json::json;

use crate::support::{TestDir, files, stream};

/// The exit code for damage.
const DAMAGED: i32 = 4;

fn kills() -> u32 {
    std::env::var("ES_BACKUP_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Returns commits with events and rows.
pub(crate) fn commits(from: usize, count: usize) -> impl Iterator<Item = Commit> {
    (from..from + count).map(|number| {
        let event = |index: usize| {
            let payload = json!({"number": number, "index": index, "padding": "x".repeat(number * 37 % 900)});
            NewEvent::json(EventType::new("t").expect("a name"), payload.to_string())
        };
        Commit::to(&stream(&format!("a-{}", number % 17)), ExpectedRevision::Any, (0..4).map(event)).put_row(
            Table::new("rows").expect("a name"),
            format!("{number}"),
            "value",
        )
    })
}

/// How long a test tries to kill a run before it ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program and kills it once `is_reached` returns true. A run that ends before is undone and repeated.
pub(crate) fn kill_at(dir: &TestDir, args: &[&str], is_reached: impl Fn() -> bool, undo: impl Fn()) {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let mut command = dir.command(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        while !is_reached() && child.try_wait().expect("the state of the process").is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().expect("a process that can be killed");
        // A process that ended by itself has an exit code; a killed one has none.
        if child.wait().expect("the exit status").code().is_none() {
            return;
        }
        undo();
    }
    panic!("each run of {args:?} ended before it reached the progress at which it is killed");
}

fn bytes(path: &Path) -> u64 {
    files(path).iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// The complete backups, oldest first.
fn complete(dir: &TestDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path("backups")).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_backup = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("backup-"));
    let mut backups: Vec<_> = entries.filter(is_backup).collect();
    backups.sort();
    backups
}

#[test]
fn a_killed_backup_leaves_no_backup_and_the_next_one_is_complete() {
    let dir = TestDir::with(commits(0, 400));
    dir.done(&["backup", "measured"]);
    let whole = bytes(&dir.path("measured/backup-000001"));
    let incomplete = dir.path("backups/incomplete");
    for kill in 0..kills() {
        if kill % 3 == 2 {
            dir.commit(commits(400 + 10 * kill as usize, 10));
        }
        let before = dir.done(&["export"]);
        let backups = complete(&dir);
        let goal = whole * u64::from(kill) / u64::from(kills());
        let is_reached = || incomplete.exists() && bytes(&incomplete) >= goal;
        let undo = || {
            for backup in complete(&dir).iter().filter(|backup| !backups.contains(backup)) {
                fs::remove_dir_all(backup).expect("removed");
            }
        };
        kill_at(&dir, &["backup", "backups"], is_reached, undo);
        assert_eq!(dir.done(&["export"]), before, "kill {kill}: the source has changed");
        assert_eq!(complete(&dir), backups, "kill {kill}: a killed backup has a name");

        let restored = dir.run(&["restore", "backups", "--to", "restored"]);
        match restored.code {
            // The last complete backup, which may be older than the store.
            Some(0) => {
                let found = dir.done(&["--store", "restored", "export"]);
                assert!(before.starts_with(&found) && !found.is_empty(), "kill {kill}: another history");
                fs::remove_dir_all(dir.path("restored")).expect("removed");
            }
            code => {
                assert_eq!(code, Some(1), "kill {kill}: {}", restored.err);
                let expected = "expected backups in backups, found none";
                assert!(restored.err.contains(expected), "kill {kill}: {}", restored.err);
                assert!(!dir.path("restored").exists());
            }
        }
        // Repeated only every second time, so that some backups find the rest of several killed ones.
        if kill % 2 == 1 {
            dir.done(&["backup", "backups"]);
            dir.done(&["restore", "backups", "--to", "restored"]);
            assert_eq!(dir.done(&["--store", "restored", "export"]), before, "kill {kill}");
            fs::remove_dir_all(dir.path("restored")).expect("removed");
        }
    }
    assert_eq!(dir.json(&["verify"])["sound"], json!(true));
}

#[test]
fn a_killed_restore_does_not_open_or_is_complete() {
    let dir = TestDir::with(commits(0, 400));
    dir.done(&["backup", "backups"]);
    let export = dir.done(&["export"]);
    dir.done(&["restore", "backups", "--to", "measured"]);
    let copied = |name: &str| files(&dir.path(name)).len();
    let whole = copied("measured");
    let mut opened = 0;
    for kill in 0..kills() {
        let goal = kill as usize % whole;
        let undo = || fs::remove_dir_all(dir.path("target")).expect("removed");
        kill_at(&dir, &["restore", "backups", "--to", "target"], || copied("target") > goal, undo);
        let found = dir.run(&["--store", "target", "export"]);
        match found.code {
            Some(0) => {
                assert_eq!(found.out, export, "kill {kill}: a part of a store opens");
                opened += 1;
            }
            code => {
                assert!(matches!(code, Some(1 | DAMAGED)), "kill {kill}: {code:?} {}", found.err);
                // A service that is started too early must not create a store in an incomplete restore.
                let appended = dir.run(&["--store", "target", "append", "a-1", "--type", "t", "--data", "{}"]);
                assert_ne!(appended.code, Some(0), "kill {kill}: an incomplete restore accepts events");
            }
        }
        let repeated = dir.run(&["restore", "backups", "--to", "target"]);
        if repeated.code != Some(0) {
            let expected = "expected an empty or a new directory in target, found files; choose another";
            assert!(repeated.err.contains(expected), "kill {kill}: {}", repeated.err);
            fs::remove_dir_all(dir.path("target")).expect("removed");
            dir.done(&["restore", "backups", "--to", "target"]);
        }
        assert_eq!(dir.done(&["--store", "target", "export"]), export, "kill {kill}");
        fs::remove_dir_all(dir.path("target")).expect("removed");
    }
    assert_eq!(dir.done(&["export"]), export);
    assert!(opened < kills(), "no restore was killed before it was complete");
}
