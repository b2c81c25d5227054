//! [`Skipped`]: the list of skipped lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::bad_line::BadLine;
use crate::failure::Failure;

/// A JSON Lines file with one object for each skipped line: its number, the error and its text.
pub(super) struct Skipped {
    path: PathBuf,
    file: BufWriter<File>,
}

#[derive(Serialize)]
struct Entry<'a> {
    file: &'a Path,
    line: u64,
    column: Option<usize>,
    error: &'a str,
    text: &'a str,
}

impl Skipped {
    pub(super) fn create(path: &Path, import: &Path) -> Result<Self, Failure> {
        let is_same =
            |a: &Path, b: &Path| a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        if is_same(path, import) {
            return Err(Failure::Usage("expected another file for --skip-bad, found the file to import".into()));
        }
        let file = File::create(path).map_err(|source| Failure::io("create", path, source))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    pub(super) fn add(&mut self, bad: &BadLine, text: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(text);
        let entry = Entry { file: &bad.file, line: bad.line, column: bad.column, error: &bad.message, text: &text };
        let written = serde_json::to_writer(&mut self.file, &entry).map_err(std::io::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|source| Failure::io("write", &self.path, source))
    }

    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|source| Failure::io("write", &self.path, source))
    }
}
