//! What the lines of a file are: commits, and lines that are none.
//!
//! Free of the store and of the file system, so that a fuzzer can ask of any bytes what becomes of them.

use std::io::{self, Read};

use super::group::{Group, Grouped};
use super::lines::Lines;
use crate::line::{self, Fault};

/// What stands next in a file.
#[derive(Debug)]
pub(super) enum Found {
    /// A commit.
    Commit(Grouped),
    /// A line that is bad.
    Bad(Bad),
}

/// A line that is bad, and what it takes with it. Where a commit ends before it is whole, it is the last line of what there is.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) number: u64,
    pub(super) text: Vec<u8>,
    pub(super) fault: Fault,
    /// The lines before it whose commit is not whole because of it.
    pub(super) before: Vec<(u64, Vec<u8>)>,
}

/// The commits of a file, in their order.
pub(super) struct Commits<R> {
    lines: Lines<R>,
    longest: usize,
    group: Group,
    /// What the line that was read last is, where it has ended a commit that is not whole.
    behind: Option<Found>,
    lines_read: u64,
}

impl<R: Read> Commits<R> {
    /// Of what is read, with lines of at most `longest` bytes.
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self { lines: Lines::new(reader, longest), longest, group: Group::default(), behind: None, lines_read: 0 }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    /// How many lines were read that are not empty.
    pub(super) fn lines_read(&self) -> u64 {
        self.lines_read
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        if let Some(found) = self.behind.take() {
            return Ok(Some(found));
        }
        while let Some(text) = self.lines.next()? {
            self.lines_read += 1;
            let parsed = if text.is_too_long {
                Err(Fault::new(format!(
                    "expected at most {} bytes in a line, found more; only its beginning is shown",
                    self.longest
                )))
            } else {
                line::parse(text.bytes)
            };
            // NOTE: what begins a commit ends the one before it: one that is torn must not take its neighbour with it.
            let begins = parsed.as_ref().is_ok_and(|line| line.part.is_none_or(|part| part.index == 0));
            let ended = format!("line {}, which begins another", text.number);
            let torn = begins.then(|| torn(&mut self.group, &ended)).flatten();
            let found = match parsed.and_then(|line| self.group.take(text.number, text.bytes, line)) {
                Ok(commit) => commit.map(Found::Commit),
                Err(fault) => {
                    let (number, text) = (text.number, text.bytes.to_vec());
                    let before = self.group.give_up();
                    Some(Found::Bad(Bad { number, text, fault, before }))
                }
            };
            if torn.is_some() {
                self.behind = found;
                return Ok(torn);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(torn(&mut self.group, "the end of the file"))
    }
}

/// The commit so far, of which the rest is missing.
fn torn(group: &mut Group, found: &str) -> Option<Found> {
    let mut before = group.give_up();
    let (number, text) = before.pop()?;
    let fault = Fault::new(format!("expected the rest of its commit behind it, found {found}"));
    Some(Found::Bad(Bad { number, text, fault, before }))
}
