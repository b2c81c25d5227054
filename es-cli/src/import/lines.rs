//! The lines of a file or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The longest line, in bytes: the largest payload in base64, with room for all else.
pub(super) const MAX_LINE_BYTES: usize = 32 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;

/// Where lines come from.
pub(super) struct Input {
    /// What it is called in messages.
    pub(super) name: PathBuf,
    /// How many bytes it has, where that is known.
    pub(super) length: Option<u64>,
    pub(super) is_stdin: bool,
    reader: Box<dyn Read + Send>,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let reader = Box::new(io::stdin());
            return Ok(Self { name: "standard input".into(), length: None, is_stdin: true, reader });
        }
        let refused = |source| Failure::io("open", path, source);
        let file = File::open(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        if metadata.is_dir() {
            return Err(Failure::Input(format!(
                "expected a file of lines of JSON, found a folder: {}",
                path.display()
            )));
        }
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Self { name: path.to_owned(), length, is_stdin: false, reader: Box::new(file) })
    }
}

/// The lines of an input that are not empty.
pub(super) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    number: u64,
    bytes_read: u64,
    buffer: Vec<u8>,
}

/// A line without its end. One that is too long is cut.
pub(super) struct Text<'a> {
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        let reader = BufReader::with_capacity(BUFFER_BYTES, input.reader);
        Self { reader, number: 0, bytes_read: 0, buffer: Vec::new() }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Text<'_>>> {
        loop {
            self.buffer.clear();
            let limit = MAX_LINE_BYTES as u64 + 2;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.buffer)? as u64;
            if read == 0 {
                return Ok(None);
            }
            self.bytes_read += read;
            self.number += 1;
            if read == limit && !self.buffer.ends_with(b"\n") {
                self.bytes_read += skip_line(&mut self.reader)?;
            }
            // NOTE: a byte order mark is no part of the first line.
            let start = if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            if !self.buffer.get(start..).unwrap_or_default().trim_ascii().is_empty() {
                let line = self.buffer.get(start..).unwrap_or_default();
                return Ok(Some(Text { number: self.number, bytes: line.trim_ascii_end() }));
            }
        }
    }
}

/// Reads to the end of a line, and keeps nothing of it.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        skipped += length as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}
