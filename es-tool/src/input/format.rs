//! [`Format`]: the format of a file, by its first bytes.

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Text in UTF-8, or unknown data that has no zero byte.
    Text,
    Gzip,
    Zstd,
    /// Another format: its name, and the command that converts it to text.
    Other(&'static str, Converter),
}

/// A command that writes the content of a file as text to its standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Converter {
    /// Reads standard input.
    Filter(&'static str),
    /// Reads a file, whose name replaces `FILE`, because the format cannot be read from its beginning.
    OfFile(&'static str),
}

use Converter::{Filter, OfFile};

/// The first bytes of formats that are not read.
const OTHERS: [(&[u8], &str, Converter); 14] = [
    (b"\xfd7zXZ\0", "xz", Filter("xz -dc")),
    (b"BZh", "bzip2", Filter("bzip2 -dc")),
    (b"PK\x03\x04", "a zip archive", OfFile("unzip -p FILE")),
    (b"PK\x05\x06", "an empty zip archive", OfFile("unzip -p FILE")),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", OfFile("7z x -so FILE")),
    (b"\x04\x22\x4d\x18", "lz4", Filter("lz4 -dc")),
    (b"LZIP", "lzip", Filter("lzip -dc")),
    (b"\x1f\x9d", "a file of compress", Filter("gzip -dc")),
    (b"\xff\xfe\0\0", "text in UTF-32", Filter("iconv -f UTF-32 -t UTF-8")),
    (b"\0\0\xfe\xff", "text in UTF-32", Filter("iconv -f UTF-32 -t UTF-8")),
    (b"\xff\xfe", "text in UTF-16", Filter("iconv -f UTF-16 -t UTF-8")),
    (b"\xfe\xff", "text in UTF-16", Filter("iconv -f UTF-16 -t UTF-8")),
    (b"SQLite format 3\0", "an SQLite database", OfFile("sqlite3 -readonly -header -csv FILE 'SELECT * FROM TABLE'")),
    (b"PAR1", "a Parquet file", OfFile("parquet cat FILE")),
];

impl Format {
    /// Recognizes the format.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.starts_with(b"\x1f\x8b") {
            return Self::Gzip;
        }
        // A frame of data, or a frame that is skipped.
        let is_skipped = head.get(1..4) == Some(b"\x2a\x4d\x18") && head.first().is_some_and(|byte| byte >> 4 == 5);
        if head.starts_with(b"\x28\xb5\x2f\xfd") || is_skipped {
            return Self::Zstd;
        }
        if let Some((_, name, converter)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
            return Self::Other(name, *converter);
        }
        if head.get(257..262) == Some(b"ustar") {
            return Self::Other("a tar archive", Filter("tar -xOf -"));
        }
        Self::by_zero_bytes(head)
    }

    /// Recognizes text in UTF-16 without a byte order mark, and binary data. Text in UTF-8 has no zero bytes.
    fn by_zero_bytes(head: &[u8]) -> Self {
        let Some(first) = head.iter().position(|byte| *byte == 0) else { return Self::Text };
        let every_other_is_zero =
            head.chunks_exact(2).take(8).all(|pair| pair.iter().filter(|byte| **byte == 0).count() == 1);
        match first {
            0 if every_other_is_zero => Self::Other("text in UTF-16", Filter("iconv -f UTF-16BE -t UTF-8")),
            1 if every_other_is_zero => Self::Other("text in UTF-16", Filter("iconv -f UTF-16LE -t UTF-8")),
            // Text with stray zero bytes is text without them.
            _ => Self::Other("binary data", Filter("tr -d '\\000'")),
        }
    }

    /// Returns the command that decompresses the format, if it is a compressed one that is read.
    pub(super) const fn decompressor(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip -dc"),
            Self::Zstd => Some("zstd -dc"),
            Self::Text | Self::Other(..) => None,
        }
    }

    /// Returns the name of the format; `None` for text and unknown data.
    pub(super) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Other(name, _) => Some(name),
        }
    }

    /// Returns the name of a format that is not read, and the command that converts it. The content of compressed data
    /// must be text; data that was compressed twice needs no command besides the one that decompresses it once.
    pub(super) const fn refused(self) -> Option<(&'static str, Option<Converter>)> {
        match self {
            Self::Text => None,
            Self::Other(name, converter) => Some((name, Some(converter))),
            Self::Gzip => Some(("gzip in compressed data", None)),
            Self::Zstd => Some(("zstd in compressed data", None)),
        }
    }
}

/// Returns the commands that convert data that is not read. `file` is its name for a shell, or `None` for standard
/// input.
pub(super) fn advice(file: Option<&str>, decompressor: Option<&str>, converter: Option<Converter>) -> String {
    match (converter, file) {
        (Some(OfFile(command)), Some(file)) if decompressor.is_none() => {
            format!("convert it: `{} > NEW`", command.replace("FILE", file))
        }
        (Some(OfFile(command)), _) => {
            let copy = pipeline(file, decompressor.into_iter());
            format!("convert it: `{copy} > COPY && {} > NEW`", command.replace("FILE", "COPY"))
        }
        (Some(Filter(filter)), _) => converted(file, &pipeline(file, decompressor.into_iter().chain([filter]))),
        (None, _) => converted(file, &pipeline(file, decompressor.into_iter())),
    }
}

fn converted(file: Option<&str>, pipeline: &str) -> String {
    match file {
        Some(_) => format!("convert it: `{pipeline} > NEW`"),
        None => format!("convert it first: `{pipeline}`"),
    }
}

/// Returns the commands as a pipeline. The first one gets the file as its standard input, because some commands refuse
/// a file whose name does not have their suffix.
fn pipeline<'a>(file: Option<&str>, filters: impl Iterator<Item = &'a str>) -> String {
    let mut commands: Vec<String> = filters.map(ToOwned::to_owned).collect();
    match (file, commands.first_mut()) {
        (Some(file), Some(first)) => *first += &format!(" < {file}"),
        (Some(file), None) => commands.push(format!("cat {file}")),
        (None, _) => commands.insert(0, "...".to_owned()),
    }
    commands.join(" | ")
}
