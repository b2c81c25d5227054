//! [`RejectedFile`]: the list of what was not imported.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::sieve::Rejected;
use crate::failure::Failure;

const HEADER: [&str; 6] = ["order_id", "file", "line", "column", "expected", "found"];

/// A CSV file with one row for each rejected order, and for each row of which no order can be told: `order_id`, `file`,
/// `line`, `column`, `expected`, `found`. It is there after every import, with a header at least, and replaced as a
/// whole.
#[derive(Debug)]
pub struct RejectedFile {
    path: PathBuf,
    new: PathBuf,
    file: File,
}

impl RejectedFile {
    /// Begins the list beside the place where it will stand, so that an import does not fail on it at the end.
    ///
    /// # Errors
    /// [`Failure::Io`] when the place cannot be written to.
    pub fn begin(path: &Path) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        match File::create(&new) {
            Ok(file) => Ok(Self { path: path.to_owned(), new, file }),
            Err(error) => Err(Failure::io("create", &new, error)),
        }
    }

    /// Writes the list and puts it in its place.
    ///
    /// # Errors
    /// [`Failure::Io`]; what stood there before is still there then.
    pub fn finish(self, rejected: &[Rejected]) -> Result<(), Failure> {
        write(&self.file, rejected).map_err(|error| Failure::io("write", &self.new, error))?;
        fs::rename(&self.new, &self.path).map_err(|error| Failure::io("write", &self.path, error))
    }

    /// Takes the beginning away again.
    pub fn give_up(self) {
        // NOTE: what brought the import down is the error that counts; an empty file more does no harm.
        let _ = fs::remove_file(&self.new);
    }
}

fn write(file: &File, rejected: &[Rejected]) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(file);
    csv.write_record(HEADER)?;
    for Rejected { order, because } in rejected {
        csv.write_record([
            order.as_ref().map_or("", |id| id.as_str()),
            &because.file,
            &because.line.map_or(String::new(), |line| line.to_string()),
            because.column.as_deref().unwrap_or_default(),
            &because.expected,
            because.found.as_str(),
        ])?;
    }
    csv.flush()?;
    file.sync_all()
}
