//! `log --follow` lists the events that a running service writes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent};
use es_rocksdb::RocksDbStore;
use serde_json::Value;

use crate::support::{TestDir, runtime, stream};

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
