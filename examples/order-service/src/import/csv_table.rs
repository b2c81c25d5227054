//! [`Table`]: a reader of CSV files with a header, which reports the location of each error.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use csv::ByteRecord;
use es_tool::input::Input;

use crate::bad_input::{BadInput, RowLocation};
use crate::domain::Invalid;

/// A reader of a CSV file with a header.
pub(super) struct Table {
    file: Arc<Path>,
    reader: csv::Reader<Input>,
    columns: Arc<[String]>,
}

/// A row of a table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) location: RowLocation,
    columns: Arc<[String]>,
    cells: ByteRecord,
}

impl Table {
    /// Opens a file and checks that it has each of the required columns once. Other columns are ignored.
    pub(super) fn open(path: &Path, required: &[&str]) -> Result<Self, BadInput> {
        let file = Input::open_file(path).map_err(|error| BadInput::of_input(path, error))?;
        // `flexible`: rows of a different length are reported by `Row::check_length`, which names the column.
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header = reader.byte_headers().map_err(|error| unreadable(path, error))?;
        if header.is_empty() {
            return Err(BadInput::in_file(path, format!("a header with {}", required.join(", ")), "an empty file"));
        }
        let columns = columns(path, header)?;
        for name in required {
            let found = match columns.iter().filter(|column| column == name).count() {
                1 => continue,
                0 => format!("the columns {}", columns.join(", ")),
                count => format!("{count} columns of this name"),
            };
            return Err(BadInput::in_file(path, "one column of this name", found).at_line(1).at_column(name));
        }
        Ok(Self { file: path.into(), reader, columns: columns.into() })
    }

    /// Returns the next row; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Row>, BadInput> {
        let mut cells = ByteRecord::new();
        if !self.reader.read_byte_record(&mut cells).map_err(|error| unreadable(&self.file, error))? {
            return Ok(None);
        }
        let line = cells.position().map_or(0, csv::Position::line);
        let location = RowLocation { file: Arc::clone(&self.file), line };
        Ok(Some(Row { location, columns: Arc::clone(&self.columns), cells }))
    }
}

fn columns(path: &Path, header: &ByteRecord) -> Result<Vec<String>, BadInput> {
    let name = |cell: &[u8]| {
        String::from_utf8(cell.to_vec()).map_err(|_| {
            BadInput::in_file(path, "column names in UTF-8", format!("the bytes {}", cell.escape_ascii())).at_line(1)
        })
    };
    header.iter().map(name).collect()
}

fn unreadable(path: &Path, error: csv::Error) -> BadInput {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => BadInput::unreadable(path, &error),
        other => BadInput::in_file(path, "a CSV file", format!("{other:?}")),
    }
}

impl Row {
    /// Parses a required cell.
    pub(super) fn read<T: FromStr<Err = Invalid>>(&self, column: &str) -> Result<T, BadInput> {
        self.text(column)?.parse().map_err(|invalid| self.location.invalid(column, invalid))
    }

    /// Parses a cell that may be empty.
    pub(super) fn read_optional<T: FromStr<Err = Invalid>>(&self, column: &str) -> Result<Option<T>, BadInput> {
        if self.text(column)?.is_empty() { Ok(None) } else { self.read(column).map(Some) }
    }

    /// Checks that the row has as many cells as the header has columns.
    pub(super) fn check_length(&self) -> Result<(), BadInput> {
        let (expected, found) = (self.columns.len(), self.cells.len());
        if expected == found {
            return Ok(());
        }
        let column = self.columns.get(found).or(self.columns.last()).map_or("", String::as_str);
        Err(self.location.bad_input(column, format!("{expected} cells"), format!("{found} cells")))
    }

    /// Checks that the row equals an earlier row with the same id.
    pub(super) fn expect_same_cells(&self, first: &Self, column: &str) -> Result<(), BadInput> {
        if self.cells.iter().eq(first.cells.iter()) {
            return Ok(());
        }
        let expected = format!("a unique id, or the same content as in line {}", first.location.line);
        Err(self.location.bad_input(column, expected, format!("{:?} with different content", self.text(column)?)))
    }

    fn text(&self, column: &str) -> Result<&str, BadInput> {
        let cell = self.columns.iter().position(|name| name == column).and_then(|index| self.cells.get(index));
        let cell =
            cell.ok_or_else(|| self.location.bad_input(column, "a cell in this column", "the end of the line"))?;
        std::str::from_utf8(cell).map_err(|_| {
            self.location.bad_input(column, "UTF-8", format!("the bytes {}", shortened(cell).escape_ascii()))
        })
    }
}

fn shortened(cell: &[u8]) -> &[u8] {
    &cell[..cell.len().min(100)]
}
