//! The command `append`.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::support::TestDir;

const ID: &str = "00000000-0000-8000-8000-000000000001";

#[test]
fn append_sets_all_fields_of_an_event() {
    let dir = TestDir::new();
    let all = [
        "append",
        "order-1",
        "--type",
        "placed",
        "--data",
        r#"{ "n": 1.10 }"#,
        "--expect",
        "none",
        "--id",
        ID,
        "--tag",
        "b",
        "--tag",
        "a",
        "--metadata",
        r#"{"user":"ada"}"#,
        "--occurred-at",
        "2026-01-02T03:04:05+01:00",
        "--version",
        "2",
    ];
    let mut appended = dir.json(&all);
    let log_id = appended.as_object_mut().unwrap().remove("log_id").unwrap();
    assert_eq!(log_id, dir.json(&["info"])["log_id"]);
    assert_eq!(
        appended,
        json!({"stream": "order-1", "revision": 0, "position": 1, "id": ID, "repeated": false, "hidden": false})
    );
    assert_eq!(dir.json(&all)["repeated"], json!(true));
    let mut event = dir.lines(&["log"]).remove(0);
    event["recorded_at"].take();
    assert_eq!(
        event,
        json!({
            "stream": "order-1", "type": "placed", "id": ID, "revision": 0, "position": 1, "version": 2,
            "recorded_at": null, "occurred_at": "2026-01-02T02:04:05Z", "tags": ["a", "b"], "metadata": {"user": "ada"},
            "commit": {"index": 0, "size": 1}, "data": {"n": 1.10},
        })
    );
    assert!(dir.done(&["log", "--json"]).contains(r#""data":{ "n": 1.10 }"#));
}

#[test]
fn an_unmet_expectation_exits_with_3_and_writes_nothing() {
    let dir = TestDir::new();
    let append = |expect| ["append", "order-1", "--type", "t", "--data", "null", "--expect", expect];
    let conflict = |expected: &str, found: &str| {
        format!(
            "error: conflict: stream \"order-1\": expected {expected}, found {found}; nothing was written: reload \
             and decide again"
        )
    };
    // Regression: the command created a missing store and reported a conflict, which hid the wrong path.
    for expected in ["exists", "7"] {
        let ran = dir.run(&append(expected));
        assert_eq!(ran.code, Some(1));
        assert!(ran.err.contains("store, found none; check the path"), "{}", ran.err);
        assert!(ran.err.contains("--expect any and --expect none create a store"), "{}", ran.err);
        assert!(!dir.path("store").exists());
    }
    dir.done(&["append", "order-0", "--type", "t", "--data", "null"]);
    dir.refused(&append("exists"), 3, &conflict("an existing stream", "no stream"));
    dir.refused(&append("7"), 3, &conflict("revision 7", "no stream"));
    dir.done(&append("none"));
    dir.refused(&append("none"), 3, &conflict("no stream", "revision 0"));
    dir.done(&append("0"));
    dir.done(&append("any"));
    dir.done(&append("exists"));
    assert_eq!(dir.json(&["info"])["head"], json!(5));
    let ran = dir.run(&append("-1"));
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("expected any, none, exists or a revision from 0, found -1"), "{}", ran.err);
    let taken = dir.run(&["append", "a", "--type", "t", "--data", "1", "--id", ID]);
    assert_eq!(taken.code, Some(0));
    let taken = dir.run(&["append", "b", "--type", "t", "--data", "1", "--id", ID]);
    assert_eq!(taken.code, Some(3), "{}", taken.err);
}

#[test]
fn invalid_json_is_refused_before_a_store_is_created() {
    let dir = TestDir::new();
    let ran = dir.run(&["append", "a", "--type", "t", "--data", "{"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("'--data <JSON>': expected JSON, found: EOF"), "{}", ran.err);
    let ran = dir.run(&["append", "a", "--type", "t", "--data", "{}", "--metadata", "5"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("'--metadata <JSON>': expected a JSON object, found"), "{}", ran.err);
    // Standard input is empty.
    let ran = dir.run(&["append", "a", "--type", "t", "--data", "-"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.starts_with("error: standard input, for --data -: expected JSON, found: EOF"), "{}", ran.err);
    assert!(!dir.path("store").exists());
}

/// The command truncated nanoseconds, and a leap second became the next second. An import does, as its help says.
#[test]
fn a_time_that_the_store_would_change_is_refused() {
    let dir = TestDir::new();
    let append = |time: &str| dir.run(&["append", "a", "--type", "t", "--data", "1", "--occurred-at", time]);
    for (time, message) in [
        ("2026-01-02T03:04:05.1234567Z", "at most 6 decimals"),
        ("2016-12-31T23:59:60Z", "found the leap second"),
        ("2026-01-02", "such as 2026-01-31T12:00:00Z"),
    ] {
        let ran = append(time);
        assert!(ran.code == Some(2) && ran.err.contains(message), "{time}: {:?} {}", ran.code, ran.err);
    }
    assert!(!dir.path("store").exists());
    assert_eq!(append("2026-01-02T03:04:05.123456000Z").code, Some(0));
    let line = |time: &str| format!("{{\"stream\":\"a\",\"type\":\"t\",\"data\":1,\"occurred_at\":\"{time}\"}}\n");
    dir.write("in.jsonl", line("2026-01-02T03:04:05.1234567Z") + &line("2016-12-31T23:59:60Z"));
    dir.done(&["import", "in.jsonl"]);
    let times: Vec<_> = dir.lines(&["log"]).into_iter().map(|mut event| event["occurred_at"].take()).collect();
    assert_eq!(times, ["2026-01-02T03:04:05.123456Z", "2026-01-02T03:04:05.123456Z", "2017-01-01T00:00:00Z"]);
}

/// The command committed JSON that no typed reader could decode.
#[test]
fn a_payload_that_cannot_be_decoded_is_refused() {
    let dir = TestDir::new();
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (data, message) in [
        (r#""\ud800""#, r"expected a pair of surrogates, found only \ud800 at column 2"),
        (&nested(200), "expected at most 127 nested arrays and objects, found more at column 128"),
        (&nested(5000), "expected at most 127 nested arrays and objects"),
    ] {
        let ran = dir.run(&["append", "a", "--type", "t", "--data", data]);
        assert!(ran.code == Some(2) && ran.err.contains(message), "{data}: {:?} {}", ran.code, ran.err);
        let mut command = dir.command(&["append", "a", "--type", "t", "--data", "-"]);
        let mut program = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        program.stdin.take().unwrap().write_all(data.as_bytes()).unwrap();
        let output = program.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && err.contains(message), "{data}: {:?} {err}", output.status);
    }
    assert!(!dir.path("store").exists());
    for data in [r#""\ud83d\ude00""#, "1e400", &nested(127)] {
        dir.done(&["append", "a", "--type", "t", "--data", data]);
        assert!(dir.done(&["read", "a", "--json"]).contains(&format!("\"data\":{data}}}")), "{data}");
    }
}

#[test]
fn the_payload_can_be_read_from_standard_input() {
    let dir = TestDir::new();
    let mut program =
        dir.command(&["append", "a", "--type", "t", "--data", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(b" [1,\n2]\n").unwrap();
    assert!(program.wait().unwrap().success());
    let event = dir.lines(&["log"]).remove(0);
    // A payload with a line break does not fit on one line.
    assert_eq!((&event["content_type"], &event["data_base64"]), (&json!("application/json"), &json!("WzEsCjJd")));
}

/// Regression: the text was cut at the limit, and its beginning was appended if that was valid.
#[test]
fn a_payload_from_standard_input_is_not_cut() {
    let dir = TestDir::new();
    let spaces = " ".repeat(16 * 1024 * 1024 - 2);
    for text in [spaces.clone() + "123456", r#"{"a":1}"#.to_owned() + &spaces, "ä".repeat(9 * 1024 * 1024)] {
        let mut command = dir.command(&["append", "a-1", "--type", "t", "--data", "-"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The program need not read more than the limit.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        let expected = "error: standard input, for --data -: expected at most 16777216 bytes, found more\n";
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(1), expected));
        assert!(!dir.path("store").exists());
    }
}
