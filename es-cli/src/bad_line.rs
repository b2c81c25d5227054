//! [`BadLine`]: a fault in a file that is imported.

use std::fmt;
use std::path::PathBuf;

/// A line that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1; `None` where it is the whole line.
    pub column: Option<usize>,
    /// What was expected and what was found.
    pub message: String,
    /// Whether the line itself is good, but the store has another event under its id, or cannot take it any more.
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
