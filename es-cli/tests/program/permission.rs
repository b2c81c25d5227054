//! A directory that may only be read: looking works, writing is refused with the reason, and nothing is changed.
//!
//! The program runs as a user who owns nothing here. Only root can become another user; where a test does not run as root, it
//! is skipped and says so.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use es_core::{Commit, EventType, ExpectedRevision, NewEvent};

use crate::support::{Ran, TestDir, stream};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the owner may");
}

/// The program as somebody else; `None` where nobody else can be had.
fn as_nobody(dir: &TestDir, args: &[&str]) -> Option<Ran> {
    let program = dir.path("es");
    if !program.exists() {
        // NOTE: the target directory may be one that only its owner may look into.
        fs::copy(env!("CARGO_BIN_EXE_es"), &program).expect("copied");
        allow(&program, 0o755);
        allow(program.parent().expect("a directory"), 0o755);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(args);
    let store = dir.path("store");
    let output = command.current_dir("/").env("ES_STORE", store).stdin(Stdio::null()).output().ok()?;
    let text = |bytes| String::from_utf8(bytes).expect("the program says UTF-8");
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    if ran.err.contains("setpriv:") {
        return None;
    }
    Some(ran)
}

#[test]
fn a_directory_that_may_only_be_read_is_read_and_not_written() {
    let event = || NewEvent::json(EventType::new("t").expect("a name"), "{}");
    let dir = TestDir::with((0..40).map(|_| Commit::to(&stream("a-1"), ExpectedRevision::Any, [event()])));
    let store = dir.path("store");
    allow(&store, 0o755);
    for entry in fs::read_dir(&store).expect("a directory") {
        allow(&entry.expect("an entry").path(), 0o644);
    }
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&store).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names
    };
    let before = names();
    let Some(looked) = as_nobody(&dir, &["info", "--json"]) else {
        return println!("skipped, 1 test: only root can become another user");
    };
    assert_eq!(looked.code, Some(0), "{}", looked.err);
    let looked = as_nobody(&dir, &["export"]).expect("it ran before");
    assert_eq!((looked.code, looked.out.lines().count()), (Some(0), 40), "{}", looked.err);
    let looked = as_nobody(&dir, &["verify"]).expect("it ran before");
    assert_eq!(looked.code, Some(0), "{} {}", looked.out, looked.err);

    let refused = as_nobody(&dir, &["append", "a-1", "--type", "t", "--data", "{}"]).expect("it ran before");
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(
        refused.err.starts_with("error: could not ") && refused.err.contains("Permission denied"),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("panicked") && refused.out.is_empty(), "{}", refused.err);
    assert_eq!(names(), before, "a look or a refusal has left something");

    allow(&store, 0o700);
    for args in [&["info"][..], &["append", "a-1", "--type", "t", "--data", "{}"]] {
        let refused = as_nobody(&dir, args).expect("it ran before");
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        assert!(refused.err.contains("Permission denied"), "{args:?}: {}", refused.err);
    }
    dir.done(&["append", "a-1", "--type", "t", "--data", "{}"]);
    assert_eq!(dir.lines(&["log"]).len(), 41, "the owner goes on");
}
