//! The program itself, in a directory of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory with a store, `shop`, once something was written, and with the files of a test.
pub(crate) struct TestDir(TempDir);

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl TestDir {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a directory for the test"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file of the test can be written");
    }

    /// The program with these arguments, in this directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
        command.current_dir(&self.0).env_remove("ORDER_SERVICE_DATA").args(["--data", "shop"]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().expect("the program can be run");
        let text = |bytes| String::from_utf8(bytes).expect("the program says UTF-8");
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs the program, which has to succeed.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.err);
        ran.out
    }

    /// Runs the program, which has to succeed and to answer in JSON.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[args, &["--json"]].concat())).expect("the answer is JSON")
    }

    /// Runs the program, which has to end with this code and to say this and nothing else.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], code: i32, error: &str) {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.trim_end()), (Some(code), "", error), "{args:?}");
    }
}
