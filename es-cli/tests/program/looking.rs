//! Read-only commands: `info`, `stats`, `streams`, `read`, `log`; help, completions and usage errors.

use es_core::model::Tag;
use es_core::{Commit, EventReader, EventStore, EventType, ExpectedRevision, NewEvent};
use es_rocksdb::RocksDbStore;
use serde_json::json;

use crate::support::{TestDir, field, runtime, stream};

fn event(event_type: &str, day: u32, tags: &[&str]) -> NewEvent {
    let occurred = format!("2026-03-{day:02}T12:00:00Z").parse().unwrap();
    let event = NewEvent::json(EventType::new(event_type).unwrap(), r#"{"n":1}"#).occurred_at(occurred);
    tags.iter().fold(event, |event, tag| event.tagged(Tag::new(tag).unwrap()))
}

fn sample() -> Vec<Commit> {
    let to = |name: &str, events: Vec<NewEvent>| Commit::to(&stream(name), ExpectedRevision::Any, events);
    vec![
        to("order-1", vec![event("placed", 1, &["customer:VINET"]), event("approved", 2, &[])]),
        to("order-10", vec![event("placed", 2, &["customer:TOMSP", "rush"])]),
        to("order", vec![event("noted", 2, &[])]),
        to("cart-1", vec![event("placed", 31, &["rush"])]),
    ]
}

#[test]
fn read_only_commands_run_while_a_service_has_the_store_open() {
    let dir = TestDir::new();
    runtime().block_on(async {
        let store = RocksDbStore::open(dir.path("store")).await.unwrap();
        for commit in sample() {
            store.commit(commit).await.unwrap();
        }
        let info = dir.json(&["info"]);
        assert_eq!((&info["head"], &info["log_id"]), (&json!(5), &json!(store.log_id().to_string())));
        assert_eq!(info["store_id"], json!(store.store_id().to_string()));
        assert!(dir.done(&["info"]).contains("last position"));
        check_lists(&dir);
        assert_eq!(dir.json(&["verify"])["sound"], json!(true));
        let ran = dir.run(&["append", "order-1", "--type", "t", "--data", "1"]);
        assert_eq!(ran.code, Some(1));
        let expected = "is in use by another process; stop that process, or use a read-only command";
        assert!(ran.err.contains(expected), "{}", ran.err);
        store.close().await.unwrap();
    });
}

fn check_lists(dir: &TestDir) {
    let stats = dir.json(&["stats"]);
    assert_eq!((&stats["events"], &stats["streams"], &stats["payload_bytes"]), (&json!(5), &json!(4), &json!(35)));
    assert_eq!(stats["categories"]["order"], json!({"events": 4, "payload_bytes": 28, "streams": 3}));
    assert_eq!(stats["types"]["placed"]["events"], json!(3));
    assert_eq!(stats["days"], json!({"2026-03-01": 1, "2026-03-02": 3, "2026-03-31": 1}));
    let text = dir.done(&["stats"]);
    assert!(text.contains(&format!("2026-03 ▃█{}▃          5", " ".repeat(28))), "{text}");

    let names = |args: &[&str]| field(&dir.lines(&[&["streams"], args].concat()), "stream");
    assert_eq!(names(&[]), ["cart-1", "order", "order-1", "order-10"]);
    assert_eq!(names(&["--category", "order"]), ["order", "order-1", "order-10"]);
    assert_eq!(names(&["--category", "order", "--prefix", "order-10"]), ["order-10"]);
    assert_eq!(names(&["--prefix", "order-", "--limit", "1"]), ["order-1"]);
    assert_eq!(names(&["--category", "cart", "--prefix", "order"]), [""; 0]);

    let positions = |args: &[&str]| field(&dir.lines(args), "position");
    assert_eq!(positions(&["read", "order-1"]), [1, 2]);
    assert_eq!(positions(&["read", "order-1", "--backward", "--limit", "1"]), [2]);
    assert_eq!(positions(&["read", "order-1", "--from", "1"]), [2]);
    assert_eq!(positions(&["log"]), [1, 2, 3, 4, 5]);
    assert_eq!(positions(&["log", "--from", "2", "--limit", "2"]), [2, 3]);
    assert_eq!(positions(&["log", "--category", "order", "--type", "placed", "--type", "noted"]), [1, 3, 4]);
    assert_eq!(positions(&["log", "--tag", "rush", "--tag", "customer:TOMSP"]), [3]);
    let text = dir.done(&["log", "--limit", "1"]);
    assert!(text.lines().nth(1).unwrap().ends_with(r#"{"n":1}"#), "{text}");
    dir.refused(&["read", "order-2"], 1, "error: expected stream \"order-2\", found none; see `es streams`");
}

#[test]
fn no_command_creates_a_missing_store() {
    let dir = TestDir::new();
    for args in [["info"].as_slice(), &["stats"], &["log"], &["verify"], &["backup", "b"], &["compact"]] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.err.contains("expected an event store in store, found none"), "{args:?}: {}", ran.err);
    }
    assert_eq!(std::fs::read_dir(dir.path("")).unwrap().count(), 0);
}

#[test]
fn a_usage_error_exits_with_2() {
    let dir = TestDir::new();
    for args in [["frobnicate"].as_slice(), &["read"], &["log", "--from", "0"], &["snapshots", "drop"]] {
        assert_eq!(dir.run(args).code, Some(2), "{args:?}");
    }
    let ran = dir.command(&["info"]).env_remove("ES_STORE").output().unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("give --store DIR or set ES_STORE"));
}

#[test]
fn an_error_with_json_is_one_line_of_json() {
    let dir = TestDir::with(sample());
    let error = |args: &[&str], code: i32| {
        let ran = dir.run(args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (Some(code), "", 1), "{}", ran.err);
        let output: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(output["exit_code"], json!(code));
        output["error"].as_str().unwrap().to_owned()
    };
    let absent = error(&["read", "order-2", "--json"], 1);
    assert_eq!(absent, "expected stream \"order-2\", found none; see `es streams`");
    let append = ["append", "order-1", "--type", "t", "--data", "1", "--expect", "none", "--json"];
    assert!(error(&append, 3).starts_with("conflict: stream \"order-1\""));
    assert!(error(&["delete", "order-1", "--hard", "--json"], 2).starts_with("expected --yes"));
}

#[test]
fn each_command_has_help_with_an_example() {
    let dir = TestDir::new();
    let commands = [
        "info",
        "stats",
        "streams",
        "read",
        "log",
        "append",
        "import",
        "export",
        "verify",
        "backup",
        "restore",
        "repair",
        "compact",
        "snapshots",
        "snapshots list",
        "snapshots drop",
        "retain",
        "retain set",
        "retain clear",
        "retain list",
        "retain scavenge",
        "delete",
        "replication",
        "replication status",
        "replication join",
        "replication leave",
        "replication retire",
        "completions",
        "",
    ];
    for command in commands.map(|command| command.split_whitespace().collect::<Vec<_>>()) {
        let help = dir.done(&[command.as_slice(), &["--help"]].concat());
        assert!(help.contains("Example"), "{command:?}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(dir.done(&["completions", shell]).contains("snapshots"), "{shell}");
    }
}
