//! [`Format`]: the format of a file, by its first bytes.

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Text in UTF-8, or unknown data that has no zero byte.
    Text,
    Gzip,
    Zstd,
    /// Another format: its name, and the command that converts it to text, without the file.
    Other(&'static str, &'static str),
}

/// The first bytes of formats that are not read.
const OTHERS: [(&[u8], &str, &str); 14] = [
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
    (b"PK\x05\x06", "an empty zip archive", "unzip -p"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x -so"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"LZIP", "lzip", "lzip -dc"),
    (b"\x1f\x9d", "a file of compress", "uncompress -c"),
    (b"\xff\xfe\0\0", "text in UTF-32", "iconv -f UTF-32 -t UTF-8"),
    (b"\0\0\xfe\xff", "text in UTF-32", "iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "text in UTF-16", "iconv -f UTF-16 -t UTF-8"),
    (b"SQLite format 3\0", "an SQLite database", "sqlite3 -readonly"),
    (b"PAR1", "a Parquet file", "parquet cat"),
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
        if let Some((_, name, convert)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
            return Self::Other(name, convert);
        }
        if head.get(257..262) == Some(b"ustar") {
            return Self::Other("a tar archive", "tar -xOf");
        }
        Self::by_zero_bytes(head)
    }

    /// Recognizes text in UTF-16 without a byte order mark, and binary data. Text in UTF-8 has no zero bytes.
    fn by_zero_bytes(head: &[u8]) -> Self {
        let Some(first) = head.iter().position(|byte| *byte == 0) else { return Self::Text };
        let every_other_is_zero =
            head.chunks_exact(2).take(8).all(|pair| pair.iter().filter(|byte| **byte == 0).count() == 1);
        match first {
            0 if every_other_is_zero => Self::Other("text in UTF-16", "iconv -f UTF-16BE -t UTF-8"),
            1 if every_other_is_zero => Self::Other("text in UTF-16", "iconv -f UTF-16LE -t UTF-8"),
            _ => Self::Other("binary data", "strings"),
        }
    }

    /// Returns the name of a format that is not read, and the command that converts it. The content of compressed data
    /// must be text.
    pub(super) fn refused(self, is_within_compressed: bool) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Text => None,
            Self::Other(name, convert) => Some((name, convert)),
            Self::Gzip if is_within_compressed => Some(("gzip in compressed data", "gzip -dc")),
            Self::Zstd if is_within_compressed => Some(("zstd in compressed data", "zstd -dc")),
            Self::Gzip | Self::Zstd => None,
        }
    }
}
