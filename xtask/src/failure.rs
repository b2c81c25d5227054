//! The error of a command.

use std::fmt;
use std::path::Path;

/// The reason for which a command stops: the message, what the user can do next, and the exit code.
#[derive(Debug, PartialEq)]
pub(crate) struct Failure {
    message: String,
    next: Option<String>,
    exit_code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next: None, exit_code: 1 }
    }

    /// Creates the failure of a program that has printed its own message. Only the exit code remains to be forwarded.
    pub(crate) fn reported(code: Option<i32>) -> Self {
        Self::new("").with_exit_code(code)
    }

    /// Returns whether the message was printed already.
    pub(crate) fn is_reported(&self) -> bool {
        self.message.is_empty()
    }

    /// Creates the failure of an operation on a file or directory; `operation` is a verb, such as `write`.
    pub(crate) fn io(operation: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("cannot {operation} {}: {error}", path.display()))
            .next("check the free disk space and the permissions of the directory, then run the command again")
    }

    /// Adds what the user can do.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Sets the exit code of the program that failed. A program that a signal killed has none.
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
        write!(f, "{}", self.message)?;
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
    fn the_next_step_is_on_a_line_of_its_own() {
        let failure = Failure::new("expected a file, found none").next("create one");
        assert_eq!(failure.to_string(), "expected a file, found none\n  next: create one");
    }

    #[test]
    fn the_exit_code_is_never_zero() {
        for (code, expected) in [(None, 1), (Some(0), 1), (Some(-9), 1), (Some(101), 101), (Some(256), 1)] {
            assert_eq!(Failure::new("").with_exit_code(code).exit_code(), expected);
        }
    }
}
