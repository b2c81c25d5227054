//! [`Answer`]: what a command says, for people and for machines.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use es_core::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

/// What a command says.
#[derive(Debug)]
pub(super) struct Answer {
    people: String,
    machines: serde_json::Result<String>,
}

impl Answer {
    /// An answer in words, and as JSON.
    pub(super) fn new(people: impl Into<String>, machines: &impl Serialize) -> Self {
        Self { people: people.into(), machines: serde_json::to_string_pretty(machines) }
    }

    /// Says it on standard output. That nobody listens any more is no error.
    pub(super) fn print(self, json: bool) -> Result<(), Failure> {
        let text = if json { self.machines.map_err(io::Error::from) } else { Ok(self.people) };
        let mut out = io::stdout().lock();
        let said = text.and_then(|text| writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()));
        match said {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            said => said.map_err(|source| Failure::Io { action: "write to standard output".into(), source }),
        }
    }
}

/// A table whose columns from `numbers` on are numbers.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    numbers: usize,
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A time as people want it: only the day where it is midnight.
pub(super) fn shown(time: Timestamp) -> String {
    let midnight = time.time() == chrono::NaiveTime::MIN;
    time.format(if midnight { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}
