//! Groups the lines of a file into commits and bad lines.
//!
//! Uses neither the store nor the file system, so that a fuzzer can run it on any bytes.

use std::io::{self, Read};

use super::group::{Group, Grouped};
use super::lines::Lines;
use es_core::schema::line::{self, LineFault};

/// The next item of a file.
#[derive(Debug)]
pub(super) enum Found {
    /// A commit.
    Commit(Grouped),
    /// A bad line.
    Bad(Bad),
}

/// A bad line, and the lines before it that belong to the same commit. For an incomplete commit, the last of its lines.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) number: u64,
    pub(super) text: Vec<u8>,
    pub(super) fault: LineFault,
    /// The lines before it in the same commit.
    pub(super) before: Vec<(u64, Vec<u8>)>,
}

/// The commits of a file, in their order.
pub(super) struct Commits<R> {
    lines: Lines<R>,
    longest: usize,
    group: Group,
    /// The item of the last line, if the line follows an incomplete commit, which is returned first.
    pending: Option<Found>,
    lines_read: u64,
}

impl<R: Read> Commits<R> {
    /// Reads lines of at most `longest` bytes.
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self { lines: Lines::new(reader, longest), longest, group: Group::default(), pending: None, lines_read: 0 }
    }

    /// Returns the number of lines that were read, without empty lines.
    pub(super) fn lines_read(&self) -> u64 {
        self.lines_read
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        if let Some(found) = self.pending.take() {
            return Ok(Some(found));
        }
        while let Some(text) = self.lines.next()? {
            self.lines_read += 1;
            let parsed = if text.is_too_long {
                Err(LineFault::new(format!(
                    "expected at most {} bytes in a line, found more; only its beginning is shown",
                    self.longest
                )))
            } else {
                line::parse(text.bytes)
            };
            // A line that begins a commit ends the commit before it, so that an incomplete commit does not invalidate
            // the next one.
            let begins = parsed.as_ref().is_ok_and(|line| line.part.is_none_or(|part| part.index == 0));
            let found_line = format!("line {}, which begins another commit", text.number);
            let incomplete = begins.then(|| take_incomplete(&mut self.group, &found_line)).flatten();
            let found = match parsed.and_then(|line| self.group.take(text.number, text.bytes, line)) {
                Ok(commit) => commit.map(Found::Commit),
                Err(fault) => {
                    let (number, text) = (text.number, text.bytes.to_vec());
                    let before = self.group.abandon();
                    Some(Found::Bad(Bad { number, text, fault, before }))
                }
            };
            if incomplete.is_some() {
                self.pending = found;
                return Ok(incomplete);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(take_incomplete(&mut self.group, "the end of the file"))
    }
}

/// Takes the lines of an incomplete commit as a bad line.
fn take_incomplete(group: &mut Group, found: &str) -> Option<Found> {
    let mut before = group.abandon();
    let (number, text) = before.pop()?;
    let fault = LineFault::new(format!("expected the rest of the commit after this line, found {found}"));
    Some(Found::Bad(Bad { number, text, fault, before }))
}
