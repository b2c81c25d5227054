//! Starting, listening to and killing a child.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use es_rocksdb::Durability;

use super::power::Power;

/// How long a child may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a child.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The program: `env!("CARGO_BIN_EXE_crash-child")`.
    pub program: &'a str,
    /// The directory of the store.
    pub dir: &'a Path,
    /// Which child of this directory it is, from 1.
    pub number: u32,
    /// When it acknowledges.
    pub durability: Durability,
    /// How many commits each writer makes; 0 for no end.
    pub commits: u32,
    /// The shim, where one is wanted.
    pub power: Option<&'a Power>,
    /// How many files it may have open; 0 for as many as the parent.
    pub open_files: u32,
}

impl Run<'_> {
    /// Starts the child.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self) -> Child {
        self.start_refusing("none")
    }

    /// Starts the child; under the shim, these calls fail from the beginning ([`Power::refuse`]).
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_refusing(&self, what: &str) -> Child {
        let mut command = if self.open_files == 0 {
            Command::new(self.program)
        } else {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("ulimit -n {} && exec \"$0\" \"$@\"", self.open_files)).arg(self.program);
            shell
        };
        let durability = if self.durability == Durability::Sync { "sync" } else { "buffered" };
        command.arg(self.dir).arg(self.number.to_string()).arg(durability).arg(self.commits.to_string());
        if let Some(power) = self.power {
            power.begin(self.dir).expect("a journal");
            power.refuse(Some(what));
            command.envs(power.environment(self.dir));
        }
        let errors = tempfile::tempfile().expect("a file for stderr");
        let to_errors = errors.try_clone().expect("a second handle");
        let mut process = command.stdout(Stdio::piped()).stderr(to_errors).spawn().expect("the child starts");
        let stdout = process.stdout.take().expect("a pipe");
        let (said, lines) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            // NOTE: a line without its end was cut by the kill: what it says was not said.
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                if said.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Child { process, lines, heard: Vec::new(), errors }
    }
}

/// A running child. It is killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    heard: Vec<String>,
    errors: std::fs::File,
}

impl Child {
    /// Waits until so many lines begin like this.
    ///
    /// # Panics
    /// When the child ends before, or takes too long.
    pub fn wait_for(&mut self, beginning: &str, times: usize) {
        let until = Instant::now() + PATIENCE;
        while self.heard.iter().filter(|line| line.starts_with(beginning)).count() < times {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.heard.push(line),
                Err(error) => {
                    let errors = self.read_errors();
                    let last: Vec<_> = self.heard.iter().rev().take(3).collect();
                    panic!("expected {times} lines {beginning:?}, {error}, heard at last {last:?}; {errors}");
                }
            }
        }
    }

    /// Kills the child after a time, and returns all that it said.
    ///
    /// # Panics
    /// When it cannot be killed.
    #[must_use]
    pub fn kill_after(mut self, time: Duration) -> Vec<String> {
        std::thread::sleep(time);
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
        self.all_lines()
    }

    /// Waits until the child ends by itself; returns all that it said, and what it wrote to stderr.
    ///
    /// # Panics
    /// When it takes too long.
    #[must_use]
    pub fn end(mut self) -> (Vec<String>, String) {
        let until = Instant::now() + PATIENCE;
        while self.process.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < until, "the child does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let errors = self.read_errors();
        (self.all_lines(), errors)
    }

    fn all_lines(&mut self) -> Vec<String> {
        let mut heard = std::mem::take(&mut self.heard);
        heard.extend(self.lines.iter());
        heard
    }

    fn read_errors(&mut self) -> String {
        use std::io::{Read, Seek};
        let mut text = String::new();
        // NOTE: this is for messages only.
        let _ = self.errors.rewind();
        let _ = self.errors.read_to_string(&mut text);
        text
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // NOTE: an error says that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
