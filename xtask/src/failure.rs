//! Why a command stops.

use std::fmt;
use std::path::Path;

/// Why a command stops: what happened, and what the person at the terminal can do now.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure {
    what: String,
    next: Option<String>,
    exit_code: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, exit_code: 1 }
    }

    /// A program has failed and has said why itself: there is nothing to add but its exit code.
    pub(crate) fn said(code: Option<i32>) -> Self {
        Self::new("").with_exit_code(code)
    }

    pub(crate) fn is_said(&self) -> bool {
        self.what.is_empty()
    }

    /// Something could not be done to a file or a folder.
    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("cannot {what} {}: {error}", path.display()))
            .next("see that there is room on the disk and that the folder is yours to write to, then run this again")
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Leaves with the exit code of the program that failed, where it is one (a killed program has
    /// none).
    pub(crate) fn with_exit_code(mut self, code: Option<i32>) -> Self {
        self.exit_code = code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
        self
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_do_next_on_a_line_of_its_own() {
        let failure = Failure::new("expected a file, found none").next("make one");
        assert_eq!(failure.to_string(), "expected a file, found none\n  next: make one");
    }

    #[test]
    fn never_leaves_with_success() {
        for (code, expected) in [(None, 1), (Some(0), 1), (Some(-9), 1), (Some(101), 101), (Some(256), 1)] {
            assert_eq!(Failure::new("").with_exit_code(code).exit_code(), expected);
        }
    }
}
