//! [`Input`]: a file or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The source of lines.
pub(super) struct Input {
    /// Its name in messages.
    pub(super) name: PathBuf,
    /// Its length in bytes, if known.
    pub(super) length: Option<u64>,
    pub(super) is_stdin: bool,
    pub(super) reader: Box<dyn Read + Send>,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            let reader = Box::new(io::stdin());
            return Ok(Self { name: "standard input".into(), length: None, is_stdin: true, reader });
        }
        let failed = |source| Failure::io("open", path, source);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::Input(format!("expected a JSON Lines file, found a directory: {}", path.display())));
        }
        let length = metadata.is_file().then_some(metadata.len());
        Ok(Self { name: path.to_owned(), length, is_stdin: false, reader: Box::new(file) })
    }
}
