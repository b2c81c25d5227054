//! Each command on a store with several segments and tables.

use std::fs;

use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent};
use es_rocksdb::Options;

use crate::support::{TestDir, runtime, stream};

fn with_segments() -> TestDir {
    let dir = TestDir::new();
    runtime().block_on(async {
        let options = Options::new().index_run(10, 1 << 20).log_segment_bytes(64 << 10);
        let store = options.open(dir.path("store")).await.unwrap();
        for number in 0..25 {
            let event = NewEvent::json(EventType::new("placed").unwrap(), format!("{{\"number\":{number}}}"));
            store.commit(Commit::to(&stream("order-1"), ExpectedRevision::Any, [event])).await.unwrap();
        }
        store.compact().await.unwrap();
        store.close().await.unwrap();
    });
    dir
}

#[test]
fn each_command_works_on_a_store_of_several_segments() {
    let dir = with_segments();
    assert_eq!(dir.json(&["info"])["head"], 25);
    assert_eq!(dir.done(&["read", "order-1"]).lines().count(), 26);
    assert_eq!(dir.done(&["log", "--type", "placed", "--limit", "3"]).lines().count(), 4);
    assert_eq!(dir.json(&["stats"])["events"], 25);
    assert!(dir.done(&["streams"]).contains("order-1"));
    let appended = dir.done(&["append", "order-2", "--type", "placed", "--data", "{}"]);
    assert!(appended.contains("position 26"), "{appended}");
    dir.done(&["retain", "set", "--stream", "order-1", "--max-count", "5"]);
    assert_eq!(dir.json(&["retain", "scavenge"])["events"], 20);
    dir.done(&["compact"]);
    assert!(dir.done(&["verify"]).starts_with("sound: "));
    let created = dir.done(&["backup", "bk"]);
    assert!(created.starts_with("backup 1: "), "{created}");
    assert!(dir.done(&["restore", "bk", "--to", "restored"]).starts_with("restored backup 1"));
    dir.done(&["--store", "restored", "append", "order-3", "--type", "placed", "--data", "{}"]);
    assert!(dir.done(&["--store", "restored", "verify"]).starts_with("sound: "));

    let exported = dir.done(&["export"]);
    dir.write("events.jsonl", &exported);
    let imported = dir.done(&["--store", "copy", "import", "events.jsonl"]);
    assert!(imported.contains("added"), "{imported}");
    assert_eq!(dir.done(&["--store", "copy", "export"]), exported);
    let repeated = dir.done(&["import", "events.jsonl"]);
    assert!(repeated.contains("0 added"), "{repeated}");
}

#[test]
fn a_lost_manifest_has_its_exit_code_and_is_repaired() {
    let dir = with_segments();
    assert_eq!(dir.done(&["repair"]), "sound: no repair needed\n");
    let index = fs::read_dir(dir.path("store/index")).unwrap().map(|entry| entry.unwrap().path());
    let manifest = index.into_iter().find(|path| path.to_string_lossy().contains("MANIFEST-")).unwrap();
    fs::write(&manifest, b"").unwrap();
    for command in ["verify", "info"] {
        assert_eq!(dir.run(&[command]).code, Some(4), "{command}");
    }
    let surveyed = dir.run(&["repair"]);
    assert_eq!(surveyed.code, Some(4), "{}", surveyed.err);
    let repaired = if surveyed.out.contains("--accept-loss 0") {
        dir.run(&["repair", "--to", "repaired", "--accept-loss", "0"])
    } else {
        dir.run(&["repair", "--to", "repaired"])
    };
    assert_eq!(repaired.code, Some(0), "{}{}", repaired.out, repaired.err);
    assert!(dir.done(&["--store", "repaired", "verify"]).starts_with("sound: 25 events"));
}
