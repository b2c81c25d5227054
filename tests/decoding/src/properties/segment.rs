//! Compressed segments of es-log: any bytes are damage or the content that was compressed.

use std::path::PathBuf;
use std::sync::Arc;

use es_core::Position;
use es_core::model::LogId;
use es_log::{AppendError, Body, Disk, Log, LogOptions, ReadError, ReadableLog, salvage, verify};
use uuid::Uuid;

use super::log::generated_body;
use super::memory_disk::MemoryDisk;

/// The lengths of header and trailer, which a compressed segment begins with.
const HEADERS: usize = 128;
const HEADER: usize = 64;
const ENTRY: usize = 8;
const CHUNK: usize = 16 * 1024;
/// The largest size of a segment here: a hostile one of 4 GiB is read for seconds.
const MAX_SIZE: u32 = 1 << 18;

fn directory() -> PathBuf {
    PathBuf::from("log")
}

fn path() -> PathBuf {
    directory().join("00000001.seg")
}

/// Returns a log in memory with a compressed segment, whose records are generated from the bytes.
fn compressed_log(data: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let options = LogOptions {
        log_id: Some(LogId::from_uuid(Uuid::from_u128(7))),
        first_segment: 1024,
        largest_segment: 1024,
        has_threads: false,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    };
    let log = Log::open(directory(), options).expect("a disk in memory does not fail");
    for part in data.chunks(24) {
        let mut buffer = Vec::new();
        generated_body(part, &mut buffer, |body| {
            // Opaque records are for memberships only.
            if !matches!(body, Body::Opaque(_)) {
                // A body that cannot be encoded is refused.
                let _ = log.commit::<_, AppendError>(|draft| Ok(draft.push(body)?));
            }
        });
    }
    log.seal().expect("a disk in memory does not fail");
    for segment in 1..=log.sealed_segments() {
        log.compress(segment, |_| false).expect("an undamaged segment is compressed");
    }
    disk
}

/// Returns the bytes of a compressed segment with the records that are generated from the bytes.
#[must_use]
pub fn segment_of(data: &[u8]) -> Vec<u8> {
    compressed_log(data).content(&path())
}

/// The properties of compressed segments, for bytes that are one, and for bytes that become one with valid checksums:
///
/// - opening, reading, verifying and salvaging them does not panic;
/// - a log with a compressed segment is sound, and with a flipped bit in the segment it is not.
pub fn segments(data: &[u8]) {
    let disk = compressed_log(data);
    assert!(is_sound(&disk), "a compressed log is not sound");
    let content = disk.content(&path());
    if content.len() > HEADERS && content[11] == 2 {
        super::check_changed(&content, data, |bytes| {
            disk.set_content(&path(), bytes);
            is_sound(&disk)
        });
    }
    for hostile in [data.to_vec(), with_checksums(data)] {
        disk.set_content(&path(), &hostile);
        read(&disk);
    }
}

fn shared(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn is_sound(disk: &MemoryDisk) -> bool {
    verify(&shared(disk), &directory()).expect("a disk in memory does not fail").is_sound()
}

/// Reads a log in all ways. Damage is an error of each, and nothing else.
fn read(disk: &MemoryDisk) {
    is_sound(disk);
    salvage::<ReadError>(&shared(disk), &directory(), |_| Ok(())).expect("a disk in memory does not fail");
    let Ok(log) = ReadableLog::open(directory(), shared(disk)) else { return };
    let mut reader = log.read_after(None);
    while let Ok(Some(batch)) = reader.next_batch() {
        batch.records().for_each(drop);
    }
    let mut points = log.point_reader();
    for position in (1..40).filter_map(Position::new) {
        drop(points.event(position));
    }
}

/// Returns the bytes with the parts that a fuzzer does not find by chance: magics and checksums.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() < HEADERS {
        return bytes;
    }
    bytes[..8].copy_from_slice(b"es-seg-1");
    bytes[8..16].copy_from_slice(&[0, 0, 0, 2, 0, 0, 0, 1]);
    // The first positions and frames of a log.
    bytes[32..48].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    let size = number(&bytes, 56) % MAX_SIZE;
    bytes[56..60].copy_from_slice(&size.to_be_bytes());
    bytes[HEADER..HEADER + 8].copy_from_slice(b"es-end-1");
    for end in [60, HEADERS - 4] {
        let checksum = crc32c::crc32c(&bytes[end - 60..end]).to_be_bytes();
        bytes[end..end + 4].copy_from_slice(&checksum);
    }
    let chunks = (size as usize).saturating_sub(HEADERS).div_ceil(CHUNK);
    let first = HEADERS + chunks * ENTRY;
    let mut start = 0;
    for index in 0..chunks {
        let entry = HEADERS + index * ENTRY;
        if bytes.len() < entry + ENTRY {
            break;
        }
        let end = number(&bytes, entry) as usize;
        if let Some(stored) = bytes.get(first.saturating_add(start)..first.saturating_add(end)) {
            let place = [1u32.to_be_bytes(), u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes()].concat();
            let checksum = crc32c::crc32c_append(crc32c::crc32c(&place), stored).to_be_bytes();
            bytes[entry + 4..entry + 8].copy_from_slice(&checksum);
        }
        start = end;
    }
    bytes
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
