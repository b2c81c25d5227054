//! [`Table`]: a CSV file with a header, read row by row, cell by cell, with the place of every mistake.

use std::fs::File;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use csv::ByteRecord;

use crate::bad_input::{BadInput, Source};
use crate::domain::Invalid;

/// A CSV file with a header.
pub(super) struct Table {
    file: Arc<Path>,
    reader: csv::Reader<File>,
    columns: Arc<[String]>,
}

/// One row of a table. Two rows are equal when all their cells are.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) source: Source,
    columns: Arc<[String]>,
    cells: ByteRecord,
}

impl Table {
    /// Opens a file that must have these columns; it may have others, in any order.
    pub(super) fn open(path: &Path, wanted: &[&str]) -> Result<Self, BadInput> {
        let file = File::open(path).map_err(|error| BadInput::unreadable(path, &error))?;
        // NOTE: rows of another length than the header are found by `row`, which can say what is missing.
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
        let header = reader.byte_headers().map_err(|error| unreadable(path, error))?;
        if header.is_empty() {
            return Err(BadInput::in_file(path, format!("a header with {}", wanted.join(", ")), "an empty file"));
        }
        let columns = columns(path, header)?;
        for name in wanted {
            let same = columns.iter().filter(|column| column == name).count();
            if same != 1 {
                let found = if same == 0 { format!("only {}", columns.join(", ")) } else { format!("it {same} times") };
                return Err(BadInput::in_file(path, "this column once", found).at_line(1).at_column(name));
            }
        }
        Ok(Self { file: path.into(), reader, columns: columns.into() })
    }

    /// The next row; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Row>, BadInput> {
        let mut cells = ByteRecord::new();
        if !self.reader.read_byte_record(&mut cells).map_err(|error| unreadable(&self.file, error))? {
            return Ok(None);
        }
        let line = cells.position().map_or(0, csv::Position::line);
        let source = Source { file: Arc::clone(&self.file), line };
        Ok(Some(Row { source, columns: Arc::clone(&self.columns), cells }))
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
    /// A value that has to be there.
    pub(super) fn read<T: FromStr<Err = Invalid>>(&self, column: &str) -> Result<T, BadInput> {
        self.text(column)?.parse().map_err(|invalid| self.source.invalid(column, invalid))
    }

    /// A value that may be left out.
    pub(super) fn read_optional<T: FromStr<Err = Invalid>>(&self, column: &str) -> Result<Option<T>, BadInput> {
        if self.text(column)?.is_empty() { Ok(None) } else { self.read(column).map(Some) }
    }

    /// Checks that the row has one cell for each column.
    pub(super) fn check_length(&self) -> Result<(), BadInput> {
        let (expected, found) = (self.columns.len(), self.cells.len());
        if expected == found {
            return Ok(());
        }
        let column = self.columns.get(found).or(self.columns.last()).map_or("", String::as_str);
        Err(self.source.bad(column, format!("{expected} cells in the line"), format!("{found} cells")))
    }

    /// Checks that the row repeats an earlier row with the same id, cell by cell.
    pub(super) fn expect_same_as(&self, first: &Self, column: &str) -> Result<(), BadInput> {
        if self.cells.iter().eq(first.cells.iter()) {
            return Ok(());
        }
        let expected = format!("an id of its own, or the same content as in line {}", first.source.line);
        Err(self.source.bad(column, expected, format!("{:?} with other content", self.text(column)?)))
    }

    fn text(&self, column: &str) -> Result<&str, BadInput> {
        let cell = self.columns.iter().position(|name| name == column).and_then(|index| self.cells.get(index));
        let cell = cell.ok_or_else(|| self.source.bad(column, "a cell in this column", "the end of the line"))?;
        std::str::from_utf8(cell)
            .map_err(|_| self.source.bad(column, "UTF-8", format!("the bytes {}", shortened(cell).escape_ascii())))
    }
}

fn shortened(cell: &[u8]) -> &[u8] {
    &cell[..cell.len().min(100)]
}
