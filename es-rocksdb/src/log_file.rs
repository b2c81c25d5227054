//! Detection and repair of flipped bits in RocksDB's log files: the write-ahead log and the manifest.
//!
//! Both have blocks of 32 KiB. A block has records of checksum, length, type and payload.
//!
//! If a record of the last block reaches beyond the end of the file, RocksDB treats it as torn by a crash, in every
//! recovery mode, and drops it with all records after it. A flipped bit in the length of an intact record has the same
//! effect. In the manifest this loses a table file. The checksum distinguishes the two: it does not cover the length,
//! so that an intact record matches its checksum with the correct length.
//!
//! A flipped bit in the type of a record is detected as well, in both files and in all blocks, before RocksDB reads
//! them.

pub(crate) mod batches;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const BLOCK_LEN: u64 = 32 * 1024;
/// The length of a record's header in bytes: checksum, length, type.
const HEADER_LEN: usize = 4 + 2 + 1;
/// The types of whole records and of parts of records. Other types are for options that the store does not use.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// Returns the first of the selected files that ends in a record with a damaged length, and the offset of that record.
pub(crate) fn find_damaged_length(directory: &Path, selects: fn(&str) -> bool) -> io::Result<Option<(String, u64)>> {
    find(directory, selects, |path| {
        let (start, block) = last_block(path)?;
        Ok(damaged_length(&block).map(|at| start + at as u64))
    })
}

/// Returns the file and the offset of the first record with a flipped bit in its type: the record is intact with
/// another type. Such a type belongs to an option that the store does not use. In a manifest it can make RocksDB read
/// forever.
pub(crate) fn find_damaged_type(directory: &Path, selects: fn(&str) -> bool) -> io::Result<Option<(String, u64)>> {
    find(directory, selects, |path| {
        visit_blocks(&mut File::open(path)?, |start, block| damaged_type(block).map(|at| start + at as u64))
    })
}

/// Returns the first of the selected files in which `find_offset` finds an offset, and the offset.
fn find(
    directory: &Path,
    selects: fn(&str) -> bool,
    find_offset: impl Fn(&Path) -> io::Result<Option<u64>>,
) -> io::Result<Option<(String, u64)>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !selects(&name) {
            continue;
        }
        match find_offset(&entry.path()) {
            Ok(Some(at)) => return Ok(Some((name, at))),
            Ok(None) => {}
            // Another process that has the store open can remove obsolete files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Passes the offset and the content of each block of a file to `visit`, until it returns a value.
fn visit_blocks<T>(file: &mut File, mut visit: impl FnMut(u64, &mut [u8]) -> Option<T>) -> io::Result<Option<T>> {
    let (mut start, mut block) = (0, Vec::new());
    loop {
        block.clear();
        (&mut *file).take(BLOCK_LEN).read_to_end(&mut block)?;
        if let Some(found) = visit(start, &mut block) {
            return Ok(Some(found));
        }
        // Ends at the first incomplete block: data that a service appends meanwhile must not be read as the beginning
        // of a block.
        if (block.len() as u64) < BLOCK_LEN {
            return Ok(None);
        }
        start += BLOCK_LEN;
    }
}

/// Returns the offset of the first record of a block that matches its checksum with one bit of its type flipped.
fn damaged_type(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let record = block.get(at..)?;
        let length = length_of(record)?;
        let (header, rest) = record.split_first_chunk::<HEADER_LEN>()?;
        let [c0, c1, c2, c3, .., kind] = *header;
        if kind == 0 && length == 0 {
            return None;
        }
        if !TYPES.contains(&kind) {
            let payload = rest.get(..length)?;
            let fits = |kind: u8| TYPES.contains(&kind) && fits([c0, c1, c2, c3], kind, payload);
            if (0..8).any(|bit| fits(kind ^ (1 << bit))) {
                return Some(at);
            }
        }
        at += HEADER_LEN + length;
    }
}

/// Corrects each record of the selected files in which one bit was flipped: the checksum shows which one. Returns the
/// files and offsets of the corrected records.
pub(crate) fn repair_bits(directory: &Path, selects: fn(&str) -> bool) -> io::Result<Vec<(String, u64)>> {
    change_blocks(directory, selects, repair_block)
}

/// Overwrites unreadable records of the write-ahead log, so that RocksDB skips only these and not the rest of the
/// block. Returns the files and offsets of the overwritten records.
pub(crate) fn blank_unreadable_records(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    change_blocks(directory, |name| name.ends_with(".log"), blank_unreadable_in_block)
}

/// Applies `change` to each block of the selected files. Returns the files and offsets of the changed records.
fn change_blocks(
    directory: &Path,
    selects: fn(&str) -> bool,
    change: fn(&mut [u8]) -> Vec<usize>,
) -> io::Result<Vec<(String, u64)>> {
    let mut changed = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !selects(&name) {
            continue;
        }
        let mut file = File::options().read(true).write(true).open(entry.path())?;
        let mut start = 0;
        loop {
            let mut block = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            (&mut file).take(BLOCK_LEN).read_to_end(&mut block)?;
            if block.is_empty() {
                break;
            }
            let offsets = change(&mut block);
            if !offsets.is_empty() {
                file.seek(SeekFrom::Start(start))?;
                file.write_all(&block)?;
            }
            changed.extend(offsets.into_iter().map(|at| (name.clone(), start + at as u64)));
            start += BLOCK_LEN;
        }
    }
    Ok(changed)
}

/// Overwrites each unreadable record of a block that is followed by an intact one with small intact records. RocksDB
/// skips a record that is too short for a batch. Returns the offsets of the overwritten records.
fn blank_unreadable_in_block(block: &mut [u8]) -> Vec<usize> {
    const MIN_RECORD: usize = HEADER_LEN;
    const MAX_RECORD: usize = HEADER_LEN + 11;
    let (mut at, mut unreadable, mut followed) = (0, Vec::new(), Vec::new());
    while let Some(length) = block.get(at..).and_then(length_of) {
        let end = at + HEADER_LEN + length;
        let record = block.get(at..end).unwrap_or_default();
        if record.iter().all(|byte| *byte == 0) {
            break;
        }
        if is_intact(record) {
            followed.append(&mut unreadable);
        } else {
            unreadable.push((at, end));
        }
        at = end;
    }
    for (start, end) in &followed {
        let mut at = *start;
        while at < *end {
            let remaining = end - at;
            let size = if remaining <= MAX_RECORD { remaining } else { MAX_RECORD.min(remaining - MIN_RECORD) };
            if let Some(small) = block.get_mut(at..at + size) {
                write_empty_record(small);
            }
            at += size;
        }
    }
    followed.into_iter().map(|(start, _)| start).collect()
}

/// Overwrites a record with an intact one that has a payload of zeros.
fn write_empty_record(record: &mut [u8]) {
    record.fill(0);
    let length = u16::try_from(record.len().saturating_sub(HEADER_LEN)).unwrap_or_default();
    if let Some((header, payload)) = record.split_first_chunk_mut::<HEADER_LEN>() {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[1]), payload);
        let [c0, c1, c2, c3] = masked(checksum).to_le_bytes();
        let [l0, l1] = length.to_le_bytes();
        *header = [c0, c1, c2, c3, l0, l1, 1];
    }
}

/// Corrects the records of a block in which one bit was flipped. Returns their offsets.
fn repair_block(block: &mut [u8]) -> Vec<usize> {
    let (mut at, mut repaired) = (0, Vec::new());
    while let Some(record) = block.get_mut(at..).filter(|rest| rest.len() >= HEADER_LEN) {
        if !is_intact(record) && repair_record(record) {
            repaired.push(at);
        }
        // Continues after a record that cannot be corrected, if its length fits into the block.
        match length_of(record) {
            Some(length) if record.get(..HEADER_LEN).is_some_and(|header| header.iter().any(|byte| *byte != 0)) => {
                at += HEADER_LEN + length;
            }
            _ => break,
        }
    }
    repaired
}

/// Returns the length of a record's payload; `None` if it reaches beyond the block.
fn length_of(record: &[u8]) -> Option<usize> {
    let (header, payload) = record.split_first_chunk::<HEADER_LEN>()?;
    let [.., l0, l1, _] = *header;
    Some(usize::from(u16::from_le_bytes([l0, l1]))).filter(|length| *length <= payload.len())
}

/// Returns the stored checksum of a record, and the checksum of its type and payload.
fn checksums(record: &[u8]) -> Option<(u32, u32)> {
    let length = length_of(record)?;
    let (stored, rest) = record.split_first_chunk::<4>()?;
    let checked = rest.get(HEADER_LEN - 5..HEADER_LEN - 4 + length)?;
    Some((unmasked(u32::from_le_bytes(*stored)), crc32c::crc32c(checked)))
}

fn is_intact(record: &[u8]) -> bool {
    checksums(record).is_some_and(|(stored, found)| stored == found)
}

/// Corrects a record in which one bit was flipped. Returns whether such a bit was found; otherwise the record is
/// unchanged.
fn repair_record(record: &mut [u8]) -> bool {
    // Checksum and length.
    for bit in 0..(HEADER_LEN - 1) * 8 {
        flip(record, bit);
        if is_intact(record) {
            return true;
        }
        flip(record, bit);
    }
    // Type and payload. The checksum is linear: the effect of a flipped bit depends only on its distance from the end,
    // and one byte more of distance is one step more with a zero byte.
    let Some(((stored, found), length)) = checksums(record).zip(length_of(record)) else { return false };
    let step = |register: u32, byte: u8| !crc32c::crc32c_append(!register, &[byte]);
    let mut effects: [u32; 8] = std::array::from_fn(|bit| step(0, 1 << bit));
    for byte in (HEADER_LEN - 1..HEADER_LEN + length).rev() {
        if let Some(bit) = effects.iter().position(|effect| *effect == stored ^ found) {
            flip(record, byte * 8 + bit);
            return true;
        }
        effects = effects.map(|effect| step(effect, 0));
    }
    false
}

fn flip(record: &mut [u8], bit: usize) {
    if let Some(byte) = record.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

fn last_block(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len() / BLOCK_LEN * BLOCK_LEN;
    file.seek(SeekFrom::Start(start))?;
    let mut block = Vec::new();
    file.take(BLOCK_LEN).read_to_end(&mut block)?;
    Ok((start, block))
}

/// Returns the offset of the record that reaches beyond the end of the block, but is intact with one bit of its length
/// flipped.
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
        let fits = |length: u16| {
            let payload = payload.get(..usize::from(length));
            payload.is_some_and(|payload| fits([c0, c1, c2, c3], kind, payload))
        };
        return (0..16).any(|bit| fits(length ^ (1 << bit))).then_some(at);
    }
}

/// Returns whether a stored checksum is that of a record with this type and payload.
fn fits(stored: [u8; 4], kind: u8, payload: &[u8]) -> bool {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload) == unmasked(u32::from_le_bytes(stored))
}

/// Returns the checksum of a stored one. RocksDB stores checksums in a masked form, because a checksum of bytes that
/// contain checksums is weak.
fn unmasked(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    pub(super) fn record_of(kind: u8, payload: &[u8]) -> Vec<u8> {
        let checksum = crc32c::crc32c(&[&[kind], payload].concat());
        let length = u16::try_from(payload.len()).unwrap();
        [masked(checksum).to_le_bytes().as_slice(), &length.to_le_bytes(), &[kind], payload].concat()
    }

    fn record(payload: &[u8]) -> Vec<u8> {
        record_of(1, payload)
    }

    /// Regression: a flipped bit changed the type "whole" into "whole, in a reused file", and RocksDB read the manifest
    /// forever.
    #[test]
    fn a_flipped_bit_of_a_type_is_found_and_no_other_damage() {
        let intact = [record(b"first"), record(&[7; 300]), record(b"")].concat();
        assert_eq!(damaged_type(&intact), None);
        for (at, _) in [(0, 5), (12, 300), (319, 0)] {
            for bit in (0..8).filter(|bit| !TYPES.contains(&(1 ^ (1 << bit))) && (at, *bit) != (319, 0)) {
                let mut block = intact.clone();
                flip(&mut block, (at + HEADER_LEN - 1) * 8 + bit);
                assert_eq!(damaged_type(&block), Some(at), "bit {bit}");
            }
        }
        for len in 0..intact.len() {
            assert_eq!(damaged_type(&intact[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn any_single_flipped_bit_is_corrected() {
        let intact = [record(b"first"), record(&[7; 300]), record(b"")].concat();
        assert_eq!(repair_block(&mut intact.clone()), NONE);
        for bit in 0..intact.len() * 8 {
            let mut block = intact.clone();
            flip(&mut block, bit);
            assert_eq!(repair_block(&mut block).len(), 1, "bit {bit}");
            assert_eq!(block, intact, "bit {bit}");
        }
    }

    /// Regression: RocksDB dropped an unreadable record and all records after it in the block, and so did a repair.
    #[test]
    fn an_unreadable_record_is_overwritten_if_an_intact_one_follows() {
        for length in 0..80 {
            let (before, after) = (record(b"before"), record(b"after"));
            let mut block = [before.clone(), record(&vec![7; length]), after.clone()].concat();
            block[before.len()..before.len() + 4].fill(0xaa);
            let end = block.len() - after.len();
            let mut torn = block[..end].to_vec();
            assert_eq!(blank_unreadable_in_block(&mut torn), NONE, "it can be a torn end");
            assert_eq!(blank_unreadable_in_block(&mut block), [before.len()]);
            let mut at = before.len();
            while at < end {
                assert!(is_intact(&block[at..]), "{length}");
                let small = length_of(&block[at..]).unwrap();
                assert!(small < 12, "{length}");
                at += HEADER_LEN + small;
            }
            assert_eq!((at, &block[at..]), (end, after.as_slice()));
            assert_eq!(blank_unreadable_in_block(&mut block), NONE);
        }
    }

    #[test]
    fn a_truncated_or_overwritten_record_is_unchanged() {
        let intact = [record(&[7; 300]), record(&[8; 300])].concat();
        for len in 0..intact.len() {
            let mut cut = intact[..len].to_vec();
            assert_eq!(repair_block(&mut cut), NONE, "cut at {len}");
        }
        let mut block = intact.clone();
        block[20..60].fill(0);
        let before = block.clone();
        assert_eq!(repair_block(&mut block), NONE);
        assert_eq!(block, before);
    }
}
