//! [`Output`]: the result of a command, as text and as JSON.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use es_core::Timestamp;
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

    /// Prints the output to standard output. A closed pipe is not an error.
    pub(super) fn print(self, format: Format) -> Result<(), Failure> {
        let text = match format {
            Format::Text => Ok(self.text),
            Format::Json => self.json.map_err(io::Error::from),
        };
        let mut stdout = io::stdout().lock();
        let written = text.and_then(|text| writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()));
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|source| Failure::Io { action: "write to standard output".into(), source }),
        }
    }
}

/// Formats a table. Columns from index `first_number` on are right-aligned.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    first_number: usize,
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(first_number) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Formats a time; midnight is printed as the date only.
pub(super) fn format_time(time: Timestamp) -> String {
    let midnight = time.time() == chrono::NaiveTime::MIN;
    time.format(if midnight { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}
