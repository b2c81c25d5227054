//! [`BadInput`]: what is wrong in a file, and where.

use std::fmt;
use std::path::Path;

use crate::domain::Invalid;

/// What is wrong in a file. Correct it there and import again: what was imported before is not imported twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}, found {found}", self.place())]
pub struct BadInput {
    /// The file, as it was named on the command line.
    pub file: String,
    /// The line, from 1; `None` where it is the whole file.
    pub line: Option<u64>,
    /// The column by its name; `None` where it is the whole line.
    pub column: Option<String>,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: Found,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This text.
    Text(String),
    /// Something that is said in words.
    Words(String),
}

impl Found {
    /// The text or the words, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Words(text) => text,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl From<&str> for Found {
    fn from(words: &str) -> Self {
        Self::Words(words.to_owned())
    }
}

impl From<String> for Found {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

impl BadInput {
    /// Something wrong with a whole file.
    pub(crate) fn in_file(file: &Path, expected: impl Into<String>, found: impl Into<Found>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self { file: file.display().to_string(), line: None, column: None, expected, found }
    }

    /// The same, in this line.
    pub(crate) fn at_line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// The same, in this column.
    pub(crate) fn at_column(mut self, column: &str) -> Self {
        self.column = Some(column.to_owned());
        self
    }

    /// A file that cannot be read.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        Self::in_file(file, "a CSV file that can be read", error.to_string())
    }

    fn place(&self) -> String {
        let line = self.line.map_or(String::new(), |line| format!(", line {line}"));
        let column = self.column.as_ref().map_or(String::new(), |column| format!(", column {column}"));
        format!("{}{line}{column}", self.file)
    }
}

/// Where something stands in a file, for errors that are found later.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: std::sync::Arc<Path>,
    pub(crate) line: u64,
}

impl Source {
    /// Something wrong here.
    pub(crate) fn bad(&self, column: &str, expected: impl Into<String>, found: impl Into<Found>) -> BadInput {
        BadInput::in_file(&self.file, expected, found).at_line(self.line).at_column(column)
    }

    /// A value that the domain does not accept.
    pub(crate) fn invalid(&self, column: &str, invalid: Invalid) -> BadInput {
        self.bad(column, invalid.expected, Found::Text(invalid.found))
    }
}
