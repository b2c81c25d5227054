//! `retain` and `delete`, and the output of other commands for hidden and removed events.

use std::process::Stdio;
use std::time::Instant;

use es_core::model::UniqueKey;
use es_core::{Commit, EventType, ExpectedRevision, NewEvent};
use serde_json::{Value, json};

use crate::support::{TestDir, field, stream};

fn append(name: &str, events: usize) -> Commit {
    let event = |number| NewEvent::json(EventType::new("t").unwrap(), format!("{{\"number\":{number}}}"));
    Commit::to(&stream(name), ExpectedRevision::Any, (0..events).map(event))
}

fn revisions(dir: &TestDir, name: &str) -> Vec<Value> {
    field(&dir.lines(&["read", name]), "revision")
}

#[test]
fn rules_are_set_listed_and_cleared() {
    let dir = TestDir::with([append("a-1", 5), append("a-2", 3)]);
    let set = ["retain", "set", "--category", "a", "--max-count", "2", "--max-age", "30d", "--by", "ada"];
    assert_eq!(dir.done(&set), "rule set for category \"a\": of 8 events in 2 streams, 4 are hidden or removed\n");
    dir.done(&["retain", "set", "--stream", "a-2", "--truncate-before", "1", "--max-count", "9", "--reason", "why"]);
    assert_eq!(revisions(&dir, "a-1"), [3, 4]);
    assert_eq!(revisions(&dir, "a-2"), [1, 2]);
    let listed = dir.json(&["retain", "list"]);
    assert_eq!(
        listed["rules"],
        json!([
            {"category": "a", "max_age_ms": 2_592_000_000_u64, "max_count": 2, "by": "ada"},
            {"stream": "a-2", "max_count": 9, "truncate_before": 1, "reason": "why"},
        ])
    );
    let text = dir.done(&["retain", "list"]);
    assert!(text.contains("30d") && text.ends_with("2 rules\n"), "{text}");
    assert!(text.contains("ada") && text.contains("why"), "{text}");
    let events = dir.lines(&["log", "--category", "es.retention"]);
    assert_eq!((&events[0]["data"]["by"], &events[1]["data"]["reason"]), (&json!("ada"), &json!("why")));
    let streams = dir.lines(&["streams", "--category", "a"]);
    assert_eq!(field(&streams, "events"), [2, 2]);
    let stats = dir.json(&["stats"]);
    assert_eq!((&stats["categories"]["a"]["events"], &stats["categories"]["a"]["streams"]), (&json!(4), &json!(2)));
    dir.done(&["retain", "clear", "--category", "a"]);
    assert_eq!(revisions(&dir, "a-1"), [0, 1, 2, 3, 4]);
    dir.refused(
        &["retain", "clear", "--category", "a"],
        1,
        "error: expected a rule for category \"a\", found none; see `es retain list`",
    );
    for args in [
        &["retain", "set", "--max-count", "1"][..],
        &["retain", "set", "--stream", "a-1"],
        &["retain", "set", "--stream", "a-1", "--max-age", "30"],
    ] {
        assert_eq!(dir.run(args).code, Some(2), "{args:?}");
    }
}

#[test]
fn a_stream_is_deleted_and_its_end_is_confirmed() {
    let dir = TestDir::with([append("a-1", 3), append("a-2", 1), append("b-1", 1)]);
    let deleted = dir.json(&["delete", "a-1", "--expect", "2", "--reason", "old"]);
    assert_eq!(
        deleted,
        json!({"stream": "a-1", "kind": "soft", "through": 2, "position": 6, "repeated": false, "is_replicated": false})
    );
    assert_eq!(revisions(&dir, "a-1"), [0; 0]);
    assert_eq!(dir.run(&["delete", "b-1", "--expect", "7"]).code, Some(3));
    dir.done(&["append", "a-1", "--type", "t", "--data", "1", "--expect", "none"]);
    assert_eq!(revisions(&dir, "a-1"), [3]);
    dir.refused(
        &["delete", "a-2", "--hard"],
        2,
        "error: expected --yes with --hard, or the name of the stream at a terminal, found neither",
    );
    dir.done(&["delete", "a-2", "--hard", "--yes"]);
    dir.refused(
        &["append", "a-2", "--type", "t", "--data", "1"],
        3,
        "error: conflict: stream \"a-2\": expected a writable stream, found it hard deleted at position 8; \
         nothing was written: reload and decide again",
    );
    assert_eq!(field(&dir.lines(&["streams"]), "stream"), ["a-1", "b-1", "es.retention-deletions"]);
    let ran = dir.run(&["append", "es.retention-rules", "--type", "t", "--data", "1"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("reserved names are only for events that the functions for retention"), "{}", ran.err);
}

/// Case 19: a repeated deletion was a conflict, and the repeat of a hidden event did not say that it is hidden.
#[test]
fn a_deletion_can_be_repeated_and_the_repeat_of_a_hidden_event_is_named() {
    const ID: &str = "0190a6f2-0000-7000-8000-0000000000a1";
    let dir = TestDir::new();
    let append = ["append", "c-1", "--type", "t", "--data", "1", "--id", ID];
    dir.done(&append);
    let first = dir.json(&["delete", "c-1"]);
    let mut again = first.clone();
    again["repeated"] = json!(true);
    for _ in 0..2 {
        assert_eq!(dir.json(&["delete", "c-1"]), again);
    }
    assert_eq!(
        dir.done(&["delete", "c-1", "--expect", "any"]),
        "already deleted: stream c-1, up to revision 0; new events continue at the next revision\n"
    );
    assert_eq!(dir.run(&["delete", "c-404"]).code, Some(1));
    let hidden = format!(
        "already stored, but hidden by a rule or a deletion (see `es retain list`): stream c-1, revision 0, position \
         1, id {ID}\n"
    );
    assert_eq!(dir.done(&append), hidden);
    assert_eq!(dir.json(&append)["hidden"], json!(true));
    dir.write("in.jsonl", format!("{{\"stream\":\"c-1\",\"type\":\"t\",\"data\":1,\"id\":{ID:?}}}\n"));
    let imported =
        "1 line: 0 added, 1 already stored (of them 1 hidden by a rule or a deletion, or removed), 0 skipped\n";
    assert_eq!(dir.done(&["import", "in.jsonl"]), imported);
    assert_eq!(dir.json(&["delete", "c-1", "--hard", "--yes"])["repeated"], json!(false));
    let already = "already hard deleted: stream c-1, up to revision 0\n";
    assert_eq!(dir.done(&["delete", "c-1", "--hard", "--yes"]), already);
    assert_eq!(dir.done(&["delete", "c-1"]), already);
    assert_eq!(dir.done(&append), hidden);
    dir.done(&["retain", "scavenge"]);
    let removed = dir.run(&append);
    assert_eq!(removed.code, Some(3));
    assert!(removed.err.contains("was written at position 1 and has been removed since"), "{}", removed.err);
    assert_eq!(dir.done(&["delete", "c-1"]), already);
    assert_eq!(dir.json(&["info"])["head"], json!(4), "two deletions and a scavenge");
}

/// A stream that never was gave words that are for programs, and could be ended for ever.
#[test]
fn a_stream_that_is_not_there_is_not_deleted() {
    let dir = TestDir::with([append("a-1", 1)]);
    let none = "error: expected stream \"nope\", found none; see `es streams`";
    dir.refused(&["delete", "nope"], 1, none);
    dir.refused(&["delete", "nope", "--hard", "--yes"], 1, none);
    let conflict = dir.run(&["delete", "nope", "--expect", "3"]);
    assert_eq!(conflict.code, Some(3));
    assert!(conflict.err.contains("stream \"nope\": expected revision 3, found no stream"), "{}", conflict.err);
    let refused = dir.run(&["delete", "a-1", "--expect", "-1"]);
    assert!(refused.err.contains("expected any, none, exists or a revision from 0, found -1"), "{}", refused.err);
    assert_eq!(dir.json(&["info"])["head"], json!(1));
}

#[test]
fn a_read_of_a_hidden_stream_explains_why_it_is_empty() {
    let dir = TestDir::with([append("a-1", 3), append("a-2", 1), append("b-1", 2)]);
    dir.done(&["delete", "a-1", "--by", "ada", "--reason", "old\x1b[2J"]);
    dir.done(&["delete", "a-2", "--hard", "--yes"]);
    dir.done(&["retain", "set", "--stream", "b-1", "--truncate-before", "2"]);
    let notes = |args: &[&str]| {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.err
    };
    let soft = "note: stream \"a-1\" was deleted at position 7; its 3 events are hidden\n";
    assert_eq!(notes(&["read", "a-1"]), soft);
    assert_eq!(notes(&["read", "a-1", "--json"]), soft);
    assert!(dir.lines(&["read", "a-1"]).is_empty());
    assert!(notes(&["read", "a-2"]).contains("was hard deleted at position 8; its 1 event is hidden\n"));
    assert!(notes(&["read", "b-1"]).contains("stream \"b-1\": a rule hides all of its 2 events; see `es retain list`"));
    dir.done(&["append", "a-1", "--type", "t", "--data", "1"]);
    let none = notes(&["read", "a-1", "--from", "4"]);
    assert_eq!(none, "", "the stream has visible events, but none from this revision on");

    let listed = dir.json(&["retain", "list"]);
    assert_eq!((&listed["deleted"][0]["by"], &listed["deleted"][1].get("by")), (&json!("ada"), &None));
    let text = dir.done(&["retain", "list"]);
    assert!(text.contains("ada") && text.contains("old\\u{1b}[2J"), "{text}");
}

#[test]
fn a_rule_that_hides_all_or_no_events_prints_a_note() {
    let dir = TestDir::with([append("a-1", 3), append("a", 2), append("ab-1", 1)]);
    let set = |args: &[&str]| dir.run(&[&["retain", "set"], args].concat());
    let all = set(&["--category", "a", "--truncate-before", "3", "--json"]);
    let output: Value = serde_json::from_str(&all.out).unwrap();
    assert_eq!((&output["streams"], &output["events"], &output["hidden"]), (&json!(2), &json!(5), &json!(5)));
    assert!(all.err.contains("note: all events of category \"a\" are hidden"), "{}", all.err);
    for scope in [["--category", "sesion"], ["--stream", "a-7"]] {
        let none = set(&[scope.as_slice(), &["--max-count", "1"]].concat());
        assert!(none.err.starts_with("note: no events for "), "{}", none.err);
    }
    assert_eq!(set(&["--stream", "ab-1", "--max-count", "1"]).err, "");
}

#[test]
fn a_dry_run_of_a_scavenge_counts_the_events_that_it_would_remove() {
    let dir = TestDir::with([append("a-1", 3), append("a-2", 4), append("b-1", 2)]);
    dir.done(&["retain", "set", "--category", "a", "--max-count", "1"]);
    let export = dir.done(&["export"]);
    let would = ["retain", "scavenge", "--dry-run"];
    assert_eq!(dir.json(&would), json!({"events": 5, "streams": 2}));
    assert_eq!(dir.done(&would), "would remove 5 events of 2 streams; nothing was written\n");
    assert_eq!(dir.done(&["export"]), export);
    assert_eq!(dir.json(&["retain", "scavenge"])["events"], json!(5));
    assert_eq!(dir.json(&would), json!({"events": 0, "streams": 0}));
    dir.done(&["delete", "b-1"]);
    assert_eq!(dir.json(&would), json!({"events": 2, "streams": 1}));
}

/// Returns the lines of an export without the scavenge points, which each scavenge adds.
fn without_points(export: &str) -> Vec<&str> {
    export.lines().filter(|line| !line.contains("\"es.scavenge-point\"")).collect()
}

fn is_sound(dir: &TestDir) -> Value {
    let verified = dir.json(&["verify"]);
    assert_eq!(verified["sound"], json!(true), "{verified}");
    verified["removed"].clone()
}

#[test]
fn an_export_with_tombstones_is_identical_after_an_import() {
    let dir = TestDir::with([
        append("a-1", 5),
        append("b-1", 2).append(stream("a-1"), NewEvent::json(EventType::new("t").unwrap(), "0")),
        append("c-1", 2),
    ]);
    dir.done(&["retain", "set", "--category", "a", "--max-count", "2"]);
    dir.done(&["delete", "c-1"]);
    dir.done(&["append", "c-1", "--type", "t", "--data", "1"]);
    dir.done(&["delete", "b-1", "--hard", "--yes"]);
    let hidden = dir.done(&["export"]);
    assert_eq!(hidden.lines().filter(|line| line.starts_with("{\"removed\":")).count(), 8);
    let report = dir.json(&["retain", "scavenge", "--reason", "test"]);
    assert_eq!((&report["events"], &report["position"]), (&json!(8), &json!(15)));
    assert_eq!(is_sound(&dir), json!(8));
    let removed = dir.done(&["export"]);
    assert_eq!(without_points(&removed), without_points(&hidden), "hidden and removed events are exported alike");

    let new = TestDir::new();
    new.write("in.jsonl", &removed);
    assert_eq!(new.json(&["import", "in.jsonl"])["added"], json!(15));
    assert_eq!(new.done(&["export"]), removed);
    assert_eq!(is_sound(&new), json!(8));
    assert_eq!(new.json(&["import", "in.jsonl"])["repeated"], json!(15));
    assert_eq!(revisions(&new, "a-1"), revisions(&dir, "a-1"));
    assert_eq!(
        new.run(&["append", "b-1", "--type", "t", "--data", "1"]).code,
        Some(3),
        "the deletion of a stream is imported"
    );
    assert_eq!(new.json(&["info"])["head"], json!(15));
}

#[test]
fn backups_follow_a_scavenge() {
    let dir = TestDir::with([append("a-1", 10), append("b-1", 3)]);
    dir.done(&["backup", "backups"]);
    dir.done(&["append", "a-1", "--type", "t", "--data", "1"]);
    dir.done(&["retain", "set", "--stream", "a-1", "--max-count", "1"]);
    dir.done(&["append", "a-1", "--type", "t", "--data", "2"]);
    dir.done(&["retain", "scavenge"]);
    // A backup has the hidden events that are not removed yet, with their content.
    dir.done(&["retain", "set", "--stream", "b-1", "--truncate-before", "2"]);
    dir.done(&["backup", "backups"]);
    dir.done(&["backup", "first-after"]);
    let export = dir.done(&["export"]);
    for (backups, target) in [("backups", "one"), ("first-after", "two")] {
        dir.done(&["restore", backups, "--to", target]);
        assert_eq!(dir.done(&["--store", target, "export"]), export);
        let verified = dir.json(&["--store", target, "verify"]);
        assert_eq!((&verified["sound"], &verified["removed"]), (&json!(true), &json!(11)));
        dir.done(&["--store", target, "retain", "clear", "--stream", "b-1"]);
        assert_eq!(dir.lines(&["--store", target, "read", "b-1"]).len(), 3);
    }
    dir.done(&["restore", "backups", "--number", "1", "--to", "before"]);
    assert_eq!(
        dir.lines(&["--store", "before", "read", "a-1"]).len(),
        10,
        "an older backup has the events that were removed later"
    );
}

/// Kills a scavenge (SIGKILL). The store is sound after each kill, reads are unchanged, and the next scavenge completes
/// the removal.
#[test]
fn a_killed_scavenge_is_completed_by_the_next() {
    const STREAMS: usize = 40;
    let dir = TestDir::with((0..STREAMS).map(|number| append(&format!("a-{number}"), 200)));
    dir.done(&["retain", "set", "--category", "a", "--max-count", "20"]);
    let before = dir.done(&["export"]);
    let (all, mut killed) = (STREAMS as u64 * 180, 0);
    // A dry run starts and opens the store as a scavenge does. The kills are around the end of that.
    let start = Instant::now();
    dir.done(&["retain", "scavenge", "--dry-run"]);
    let opened = start.elapsed();
    for delay in (6..18).map(|step| opened * step / 12) {
        let mut program = dir.command(&["retain", "scavenge"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        program.kill().unwrap();
        // A process that ended by itself has an exit code; a killed one has none.
        killed += u64::from(program.wait().unwrap().code().is_none());
        assert!(is_sound(&dir).as_u64().unwrap() <= all);
        assert_eq!(without_points(&dir.done(&["export"])), without_points(&before), "after {delay:?}");
    }
    assert!(killed > 3, "only {killed} scavenges were killed");
    dir.done(&["retain", "scavenge"]);
    assert_eq!(is_sound(&dir), json!(all));
    assert_eq!(without_points(&dir.done(&["export"])), without_points(&before));
    assert_eq!(revisions(&dir, "a-7").len(), 20);
}

/// An event that a rule hides or removes still holds its unique keys, and a store keeps only hashes of keys. So a copy
/// does not hold them: export and import print their number. Keys that a deletion or a release freed do not count.
#[test]
fn an_import_reports_the_unique_keys_that_it_cannot_claim() {
    let key = |value: &str| UniqueKey::new("email", value).unwrap();
    let event = || NewEvent::json(EventType::new("t").unwrap(), "1");
    let to = |name: &str, events: Vec<NewEvent>| Commit::to(&stream(name), ExpectedRevision::Any, events);
    let dir = TestDir::with([
        to("a-1", vec![event().claiming(key("ada")).claiming(key("lovelace")).claiming(key("released"))]),
        to("a-1", vec![event().releasing(key("released")), event().claiming(key("visible"))]),
        to("b-1", vec![event().claiming(key("deleted")), event()]),
        to("c-1", vec![event().claiming(key("ended")), event()]),
    ]);
    let lost = |dir: &TestDir| dir.json(&["export", "out.jsonl"])["lost_claims"].clone();
    assert_eq!(lost(&dir), 0);
    for category in ["a", "b", "c"] {
        dir.done(&["retain", "set", "--category", category, "--max-count", "1"]);
    }
    assert_eq!(lost(&dir), 4, "the keys of a-1, b-1 and c-1 are held");
    dir.done(&["delete", "b-1"]);
    dir.done(&["delete", "c-1", "--hard", "--yes"]);
    for _ in ["hidden", "removed"] {
        let export = dir.done(&["export"]);
        let claims: Vec<Value> = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        let claims: Vec<_> = claims.iter().filter_map(|line| line["removed"].get("claims")).collect();
        assert_eq!(claims, [&json!(2)], "{export}");
        let hint = "an import does not claim 2 unique keys, because the events that claimed them are hidden or removed";
        assert_eq!(dir.done(&["export", "out.jsonl"]).lines().nth(1), Some(hint));

        let new = TestDir::new();
        new.write("in.jsonl", &export);
        let summary = new.json(&["import", "in.jsonl"]);
        assert_eq!((&summary["lost_claims"], &summary["skipped"]), (&json!(2), &json!(0)), "{summary}");
        let again = new.json(&["import", "in.jsonl"]);
        assert_eq!((&again["lost_claims"], &again["added"]), (&json!(0), &json!(0)), "it added no tombstone: {again}");
        let printed = TestDir::new();
        printed.write("in.jsonl", &export);
        let hint = "2 unique keys are not held any more, because the events that claimed them were hidden or removed; \
                    claim them again";
        assert_eq!(printed.done(&["import", "in.jsonl"]).lines().nth(1), Some(hint));
        assert_eq!(is_sound(&printed), is_sound(&new));

        // The keys are free in the copy, and held in the exported store.
        let claim = |value: &str| {
            let keys = json!([{"claim": {"scope": "email", "value": value}}]);
            json!({"stream": "d-1", "type": "t", "data": 1, "keys": keys}).to_string()
        };
        for dir in [&dir, &new] {
            dir.write("ada.jsonl", claim("ada"));
            dir.write("visible.jsonl", claim("visible"));
            assert_eq!(dir.run(&["import", "visible.jsonl"]).code, Some(3));
        }
        assert_eq!(new.run(&["import", "ada.jsonl"]).code, Some(0));
        assert_eq!(dir.run(&["import", "ada.jsonl"]).code, Some(3));
        dir.done(&["retain", "scavenge", "--reason", "test"]);
    }
}
