//! RocksDB's log files, the write-ahead log and the manifest: a damaged length at the end, which RocksDB takes for torn.
//!
//! Both are blocks of 32 KiB with records of checksum, length, type and payload. Where a record of the last block reaches
//! beyond the end of the file, RocksDB takes it for one that a crash has cut, in every recovery mode, and drops it with all
//! that is behind. A flipped bit in the length does the same to records that were whole. In the manifest this loses a
//! table: found by flipping bits, in one of about 200 flips of a manifest.
//!
//! A flipped bit in the type of a record, in either file and wherever it stands, is looked for as well, before RocksDB reads.
//!
//! The checksum tells a torn record from a damaged length: it does not cover the length, so that a whole record fits it under the right one.

pub(crate) mod batches;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const BLOCK_LEN: u64 = 32 * 1024;
/// Checksum, length, type.
const HEADER_LEN: usize = 4 + 2 + 1;
/// Types 1 to 4 are whole records and parts of them; others are for options that the store does not use.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// The first of these files of a database that ends in a record whose length is damaged, with the place of that record.
pub(crate) fn find_damaged_length(directory: &Path, selects: fn(&str) -> bool) -> io::Result<Option<(String, u64)>> {
    find(directory, selects, |path| {
        let (start, block) = last_block(path)?;
        Ok(damaged_length(&block).map(|at| start + at as u64))
    })
}

/// The first record of these files that would be whole if one bit of its type were another, with its place. Such a type is that
/// of an option which the store does not use; RocksDB was seen to read on for ever at one in a manifest.
pub(crate) fn find_damaged_type(directory: &Path, selects: fn(&str) -> bool) -> io::Result<Option<(String, u64)>> {
    find(directory, selects, |path| {
        visit_blocks(&mut File::open(path)?, |start, block| damaged_type(block).map(|at| start + at as u64))
    })
}

/// The first of these files in which `look` finds a place, and the place.
fn find(
    directory: &Path,
    selects: fn(&str) -> bool,
    look: impl Fn(&Path) -> io::Result<Option<u64>>,
) -> io::Result<Option<(String, u64)>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !selects(&name) {
            continue;
        }
        match look(&entry.path()) {
            Ok(Some(at)) => return Ok(Some((name, at))),
            Ok(None) => {}
            // NOTE: another process that has the store open may remove what it needs no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Reads a file block by block, with the place of each, until `take` gives something.
fn visit_blocks<T>(file: &mut File, mut take: impl FnMut(u64, &mut [u8]) -> Option<T>) -> io::Result<Option<T>> {
    let (mut start, mut block) = (0, Vec::new());
    loop {
        block.clear();
        (&mut *file).take(BLOCK_LEN).read_to_end(&mut block)?;
        if let Some(taken) = take(start, &mut block) {
            return Ok(Some(taken));
        }
        // NOTE: what a service adds just now must not be taken for the beginning of a block.
        if (block.len() as u64) < BLOCK_LEN {
            return Ok(None);
        }
        start += BLOCK_LEN;
    }
}

/// Where the record of a block begins whose checksum fits it with one bit of its type flipped.
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

/// Sets right each record of these files in which one bit has flipped: its checksum says which one. Says where they stand.
pub(crate) fn repair_bits(directory: &Path, selects: fn(&str) -> bool) -> io::Result<Vec<(String, u64)>> {
    change_blocks(directory, selects, repair_block)
}

/// Has RocksDB pass over each record of the write-ahead log that cannot be read, in place of all that is behind it in its block.
/// Says where they stand.
pub(crate) fn bridge_broken_records(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    change_blocks(directory, |name| name.ends_with(".log"), bridge_broken_in_block)
}

/// Changes the blocks of these files; gives what was changed, with its places.
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
            let places = change(&mut block);
            if !places.is_empty() {
                file.seek(SeekFrom::Start(start))?;
                file.write_all(&block)?;
            }
            changed.extend(places.into_iter().map(|at| (name.clone(), start + at as u64)));
            start += BLOCK_LEN;
        }
    }
    Ok(changed)
}

/// Writes small records over each record of a block that cannot be read and has one behind it that can be. RocksDB takes no batch
/// from a record that is too short for one, and goes on.
fn bridge_broken_in_block(block: &mut [u8]) -> Vec<usize> {
    const MIN_RECORD: usize = HEADER_LEN;
    const MAX_RECORD: usize = HEADER_LEN + 11;
    let (mut at, mut broken, mut bridged) = (0, Vec::new(), Vec::new());
    while let Some(length) = block.get(at..).and_then(length_of) {
        let end = at + HEADER_LEN + length;
        let record = block.get(at..end).unwrap_or_default();
        if record.iter().all(|byte| *byte == 0) {
            break;
        }
        if is_whole(record) {
            bridged.append(&mut broken);
        } else {
            broken.push((at, end));
        }
        at = end;
    }
    for (start, end) in &bridged {
        let mut at = *start;
        while at < *end {
            let left = end - at;
            let size = if left <= MAX_RECORD { left } else { MAX_RECORD.min(left - MIN_RECORD) };
            if let Some(small) = block.get_mut(at..at + size) {
                write_empty_record(small);
            }
            at += size;
        }
    }
    bridged.into_iter().map(|(start, _)| start).collect()
}

/// Makes a whole record with a payload of zeros.
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

/// Sets right the records of a block in which one bit has flipped; gives where they begin.
fn repair_block(block: &mut [u8]) -> Vec<usize> {
    let (mut at, mut repaired) = (0, Vec::new());
    while let Some(record) = block.get_mut(at..).filter(|rest| rest.len() >= HEADER_LEN) {
        if !is_whole(record) && repair_record(record) {
            repaired.push(at);
        }
        // NOTE: also behind one that is beyond mending, as long as its length leads to another.
        match length_of(record) {
            Some(length) if record.get(..HEADER_LEN).is_some_and(|header| header.iter().any(|byte| *byte != 0)) => {
                at += HEADER_LEN + length;
            }
            _ => break,
        }
    }
    repaired
}

/// The length of a record's payload, where the block has as much.
fn length_of(record: &[u8]) -> Option<usize> {
    let (header, payload) = record.split_first_chunk::<HEADER_LEN>()?;
    let [.., l0, l1, _] = *header;
    Some(usize::from(u16::from_le_bytes([l0, l1]))).filter(|length| *length <= payload.len())
}

/// The checksum that stands in a record, and the one over its type and payload.
fn checksums(record: &[u8]) -> Option<(u32, u32)> {
    let length = length_of(record)?;
    let (stored, rest) = record.split_first_chunk::<4>()?;
    let checked = rest.get(HEADER_LEN - 5..HEADER_LEN - 4 + length)?;
    Some((unmasked(u32::from_le_bytes(*stored)), crc32c::crc32c(checked)))
}

fn is_whole(record: &[u8]) -> bool {
    checksums(record).is_some_and(|(stored, found)| stored == found)
}

/// Flips the one bit of a record that makes it whole; leaves it where there is none.
fn repair_record(record: &mut [u8]) -> bool {
    // In the header: checksum, length.
    for bit in 0..(HEADER_LEN - 1) * 8 {
        flip(record, bit);
        if is_whole(record) {
            return true;
        }
        flip(record, bit);
    }
    // In what is checked. The checksum is linear: what a flipped bit does to it depends on nothing but where the bit stands, and
    // one byte farther from the end is one step more with a zero byte.
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
        let fits = |length: u16| {
            let payload = payload.get(..usize::from(length));
            payload.is_some_and(|payload| fits([c0, c1, c2, c3], kind, payload))
        };
        return (0..16).any(|bit| fits(length ^ (1 << bit))).then_some(at);
    }
}

/// Whether a checksum, as it is stored, is that of a record of this type and payload.
fn fits(stored: [u8; 4], kind: u8, payload: &[u8]) -> bool {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload) == unmasked(u32::from_le_bytes(stored))
}

/// RocksDB does not store a checksum as it is, because a checksum over bytes with checksums is a weak one.
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

    /// A flip of 1,800 had RocksDB read a manifest for ever: the type "whole" had become "whole, in a reused file".
    #[test]
    fn any_flipped_bit_of_a_type_is_found_and_nothing_else() {
        let whole = [record(b"first"), record(&[7; 300]), record(b"")].concat();
        assert_eq!(damaged_type(&whole), None);
        for (at, _) in [(0, 5), (12, 300), (319, 0)] {
            for bit in (0..8).filter(|bit| !TYPES.contains(&(1 ^ (1 << bit))) && (at, *bit) != (319, 0)) {
                let mut block = whole.clone();
                flip(&mut block, (at + HEADER_LEN - 1) * 8 + bit);
                assert_eq!(damaged_type(&block), Some(at), "bit {bit}");
            }
        }
        for len in 0..whole.len() {
            assert_eq!(damaged_type(&whole[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn any_one_bit_is_set_right() {
        let whole = [record(b"first"), record(&[7; 300]), record(b"")].concat();
        assert_eq!(repair_block(&mut whole.clone()), NONE);
        for bit in 0..whole.len() * 8 {
            let mut block = whole.clone();
            flip(&mut block, bit);
            assert_eq!(repair_block(&mut block).len(), 1, "bit {bit}");
            assert_eq!(block, whole, "bit {bit}");
        }
    }

    /// With a broken record, RocksDB dropped all that was behind it in the block, and so did a repair.
    #[test]
    fn a_broken_record_is_passed_over_where_one_is_behind_it() {
        for length in 0..80 {
            let (before, after) = (record(b"before"), record(b"after"));
            let mut block = [before.clone(), record(&vec![7; length]), after.clone()].concat();
            block[before.len()..before.len() + 4].fill(0xaa);
            let end = block.len() - after.len();
            let mut torn = block[..end].to_vec();
            assert_eq!(bridge_broken_in_block(&mut torn), NONE, "that may be a torn end");
            assert_eq!(bridge_broken_in_block(&mut block), [before.len()]);
            let mut at = before.len();
            while at < end {
                assert!(is_whole(&block[at..]), "{length}");
                let small = length_of(&block[at..]).unwrap();
                assert!(small < 12, "{length}");
                at += HEADER_LEN + small;
            }
            assert_eq!((at, &block[at..]), (end, after.as_slice()));
            assert_eq!(bridge_broken_in_block(&mut block), NONE);
        }
    }

    #[test]
    fn what_is_cut_or_overwritten_is_left_as_it_is() {
        let whole = [record(&[7; 300]), record(&[8; 300])].concat();
        for len in 0..whole.len() {
            let mut cut = whole[..len].to_vec();
            assert_eq!(repair_block(&mut cut), NONE, "cut at {len}");
        }
        let mut block = whole.clone();
        block[20..60].fill(0);
        let before = block.clone();
        assert_eq!(repair_block(&mut block), NONE);
        assert_eq!(block, before);
    }
}
