//! A clock that was in the future once, and a clock before 1970.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Clock, SystemClock};
use es_core::testing::ManualClock;
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent};
use es_rocksdb::Options;
use serde_json::json;

use crate::support::{TestDir, field, runtime, stream};

const FIVE_YEARS: u32 = 5 * 365;

/// Appends an event before, during and after the time in which the clock was five years in the future.
fn with_a_clock_once_in_the_future(dir: &TestDir) {
    let now = SystemClock::new().now();
    let clock = Arc::new(ManualClock::at(now));
    runtime().block_on(async {
        let store = Options::new().clock(clock.clone()).open(dir.path("store")).await.unwrap();
        for days in [0, FIVE_YEARS, 0] {
            clock.set(now + Duration::from_secs(24 * 60 * 60) * days);
            let event = NewEvent::json(EventType::new("t").unwrap(), "1");
            store.commit(Commit::to(&stream("x-1"), ExpectedRevision::Any, [event])).await.unwrap();
        }
        assert!(store.ahead_of_clock().unwrap() > Duration::from_secs(24 * 60 * 60) * (FIVE_YEARS - 1));
        store.close().await.unwrap();
    });
}

/// Case 06: after one event of a clock in the future, the export of the store could not be imported any more.
#[test]
fn an_export_is_imported_whatever_its_times() {
    let dir = TestDir::new();
    with_a_clock_once_in_the_future(&dir);
    dir.done(&["delete", "x-1"]);
    let export = dir.done(&["export"]);
    dir.write("e.jsonl", &export);
    for (store, args) in
        [("copy", ["import", "e.jsonl"].as_slice()), ("skip", &["import", "e.jsonl", "--skip-bad", "bad"])]
    {
        let store = ["--store", store];
        let ran = dir.run(&[&store, args].concat());
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(0), "4 lines: 4 added, 0 already stored, 0 skipped\n"),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("note: the last event was recorded 1824 days ahead of the clock"), "{}", ran.err);
        assert_eq!(dir.done(&[&store[..], &["export"]].concat()), export);
    }
}

#[test]
fn a_log_ahead_of_the_clock_is_reported_and_usable() {
    let dir = TestDir::new();
    dir.done(&["append", "y-1", "--type", "t", "--data", "1"]);
    assert_eq!(dir.json(&["info"])["ahead_of_clock_seconds"], json!(null));
    assert_eq!(dir.json(&["verify"]).get("ahead_of_clock_seconds"), None);
    with_a_clock_once_in_the_future(&dir);
    for args in [["info"].as_slice(), &["verify"], &["append", "y-1", "--type", "t", "--data", "1"]] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        assert!(ran.err.starts_with("note: the last event was recorded 1824 days ahead of the clock"), "{}", ran.err);
    }
    assert!(dir.done(&["info"]).contains("ahead of the clock"));
    for args in [["info"], ["verify"]] {
        assert!(dir.json(&args)["ahead_of_clock_seconds"].as_u64() > Some(1824 * 86_400 - 1), "{args:?}");
    }
    let recorded = field(&dir.lines(&["log"]), "recorded_at");
    assert_eq!(recorded[2], recorded[4], "an event gets the time of the last event");
}

/// Case 06: with a clock before 1970, as after a dead battery, the program panicked.
#[cfg(target_os = "linux")]
#[test]
fn a_clock_before_1970_is_an_error() {
    let dir = TestDir::new();
    let (source, shim) =
        (PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/program/shift.c"), dir.path("shift.so"));
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(source).status().unwrap();
    assert!(compiled.success());
    dir.done(&["append", "x-1", "--type", "t", "--data", "1"]);
    dir.write("e.jsonl", dir.done(&["export"]));
    let shifted =
        |args: &[&str]| dir.command(args).env("LD_PRELOAD", &shim).env("CLOCK_SHIFT", "-4000000000").output().unwrap();
    for args in [
        ["append", "x-1", "--type", "t", "--data", "1"].as_slice(),
        &["--store", "new", "append", "x-1", "--type", "t", "--data", "1"],
        &["--store", "new", "import", "e.jsonl"],
        &["delete", "x-1"],
    ] {
        let output = shifted(args);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.contains("expected a clock time of 1970 or later, found 19"), "{args:?}: {err}");
        assert!(err.contains("set the clock of this machine"), "{args:?}: {err}");
    }
    assert!(!dir.path("new").exists(), "no store is created");
    // Reads do not need the clock.
    for args in [["info"].as_slice(), &["verify"], &["log"], &["export"], &["stats"]] {
        let output = shifted(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
