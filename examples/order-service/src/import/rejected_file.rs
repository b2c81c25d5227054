//! [`RejectedFile`]: a CSV file that lists the orders and rows that were not imported.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::rejections::Rejected;
use crate::failure::Failure;

const HEADER: [&str; 6] = ["order_id", "file", "line", "column", "expected", "found"];

/// A CSV file with one row for each rejected order, and for each invalid row without a valid order id. Columns:
/// `order_id`, `file`, `line`, `column`, `expected`, `found`.
///
/// The file exists after every import, with at least the header. It is written to a temporary file and renamed.
#[derive(Debug)]
pub struct RejectedFile {
    path: PathBuf,
    temporary_path: PathBuf,
    file: File,
}

impl RejectedFile {
    /// Creates the temporary file `PATH.new`, so that an unwritable directory is reported before the import starts.
    ///
    /// # Errors
    /// [`Failure::Io`] if the temporary file cannot be created.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let temporary_path = PathBuf::from(name);
        match File::create(&temporary_path) {
            Ok(file) => Ok(Self { path: path.to_owned(), temporary_path, file }),
            Err(error) => Err(Failure::io("create", &temporary_path, error)),
        }
    }

    /// Writes the rows and replaces the file at the path.
    ///
    /// # Errors
    /// [`Failure::Io`] if the file cannot be written or renamed. The previous file is unchanged.
    pub fn finish(self, rejected: &[Rejected]) -> Result<(), Failure> {
        write(&self.file, rejected).map_err(|error| Failure::io("write", &self.temporary_path, error))?;
        fs::rename(&self.temporary_path, &self.path).map_err(|error| Failure::io("write", &self.path, error))
    }

    /// Deletes the temporary file.
    pub fn discard(self) {
        // The import has failed already, and its error is the one to report. A remaining empty file is harmless.
        let _ = fs::remove_file(&self.temporary_path);
    }
}

fn write(file: &File, rejected: &[Rejected]) -> io::Result<()> {
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
    csv.flush()?;
    file.sync_all()
}
