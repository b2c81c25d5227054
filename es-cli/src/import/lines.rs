//! [`Lines`]: splits an input into lines.

use std::io::{self, BufRead, BufReader, Read};

const BUFFER_BYTES: usize = 256 * 1024;

/// The lines of an input, without empty lines.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// The maximum length of a line in bytes.
    longest: usize,
    number: u64,
    buffer: Vec<u8>,
}

/// A line without its line break.
pub(super) struct Text<'a> {
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
    /// Whether the line exceeds the maximum length; `bytes` then has its beginning.
    pub(super) is_too_long: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R, longest: usize) -> Self {
        let reader = BufReader::with_capacity(BUFFER_BYTES.min(longest + 2), reader);
        Self { reader, longest, number: 0, buffer: Vec::new() }
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Text<'_>>> {
        loop {
            self.buffer.clear();
            // Two more bytes, for the line break.
            let limit = self.longest as u64 + 2;
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.buffer)? as u64;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read == limit && !self.buffer.ends_with(b"\n") {
                skip_line(&mut self.reader)?;
            }
            // ORDER: before whitespace is trimmed, because the part that was not read may be more than whitespace.
            let is_too_long = without_end(&self.buffer).len() > self.longest;
            // A byte order mark is not a part of the first line.
            let mark = if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            if is_too_long || !self.buffer[mark..].trim_ascii().is_empty() {
                let bytes = self.buffer[mark..].trim_ascii_end();
                return Ok(Some(Text { number: self.number, bytes, is_too_long }));
            }
        }
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Skips the rest of a line.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}
