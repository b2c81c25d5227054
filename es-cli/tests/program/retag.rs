//! `retag`: a copy of the log with tags from fields of the content.

use std::fs;

use es_core::EventStore;
use es_rocksdb::RocksDbStore;
use serde_json::json;

use crate::backup_kill::{commits, kill_at};
use crate::support::{TestDir, damage_first_segment, field, runtime};

fn line(n: u32, r#type: &str, data: &str) -> String {
    let id = format!("00000000-0000-8000-8000-{n:012}");
    format!(r#"{{"stream":"{type}-{n}","type":"{type}","data":{data},"tags":["n:{n}"],"id":"{id}"}}"#) + "\n"
}

fn store() -> TestDir {
    let dir = TestDir::new();
    let lines = [
        line(1, "placed", r#"{"customer":{"id":7},"products":["tea","chai"]}"#),
        line(2, "placed", r#"{"customer":{"id":"ada"},"products":[]}"#),
        line(3, "placed", r#"{"customer":null}"#),
        line(4, "paid", r#"{"bank":true}"#),
        concat!(
            r#"{"stream":"placed-5","type":"placed","content_type":"application/msgpack","#,
            r#""data_base64":"gahwcm9kdWN0c5GlY29jb2E="}"#
        )
        .to_owned(),
    ];
    dir.write("in.jsonl", lines.concat());
    dir.done(&["import", "in.jsonl"]);
    dir
}

#[test]
fn a_copy_has_the_tags_of_the_fields_and_all_else_is_unchanged() {
    let dir = store();
    let answer = dir.json(&[
        "retag",
        "--to",
        "new",
        "--tag",
        "placed",
        "customer",
        "/customer/id",
        "--tag",
        "placed",
        "product",
        "/products",
        "--tag",
        "paid",
        "bank",
        "/bank",
        "--tag",
        "lost",
        "k",
        "/k",
    ]);
    assert_eq!((&answer["events"], &answer["tagged"]), (&json!(5), &json!(4)));
    assert_eq!(field(answer["tags"].as_array().unwrap(), "events"), [4, 4, 1, 0]);
    assert_eq!(field(answer["tags"].as_array().unwrap(), "without_value"), [2, 2, 0, 0]);
    let export = |store: &str| dir.lines(&["--store", store, "log"]);
    let tags = field(&export("new"), "tags");
    assert_eq!(tags[0], json!(["customer:7", "n:1", "product:chai", "product:tea"]));
    assert_eq!(
        tags[1..],
        [json!(["customer:ada", "n:2"]), json!(["n:3"]), json!(["bank:true", "n:4"]), json!(["product:cocoa"])]
    );
    let without_tags = |store: &str| {
        let mut lines = export(store);
        lines.iter_mut().for_each(|line| line["tags"] = json!(null));
        lines
    };
    assert_eq!(without_tags("new"), without_tags("store"));
    assert_eq!(dir.lines(&["--store", "new", "log", "--tag", "customer:ada"]).len(), 1);
}

#[test]
fn the_text_says_what_was_found() {
    let dir = store();
    let text =
        dir.done(&["retag", "--to", "new", "--tag", "placed", "customer", "/customer/id", "--tag", "lost", "k", "/k"]);
    assert!(text.contains("5 events copied to new, 2 with new tags"), "{text}");
    assert!(text.contains("placed customer: 4 events, 2 without a value at /customer/id"), "{text}");
    assert!(text.contains("lost k: no event has this type"), "{text}");
}

#[test]
fn a_target_with_events_and_invalid_tags_are_refused() {
    let dir = store();
    dir.refused(
        &["retag", "--to", "store", "--tag", "placed", "customer", "/customer/id"],
        1,
        "error: expected an empty or a new directory in store, found files; choose another",
    );
    dir.refused(
        &["retag", "--to", "new", "--tag", "placed", "customer", "customer"],
        2,
        "error: expected a JSON pointer such as /customer/id after --tag, found \"customer\"",
    );
    dir.refused(
        &["retag", "--to", "new", "--tag", "placed", "customer", "/customer"],
        1,
        "error: the log was not copied to new: could not compute the tags of the event at position 1: expected a \
         string, a number, a boolean or a list of them at /customer, found {\"id\":7}; use a pointer into it",
    );
    assert!(!dir.path("new").exists());
    let ran = dir.run(&["retag", "--to", "new2"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    let ran = dir.run(&["retag", "--to", "new2", "--tag", "placed", "customer"]);
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(!dir.path("new2").exists());
}

const RETAG: [&str; 7] = ["retag", "--to", "new", "--tag", "t", "number", "/number"];

/// Regression: `retag` took no lock, so that events which a service acknowledged during and after the copy were not in
/// the copy.
#[test]
fn a_copy_while_a_service_has_the_store_open_is_refused() {
    let dir = store();
    runtime().block_on(async {
        let store = RocksDbStore::open(dir.path("store")).await.unwrap();
        let ran = dir.run(&RETAG);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        assert!(ran.err.contains("is in use by another process; stop that process"), "{}", ran.err);
        assert!(!dir.path("new").exists());
        store.close().await.unwrap();
    });
    dir.done(&RETAG);
    // The directory of the copy may exist.
    fs::create_dir(dir.path("empty")).unwrap();
    dir.done(&["retag", "--to", "empty", "--tag", "placed", "n", "/n"]);
    assert_eq!(dir.json(&["--store", "empty", "info"])["head"], 5);
}

/// Regression: the copy of an interrupted `retag` opened as a sound store with a part of the log.
#[test]
fn the_copy_of_a_killed_retag_does_not_open() {
    let dir = TestDir::with(commits(0, 400));
    let undo = || fs::remove_dir_all(dir.path("new")).unwrap();
    kill_at(&dir, &RETAG, || dir.path("new/incomplete/log").exists(), undo);
    for args in [["info"].as_slice(), &["verify"], &["append", "a-1", "--type", "t", "--data", "1"]] {
        let ran = dir.run(&[&["--store", "new"], args].concat());
        assert_eq!(ran.code, Some(1), "{args:?}: {} {}", ran.out, ran.err);
    }
    let refused = "error: expected an empty or a new directory in new, found the copy of an interrupted retag; remove \
                   it, or choose another directory";
    dir.refused(&RETAG, 1, refused);
    fs::remove_dir_all(dir.path("new")).unwrap();
    assert_eq!(dir.json(&RETAG)["events"], 1600);
    assert_eq!(dir.lines(&["--store", "new", "log", "--tag", "number:7"]).len(), 4);
}

/// Regression: after damage in the middle of the log, a part of the copy was left, and no message named it.
#[test]
fn damage_of_the_log_leaves_no_copy() {
    let dir = TestDir::with(commits(0, 2000));
    dir.done(&["compact"]);
    damage_first_segment(&dir.path("store"));
    let ran = dir.run(&RETAG);
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    assert!(ran.err.contains("the store in store is damaged: "), "{}", ran.err);
    assert!(!dir.path("new").exists());
}
