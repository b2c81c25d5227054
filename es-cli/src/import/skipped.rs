//! [`Skipped`]: the list of skipped lines.

use std::io::Write;
use std::path::{Path, PathBuf};

use es_tool::output::{self, OutputFile};
use serde::Serialize;

use crate::bad_line::BadLine;
use crate::failure::Failure;

/// A JSON Lines file with one object for each skipped line: its number, the error and its text.
pub(super) struct Skipped {
    path: PathBuf,
    file: OutputFile,
}

#[derive(Serialize)]
struct Entry<'a> {
    // A text, because a path that is not UTF-8 has no JSON form.
    file: String,
    line: u64,
    column: Option<usize>,
    error: &'a str,
    text: &'a str,
}

impl Skipped {
    pub(super) fn create(path: &Path, import: &Path, store: &Path) -> Result<Self, Failure> {
        let is_same =
            |a: &Path, b: &Path| a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        if is_same(path, import) {
            return Err(Failure::Usage("expected another file for --skip-bad, found the file to import".into()));
        }
        if output::is_standard_output(path) {
            let message = "expected a file for --skip-bad, found standard output, which has the answer of the command";
            return Err(Failure::Usage(message.into()));
        }
        Ok(Self { path: path.to_owned(), file: OutputFile::create_outside(path, store)? })
    }

    pub(super) fn add(&mut self, bad: &BadLine, text: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(text);
        let entry = Entry {
            file: bad.file.display().to_string(),
            line: bad.line,
            column: bad.column,
            error: &bad.message,
            text: &text,
        };
        let written = serde_json::to_writer(&mut self.file, &entry).map_err(std::io::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|source| Failure::io("write", &self.path, source))
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        Ok(self.file.finish()?)
    }
}
