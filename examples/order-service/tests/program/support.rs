//! Runs the program in a temporary directory.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A temporary directory with the files of a test, in which the store is named `shop`.
pub(crate) struct TestDir(TempDir);

/// The exit code and the output of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl TestDir {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("create a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("write a file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("read a file")
    }

    /// Returns the command that runs the program with these arguments in this directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
        command.current_dir(&self.0).env_remove("ORDER_SERVICE_DATA").args(["--data", "shop"]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program until it exits.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs the program, expects success, and returns its standard output.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    }

    /// Runs the program with `--json`, expects success, and returns the parsed output.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[args, &["--json"]].concat())).expect("the output is JSON")
    }

    /// Runs the program and expects this exit code, this text on standard error and an empty standard output.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], code: i32, error: &str) {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.trim_end()), (Some(code), "", error), "{args:?}");
    }
}
