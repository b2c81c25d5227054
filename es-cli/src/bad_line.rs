//! [`BadLine`]: an error in a line of an import.

use std::fmt;
use std::path::PathBuf;

/// A line that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The file.
    pub file: PathBuf,
    /// The number of the line, from 1.
    pub line: u64,
    /// The column, from 1; `None` if the error is about the whole line.
    pub column: Option<usize>,
    /// What was expected and what was found.
    pub message: String,
    /// Whether the line is valid but conflicts with the store: its id belongs to another event, its stream was hard
    /// deleted, or a unique key is taken.
    pub is_conflict: bool,
}

impl std::error::Error for BadLine {}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)?;
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}
