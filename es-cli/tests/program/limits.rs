//! Case 14: with few descriptors, a store with many tables could be written but not read.
#![cfg(unix)]

use std::process::Command;

use es_core::model::Tag;
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent};
use es_rocksdb::Options;
use serde_json::json;

use crate::support::{Ran, TestDir, files, runtime, stream};

/// Runs the program with a limit of open files. `-S` sets the soft limit only, which the program can raise.
fn with_limit(dir: &TestDir, limit: &str, args: &[&str]) -> Ran {
    let script = format!("ulimit {limit}; exec {} \"$@\"", env!("CARGO_BIN_EXE_es"));
    let mut command = Command::new("bash");
    command.current_dir(dir.path("")).env("ES_STORE", "store").args(["-c", &script, "bash"]).args(args);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn tables(dir: &TestDir) -> usize {
    files(&dir.path("store/index")).iter().filter(|path| path.extension() == Some("sst".as_ref())).count()
}

#[test]
fn a_store_with_more_tables_than_descriptors_is_read_and_written() {
    let dir = TestDir::new();
    let appended = 4000;
    runtime().block_on(async {
        // Each run of events is a table in each column family.
        let options = Options::new().index_run(60, 1 << 20).log_segment_bytes(8 << 20);
        let store = options.open(dir.path("store")).await.unwrap();
        for number in 0..appended {
            let event = NewEvent::json(EventType::new("t").unwrap(), format!("{{\"pad\":\"{}\"}}", "x".repeat(200)));
            let event = event.tagged(Tag::new(format!("k:{}", number % 7)).unwrap());
            let commit = Commit::to(&stream(&format!("s-{}", number % 500)), ExpectedRevision::Any, [event]);
            store.commit(commit).await.unwrap();
        }
        store.close().await.unwrap();
    });
    assert!(tables(&dir) > 112, "{} tables", tables(&dir));
    for limit in ["-n 112", "-S -n 16"] {
        let done = |args: &[&str]| {
            let ran = with_limit(&dir, limit, args);
            assert_eq!(ran.code, Some(0), "{limit} {args:?}: {}{}", ran.out, ran.err);
            ran.out
        };
        assert_eq!(done(&["export"]).lines().count(), appended + usize::from(limit.starts_with("-S")));
        done(&["stats"]);
        done(&["log", "--tag", "k:1", "--limit", "3"]);
        done(&["verify"]);
        done(&["backup", "backups"]);
        done(&["append", "s-1", "--type", "t", "--data", "1"]);
        done(&["repair"]);
        done(&["restore", "backups", "--to", if limit.starts_with("-S") { "soft" } else { "hard" }]);
    }
    assert_eq!(dir.json(&["verify"])["sound"], json!(true));
    // With fewer descriptors than any read needs, the limit is reported, and never as damage.
    for limit in 18..52 {
        // Each message has both numbers: that of a failed read had none for the limit to set.
        let beginning = format!("this process may have {limit} files open, expected about ");
        let is_advice = |text: &str| {
            let number =
                text.split_once(&beginning).and_then(|(_, rest)| rest.split_once(';')).map(|(number, _)| number);
            number.is_some_and(|number| {
                text.contains(&format!("raise the limit with `ulimit -n {number}` and try again"))
            })
        };
        for args in [["repair"].as_slice(), &["verify"]] {
            let ran = with_limit(&dir, &format!("-n {limit}"), args);
            let is_reported = ran.code == Some(1) && is_advice(&ran.err);
            assert!(ran.code == Some(0) || is_reported, "{limit} {args:?}: {:?} {}{}", ran.code, ran.out, ran.err);
        }
    }
}

#[test]
fn too_few_descriptors_are_reported_with_the_command_that_raises_the_limit() {
    let dir = TestDir::new();
    dir.done(&["append", "s-1", "--type", "t", "--data", "1"]);
    for args in [["stats"].as_slice(), &["append", "s-1", "--type", "t", "--data", "1"]] {
        let reported = (5..24).rev().any(|limit| {
            let ran = with_limit(&dir, &format!("-n {limit}"), args);
            assert!(!ran.err.contains("panicked"), "{}", ran.err);
            ran.code == Some(1) && ran.err.contains("raise the limit with `ulimit -n 256`")
        });
        assert!(reported, "{args:?}");
    }
}
