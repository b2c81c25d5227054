//! `verify`, `backup`, `restore`, `compact` and `snapshots`.

use std::fs;

use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, aggregate::snapshot};
use es_rocksdb::RocksDbStore;
use serde_json::json;

use crate::support::{TestDir, field, files, runtime, stream};

fn append(name: &str, events: usize) -> Commit {
    let event = |number| NewEvent::json(EventType::new("t").unwrap(), format!("{{\"number\":{number}}}"));
    Commit::to(&stream(name), ExpectedRevision::Any, (0..events).map(event))
}

#[test]
fn a_backup_of_an_open_store_is_restored() {
    let dir = TestDir::new();
    runtime().block_on(async {
        let store = RocksDbStore::open(dir.path("store")).await.unwrap();
        store.commit(append("a-1", 100)).await.unwrap();
        let first = dir.json(&["backup", "backups"]);
        assert_eq!((&first["number"], &first["new_events"]), (&json!(1), &json!(100)));
        store.commit(append("a-2", 5)).await.unwrap();
        let second = dir.json(&["backup", "backups"]);
        assert_eq!((&second["number"], &second["events"], &second["new_events"]), (&json!(2), &json!(105), &json!(5)));
        store.close().await.unwrap();
    });
    let export = dir.done(&["export"]);
    assert!(dir.done(&["restore", "backups", "--to", "target"]).starts_with("restored backup 2: 105 events"));
    assert_eq!(dir.done(&["--store", "target", "export"]), export);
    dir.refused(
        &["restore", "backups", "--to", "target"],
        1,
        "error: expected an empty or a new directory in target, found files; choose another",
    );
    dir.done(&["restore", "backups", "--to", "earlier", "--number", "1"]);
    assert_eq!(dir.json(&["--store", "earlier", "info"])["head"], json!(100));
    // A backup is a store that read-only commands can read.
    assert_eq!(dir.json(&["--store", "backups/backup-000001", "stats"])["events"], json!(100));
    let ran = dir.run(&["restore", "nowhere", "--to", "other"]);
    assert_eq!(ran.code, Some(1));
    assert!(!dir.path("other").exists());
    let ran = dir.run(&["backup", "."]);
    assert!(ran.err.contains("expected an empty or a new directory"), "{}", ran.err);
}

#[test]
fn verify_lists_damage_and_exits_with_4() {
    let dir = TestDir::with([append("a-1", 2000)]);
    dir.done(&["compact"]);
    assert!(dir.done(&["verify"]).starts_with("sound: 2000 events in 1 stream,"));
    let tables = files(&dir.path("store/index")).into_iter().filter(|file| file.extension() == Some("sst".as_ref()));
    let largest = tables.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let ran = dir.run(&["verify", "--json"]);
    assert_eq!(ran.code, Some(4), "{} at {middle}: {} {}", largest.display(), ran.out, ran.err);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(found["sound"], json!(false));
    let findings = found["damage"].as_array().unwrap();
    let different: std::collections::BTreeSet<_> =
        findings.iter().map(|found| format!("{} {}", found["place"], found["detail"])).collect();
    assert_eq!(different.len(), findings.len(), "{}", ran.out);
    let output = dir.run(&["verify"]).out;
    assert!(
        output.starts_with("damaged: ") && output.contains("`es --store store repair` shows what can be recovered"),
        "{output}"
    );
    // A read that needs the block reports the damage as well.
    let ran = [vec!["export"], vec!["read", "a-1"]].map(|args| dir.run(&args)).into_iter();
    let ran = ran.max_by_key(|ran| ran.code).unwrap();
    assert_eq!(ran.code, Some(4));
    assert!(ran.err.contains("`es --store store repair` shows what can be recovered"), "{}", ran.err);
    // A failed export deletes its file.
    if dir.run(&["export", "out.jsonl"]).code == Some(4) {
        assert!(!dir.path("out.jsonl").exists() && !dir.path("out.jsonl.incomplete").exists());
    }
}

#[test]
fn snapshots_are_listed_and_deleted() {
    let key = |name: &str, revision: u64| [name.as_bytes(), &[0], &revision.to_be_bytes()].concat();
    let numbers = [7u64, 9, 42].map(u64::to_be_bytes).concat();
    let (no_canonical_key, no_origins, no_commands) = ([0], [0; 4], [0; 4]);
    let value = [[3].as_slice(), &numbers, &no_canonical_key, &no_origins, &no_commands, b"state"].concat();
    let keys = [("a-1", 3), ("a-1", 9), ("a-10", 1), ("ab-1", 2), ("b-1", 5)];
    let commit = keys.into_iter().fold(Commit::new(), |commit, (name, revision)| {
        commit.put_row(snapshot::table(), key(name, revision), value.clone())
    });
    let dir = TestDir::with([append("a-1", 1), commit]);
    let streams = |args: &[&str]| {
        let found = dir.json(&[&["snapshots", "list"], args].concat());
        field(found.as_array().unwrap(), "stream")
    };
    assert_eq!(streams(&[]), ["a-1", "a-1", "a-10", "ab-1", "b-1"]);
    assert_eq!(streams(&["--category", "a"]), ["a-1", "a-1", "a-10"]);
    assert_eq!(streams(&["--stream", "a-1"]), ["a-1", "a-1"]);
    let found = dir.json(&["snapshots", "list", "--stream", "b-1"]);
    assert_eq!(
        found[0],
        json!({
            "stream": "b-1", "revision": 5, "position": 42, "fingerprint": "0000000000000007", "bytes": 5
        })
    );
    assert_eq!(dir.done(&["snapshots", "drop", "--stream", "a-1"]), "2 snapshots deleted\n");
    assert_eq!(dir.json(&["snapshots", "drop", "--category", "a"])["deleted"], json!(1));
    assert_eq!(streams(&[]), ["ab-1", "b-1"]);
    dir.done(&["snapshots", "drop", "--all"]);
    assert!(dir.done(&["snapshots", "list"]).ends_with("0 snapshots\n"));
    assert_eq!(dir.json(&["stats"])["events"], json!(1));
}
