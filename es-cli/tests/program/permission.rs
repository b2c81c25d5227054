//! A read-only directory: read-only commands succeed, writes fail with the reason, and nothing is changed.
//!
//! The program runs as another user. Only root can become another user; the test is skipped with a message otherwise.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use es_core::{Commit, EventType, ExpectedRevision, NewEvent};

use crate::support::{Ran, TestDir, files, stream};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the owner can change the mode");
}

/// Lets all users read a store.
fn allow_reading(store: &Path) {
    for directory in ["", "log", "index", "tables"].map(|name| store.join(name)) {
        if directory.exists() {
            allow(&directory, 0o755);
        }
    }
    files(store).iter().for_each(|file| allow(file, 0o644));
}

/// Runs the program as another user; returns `None` if the test cannot become another user.
fn as_nobody(dir: &TestDir, args: &[&str]) -> Option<Ran> {
    let program = dir.path("es");
    if !program.exists() {
        // Only its owner may be able to read the target directory.
        fs::copy(env!("CARGO_BIN_EXE_es"), &program).expect("copied");
        allow(&program, 0o755);
        allow(program.parent().expect("a directory"), 0o755);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(args);
    let store = dir.path("store");
    let output = command.current_dir("/").env("ES_STORE", store).stdin(Stdio::null()).output().ok()?;
    let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
    let ran = Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
    if ran.err.contains("setpriv:") {
        return None;
    }
    Some(ran)
}

#[test]
fn a_read_only_directory_is_read_and_not_written() {
    let event = || NewEvent::json(EventType::new("t").expect("a name"), "{}");
    let dir = TestDir::with((0..40).map(|_| Commit::to(&stream("a-1"), ExpectedRevision::Any, [event()])));
    let store = dir.path("store");
    allow_reading(&store);
    let before = files(&store);
    let Some(ran) = as_nobody(&dir, &["info", "--json"]) else {
        return println!("skipped, 1 test: only root can become another user");
    };
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let ran = as_nobody(&dir, &["export"]).expect("it ran before");
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 40), "{}", ran.err);
    let ran = as_nobody(&dir, &["verify"]).expect("it ran before");
    assert_eq!(ran.code, Some(0), "{} {}", ran.out, ran.err);

    let refused = as_nobody(&dir, &["append", "a-1", "--type", "t", "--data", "{}"]).expect("it ran before");
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(
        refused.err.starts_with("error: could not ") && refused.err.contains("Permission denied"),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("panicked") && refused.out.is_empty(), "{}", refused.err);
    assert_eq!(files(&store), before, "a command has left files");

    allow(&store, 0o700);
    for args in [&["info"][..], &["append", "a-1", "--type", "t", "--data", "{}"]] {
        let refused = as_nobody(&dir, args).expect("it ran before");
        assert_eq!(refused.code, Some(1), "{}", refused.err);
        assert!(refused.err.contains("Permission denied"), "{args:?}: {}", refused.err);
    }
    dir.done(&["append", "a-1", "--type", "t", "--data", "{}"]);
    assert_eq!(dir.lines(&["log"]).len(), 41, "the owner can still write");
}

/// An export neither replaces a file of another user, nor leaves a part of itself where it cannot complete.
#[test]
fn an_export_replaces_no_file_of_another_user() {
    let event = NewEvent::json(EventType::new("t").expect("a name"), "{}");
    let dir = TestDir::with([Commit::to(&stream("a-1"), ExpectedRevision::Any, [event])]);
    allow_reading(&dir.path("store"));
    for (directory, mode) in [("read-only", 0o755), ("shared", 0o777)] {
        fs::create_dir(dir.path(directory)).expect("created");
        allow(&dir.path(directory), mode);
    }
    dir.write("shared/theirs", "theirs");
    allow(&dir.path("shared/theirs"), 0o666);
    let export = |name: &str| {
        let path = dir.path(name).display().to_string();
        as_nobody(&dir, &["export", &path])
    };
    let Some(ran) = export("shared/new") else {
        return println!("skipped, 1 test: only root can become another user");
    };
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let ran = export("read-only/new").expect("it ran before");
    assert!(ran.code == Some(1) && ran.err.contains("could not create a temporary file for "), "{}", ran.err);
    let ran = export("shared/theirs").expect("it ran before");
    assert!(ran.code == Some(1) && ran.err.contains("expected a file of this user in "), "{}", ran.err);
    assert_eq!(dir.read("shared/theirs"), "theirs");
    let names = |directory: &str| fs::read_dir(dir.path(directory)).expect("a directory").count();
    assert_eq!((names("read-only"), names("shared")), (0, 2), "an export has left files");
}
