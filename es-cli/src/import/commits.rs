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

/// A line that is bad, and what it takes with it.
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
    lines_read: u64,
}

impl<R: Read> Commits<R> {
    /// Of what is read, with lines of at most `longest` bytes.
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self { lines: Lines::new(reader, longest), longest, group: Group::default(), lines_read: 0 }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }

    /// How many lines were read that are not empty.
    pub(super) fn lines_read(&self) -> u64 {
        self.lines_read
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        while let Some(text) = self.lines.next()? {
            self.lines_read += 1;
            let parsed = if text.is_too_long {
                Err(Fault::new(format!("expected at most {} bytes in a line, found more", self.longest)))
            } else {
                line::parse(text.bytes)
            };
            match parsed.and_then(|line| self.group.take(text.number, text.bytes, line)) {
                Ok(None) => {}
                Ok(Some(commit)) => return Ok(Some(Found::Commit(commit))),
                Err(fault) => {
                    let (number, text) = (text.number, text.bytes.to_vec());
                    let mut before = self.group.give_up();
                    // NOTE: only a commit that is whole can be found bad behind its last line.
                    before.retain(|(other, _)| *other != number);
                    return Ok(Some(Found::Bad(Bad { number, text, fault, before })));
                }
            }
        }
        let mut before = self.group.give_up();
        Ok(before.pop().map(|(number, text)| {
            let fault = Fault::new("expected the rest of its commit behind it, found the end of the file");
            Found::Bad(Bad { number, text, fault, before })
        }))
    }
}
