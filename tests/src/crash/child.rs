//! Starts a child, reads its output and kills it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use es_rocksdb::Durability;

use super::power::Power;

/// The maximum time to wait for a child.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The parameters of a child process.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The program: `env!("CARGO_BIN_EXE_crash-child")`.
    pub program: &'a str,
    /// The directory of the store.
    pub dir: &'a Path,
    /// The number of the child for this directory, from 1.
    pub number: u32,
    /// The durability of commits.
    pub durability: Durability,
    /// Number of commits per writer; 0 for unlimited.
    pub commits: u32,
    /// The shim; `None` to run without it.
    pub power: Option<&'a Power>,
    /// Limit of open files; 0 for the limit of the parent.
    pub open_files: u32,
}

impl<'a> Run<'a> {
    /// Returns the run of a child that commits durably until it is killed.
    #[must_use]
    pub fn new(program: &'a str, dir: &'a Path, number: u32) -> Self {
        let durability = Durability::Sync;
        Self { program, dir, number, durability, commits: 0, power: None, open_files: 0 }
    }

    /// Starts the child.
    ///
    /// # Panics
    /// If the child cannot be started.
    #[must_use]
    pub fn start(&self) -> Child {
        self.start_refusing("none")
    }

    /// Starts the child. Under the shim, these calls fail from the start (see [`Power::refuse`]).
    ///
    /// # Panics
    /// If the child cannot be started.
    #[must_use]
    pub fn start_refusing(&self, calls: &str) -> Child {
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
            command.envs(power.begin(self.dir).expect("a journal"));
            power.refuse(Some(calls));
        }
        let stderr = tempfile::tempfile().expect("create a file for standard error");
        let stderr_of_child = stderr.try_clone().expect("duplicate the file handle");
        let mut process = command.stdout(Stdio::piped()).stderr(stderr_of_child).spawn().expect("the child starts");
        let stdout = process.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            // A line without a newline was cut off by the kill and is ignored.
            while stdout.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Child { process, lines, received: Vec::new(), stderr }
    }
}

/// A running child. Killed on drop.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    lines: Receiver<String>,
    received: Vec<String>,
    stderr: std::fs::File,
}

impl Child {
    /// Waits until the child has printed this number of lines with this prefix.
    ///
    /// # Panics
    /// If the child exits before, or takes longer than `TIMEOUT`.
    pub fn wait_for(&mut self, prefix: &str, times: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while self.received.iter().filter(|line| line.starts_with(prefix)).count() < times {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(remaining) {
                Ok(line) => self.received.push(line),
                Err(error) => {
                    let stderr = self.read_stderr();
                    let last: Vec<_> = self.received.iter().rev().take(3).collect();
                    panic!(
                        "expected {times} lines {prefix:?}: {error}; last lines: {last:?}; standard error: {stderr}"
                    );
                }
            }
        }
    }

    /// Kills the child after a delay and returns all lines of its standard output.
    ///
    /// # Panics
    /// If the child cannot be killed.
    #[must_use]
    pub fn kill_after(mut self, delay: Duration) -> Vec<String> {
        std::thread::sleep(delay);
        self.process.kill().expect("kill the child");
        self.process.wait().expect("wait for the child");
        self.all_lines()
    }

    /// Waits until the child exits. Returns the lines of its standard output, and its standard error.
    ///
    /// # Panics
    /// If the child takes longer than `TIMEOUT`.
    #[must_use]
    pub fn wait(mut self) -> (Vec<String>, String) {
        let deadline = Instant::now() + TIMEOUT;
        while self.process.try_wait().expect("query the child").is_none() {
            assert!(Instant::now() < deadline, "the child does not exit");
            std::thread::sleep(Duration::from_millis(5));
        }
        let stderr = self.read_stderr();
        (self.all_lines(), stderr)
    }

    fn all_lines(&mut self) -> Vec<String> {
        let mut received = std::mem::take(&mut self.received);
        received.extend(self.lines.iter());
        received
    }

    fn read_stderr(&mut self) -> String {
        use std::io::{Read, Seek};
        let mut text = String::new();
        // The text is only part of a message, so an error is ignored.
        let _ = self.stderr.rewind();
        let _ = self.stderr.read_to_string(&mut text);
        text
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that the child has exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
