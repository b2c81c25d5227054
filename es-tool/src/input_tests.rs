//! Case 15: a file that is not text in UTF-8 was taken for CSV.

#![allow(clippy::unwrap_used, reason = "a failure shows its line")]

use std::error::Error as _;
use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

const TEXT: &str = "{\"stream\":\"a\",\"type\":\"t\",\"data\":1}\n";

fn opened(content: &[u8]) -> Result<Input, InputError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    Input::open(file.path())
}

fn read(content: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    opened(content).unwrap().read_to_string(&mut text).map(|_| text)
}

fn refused(content: &[u8]) -> String {
    opened(content).unwrap_err().to_string()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

#[test]
fn gzip_and_zstd_are_read_by_their_content() {
    for text in ["", "x", TEXT, &TEXT.repeat(100_000)] {
        assert_eq!(read(text.as_bytes()).unwrap(), text);
        assert_eq!(read(&gzip(text.as_bytes())).unwrap(), text);
        assert_eq!(read(&zstd(text.as_bytes())).unwrap(), text);
    }
    // Both formats allow files that are joined; zstd allows frames that are skipped.
    assert_eq!(read(&[gzip(b"a\n"), gzip(b"b\n")].concat()).unwrap(), "a\nb\n");
    let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0xyz";
    assert_eq!(read(&[skipped.as_slice(), &zstd(b"a\n"), skipped, &zstd(b"b\n")].concat()).unwrap(), "a\nb\n");
}

#[test]
fn damaged_and_truncated_compressed_data_is_an_error() {
    let text: String = (0..20_000).map(|number| format!("{{\"number\":{}}}\n", number * 7919 % 10_007)).collect();
    for whole in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
        let mut truncated = opened(&whole[..whole.len() - 9]).unwrap();
        assert!(truncated.read_to_end(&mut Vec::new()).is_err());
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        let mut flipped = opened(&flipped).unwrap();
        assert!(flipped.read_to_end(&mut Vec::new()).is_err());
    }
}

/// The error of a zstd file that continues with gzip was `BadMagicNumber(134777631)`.
#[test]
fn the_error_of_zstd_data_says_what_is_wrong_in_words() {
    let error = |bytes: &[u8]| {
        // The beginning is read when the file is opened.
        let read = opened(bytes).map_err(|error| error.source().expect("a cause").to_string());
        read.map_or_else(|text| text, |mut input| input.read_to_end(&mut Vec::new()).expect_err("an error").to_string())
    };
    let whole = zstd(TEXT.repeat(1000).as_bytes());
    let expected = "expected another zstd frame or the end of the file after a zstd frame, found ";
    for (more, found) in [(gzip(b"a\n"), "gzip"), (b"BZh91AY&SY".to_vec(), "bzip2"), (b"text\n".to_vec(), "other data")]
    {
        assert_eq!(error(&[whole.clone(), more].concat()), format!("{expected}{found}"));
    }
    for length in [5, 8, whole.len() - 9, whole.len() - 1] {
        assert_eq!(error(&whole[..length]), "the zstd data ends within a frame", "{length}");
    }
    assert_eq!(error(&[&whole[..], b"\x28\xb5"].concat()), "the zstd data ends within a frame");
    for at in 4..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x40;
        let mut input = match opened(&flipped) {
            Ok(input) => input,
            Err(error) => {
                let text = error.source().map(ToString::to_string).unwrap_or_default();
                assert!(!text.contains(['(', '{']), "{at}: {text}");
                continue;
            }
        };
        if let Err(error) = input.read_to_end(&mut Vec::new()) {
            assert!(!error.to_string().contains(['(', '{']), "{at}: {error}");
        }
    }
}

#[test]
fn the_progress_is_that_of_the_compressed_file() {
    let compressed = gzip(TEXT.repeat(1000).as_bytes());
    let mut input = opened(&compressed).unwrap();
    let consumed = input.consumed();
    input.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!((input.length(), consumed.bytes()), (Some(compressed.len() as u64), compressed.len() as u64));
}

#[test]
fn other_formats_are_refused_by_name_with_the_command_that_converts_them() {
    for (head, name, file, standard_input) in [
        (b"\xfd7zXZ\0\0\x04".as_slice(), "xz", "xz -dc < F > NEW", "... | xz -dc"),
        (b"BZh91AY&SY", "bzip2", "bzip2 -dc < F > NEW", "... | bzip2 -dc"),
        (b"PK\x03\x04\x14\0", "a zip archive", "unzip -p F > NEW", "... > COPY && unzip -p COPY > NEW"),
        (b"PK\x05\x06\0\0", "an empty zip archive", "unzip -p F > NEW", "... > COPY && unzip -p COPY > NEW"),
        (b"7z\xbc\xaf\x27\x1c\0", "a 7-Zip archive", "7z x -so F > NEW", "... > COPY && 7z x -so COPY > NEW"),
        (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc < F > NEW", "... | lz4 -dc"),
        (b"LZIP\x01", "lzip", "lzip -dc < F > NEW", "... | lzip -dc"),
        (b"\x1f\x9d\x90", "a file of compress", "gzip -dc < F > NEW", "... | gzip -dc"),
        (b"\xff\xfe{\0\"\0", "text in UTF-16", "iconv -f UTF-16 -t UTF-8 < F > NEW", "... | iconv -f UTF-16 -t UTF-8"),
        (
            b"{\0\"\0s\0t\0",
            "text in UTF-16",
            "iconv -f UTF-16LE -t UTF-8 < F > NEW",
            "... | iconv -f UTF-16LE -t UTF-8",
        ),
        (
            b"\0{\0\"\0s\0t",
            "text in UTF-16",
            "iconv -f UTF-16BE -t UTF-8 < F > NEW",
            "... | iconv -f UTF-16BE -t UTF-8",
        ),
        (
            b"\xff\xfe\0\0{\0\0\0",
            "text in UTF-32",
            "iconv -f UTF-32 -t UTF-8 < F > NEW",
            "... | iconv -f UTF-32 -t UTF-8",
        ),
        (
            b"SQLite format 3\0",
            "an SQLite database",
            "sqlite3 -readonly -header -csv F 'SELECT * FROM TABLE' > NEW",
            "... > COPY && sqlite3 -readonly -header -csv COPY 'SELECT * FROM TABLE' > NEW",
        ),
        (b"PAR1\x15", "a Parquet file", "parquet cat F > NEW", "... > COPY && parquet cat COPY > NEW"),
        (b"id,name\n1,\0\n", "binary data", "tr -d '\\000' < F > NEW", "... | tr -d '\\000'"),
    ] {
        let (found, converter) = Format::of(head).refused().unwrap();
        assert_eq!(found, name);
        let advice = |path, decompressor| format::advice(path, decompressor, converter);
        assert_eq!(advice(Some("F"), None), format!("convert it: `{file}`"));
        let of_input = advice(None, None);
        assert!(
            of_input.starts_with("convert it") && of_input.ends_with(&format!(": `{standard_input}`")),
            "{of_input}"
        );
        let (message, compressed) = (refused(head), refused(&gzip(head)));
        assert!(message.contains(&format!("found {name}; convert it: `")), "{message}");
        assert!(compressed.contains(&format!("found {name}; convert it: `gzip -dc < ")), "{compressed}");
    }
    assert_eq!(
        format::advice(Some("F"), Some("zstd -dc"), Some(format::Converter::OfFile("unzip -p FILE"))),
        "convert it: `zstd -dc < F > COPY && unzip -p COPY > NEW`"
    );
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Input::open(directory.path()), Err(InputError::Directory { .. })));
}

/// The command of an error, with names of files for `NEW` and `COPY`, makes a file that is read.
#[cfg(unix)]
#[test]
fn the_command_of_an_error_converts_the_file() {
    let utf16: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"a.js");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", TEXT.len()).as_bytes());
    header[156] = b'0';
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = [header, TEXT.as_bytes().to_vec()].concat();
    tar.resize(4 * 512, 0);
    for content in [utf16.clone(), gzip(&utf16), gzip(&gzip(TEXT.as_bytes())), tar.clone(), gzip(&tar)] {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a file"), content).unwrap();
        let error = Input::open(&path("a file")).unwrap_err().to_string();
        let command = error.split('`').nth(1).unwrap().replace("NEW", "new");
        let ran = std::process::Command::new("sh").args(["-c", &command]).current_dir(&directory).output().unwrap();
        assert!(ran.status.success(), "{command}: {ran:?}");
        let mut text = String::new();
        Input::open(&path("new")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, TEXT, "{command}");
    }
}
