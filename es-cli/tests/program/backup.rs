//! `backup` and `restore` with damage and a full disk.

use std::fs;

use es_core::{Commit, EventType, ExpectedRevision, NewEvent};
use serde_json::json;

use crate::support::{TestDir, flip_in_log, stream};

fn append(name: &str, events: usize) -> Commit {
    let event = |number| NewEvent::json(EventType::new("t").unwrap(), format!("{{\"number\":{number}}}"));
    Commit::to(&stream(name), ExpectedRevision::Any, (0..events).map(event))
}

/// Regression: after a flipped bit in the last backup, each later backup failed with exit code 4 and useless advice,
/// and the error of a restore named files that were deleted already.
#[test]
fn a_damaged_backup_is_named_and_does_not_stop_the_next() {
    let dir = TestDir::with([append("a-1", 2000)]);
    dir.done(&["backup", "bk"]);
    flip_in_log(&dir.path("bk/backup-000001"), "{\"number\":", 100);

    let refused = dir.run(&["restore", "bk", "--to", "target"]);
    assert_eq!(refused.code, Some(4), "{}", refused.err);
    let advice = "there is no other; `es --store bk/backup-000001 repair` shows what can be recovered from it\n";
    assert!(refused.err.starts_with("error: backup 1 in bk/backup-000001 is damaged: "), "{}", refused.err);
    assert!(refused.err.ends_with(advice) && !refused.err.contains("target"), "{}", refused.err);

    let created = dir.done(&["backup", "bk"]);
    assert!(created.starts_with("backup 2: 2000 events, 2000 new, verified, in bk/backup-000002\n"), "{created}");
    assert!(created.contains("\nbackup 1 is damaged, so this backup does not continue it: "), "{created}");
    assert!(created.contains("\ndelete bk/backup-000001, and verify earlier backups"), "{created}");
    assert!(dir.done(&["restore", "bk", "--to", "target"]).starts_with("restored backup 2: 2000 events"));

    flip_in_log(&dir.path("bk/backup-000002"), "{\"number\":", 100);
    let created = dir.json(&["backup", "bk"]);
    assert_eq!(
        (&created["number"], &created["damaged"]["number"], &created["damaged"]["directory"]),
        (&json!(3), &json!(2), &json!("bk/backup-000002"))
    );
    assert_eq!(dir.json(&["backup", "bk"])["damaged"], json!(null));
    fs::remove_dir_all(dir.path("bk/backup-000001")).unwrap();
    let refused = dir.run(&["restore", "bk", "--to", "other", "--number", "2"]);
    let advice = "there is no earlier one, restore a later one with --number: there are 3 to 4\n";
    assert!(refused.err.ends_with(advice), "{}", refused.err);
}

/// Regression: on a full disk, the error of a backup had advice for programs ("repeat the commit with the same event
/// ids"), and a restore left files, so that the next restore was refused. A limit on the length of files simulates the
/// full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_is_reported_with_advice_for_operators_and_leaves_no_files() {
    let dir = TestDir::with((0..8).map(|_| {
        let payload = format!("\"{}\"", "x".repeat(900_000));
        Commit::to(&stream("a-1"), ExpectedRevision::Any, [NewEvent::json(EventType::new("t").unwrap(), payload)])
    }));
    let bounded = |args: &[&str]| {
        let script = format!("trap '' XFSZ; ulimit -f 512; exec {} \"$@\"", env!("CARGO_BIN_EXE_es"));
        let mut command = std::process::Command::new("bash");
        command.current_dir(dir.path("")).env("ES_STORE", "store").args(["-c", &script, "bash"]).args(args);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, output) = bounded(&["backup", "bk"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with("error: could not copy ") && output.contains("File too large"), "{output}");
    dir.done(&["backup", "bk"]);
    fs::write(dir.path("bk/backup-000001/index/000999.sst"), vec![7; 2_000_000]).unwrap();
    let (code, output) = bounded(&["restore", "bk", "--to", "target"]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with("error: could not copy "), "{output}");
    assert!(!dir.path("target").exists());
    dir.done(&["restore", "bk", "--to", "target"]);
}

/// A write to a backup would change what the next backup continues, and what an operator relies on.
#[test]
fn a_backup_is_written_to_only_after_a_restore() {
    let dir = TestDir::with([append("a-1", 3)]);
    dir.done(&["backup", "bk"]);
    let write = ["--store", "bk/backup-000001", "append", "a-1", "--type", "t", "--data", "1"];
    let refused = dir.run(&write);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let root = fs::canonicalize(dir.path("bk")).unwrap().display().to_string();
    let advice = format!(
        "error: the store in {root}/backup-000001 is a backup, which is read-only; restore it into another directory: \
         `es restore {root} --number 1 --to DIR`\n"
    );
    assert_eq!(refused.err, advice);
    for write in [["compact"].as_slice(), &["import", "in.jsonl"], &["delete", "a-1"], &["snapshots", "drop", "--all"]]
    {
        dir.write("in.jsonl", "");
        let refused = dir.run(&[&["--store", "bk/backup-000001"], write].concat());
        assert!(refused.code == Some(1) && refused.err.contains("is a backup"), "{write:?}: {}", refused.err);
    }
    assert!(dir.done(&["--store", "bk/backup-000001", "stats"]).starts_with("3 events"));
    dir.done(&["--store", "bk/backup-000001", "verify"]);
    assert_eq!(dir.json(&["backup", "bk"])["new_events"], json!(0));
    dir.done(&["restore", "bk", "--number", "1", "--to", "restored"]);
    dir.done(&["--store", "restored", "append", "a-1", "--type", "t", "--data", "1"]);
}
