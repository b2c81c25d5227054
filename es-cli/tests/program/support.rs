//! Runs the program in a temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use es_core::{Commit, EventReader, EventStore, LogRead, RecordedEvent, StreamId};
use es_rocksdb::RocksDbStore;
use serde_json::Value;
use tempfile::TempDir;

/// A temporary directory for the files of a test and its store, `store`.
pub(crate) struct TestDir(TempDir);

/// The result of a run of the program.
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

    /// Creates a directory with a store that has these commits.
    pub(crate) fn with(commits: impl IntoIterator<Item = Commit>) -> Self {
        let dir = Self::new();
        dir.commit(commits);
        dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file of the test can be written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file of the test can be read")
    }

    /// Writes commits with the library.
    pub(crate) fn commit(&self, commits: impl IntoIterator<Item = Commit>) {
        runtime().block_on(async {
            let store = RocksDbStore::open(self.path("store")).await.expect("it opens");
            for commit in commits {
                store.commit(commit).await.expect("it is committed");
            }
            store.close().await.expect("it closes");
        });
    }

    /// Reads all events with the library.
    pub(crate) fn events(&self) -> Vec<RecordedEvent> {
        runtime().block_on(async {
            let store = RocksDbStore::open(self.path("store")).await.expect("the store opens");
            let events = store.read_log(LogRead::all()).await.expect("the log is read").collect().await;
            store.close().await.expect("the store closes");
            events.expect("the log is read")
        })
    }

    /// Returns a command that runs the program in this directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_es"));
        command.current_dir(&self.0).env("ES_STORE", "store").args(args).stdin(Stdio::null());
        command
    }

    /// Runs the program and waits for its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let output = self.command(args).output().expect("the program can be run");
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs the program and requires success. Returns its output.
    #[track_caller]
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {} {}", ran.err, ran.out);
        ran.out
    }

    /// Runs the program with `--json` and requires success. Returns its output.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[args, &["--json"]].concat())).expect("the answer is JSON")
    }

    /// Runs the program with `--json` and requires success. Returns the lines of its output.
    #[track_caller]
    pub(crate) fn lines(&self, args: &[&str]) -> Vec<Value> {
        let out = self.done(&[args, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Runs the program and requires this exit code, this error, and no output.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str], code: i32, error: &str) {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.trim_end()), (Some(code), "", error), "{args:?}");
    }
}

/// Returns all files of a directory and of the directories in it, in order; none if it does not exist.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

/// Flips a bit of the nth payload with this text, in the log of a store. A link gets a file of its own.
pub(crate) fn flip_in_log(store: &Path, text: &str, number: usize) {
    for segment in files(&store.join("log")).into_iter().filter(|file| file.extension() == Some("seg".as_ref())) {
        let mut bytes = fs::read(&segment).expect("it is read");
        let mut found = bytes.windows(text.len()).enumerate().filter(|(_, bytes)| *bytes == text.as_bytes());
        let Some(at) = found.nth(number).map(|(at, _)| at) else { continue };
        bytes[at] ^= 1;
        fs::remove_file(&segment).expect("it is removed");
        return fs::write(segment, bytes).expect("it is written");
    }
    panic!("expected {text} in the log");
}

/// Overwrites a part of the first segment. An opening reads only the log after the last index table, so that it does
/// not find this damage after a compaction.
pub(crate) fn damage_first_segment(store: &Path) {
    let segment = store.join("log/00000001.seg");
    let mut bytes = fs::read(&segment).expect("it is read");
    let middle = bytes.len() * 3 / 4;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(segment, bytes).expect("it is written");
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(crate) fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a stream id")
}

/// Returns a field of each line.
pub(crate) fn field(lines: &[Value], name: &str) -> Vec<Value> {
    lines.iter().map(|line| line[name].clone()).collect()
}
