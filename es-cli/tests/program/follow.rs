//! `log --follow` lists the events that a running service writes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent};
use es_rocksdb::RocksDbStore;
use serde_json::Value;

use crate::support::{TestDir, damage_first_segment, field, runtime, stream};

#[test]
fn a_follower_lists_each_matching_event_once_and_in_order() {
    let dir = TestDir::new();
    let append = |name: &str| {
        let event = NewEvent::json(EventType::new("t").unwrap(), "1");
        Commit::to(&stream(name), ExpectedRevision::Any, [event])
    };
    runtime().block_on(async {
        let store = RocksDbStore::open(dir.path("store")).await.unwrap();
        store.commit(append("a-1")).await.unwrap();
        let mut program = dir
            .command(&["log", "--follow", "--json", "--category", "a", "--limit", "10"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut position = || -> u64 {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            line["position"].as_u64().unwrap()
        };
        assert_eq!(position(), 1);
        for round in 1..10 {
            store.commit(append("b-1")).await.unwrap();
            store.commit(append("a-1")).await.unwrap();
            if round == 5 {
                store.compact().await.unwrap();
            }
            assert_eq!(position(), 2 * round + 1);
        }
        assert!(program.wait().unwrap().success());
        store.close().await.unwrap();
    });
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let events = || NewEvent::json(EventType::new("t").unwrap(), "\"a text that fills the pipe\"");
    let commits = (0..20).map(|_| Commit::to(&stream("a"), ExpectedRevision::Any, (0..500).map(|_| events())));
    let dir = TestDir::with(commits);
    for args in [["log"].as_slice(), &["log", "--json"], &["export"], &["log", "--follow"]] {
        let mut program = dir.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::with_capacity(64, program.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let output = program.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap()),
            (Some(0), String::new()),
            "{args:?}"
        );
    }
}

/// Regression: a reader of standard output that was gone turned damage, and an incomplete export, into success.
#[cfg(unix)]
#[test]
fn a_closed_pipe_hides_neither_damage_nor_an_incomplete_file() {
    let event = |_| NewEvent::json(EventType::new("t").unwrap(), format!("\"{}\"", "x".repeat(1000)));
    let dir = TestDir::with([Commit::to(&stream("a-1"), ExpectedRevision::Any, (0..1000).map(event))]);
    let into_closed_pipe = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        dir.command(args).stdout(writer).status().unwrap().code()
    };
    assert_eq!(into_closed_pipe(&["verify"]), Some(0));

    let made = std::process::Command::new("mkfifo").arg(dir.path("fifo")).status().unwrap();
    assert!(made.success());
    let reader = std::thread::spawn({
        let fifo = dir.path("fifo");
        move || drop(BufReader::new(std::fs::File::open(fifo).unwrap()).lines().next())
    });
    let ran = dir.run(&["export", "fifo"]);
    reader.join().unwrap();
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "error: could not write fifo: Broken pipe (os error 32)\n"));

    dir.done(&["compact"]);
    damage_first_segment(&dir.path("store"));
    for args in [["verify"].as_slice(), &["verify", "--json"], &["repair"]] {
        assert_eq!(into_closed_pipe(args), Some(4), "{args:?}");
    }
}

/// Case 09a: a follower of a restored store waited, and missed the new events up to its position.
#[test]
fn a_position_of_another_log_or_ahead_of_the_log_is_refused() {
    let event = || NewEvent::json(EventType::new("t").unwrap(), "1");
    let append = |count: usize| Commit::to(&stream("a-1"), ExpectedRevision::Any, (0..count).map(|_| event()));
    let dir = TestDir::with([append(2)]);
    let log_id = |store: &str| dir.json(&["--store", store, "info"])["log_id"].as_str().unwrap().to_owned();
    dir.done(&["backup", "bk"]);
    dir.done(&["restore", "bk", "--to", "restored"]);
    let (own, other) = (log_id("store"), log_id("restored"));
    assert_ne!(own, other);
    assert_eq!(dir.json(&["info"])["store_id"], dir.json(&["--store", "restored", "info"])["store_id"]);
    assert_eq!(dir.json(&["append", "a-1", "--type", "t", "--data", "1"])["log_id"], own.as_str());

    let positions = |args: &[&str]| field(&dir.lines(&[&["log"], args].concat()), "position");
    assert_eq!(positions(&["--after", "2"]), [3]);
    assert_eq!(positions(&["--after", &format!("{own}:1")]), [2, 3]);
    assert_eq!(positions(&["--after", &format!("{own}:0")]), [1, 2, 3]);
    assert_eq!(positions(&["--from", &format!("{own}:3")]), [3]);
    assert_eq!(positions(&["--from", "4"]), [0; 0]);
    for args in [["--after", "4"], ["--from", "5"]] {
        let ran = dir.run(&["log", "--follow", args[0], args[1]]);
        let ahead = format!("error: position {} is ahead of the log, which ends at position 3;", args[1]);
        assert!(ran.code == Some(1) && ran.err.starts_with(&ahead), "{}", ran.err);
    }
    for args in [["--after", "1"], ["--from", "2"]] {
        let token = format!("{other}:{}", args[1]);
        let ran = dir.run(&["log", "--follow", args[0], &token]);
        let refused = format!("error: position {} belongs to log {other}, expected a position of log {own};", args[1]);
        assert!(ran.code == Some(1) && ran.err.starts_with(&refused), "{}", ran.err);
    }
    for args in [["--after", "x"], ["--from", "0"], ["--from", &format!("{own}:0")]] {
        assert_eq!(dir.run(&["log", args[0], args[1]]).code, Some(2), "{args:?}");
    }
    dir.refused(&["read", "a-1", "--from", "4"], 1, "error: stream \"a-1\": expected a revision up to 2, found 4");
    assert_eq!(field(&dir.lines(&["read", "a-1", "--from", "3"]), "revision"), [0; 0]);

    // The store is replaced while it is followed.
    let mut follower = dir.command(&["log", "--follow"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert!(lines.nth(3).unwrap().unwrap().contains("a-1"));
    std::fs::rename(dir.path("store"), dir.path("old")).unwrap();
    std::fs::rename(dir.path("restored"), dir.path("store")).unwrap();
    let output = follower.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
}

/// A rule with a typing error hid all events that were written later.
#[test]
fn a_truncation_ahead_of_the_log_is_refused() {
    let event = || NewEvent::json(EventType::new("t").unwrap(), "1");
    let dir = TestDir::with([Commit::to(&stream("a-1"), ExpectedRevision::Any, [event(), event()])]);
    let set =
        |scope: &[&str], first: &str| dir.run(&[&["retain", "set"], scope, &["--truncate-before", first]].concat());
    let refused = set(&["--stream", "a-1"], "200");
    assert_eq!(refused.code, Some(3), "{}", refused.err);
    assert!(refused.err.contains("expected revision 199, found revision 1"), "{}", refused.err);
    let refused = set(&["--category", "a"], "200");
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("expected truncate_before up to 2, found 200"), "{}", refused.err);
    assert_eq!(dir.lines(&["log"]).len(), 2, "nothing is hidden, and no rule is written");
    assert_eq!(set(&["--category", "a"], "2").code, Some(0));
    assert_eq!(set(&["--stream", "a-1"], "1").code, Some(0));
}
