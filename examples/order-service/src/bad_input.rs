//! [`BadInput`]: an invalid import file, row or cell.

use std::fmt;
use std::path::Path;

use es_tool::input::InputError;

use crate::domain::Invalid;

/// An invalid import file, row or cell. Correct it and import again: orders that were imported are not imported twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}, found {found}", self.location())]
pub struct BadInput {
    /// The path of the file as given on the command line.
    pub file: String,
    /// The line number, from 1; `None` if the error concerns the whole file.
    pub line: Option<u64>,
    /// The name of the column; `None` if the error concerns the whole line.
    pub column: Option<String>,
    /// The expected value or format.
    pub expected: String,
    /// The actual content.
    pub found: Found,
}

/// The actual content of invalid input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The text of a cell. Messages quote it.
    Text(String),
    /// A description, as in `9 cells`. Messages print it without quotes.
    Description(String),
}

impl Found {
    /// Returns the text or the description, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Description(text) => text,
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Description(description) => f.write_str(description),
        }
    }
}

impl From<&str> for Found {
    fn from(description: &str) -> Self {
        Self::Description(description.to_owned())
    }
}

impl From<String> for Found {
    fn from(description: String) -> Self {
        Self::Description(description)
    }
}

impl BadInput {
    /// Creates an error about a whole file.
    pub(crate) fn in_file(file: &Path, expected: impl Into<String>, found: impl Into<Found>) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self { file: file.display().to_string(), line: None, column: None, expected, found }
    }

    /// Sets the line.
    pub(crate) fn at_line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// Sets the column.
    pub(crate) fn at_column(mut self, column: &str) -> Self {
        self.column = Some(column.to_owned());
        self
    }

    /// Creates the error for a file that cannot be opened, or has another format.
    pub(crate) fn of_input(file: &Path, error: InputError) -> Self {
        match error {
            InputError::Format { found, advice, .. } => {
                Self::in_file(file, "a CSV file, plain or compressed by gzip or zstd", format!("{found}; {advice}"))
            }
            InputError::Directory { .. } => Self::in_file(file, "a readable CSV file", "a directory"),
            InputError::Io { source, .. } => Self::unreadable(file, &source),
        }
    }

    /// Creates the error for a file that cannot be read.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        Self::in_file(file, "a readable CSV file", error.to_string())
    }

    fn location(&self) -> String {
        let line = self.line.map_or(String::new(), |line| format!(", line {line}"));
        let column = self.column.as_ref().map_or(String::new(), |column| format!(", column {column}"));
        format!("{}{line}{column}", self.file)
    }
}

/// The file and line of a row, for errors that are found after the row was read.
#[derive(Debug, Clone)]
pub(crate) struct RowLocation {
    pub(crate) file: std::sync::Arc<Path>,
    pub(crate) line: u64,
}

impl RowLocation {
    /// Creates the error for a cell of the row.
    pub(crate) fn bad_input(&self, column: &str, expected: impl Into<String>, found: impl Into<Found>) -> BadInput {
        BadInput::in_file(&self.file, expected, found).at_line(self.line).at_column(column)
    }

    /// Creates the error for a value that the domain rejects.
    pub(crate) fn invalid(&self, column: &str, invalid: Invalid) -> BadInput {
        self.bad_input(column, invalid.expected, Found::Text(invalid.found))
    }
}
