//! [`RejectedFile`]: a CSV file that lists the orders and rows that were not imported.

use std::io;
use std::path::{Path, PathBuf};

use es_tool::output::OutputFile;

use super::rejections::Rejected;
use crate::failure::Failure;

const HEADER: [&str; 6] = ["order_id", "file", "line", "column", "expected", "found"];

/// A CSV file with one row for each rejected order, and for each invalid row without a valid order id. Columns:
/// `order_id`, `file`, `line`, `column`, `expected`, `found`.
///
/// The file exists after every successful import, with at least the header. It is an [`OutputFile`]: a dropped one
/// leaves the previous file as it was.
#[derive(Debug)]
pub struct RejectedFile {
    path: PathBuf,
    file: OutputFile,
}

impl RejectedFile {
    /// Begins the file, so that an unwritable directory is reported before the import starts.
    ///
    /// # Errors
    /// [`Failure::Output`] if the path is that of a directory, or within the store, or cannot be written.
    pub fn create(path: &Path, store: &Path) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), file: OutputFile::create_outside(path, store)? })
    }

    /// Writes the rows and replaces the file at the path.
    ///
    /// # Errors
    /// [`Failure::Io`] or [`Failure::Output`] if the file cannot be written. The previous file is unchanged.
    pub fn finish(mut self, rejected: &[Rejected]) -> Result<(), Failure> {
        write(&mut self.file, rejected).map_err(|error| Failure::io("write", &self.path, error))?;
        Ok(self.file.finish()?)
    }
}

fn write(file: &mut OutputFile, rejected: &[Rejected]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(file);
    csv.write_record(HEADER)?;
    for Rejected { order, reason } in rejected {
        csv.write_record([
            order.as_ref().map_or("", |id| id.as_str()),
            &reason.file,
            &reason.line.map_or(String::new(), |line| line.to_string()),
            reason.column.as_deref().unwrap_or_default(),
            &reason.expected,
            reason.found.as_str(),
        ])?;
    }
    csv.flush()
}
