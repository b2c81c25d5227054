//! Case 15: a file that is not text in UTF-8 was taken for CSV.

#![allow(clippy::unwrap_used, reason = "a failure shows its line")]

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
    for (head, name, command) in [
        (b"\xfd7zXZ\0\0\x04".as_slice(), "found xz", "`xz -dc "),
        (b"BZh91AY&SY", "found bzip2", "`bzip2 -dc "),
        (b"PK\x03\x04\x14\0", "found a zip archive", "`unzip -p "),
        (b"7z\xbc\xaf\x27\x1c\0", "found a 7-Zip archive", "`7z x -so "),
        (b"\xff\xfe{\0\"\0", "found text in UTF-16", "`iconv -f UTF-16 -t UTF-8 "),
        (b"{\0\"\0s\0t\0", "found text in UTF-16", "`iconv -f UTF-16LE -t UTF-8 "),
        (b"\0{\0\"\0s\0t", "found text in UTF-16", "`iconv -f UTF-16BE -t UTF-8 "),
        (b"\xff\xfe\0\0{\0\0\0", "found text in UTF-32", "`iconv -f UTF-32 -t UTF-8 "),
        (b"id,name\n1,\0\n", "found binary data", "`strings "),
    ] {
        let message = refused(head);
        assert!(message.contains(name) && message.contains(command) && message.ends_with(" > NEW`"), "{message}");
        let message = refused(&gzip(head));
        assert!(message.contains(name), "{message}");
    }
    assert!(refused(&gzip(&gzip(TEXT.as_bytes()))).contains("found gzip in compressed data"));
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Input::open(directory.path()), Err(InputError::Directory { .. })));
}
