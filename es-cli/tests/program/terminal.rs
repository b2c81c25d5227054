//! A terminal does not interpret the characters of stored text.

use std::process::Command;

use es_core::model::{ContentType, Metadata, Tag};
use es_core::retention::{Note, Rule, Scope};
use es_core::{Commit, EventType, ExpectedRevision, NewEvent};

use crate::support::{TestDir, stream};

/// Text from right to left, which can make a name look like another one. A name may have it.
const BIDI: &str = "\u{202e}";
/// A control character of C1, which some terminals take for the beginning of a command, and others. Content may have
/// them.
const CONTROLS: [&str; 4] = ["\u{9b}", "\u{1b}", "\u{7f}", BIDI];

/// Returns a store in which each kind of text has such characters.
fn sample() -> TestDir {
    let event = |content_type: ContentType, payload: &str| {
        let mut event = NewEvent::new(EventType::new(format!("t{BIDI}")).unwrap(), 1, content_type, payload.to_owned());
        event.data.metadata = Metadata::new().with("user", CONTROLS.concat());
        event.tagged(Tag::new(format!("k:{BIDI}")).unwrap())
    };
    let name = stream(&format!("a{BIDI}-1"));
    // JSON requires an escape for the characters below U+0020 only.
    let json = event(ContentType::Json, "\"\u{9b}31m\u{7f}\u{202e}\"");
    let other = event(ContentType::Other(CONTROLS.concat().into()), "x");
    let note = || Note { by: Some(CONTROLS.concat()), reason: Some(format!("a\n{}", CONTROLS.concat())) };
    let rule = Rule { max_count: Some(5), ..Rule::default() };
    TestDir::with([
        Commit::to(&name, ExpectedRevision::Any, [json, other]),
        Commit::set_rule(Scope::Stream(name), rule, note()),
    ])
}

fn assert_printable(args: &[&str], out: &str) {
    let found = out.chars().find(|c| *c != '\n' && (c.is_control() || BIDI.contains(*c)));
    assert_eq!(found, None, "{args:?}: {out:?}");
}

#[test]
fn every_listing_escapes_control_characters() {
    let dir = sample();
    let name = format!("a{BIDI}-1");
    for args in [
        ["read", &name].as_slice(),
        &["log"],
        &["streams"],
        &["stats"],
        &["info"],
        &["retain", "list"],
        &["snapshots", "list"],
        &["verify"],
    ] {
        let out = dir.done(args);
        assert_printable(args, &out);
        if !matches!(args[0], "info" | "snapshots" | "verify") {
            assert!(out.contains("\\u{202e}"), "{args:?}: {out}");
        }
    }
    for args in [["read", "b\u{202e}-2"].as_slice(), &["delete", "b\u{202e}-2"], &["export", "missing\u{202e}/out"]] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert_printable(args, &ran.err);
        assert_printable(args, &dir.run(&[args, &["--json"]].concat()).err);
    }
    let stats = dir.done(&["stats", "--json"]);
    assert_printable(&["stats", "--json"], &stats);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["categories"].get(format!("a{BIDI}")).is_some(), "the value of escaped JSON is the same: {stats}");
}

/// Lines of JSON are escaped on a terminal only: an import must get the payload byte for byte. `script` runs the
/// program on a terminal of its own.
#[cfg(target_os = "linux")]
#[test]
fn lines_of_json_are_escaped_on_a_terminal_and_lists_follow_its_width() {
    let dir = sample();
    for args in [["log", "--json"].as_slice(), &["export"], &["export", "-"]] {
        assert!(dir.done(args).contains("\"\u{9b}31m\u{7f}\u{202e}\""), "{args:?}");
    }
    let on_terminal = |args: &str| {
        let run = format!("stty cols 100; exec {} --store store {args} 2>/dev/null", env!("CARGO_BIN_EXE_es"));
        let output = Command::new("script").args(["-qec", &run, "/dev/null"]).current_dir(dir.path("")).output();
        Some(String::from_utf8(output.ok()?.stdout).unwrap().replace("\r\n", "\n"))
    };
    if on_terminal("info").is_none() {
        return println!("skipped, 1 test: expected the program `script`, found none");
    }
    for args in ["log --json", "export", "export -", "streams --json", "retain list --json", "stats --json"] {
        let out = on_terminal(args).unwrap();
        assert!(out.contains("\\u202e") || args.starts_with("stats"), "{args}: {out}");
        assert_printable(&[args], &out);
    }
    let long = format!("\"{}\"", "word ".repeat(100));
    let event = NewEvent::json(EventType::new("t").unwrap(), long.clone());
    let note = Note { by: None, reason: Some(long) };
    dir.commit([
        Commit::to(&stream("b-1"), ExpectedRevision::Any, [event]),
        Commit::set_rule(Scope::Stream(stream("b-1")), Rule { max_count: Some(5), ..Rule::default() }, note),
    ]);
    for args in ["retain list", "stats", "log --type t"] {
        let out = on_terminal(args).unwrap();
        let widest = out.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{args}: {widest:?} {out}");
    }
}
