//! `import`: errors name the bad line, and skipped lines are listed.

use serde_json::{Value, json};

use crate::support::{TestDir, field};

fn line(id: u32, stream: &str) -> String {
    format!(r#"{{"stream":"{stream}","type":"t","data":{{"n":{id}}},"id":"00000000-0000-8000-8000-{id:012}"}}"#) + "\n"
}

fn part(id: u32, index: u32, size: u32) -> String {
    line(id, "a-1").replace("}\n", &format!(",\"commit\":{{\"index\":{index},\"size\":{size}}}}}\n"))
}

#[test]
fn the_error_names_the_bad_line_and_the_lines_before_it_are_imported() {
    let dir = TestDir::new();
    dir.write(
        "in.jsonl",
        [line(1, "a-1"), "\n".into(), line(2, "a-1"), r#"{"stream":7}"#.into(), "\n".into(), line(3, "a-1")].concat(),
    );
    dir.refused(
        &["import", "in.jsonl"],
        1,
        "error: the import stopped: 2 events added, 0 already stored: in.jsonl:4:11: expected the name of a stream as \
         a string in stream, found 7",
    );
    assert_eq!(field(&dir.lines(&["log"]), "data"), [json!({"n": 1}), json!({"n": 2})]);
    let summary = dir.json(&["import", "in.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!(
        summary,
        json!({"lines": 4, "added": 1, "repeated": 2, "hidden": 0, "lost_claims": 0, "skipped": 1, "head": 3})
    );
    let bad: Value = serde_json::from_str(&dir.read("bad.jsonl")).unwrap();
    assert_eq!((&bad["line"], &bad["column"], &bad["text"]), (&json!(4), &json!(11), &json!("{\"stream\":7}")));
}

#[test]
fn an_id_of_another_event_is_a_conflict() {
    let dir = TestDir::new();
    dir.write("one.jsonl", line(1, "a-1"));
    dir.write("two.jsonl", [line(1, "b-1"), line(2, "b-1")].concat());
    dir.done(&["import", "one.jsonl"]);
    dir.refused(
        &["import", "two.jsonl"],
        3,
        "error: the import stopped: 1 event added, 0 already stored: two.jsonl:1: event id \
         00000000-0000-8000-8000-000000000001 belongs to another event, at position 1; give each event an id of its \
         own",
    );
    let summary = dir.json(&["import", "two.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!((&summary["skipped"], &summary["head"]), (&json!(1), &json!(2)));
}

/// Regression: a tombstone after an event that was not removed stopped the import without its line, also with
/// --skip-bad, and the commits of its batch that were written were not counted.
#[test]
fn a_commit_that_only_the_store_refuses_is_a_bad_line() {
    let dir = TestDir::new();
    dir.write("one.jsonl", line(1, "a-1"));
    dir.done(&["import", "one.jsonl"]);
    let tombstone = concat!(
        r#"{"removed":{"stream":"a-1","id":"00000000-0000-8000-8000-000000000999","revision":1,"position":3,"#,
        r#""recorded_at":"2026-01-01T00:00:00Z","commit":{"index":0,"size":1}}}"#
    );
    let lines = [line(2, "b-1"), tombstone.to_owned() + "\n", line(3, "b-1"), line(4, "b-1")];
    dir.write("in.jsonl", lines.concat());
    let refused = dir.run(&["import", "in.jsonl"]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let stopped = "error: the import stopped: 3 events added, 0 already stored: in.jsonl:2: ";
    assert!(refused.err.starts_with(stopped), "{}", refused.err);
    assert!(refused.err.contains("found a tombstone after an event that was not removed"), "{}", refused.err);
    let summary = dir.json(&["import", "in.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!((&summary["added"], &summary["repeated"], &summary["skipped"]), (&json!(0), &json!(3), &json!(1)));
    let bad: Value = serde_json::from_str(&dir.read("bad.jsonl")).unwrap();
    assert_eq!((&bad["line"], &bad["text"]), (&json!(2), &json!(tombstone)));
}

#[test]
fn a_commit_is_imported_completely_or_not_at_all() {
    let dir = TestDir::new();
    dir.write("torn.jsonl", [line(1, "a-1"), part(2, 0, 3), part(3, 1, 3)].concat());
    dir.refused(
        &["import", "torn.jsonl"],
        1,
        "error: the import stopped: 1 event added, 0 already stored: torn.jsonl:3: expected the rest of the \
         commit after this line, found the end of the file",
    );
    assert_eq!(dir.json(&["info"])["head"], json!(1));
    dir.write("mixed.jsonl", [part(2, 0, 2), line(3, "a-1"), part(4, 1, 2), part(5, 0, 2), part(6, 1, 2)].concat());
    dir.refused(
        &["import", "mixed.jsonl"],
        1,
        "error: the import stopped: 0 events added, 0 already stored: mixed.jsonl:1: expected the rest of the \
         commit after this line, found line 2, which begins another commit",
    );
    let summary = dir.json(&["import", "mixed.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!(
        summary,
        json!({"lines": 5, "added": 3, "repeated": 0, "hidden": 0, "lost_claims": 0, "skipped": 2, "head": 4})
    );
    assert_eq!(
        field(&dir.lines(&["log", "--from", "2"]), "commit"),
        [json!({"index": 0, "size": 1}), json!({"index": 0, "size": 2}), json!({"index": 1, "size": 2})]
    );
    let bad: Vec<Value> = dir.read("bad.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(field(&bad, "line"), [1, 3]);
    assert_eq!(bad[1]["error"], json!("expected event 0 of a commit, found event 1 of 2"));
}

/// Regression: the lines before the last line of such a commit were neither imported nor listed.
#[test]
fn a_duplicate_id_in_a_commit_is_reported_with_its_line_and_all_lines_of_the_commit_are_listed() {
    let dir = TestDir::new();
    dir.write("in.jsonl", [part(1, 0, 3), part(1, 1, 3), part(2, 2, 3), line(3, "a-1")].concat());
    dir.refused(
        &["import", "in.jsonl"],
        1,
        "error: the import stopped: 0 events added, 0 already stored: in.jsonl:2: expected a unique event id in \
         the commit, found 00000000-0000-8000-8000-000000000001 twice",
    );
    let summary = dir.json(&["import", "in.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!(
        summary,
        json!({"lines": 4, "added": 1, "repeated": 0, "hidden": 0, "lost_claims": 0, "skipped": 3, "head": 1})
    );
    let bad: Vec<Value> = dir.read("bad.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(field(&bad, "line"), [1, 2, 3]);
}

/// Regression: if the line was cut within whitespace, the text after it was ignored.
#[test]
fn whitespace_counts_for_the_length_of_a_line() {
    let dir = TestDir::new();
    let space = " ".repeat(32 * 1024 * 1024);
    dir.write("in.jsonl", [line(1, "a-1").trim_end(), &space, "and more\n", &space, &line(2, "a-1")].concat());
    let summary = dir.json(&["import", "in.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!((&summary["added"], &summary["skipped"]), (&json!(0), &json!(2)));
    let bad: Vec<Value> = dir.read("bad.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(field(&bad, "line"), [1, 2]);
    assert_eq!(
        field(&bad, "error"),
        ["expected at most 33554432 bytes in a line, found more; only its beginning is shown"; 2]
    );
}

/// Case 10: the metadata, the time and the cause of the second file were dropped, and it was "already stored".
#[test]
fn an_id_with_other_metadata_or_times_is_a_conflict() {
    let dir = TestDir::new();
    let with_fields = |who: &str, year: u32, more: &str| {
        let fields = format!(
            ",\"metadata\":{{\"who\":{who:?},\"weight\":0.1}},\"occurred_at\":\"{year}-01-01T00:00:00Z\"{more}}}\n"
        );
        line(1, "a-1").replace("}\n", &fields)
    };
    let first = with_fields("ada", 2020, "");
    dir.write("one.jsonl", &first);
    dir.done(&["import", "one.jsonl"]);
    let exported = dir.done(&["export"]);
    let cause = format!(",\"causation_id\":\"00000000-0000-8000-8000-{:012}\"", 9);
    for (other, field) in [
        (with_fields("bob", 2020, ""), "metadata"),
        (with_fields("ada", 2021, ""), "occurred_at"),
        (with_fields("ada", 2020, &cause), "causation id"),
        (line(1, "a-1"), "metadata"),
    ] {
        dir.write("two.jsonl", &other);
        dir.refused(
            &["import", "two.jsonl"],
            3,
            &format!(
                "error: the import stopped: 0 events added, 0 already stored: two.jsonl:1: event id \
                 00000000-0000-8000-8000-000000000001 is stored at position 1, and its {field} differs; repeat the \
                 event as it was written, or give it a new id"
            ),
        );
        let summary = dir.json(&["import", "two.jsonl", "--skip-bad", "bad.jsonl"]);
        assert_eq!((&summary["repeated"], &summary["skipped"]), (&json!(0), &json!(1)));
    }
    for repeat in [first, exported.clone()] {
        dir.write("same.jsonl", repeat);
        assert_eq!(dir.json(&["import", "same.jsonl"])["repeated"], json!(1));
    }
    assert_eq!(dir.done(&["export"]), exported);
}

#[test]
fn a_repeat_with_any_batch_size_adds_nothing() {
    let dir = TestDir::new();
    let lines: String = (1..=100).map(|id| line(id, &format!("a-{}", id % 7))).collect();
    dir.write("in.jsonl", lines);
    dir.done(&["import", "in.jsonl", "--batch", "7"]);
    let before = dir.done(&["export"]);
    for batch in ["1", "13", "4096"] {
        let summary = dir.json(&["import", "in.jsonl", "--batch", batch]);
        assert_eq!((&summary["added"], &summary["repeated"]), (&json!(0), &json!(100)));
    }
    assert_eq!(dir.done(&["export"]), before);
}

#[test]
fn without_ids_a_repeat_appends_again() {
    let dir = TestDir::new();
    dir.write("in.jsonl", r#"{"stream":"a","type":"t","data":1}"#);
    dir.done(&["import", "in.jsonl"]);
    assert_eq!(dir.json(&["import", "in.jsonl"])["head"], json!(2));
}

#[test]
fn a_recorded_time_in_the_future_is_refused() {
    let dir = TestDir::new();
    dir.write("in.jsonl", r#"{"stream":"a","type":"t","data":1,"recorded_at":"9999-01-01T00:00:00Z"}"#);
    let ran = dir.run(&["import", "in.jsonl"]);
    assert!(ran.err.contains("in.jsonl:1: expected a recorded_at that is not in the future"), "{}", ran.err);
}

#[test]
fn a_missing_file_does_not_create_a_store() {
    let dir = TestDir::new();
    let ran = dir.run(&["import", "nothing.jsonl"]);
    assert!(ran.err.starts_with("error: could not open nothing.jsonl"), "{}", ran.err);
    assert!(!dir.path("store").exists());
    dir.write("in.jsonl", line(1, "a"));
    let same = dir.run(&["import", "in.jsonl", "--skip-bad", "./in.jsonl"]);
    assert_eq!(same.code, Some(2));
    assert_eq!(dir.read("in.jsonl"), line(1, "a"));
    dir.refused(&["import", "."], 1, "error: expected a file, found a directory: .");
    assert!(!dir.path("store").exists());
}

/// Regression: the error named neither file nor line, and --skip-bad did not skip the line: only ids were handled as
/// conflicts.
#[test]
fn a_hard_deleted_stream_is_a_conflict() {
    let dir = TestDir::new();
    dir.write("one.jsonl", line(1, "a-1"));
    dir.done(&["import", "one.jsonl"]);
    dir.done(&["delete", "a-1", "--hard", "--yes"]);
    dir.write("two.jsonl", [line(2, "b-1"), line(3, "a-1"), line(4, "b-1")].concat());
    dir.refused(
        &["import", "two.jsonl"],
        3,
        "error: the import stopped: 2 events added, 0 already stored: two.jsonl:2: stream \"a-1\": expected a \
         writable stream, found it hard deleted at position 2",
    );
    let summary = dir.json(&["import", "two.jsonl", "--skip-bad", "bad.jsonl"]);
    assert_eq!((&summary["repeated"], &summary["skipped"]), (&json!(2), &json!(1)));
    let bad: Value = serde_json::from_str(&dir.read("bad.jsonl")).unwrap();
    assert_eq!((&bad["line"], &bad["file"]), (&json!(2), &json!("two.jsonl")));
}

#[test]
fn a_file_of_another_format_is_refused_with_advice() {
    let dir = TestDir::new();
    let import = |content: &[u8]| {
        dir.write("in put", content);
        let ran = dir.run(&["import", "in put"]);
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        ran.err
    };
    let xz = import(b"\xfd7zXZ\0\0\x04");
    assert!(xz.contains("found xz; convert it: `xz -dc < 'in put' > NEW`\n"), "{xz}");
    for array in ["[\n  {\"stream\": \"a\"}\n]\n", "[{\"stream\":\"a\",\"type\":\"t\",\"data\":1}]\n", "[\"a\",\"t\"]"]
    {
        let array = import(array.as_bytes());
        assert!(array.contains("found a JSON array; convert it: jq -c '.[]' 'in put' | es --store"), "{array}");
    }
    let pretty = import(b"{\n  \"stream\": \"a\"\n}\n");
    assert!(pretty.contains("found an object over several lines; convert it: jq -c ."), "{pretty}");
    let table = import(b"stream,type,data\na,t,1\n");
    assert!(table.contains("in put:1: expected one JSON object per line, found CSV"), "{table}");
    assert_eq!(dir.lines(&["log"]).len(), 0);
}

#[test]
fn the_error_of_an_invalid_field_names_the_line() {
    let dir = TestDir::new();
    dir.write("in.jsonl", line(1, "a-1").replace("\"data\"", "\"version\":0,\"data\""));
    let ran = dir.run(&["import", "in.jsonl"]);
    assert!(
        ran.err.ends_with("already stored: in.jsonl:1:38: expected a number from 1 in version, found 0\n"),
        "{}",
        ran.err
    );
    // The message of the library names the event id, which is a new one if the line has none.
    dir.write("in.jsonl", r#"{"stream":"a-1","type":"t","content_type":"","data_base64":""}"#);
    let ran = dir.run(&["import", "in.jsonl"]);
    assert!(
        ran.err.ends_with("already stored: in.jsonl:1: expected a content_type of 1 to 255 bytes, found 0\n"),
        "{}",
        ran.err
    );
}

/// The export of a store with such events must not be lost.
#[test]
fn a_payload_that_cannot_be_decoded_is_kept() {
    let dir = TestDir::new();
    let bytes =
        |text| format!(r#"{{"stream":"a","type":"t","content_type":"application/json","data_base64":"{text}"}}"#);
    let data = |text: &str| format!(r#"{{"stream":"a","type":"t","data":{text}}}"#);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let lines = [data("1e400"), data(r#"{"a":"\ud800"}"#), data(&deep), bytes("/w=="), bytes("")];
    dir.write("in.jsonl", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    dir.done(&["import", "in.jsonl"]);
    let export = dir.done(&["export"]);
    for (line, payload) in export.lines().zip(["1e400", r#"{"a":"\ud800"}"#, &deep, "/w==", "\"\""]) {
        assert!(line.ends_with(&format!("{payload}}}")) || line.contains(payload), "{line}");
    }
    let new = TestDir::new();
    new.write("export.jsonl", &export);
    new.done(&["import", "export.jsonl"]);
    assert_eq!(new.done(&["export"]), export);
}
