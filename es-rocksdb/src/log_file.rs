//! RocksDB's log files, the write-ahead log and the manifest: a damaged length at the end, which RocksDB takes for torn.
//!
//! Both are blocks of 32 KiB with records of checksum, length, type and payload. Where a record of the last block reaches
//! beyond the end of the file, RocksDB takes it for one that a crash has cut, in every recovery mode, and drops it with all
//! that is behind. A flipped bit in the length does the same to records that were whole. In the manifest this loses a
//! table: found by flipping bits, in one of about 200 flips of a manifest.
//!
//! The checksum tells them apart: it does not cover the length, so that a whole record fits it under the right one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const BLOCK_LEN: u64 = 32 * 1024;
/// Checksum, length, type.
const HEADER_LEN: usize = 4 + 2 + 1;
/// Types 1 to 4 are whole records and parts of them; others are for options that the store does not use.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// The first of these files of a database that ends in a record whose length is damaged, with the place of that record.
pub(crate) fn find_damaged_length(folder: &Path, is_one: fn(&str) -> bool) -> io::Result<Option<(String, u64)>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_one(&name) {
            continue;
        }
        let damaged = last_block(&entry.path()).map(|(start, block)| (start, damaged_length(&block)));
        match damaged {
            Ok((start, Some(at))) => return Ok(Some((name, start + at as u64))),
            Ok((_, None)) => {}
            // NOTE: another process that has the store open may remove what it needs no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn last_block(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len() / BLOCK_LEN * BLOCK_LEN;
    file.seek(SeekFrom::Start(start))?;
    let mut block = Vec::new();
    file.take(BLOCK_LEN).read_to_end(&mut block)?;
    Ok((start, block))
}

/// Where the record begins that reaches beyond the end, but would be whole if one bit of its length were another.
fn damaged_length(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let record = block.get(at..)?;
        let (header, payload) = record.split_first_chunk::<HEADER_LEN>()?;
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        if !TYPES.contains(&kind) {
            return None;
        }
        let length = u16::from_le_bytes([l0, l1]);
        if usize::from(length) <= payload.len() {
            at += HEADER_LEN + usize::from(length);
            continue;
        }
        let checksum = unmasked(u32::from_le_bytes([c0, c1, c2, c3]));
        let fits = |length: u16| {
            let payload = payload.get(..usize::from(length));
            payload.is_some_and(|payload| crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload) == checksum)
        };
        return (0..16).any(|bit| fits(length ^ (1 << bit))).then_some(at);
    }
}

/// RocksDB does not store a checksum as it is, because a checksum over bytes with checksums is a weak one.
fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}
