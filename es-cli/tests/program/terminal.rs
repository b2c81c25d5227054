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
    for (args, code) in [
        (["read", "b\u{202e}-2"].as_slice(), 1),
        (&["delete", "b\u{202e}-2"], 1),
        (&["export", "missing\u{202e}/out"], 1),
        (&["read", "\u{1b}\u{9b}\u{7f}\u{202e}"], 2),
        (&["--\u{202e}"], 2),
        (&["log", "--limit", "\u{202e}"], 2),
    ] {
        let ran = dir.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}");
        assert!(ran.err.contains("\\u{202e}"), "{args:?}: {}", ran.err);
        assert_printable(args, &ran.err);
        assert_printable(args, &dir.run(&[args, &["--json"]].concat()).err);
    }
    let stats = dir.done(&["stats", "--json"]);
    assert_printable(&["stats", "--json"], &stats);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert!(stats["categories"].get(format!("a{BIDI}")).is_some(), "the value of escaped JSON is the same: {stats}");
}

/// Runs the program on a terminal of its own, by `script`. Returns what it writes to standard output and standard
/// error; `None` if there is no `script`.
#[cfg(target_os = "linux")]
fn on_terminal(dir: &TestDir, args: &str) -> Option<String> {
    let run = format!("stty cols 100; exec {} --store store {args}", env!("CARGO_BIN_EXE_es"));
    let output = Command::new("script").args(["-qec", &run, "/dev/null"]).current_dir(dir.path("")).output();
    Some(String::from_utf8_lossy(&output.ok()?.stdout).replace("\r\n", "\n"))
}

/// clap prints arguments unchanged in its errors, so an escape sequence of an argument changed the colour of the
/// terminal.
#[cfg(target_os = "linux")]
#[test]
fn errors_are_escaped_on_a_terminal() {
    let dir = sample();
    if on_terminal(&dir, "info").is_none() {
        return println!("skipped, 1 test: expected the program `script`, found none");
    }
    for args in ["read ", "log --type ", "log --limit ", "import ", "export missing/", "log --after ", "-- "] {
        let argument = r#""$(printf 'q\033[31m\302\233\177\342\200\256RED')""#;
        let shown = on_terminal(&dir, &format!("{args}{argument}")).unwrap();
        assert!(shown.contains(r"q\u{1b}[31m\u{9b}\u{7f}\u{202e}RED"), "{args}: {shown:?}");
        // The only sequences are the colours of the program.
        let own = ["\u{1b}[1;31m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[33m", "\u{1b}[4m", "\u{1b}[0m"];
        let text = own.iter().fold(shown.clone(), |text, sequence| text.replace(sequence, ""));
        assert_printable(&[args], &text);
    }
    let coloured = on_terminal(&dir, "log --limit x").unwrap();
    assert!(coloured.contains("\u{1b}["), "errors without such characters keep the colours of clap: {coloured:?}");
}

/// Lines of JSON are escaped on a terminal only: an import must get the payload byte for byte.
#[cfg(target_os = "linux")]
#[test]
fn lines_of_json_are_escaped_on_a_terminal_and_lists_follow_its_width() {
    let dir = sample();
    for args in [["log", "--json"].as_slice(), &["export"], &["export", "-"]] {
        assert!(dir.done(args).contains("\"\u{9b}31m\u{7f}\u{202e}\""), "{args:?}");
    }
    // Without standard error: the progress bar moves the cursor.
    let on_terminal = |args: &str| on_terminal(&dir, &format!("{args} 2>/dev/null"));
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
