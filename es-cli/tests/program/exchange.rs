//! An export that is imported into an empty store gives an identical export.

use std::num::NonZeroU64;

use es_core::model::{CommandDigest, CommandId, Dot, HybridTime, OriginId, Stamp, VectorClock};
use es_core::model::{ContentType, CorrelationId, Keys, Metadata, Tag, UniqueKey};
use es_core::{Commit, EventData, EventId, EventType, NewEvent};
use serde_json::{Value, json};

use crate::support::{TestDir, stream};

fn key(value: &str) -> UniqueKey {
    UniqueKey::new("email", value).unwrap()
}

fn event(payload: &'static [u8], content_type: ContentType) -> NewEvent {
    NewEvent::new(EventType::new("type with spaces / äöü").unwrap(), 3, content_type, payload)
}

fn dot(origin: u64, sequence: u64) -> Dot {
    Dot { origin: OriginId::new(origin), sequence: NonZeroU64::new(sequence).unwrap() }
}

/// Returns a stamp with a command.
fn stamp(seen: Option<VectorClock>) -> Stamp {
    let command = (CommandId::new("request/é").unwrap(), CommandDigest::from_bits(u64::MAX));
    Stamp { dot: dot(1, 7), time: HybridTime::from_bits(u64::MAX), seen, command: Some(command) }
}

/// Returns events with all fields, in commits of one, three and two events.
fn sample() -> Vec<Commit> {
    let json_event = |payload| event(payload, ContentType::Json);
    // Without `..`, so that a new field of an event does not compile until it is exported and imported here.
    let data = EventData {
        id: EventId::new(),
        event_type: EventType::new("type with spaces / äöü").unwrap(),
        version: 3,
        content_type: ContentType::Json,
        payload: r#"{"b": 1.0, "a":[1e5, "\u00e9"],"a":2}"#.into(),
        tags: [Tag::new("k:v").unwrap()].into_iter().collect(),
        metadata: Metadata::new().with("user", "ada").with("deep", json!({"x": [1, 2.5, null]})),
        correlation_id: Some(CorrelationId::new()),
        causation_id: Some(EventId::new()),
        keys: Keys::default(),
        stamp: Some(Box::new(stamp(Some([dot(2, 300), dot(3, u64::MAX)].into_iter().collect())))),
    };
    let mut full = NewEvent::from(data);
    full.occurred_at = Some("1969-12-31T23:59:59.999999Z".parse().unwrap());
    let full = full.claiming(key("é@example.org")).releasing(key("old@example.org"));
    let mut event_with_empty_clock = json_event(b"{\n}");
    event_with_empty_clock.data.stamp = Some(Box::new(Stamp { command: None, ..stamp(Some(VectorClock::new())) }));
    vec![
        Commit::new().append(stream("a-1"), full),
        Commit::new()
            .append(stream("a-1"), event_with_empty_clock)
            .append(stream("b-1"), json_event(b" 5 "))
            .append(stream("a-1"), json_event(b"\"no\r\x20line\"")),
        Commit::new()
            .append(stream("c \u{1f4b0}"), event(b"\x93\x01\x02\x03", ContentType::MessagePack))
            .append(stream("c \u{1f4b0}"), event(b"\xff\x00", ContentType::Other("application/x-raw".into()))),
        Commit::new().append(stream("a-1"), json_event(b"")),
        Commit::new().append(stream("a-1"), json_event(b"null")),
    ]
}

/// Case 05: an import rounded large numbers in metadata, and dropped digits and repeated keys.
#[test]
fn metadata_keeps_every_digit_through_import_append_read_and_export() {
    let metadata = r#"{"f":0.1234567890123456789,"k":1,"n":12345678901234567890123,"o":[{"p":1.10}],"z":-0}"#;
    let line = |metadata: &str| format!(r#"{{"stream":"a-1","type":"t","data":{{"n":1}},"metadata":{metadata}}}"#);
    let (dir, copy) = (TestDir::new(), TestDir::new());
    dir.write("in.jsonl", line(metadata));
    assert_eq!(dir.json(&["import", "in.jsonl"])["added"], 1);
    dir.done(&["append", "a-1", "--type", "t", "--data", "{}", "--metadata", metadata]);
    let found = format!(r#""metadata":{metadata}"#);
    assert_eq!(dir.done(&["read", "a-1", "--json"]).matches(&found).count(), 2);
    copy.write("export.jsonl", dir.done(&["export"]));
    assert_eq!(copy.json(&["import", "export.jsonl"])["added"], 2);
    assert_eq!(copy.done(&["export"]).matches(&found).count(), 2);
    for (repeated, key) in [(r#"{"k":1,"k":2}"#, "k"), (r#"{"o":{"p":1,"p":1}}"#, "p")] {
        dir.write("in.jsonl", line(repeated));
        let refusal = format!("key \"{key}\" occurs twice in one object");
        for args in
            [&["import", "in.jsonl"][..], &["append", "a-1", "--type", "t", "--data", "{}", "--metadata", repeated]]
        {
            let ran = dir.run(args);
            assert!(ran.code != Some(0) && ran.err.contains(&refusal), "{args:?}: {}", ran.err);
        }
    }
}

#[test]
fn an_imported_export_gives_an_identical_export() {
    let (old, new) = (TestDir::with(sample()), TestDir::new());
    let export = old.done(&["export"]);
    assert_eq!(export.lines().count(), 8);
    new.write("export.jsonl", &export);
    assert_eq!(new.json(&["import", "export.jsonl"])["added"], 8);
    assert_eq!(new.done(&["export"]), export);
    assert_eq!(new.events(), old.events());
    // A second import of the same file is a repeat.
    assert_eq!(new.json(&["import", "export.jsonl"])["repeated"], 8);
    assert_eq!(new.json(&["verify"])["sound"], true);

    assert!(old.done(&["export", "out.jsonl"]).starts_with("8 events exported"));
    assert_eq!(old.read("out.jsonl"), export);
    assert!(!old.path("out.jsonl.incomplete").exists());
    assert_eq!(old.done(&["export", "-"]), export);
    assert!(!old.path("-").exists());
    old.refused(&["export", "store"], 1, "error: expected a file to write to, found a directory: store");
}

/// Metadata, unique keys and stamps, with vector clocks and commands, are in every copy of a log.
#[test]
fn an_export_of_a_restored_backup_has_all_fields() {
    let (old, new) = (TestDir::with(sample()), TestDir::new());
    let events = old.events();
    assert_eq!(events.iter().filter(|event| event.data.stamp.is_some()).count(), 2);
    old.done(&["backup", "bk"]);
    old.done(&["restore", "bk", "--to", "restored"]);
    let export = old.done(&["--store", "restored", "export"]);
    assert_eq!(export, old.done(&["export"]));
    new.write("export.jsonl", &export);
    new.done(&["import", "export.jsonl"]);
    assert_eq!(new.events(), events);
    let stamp = &new.lines(&["read", "a-1"])[0]["stamp"];
    assert_eq!(stamp["dot"], "0000000000000001.7");
    assert_eq!(stamp["seen"], json!({ "0000000000000002": 300, "0000000000000003": u64::MAX }));
    assert_eq!(stamp["command"], json!(["request/é", "ffffffffffffffff"]));
}

/// An import claims the keys of its lines, as a commit does.
#[test]
fn an_import_claims_and_releases_the_keys_of_its_lines() {
    let change = |change: &str, value: &str| json!([{ change: { "scope": "email", "value": value } }]);
    let line =
        |stream: &str, keys: &Value| format!("{{\"stream\":\"{stream}\",\"type\":\"t\",\"data\":1,\"keys\":{keys}}}\n");
    let dir = TestDir::new();
    dir.write("in.jsonl", line("a-1", &change("claim", "ada")));
    assert_eq!(dir.json(&["import", "in.jsonl"])["added"], 1);
    assert_eq!(dir.lines(&["log"])[0]["keys"], change("claim", "ada"));
    dir.write("taken.jsonl", line("b-1", &change("claim", "ada")));
    let refused = dir.run(&["import", "taken.jsonl"]);
    let taken = "unique key email \"ada\": expected it to be free for stream \"b-1\", found it held by \"a-1\"";
    assert_eq!(refused.code, Some(3), "{}", refused.err);
    assert!(refused.err.contains("taken.jsonl:1") && refused.err.contains(taken), "{}", refused.err);
    dir.write("moved.jsonl", line("a-1", &change("release", "ada")) + &line("b-1", &change("claim", "ada")));
    assert_eq!(dir.json(&["import", "moved.jsonl"])["added"], 2);
    dir.write("plain.jsonl", "{\"stream\":\"a-1\",\"type\":\"t\",\"data\":1}\n");
    assert_eq!(dir.json(&["import", "plain.jsonl"])["added"], 1);
    assert_eq!(dir.lines(&["log"]).pop().unwrap().get("keys"), None);
    assert_eq!(dir.json(&["verify"])["sound"], true);
}

#[test]
fn an_imported_event_is_not_recorded_before_earlier_events() {
    let dir = TestDir::new();
    let line = |time: &str| format!("{{\"stream\":\"a\",\"type\":\"t\",\"data\":1,\"recorded_at\":\"{time}\"}}\n");
    dir.write(
        "in.jsonl",
        [line("2020-01-02T00:00:00Z"), line("2020-01-01T00:00:00Z"), line("2020-01-03T00:00:00Z")].concat(),
    );
    dir.done(&["import", "in.jsonl"]);
    let times = crate::support::field(&dir.lines(&["log"]), "recorded_at");
    assert_eq!(times, ["2020-01-02T00:00:00Z", "2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z"]);
}

/// Regression: `stats` did not count a stream that begins with tombstones in a store without rules.
#[test]
fn stats_count_a_stream_that_begins_with_tombstones() {
    let dir = TestDir::new();
    for data in ["1", "2", "3"] {
        dir.done(&["append", "a-1", "--type", "t", "--data", data]);
    }
    dir.done(&["retain", "set", "--category", "a", "--max-count", "1"]);
    dir.done(&["export", "out.jsonl"]);
    dir.done(&["--store", "new", "import", "out.jsonl"]);
    dir.done(&["--store", "new", "retain", "clear", "--category", "a"]);
    let stats = dir.json(&["--store", "new", "stats"]);
    assert_eq!((&stats["categories"]["a"]["events"], &stats["categories"]["a"]["streams"]), (&json!(1), &json!(1)));
}
