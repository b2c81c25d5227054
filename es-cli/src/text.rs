//! Values as people read them: tables, times, sizes, counts, quoted words.

use comfy_table::{CellAlignment, Table, presets};
use es_core::Timestamp;

/// How many characters of a text are shown to people.
const SHOWN_CHARS: usize = 120;

/// A text as it is shown to people: its beginning, without anything that a terminal could take for a command.
#[must_use]
pub fn shown_text(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// A table whose columns from `numbers` on are numbers.
pub fn table<const N: usize>(header: [&str; N], numbers: usize, rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A time as people want it, in UTC.
#[must_use]
pub fn shown(time: Timestamp) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// A number of bytes as people want it.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // NOTE: in integers, tenths of a unit, so that no rounding depends on floating point.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, UNITS[0]);
    for next in UNITS.into_iter().skip(1) {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A text as a shell takes it for one word.
#[must_use]
pub fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+:@".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The word for a number of things: `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        let shown = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 1024 * 1024, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "16383.9 PiB"]);
    }
}
