//! Stored text and tables for people. A terminal must not interpret the characters of stored text.

use std::borrow::Cow;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use unicode_width::UnicodeWidthChar;

/// The end of a text that was shortened.
const ELLIPSIS: char = '…';

/// Returns whether a terminal can interpret a character, or show it so that other text changes its place: control
/// characters (C0, DEL, C1), separators of lines, and the controls of bidirectional text, which can make a text look
/// like another one.
fn is_interpreted(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns a text on one line, with the characters that a terminal can interpret escaped: `\n`, `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_interpreted, |c, escaped| match c {
        '\n' => escaped.push_str("\\n"),
        '\r' => escaped.push_str("\\r"),
        '\t' => escaped.push_str("\\t"),
        c => escaped.extend(c.escape_unicode()),
    })
}

/// Returns a text with the characters that a terminal can interpret escaped, except line breaks.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |c| c != '\n' && is_interpreted(c),
        |c, escaped| escaped.push_str(&printable(c.encode_utf8(&mut [0; 4]))),
    )
}

/// Returns a JSON text with the same value, in which the characters that a terminal can interpret are escaped: JSON
/// itself requires this only for the characters below U+0020.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // Whitespace between values is not part of a string and cannot be escaped.
    let is_escaped = |c: char| !matches!(c, '\n' | '\r' | '\t') && is_interpreted(c);
    escape(json, is_escaped, |c, escaped| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) { write(c, &mut escaped) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// Returns the beginning of a text that fits into this number of columns of a terminal, [escaped](printable).
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    // Not more than can be shown is escaped. A shown character has at most two columns and its marks.
    let text = text.get(..text.floor_char_boundary(columns.saturating_mul(16))).unwrap_or(text);
    let text = printable(text);
    if width(&text) <= columns {
        return text.into_owned();
    }
    let (mut shown, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        shown.push(c);
    }
    shown.push(ELLIPSIS);
    shown
}

/// Returns a text [escaped](printable) and filled with spaces to this number of columns.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let text = printable(text);
    let missing = columns.saturating_sub(width(&text));
    format!("{text}{}", " ".repeat(missing))
}

/// Quotes a text as one word of a shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "/._-+:@".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Returns the number of columns that a text has on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Returns the number of columns of the terminal; `None` if standard output is not a terminal.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let table = Table::new();
    table.is_tty().then(|| table.width()).flatten().map(usize::from).filter(|width| *width > 0)
}

/// Returns a table whose columns from index `first_number` on are right-aligned. The cells are [escaped](printable). On
/// a terminal, cells are broken so that the table fits.
pub fn table<const N: usize>(
    header: [&str; N],
    first_number: usize,
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    table_of_width(terminal_width(), header, first_number, rows)
}

/// Returns a [table] for a terminal of this width; `None` for an unlimited width.
pub fn table_of_width<const N: usize>(
    columns: Option<usize>,
    header: [&str; N],
    first_number: usize,
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table {
    let mut table = Table::new();
    let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell).into_owned()));
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    if let Some(columns) = columns {
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(columns).unwrap_or(u16::MAX));
    }
    for column in table.column_iter_mut().skip(first_number) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_terminal_interprets_are_escaped() {
        assert_eq!(printable("größe 💰 – fine"), "größe 💰 – fine");
        assert_eq!(printable("a\n\r\t\u{1b}[2J"), r"a\n\r\t\u{1b}[2J");
        // DEL, the C1 form of ESC [, and text that runs from right to left.
        assert_eq!(
            printable("\u{7f}\u{9b}31m \u{202e}txt\u{2066}\u{200f}"),
            r"\u{7f}\u{9b}31m \u{202e}txt\u{2066}\u{200f}"
        );
        assert_eq!(printable_lines("a\nb\r\u{85}"), "a\nb\\r\\u{85}");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let json = "{\n\t\"a\": \"\u{7f}\u{9b}\u{202e}\u{e0041}é\"}";
        let escaped = printable_json(json);
        assert_eq!(escaped, "{\n\t\"a\": \"\\u007f\\u009b\\u202e\\udb40\\udc41é\"}");
    }

    #[test]
    fn a_text_is_cut_at_the_width_of_the_terminal() {
        assert_eq!(fit("12345", 5), "12345");
        assert_eq!(fit("123456", 5), "1234…");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("a\u{1b}b", 6), r"a\u{1…");
        assert_eq!(fit(&"x".repeat(1_000_000), 3), "xx…");
        assert_eq!((fit("", 0).as_str(), fit("ab", 1).as_str()), ("", "…"));
        assert_eq!((pad("日", 4), pad("abcde", 4)), ("日  ".to_owned(), "abcde".to_owned()));
    }

    #[test]
    fn a_table_fits_the_terminal_and_its_cells_are_escaped() {
        let rows = || [["a\u{9b}\nb".to_owned(), "word ".repeat(40)]];
        let table = table_of_width(Some(60), ["name", "content"], 1, rows()).to_string();
        assert!(table.lines().all(|line| width(line) <= 60), "{table}");
        assert!(table.contains(r"a\u{9b}\nb"), "{table}");
        let wide = table_of_width(None, ["name", "content"], 1, rows()).to_string();
        assert_eq!(wide.lines().count(), 5, "{wide}");
    }
}
