//! [`Input`]: a file of text, also a compressed one, or standard input.

mod format;
mod zstd;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use crate::text::quoted;
use format::Format;
use zstd::ZstdReader;

/// How many bytes are read to recognize the format.
const HEAD_BYTES: usize = 4096;
/// The fewest bytes by which all formats except archives of `tar` are recognized.
const MIN_HEAD_BYTES: usize = 16;

/// An error of [`Input::open`].
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The path names a directory. Name a file.
    #[error("expected a file, found a directory: {}", .path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The file has a format that is not read. Convert it.
    #[error("expected text in {}, plain or compressed by gzip or zstd, found {found}; {advice}", .path.display())]
    Format {
        /// The path.
        path: PathBuf,
        /// The format.
        found: &'static str,
        /// The command that converts the content.
        advice: String,
    },
    /// The operating system returned an error, or the beginning of a compressed file is damaged.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A source of text: a file or standard input. Text that is compressed by gzip or zstd is decompressed. The content
/// decides, not the name.
///
/// Reading returns an error if compressed data is damaged or ends early. Data that precedes the damage is returned
/// before.
pub struct Input {
    name: PathBuf,
    length: Option<u64>,
    is_stdin: bool,
    consumed: Arc<AtomicU64>,
    reader: Box<dyn Read + Send>,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// - [`InputError::Directory`] if the path names a directory.
    /// - [`InputError::Format`] if the content is in a known format that is not read: another compression, UTF-16, an
    ///   archive.
    /// - [`InputError::Io`] if the file cannot be opened or read.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        if path == Path::new("-") {
            return Self::of("standard input".into(), None, true, io::stdin());
        }
        Self::open_file(path)
    }

    /// Opens a file. `-` is the name of a file, too.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn open_file(path: &Path) -> Result<Self, InputError> {
        let failed = |source| InputError::Io { action: "open", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(InputError::Directory { path: path.to_owned() });
        }
        let length = metadata.is_file().then_some(metadata.len());
        Self::of(path.to_owned(), length, false, file)
    }

    fn of(
        name: PathBuf,
        length: Option<u64>,
        is_stdin: bool,
        file: impl Read + Send + 'static,
    ) -> Result<Self, InputError> {
        let consumed = Arc::new(AtomicU64::new(0));
        let mut reader: Box<dyn Read + Send> = Box::new(Counted { reader: file, consumed: Arc::clone(&consumed) });
        let failed = |source| InputError::Io { action: "read", path: name.clone(), source };
        let mut head = read_head(&mut reader).map_err(failed)?;
        let outer = Format::of(&head);
        let decompressor = outer.decompressor();
        if decompressor.is_some() {
            let compressed = Cursor::new(head).chain(reader);
            reader = match outer {
                Format::Gzip => Box::new(MultiGzDecoder::new(compressed)),
                _ => Box::new(ZstdReader::new(compressed)),
            };
            head = read_head(&mut reader).map_err(failed)?;
        }
        if let Some((found, converter)) = Format::of(&head).refused() {
            let file = (!is_stdin).then(|| quoted(&name.display().to_string()));
            let advice = format::advice(file.as_deref(), decompressor, converter);
            return Err(InputError::Format { path: name, found, advice });
        }
        let reader = Box::new(Cursor::new(head).chain(reader));
        Ok(Self { name, length, is_stdin, consumed, reader })
    }

    /// Returns the name of the input in messages.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Returns the length of the file in bytes, before decompression; `None` if it is not known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns whether this is standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        self.is_stdin
    }

    /// Returns a counter of the bytes that were read from the file, before decompression.
    #[must_use]
    pub fn consumed(&self) -> Consumed {
        Consumed(Arc::clone(&self.consumed))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The number of bytes that were read from a file.
#[derive(Debug, Clone)]
pub struct Consumed(Arc<AtomicU64>);

impl Consumed {
    /// Returns the number.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts the bytes that are read.
struct Counted<R> {
    reader: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Reads the beginning. Waits for more bytes only if there are too few to recognize the format.
fn read_head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let mut filled = 0;
    while filled < MIN_HEAD_BYTES {
        match reader.read(head.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(filled);
    Ok(head)
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;
