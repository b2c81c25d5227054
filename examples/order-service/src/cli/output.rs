//! [`Output`]: the result of a command, as text and as JSON.

use std::io::{self, Write};

use es_core::Timestamp;
pub(super) use es_tool::text::table;
use es_tool::text::{printable_json, printable_lines};
use serde::Serialize;

use crate::failure::Failure;

/// The result of a command.
#[derive(Debug)]
pub(super) struct Output {
    text: String,
    json: serde_json::Result<String>,
}

/// The format in which an [`Output`] is printed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Text,
    Json,
}

impl Output {
    /// Creates an output from its text and a value to serialize as JSON.
    pub(super) fn new(text: impl Into<String>, json: &impl Serialize) -> Self {
        Self { text: text.into(), json: serde_json::to_string_pretty(json) }
    }

    /// Prints the output to standard output, with the characters escaped that a terminal can interpret. A closed pipe
    /// is not an error.
    pub(super) fn print(self, format: Format) -> Result<(), Failure> {
        let text = match format {
            Format::Text => Ok(printable_lines(&self.text).into_owned()),
            Format::Json => self.json.map(|json| printable_json(&json).into_owned()).map_err(io::Error::from),
        };
        let mut stdout = io::stdout().lock();
        let written = text.and_then(|text| writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()));
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|source| Failure::Io { action: "write to standard output".into(), source }),
        }
    }
}

/// Formats a time; midnight is printed as the date only.
pub(super) fn format_time(time: Timestamp) -> String {
    let midnight = time.time() == chrono::NaiveTime::MIN;
    time.format(if midnight { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}
