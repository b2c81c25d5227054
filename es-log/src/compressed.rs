//! Compressed segments: the content of a sealed segment in chunks, each of them compressed alone.
//!
//! ```text
//!   header | trailer | table of chunks | chunk | chunk | ...
//! ```
//!
//! The content is what the plain segment has between its header and its trailer, without the zeros before its footer.
//! Readers have a [`CompressedFile`], which has the bytes of the plain segment at their offsets. So they read both
//! kinds of segments in the same way, and the offsets of frames and events stay as they were.
//!
//! Header and trailer are not compressed: they are all that an opening reads. Each tells that the segment is
//! compressed, and its size, so that one of them can be damaged.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use zstd_safe::{CCtx, DCtx};

use crate::disk::{Disk, DiskFile};
use crate::layout::{CHUNK_LEN, ENTRY_LEN, FixedReader, SEGMENT_HEADER_LEN, TRAILER_LEN};
use crate::scan::{READ_LEN, ReadLens, Window};
use crate::segment::{self, SegmentHeader, Trailer};
use crate::sync::{Mutex, lock};

/// The compression level of zstd. Higher levels take longer and make chunks of this size no shorter.
const LEVEL: i32 = 1;

/// The number of decompressed chunks that an open file keeps for the next reads of single records.
const CACHED_CHUNKS: NonZeroUsize = match NonZeroUsize::new(4) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};

/// The numbers of bytes that one read of the table or of chunks reads. Reads in order become longer.
const READ_LENS: ReadLens = ReadLens { least: 4096, most: READ_LEN };

/// Where the table begins.
const TABLE_START: u64 = (SEGMENT_HEADER_LEN + TRAILER_LEN) as u64;

/// What a reader finds in place of a damaged chunk. It begins no frame and no record, and no checksum is valid with it.
const FILLER: u8 = 0xa5;

/// Opens a segment for reading.
pub(crate) fn open(disk: &dyn Disk, directory: &Path, number: u32) -> io::Result<Arc<dyn DiskFile>> {
    content_of(disk.open_read_only(&directory.join(segment::file_name(number)))?, number)
}

/// Opens a segment for a salvage: a flipped bit of a chunk is corrected.
pub(crate) fn open_correcting(disk: &dyn Disk, directory: &Path, number: u32) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open_read_only(&directory.join(segment::file_name(number)))?;
    Ok(match CompressedFile::detect(&file, number)? {
        Some(compressed) => Arc::new(CompressedFile { corrects: true, ..compressed }),
        None => file,
    })
}

/// Returns the file of a segment, or its uncompressed content if it is compressed.
pub(crate) fn content_of(file: Arc<dyn DiskFile>, number: u32) -> io::Result<Arc<dyn DiskFile>> {
    Ok(match CompressedFile::detect(&file, number)? {
        Some(compressed) => Arc::new(compressed),
        None => file,
    })
}

/// Returns the bytes of a compressed segment for the bytes of a plain one without zeros before its footer.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] if the bytes are too short for a segment, or zstd fails.
pub(crate) fn compress(plain: &[u8], header: &SegmentHeader) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "expected the bytes of a segment");
    let content = plain.get(SEGMENT_HEADER_LEN..).and_then(|rest| rest.split_last_chunk::<TRAILER_LEN>());
    let (content, trailer) = content.ok_or_else(invalid)?;
    let mut bytes = SegmentHeader { is_compressed: true, ..*header }.encode();
    bytes.extend_from_slice(trailer);
    let table = bytes.len();
    bytes.resize(table + content.len().div_ceil(CHUNK_LEN) * ENTRY_LEN, 0);
    let start = bytes.len();
    let mut context = CCtx::create();
    let mut buffer = vec![0; CHUNK_LEN];
    for (index, chunk) in (0..).zip(content.chunks(CHUNK_LEN)) {
        // The buffer is as short as the chunk, so that a chunk that would become longer fails, and is stored as it is.
        let target = buffer.get_mut(..chunk.len()).unwrap_or_default();
        let stored = match context.compress(target, chunk, LEVEL) {
            Ok(length) if length < chunk.len() => target.get(..length).unwrap_or_default(),
            _ => chunk,
        };
        bytes.extend_from_slice(stored);
        let end = u32::try_from(bytes.len() - start).map_err(|_| invalid())?;
        let entry = [end.to_be_bytes(), checksum(header.place.segment, index, stored).to_be_bytes()].concat();
        let at = table + index as usize * ENTRY_LEN;
        bytes.get_mut(at..at + ENTRY_LEN).ok_or_else(invalid)?.copy_from_slice(&entry);
    }
    Ok(bytes)
}

/// Returns the checksum of a chunk. It covers the place of the chunk, so that another chunk is rejected.
fn checksum(segment: u32, index: u32, stored: &[u8]) -> u32 {
    let seed = crc32c::crc32c_append(crc32c::crc32c(&segment.to_be_bytes()), &index.to_be_bytes());
    crc32c::crc32c_append(seed, stored)
}

/// The entry of a chunk in the table: where it is stored, from the start of the first one, and its checksum.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    checksum: u32,
}

/// A chunk that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkDamage {
    /// Where the entry of the chunk is in the file.
    pub(crate) offset: u64,
    pub(crate) reason: String,
}

/// The uncompressed content of a compressed segment, as a file that can be read.
///
/// A damaged chunk reads as bytes that are no frame and no record. So the checks of its readers find the damage, with
/// its position, and the other chunks stay readable.
pub(crate) struct CompressedFile {
    file: Arc<dyn DiskFile>,
    number: u32,
    /// The size of the plain segment.
    size: u64,
    /// Whether a flipped bit of a chunk is corrected.
    corrects: bool,
    chunks: Mutex<Chunks>,
}

/// What is in memory of the chunks.
struct Chunks {
    context: DCtx<'static>,
    table: Window,
    stored: Window,
    cached: LruCache<u32, Vec<u8>>,
    damages: BTreeMap<u32, ChunkDamage>,
}

impl fmt::Debug for CompressedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, number, size, .. } = self;
        f.debug_struct("CompressedFile")
            .field("file", file)
            .field("number", number)
            .field("size", size)
            .finish_non_exhaustive()
    }
}

impl CompressedFile {
    /// Opens the content of a file if it is a compressed segment. Costs one small read.
    pub(crate) fn detect(file: &Arc<dyn DiskFile>, number: u32) -> io::Result<Option<Self>> {
        let mut bytes = [0; SEGMENT_HEADER_LEN + TRAILER_LEN];
        let read = file.read_at(&mut bytes, 0)?;
        let (header, trailer) = bytes.get(..read).unwrap_or_default().split_at(read.min(SEGMENT_HEADER_LEN));
        let size = match SegmentHeader::decode(header) {
            Ok(header) => header.is_compressed.then_some(u64::from(header.size)),
            // A plain segment has a frame here.
            Err(_) => Trailer::decode(trailer).map(|trailer| trailer.size()),
        };
        let chunks = |file: &Arc<dyn DiskFile>| Chunks {
            context: DCtx::create(),
            table: Window::new(Arc::clone(file), READ_LENS),
            stored: Window::new(Arc::clone(file), READ_LENS),
            cached: LruCache::new(CACHED_CHUNKS),
            damages: BTreeMap::new(),
        };
        let of_size =
            |size| Self { file: Arc::clone(file), number, size, corrects: false, chunks: Mutex::new(chunks(file)) };
        Ok(size.map(of_size))
    }

    /// Returns the chunks that were read and are damaged.
    pub(crate) fn damages(&self) -> Vec<ChunkDamage> {
        lock(&self.chunks).damages.values().cloned().collect()
    }

    /// Returns the end of the content, at which the trailer of the plain segment begins.
    fn content_end(&self) -> u64 {
        self.size.saturating_sub(TRAILER_LEN as u64)
    }

    /// Reads a part of the content at an offset of the plain segment: at most one chunk. Returns 0 after the last entry
    /// of a table that is too short.
    fn read_chunk(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = offset.saturating_sub(SEGMENT_HEADER_LEN as u64);
        let index = u32::try_from(at / CHUNK_LEN as u64).map_err(io::Error::other)?;
        let within = usize::try_from(at % CHUNK_LEN as u64).map_err(io::Error::other)?;
        let rest = self.content_end().saturating_sub(offset - within as u64);
        let length = usize::try_from(rest).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        let mut chunks = lock(&self.chunks);
        if !chunks.cached.contains(&index) {
            let Some(entry) = chunks.entry(index)? else { return Ok(0) };
            if let Some(whole) = buffer.get_mut(..length).filter(|_| within == 0) {
                self.decompress(&mut chunks, index, entry, whole)?;
                return Ok(length);
            }
            let mut content = vec![0; length];
            self.decompress(&mut chunks, index, entry, &mut content)?;
            chunks.cached.put(index, content);
        }
        let content = chunks.cached.get(&index).and_then(|content| content.get(within..)).unwrap_or_default();
        let read = content.len().min(buffer.len());
        buffer.get_mut(..read).unwrap_or_default().copy_from_slice(content.get(..read).unwrap_or_default());
        Ok(read)
    }

    /// Decompresses a chunk, which has as many bytes as `target`. A damaged one is replaced by [`FILLER`].
    fn decompress(&self, chunks: &mut Chunks, index: u32, entry: Entry, target: &mut [u8]) -> io::Result<()> {
        if let Err(reason) = self.decompress_valid(chunks, index, entry, target)? {
            target.fill(FILLER);
            chunks.damaged(index, &reason);
        }
        Ok(())
    }

    /// Decompresses a chunk. Returns what is wrong with a damaged one.
    fn decompress_valid(
        &self,
        chunks: &mut Chunks,
        index: u32,
        entry: Entry,
        target: &mut [u8],
    ) -> io::Result<Result<(), String>> {
        let stored = match self.stored(chunks, index, entry, target.len())? {
            Ok(stored) => stored,
            Err(reason) => match self.corrected(chunks, index, entry, target.len())? {
                Some(stored) => stored,
                None => return Ok(Err(reason)),
            },
        };
        if stored.len() == target.len() {
            target.copy_from_slice(&stored);
            return Ok(Ok(()));
        }
        let expected = target.len();
        Ok(match chunks.context.decompress(target, &stored) {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(format!("expected {expected} decompressed bytes, found {found}")),
            Err(code) => Err(format!("could not decompress it: {}", zstd_safe::get_error_name(code))),
        })
    }

    /// Returns a stored chunk of up to `most` bytes, which is the length of its content, or what is wrong with it.
    fn stored(&self, chunks: &mut Chunks, index: u32, entry: Entry, most: usize) -> io::Result<Result<Bytes, String>> {
        let Entry { start, end, checksum: expected } = entry;
        let Some(stored) = self.stored_bytes(chunks, entry, most)? else {
            let reason =
                format!("expected 1 to {most} bytes in the file, found a start at {start} and an end at {end}");
            return Ok(Err(reason));
        };
        let found = checksum(self.number, index, &stored);
        Ok(match found == expected {
            true => Ok(stored),
            false => Err(format!("expected {} bytes with checksum {expected:08x}, found {found:08x}", stored.len())),
        })
    }

    /// Reads a stored chunk; `None` if the file does not have it, or it is longer than its content.
    fn stored_bytes(&self, chunks: &mut Chunks, entry: Entry, most: usize) -> io::Result<Option<Bytes>> {
        // Before memory is reserved: a table that was changed can have any length.
        let length = entry.end.checked_sub(entry.start).map(|length| length as usize);
        let Some(length) = length.filter(|length| (1..=most).contains(length)) else { return Ok(None) };
        let content = self.content_end().saturating_sub(SEGMENT_HEADER_LEN as u64);
        let first = TABLE_START + content.div_ceil(CHUNK_LEN as u64) * ENTRY_LEN as u64;
        let stored = chunks.stored.at(first + u64::from(entry.start), length, u64::MAX)?;
        Ok((stored.len() >= length).then(|| stored.slice(..length)))
    }

    /// Returns a stored chunk for a salvage, if one bit of it or of its entry was flipped: only one flip makes its
    /// checksum valid.
    fn corrected(&self, chunks: &mut Chunks, index: u32, entry: Entry, most: usize) -> io::Result<Option<Bytes>> {
        if !self.corrects {
            return Ok(None);
        }
        for flipped in (0..32).map(|bit| 1 << bit) {
            let (start, end, checksum) = (entry.start ^ flipped, entry.end ^ flipped, entry.checksum ^ flipped);
            for other in [Entry { start, ..entry }, Entry { end, ..entry }, Entry { checksum, ..entry }] {
                if let Ok(stored) = self.stored(chunks, index, other, most)? {
                    return Ok(Some(stored));
                }
            }
        }
        let Some(stored) = self.stored_bytes(chunks, entry, most)? else { return Ok(None) };
        let difference = checksum(self.number, index, &stored) ^ entry.checksum;
        Ok(with_flipped_bit(stored.to_vec(), difference).map(Bytes::from))
    }
}

/// Flips the bit that changes the checksum of the bytes by a difference. The checksum is linear, so that the difference
/// depends only on the distance of the bit from the end, and two different bits have different ones.
fn with_flipped_bit(mut bytes: Vec<u8>, difference: u32) -> Option<Vec<u8>> {
    let of = |byte: u8| crc32c::crc32c(&[byte]) ^ crc32c::crc32c(&[0]);
    let followed_by_zero = |found: u32| crc32c::crc32c_append(found, &[0]) ^ crc32c::crc32c_append(0, &[0]);
    let mut differences = [0, 1, 2, 3, 4, 5, 6, 7].map(|bit| of(1 << bit));
    for byte in bytes.iter_mut().rev() {
        if let Some(bit) = differences.iter().position(|found| *found == difference) {
            *byte ^= 1 << bit;
            return Some(bytes);
        }
        differences = differences.map(followed_by_zero);
    }
    None
}

impl Chunks {
    /// Reads the entry of a chunk; `None` if the file ends before it.
    fn entry(&mut self, index: u32) -> io::Result<Option<Entry>> {
        // The entry before has the start of the chunk. Before the first one, there is the trailer.
        let before = entry_offset(index) - ENTRY_LEN as u64;
        let bytes = self.table.at(before, 2 * ENTRY_LEN, u64::MAX)?;
        let Some(bytes) = bytes.get(..2 * ENTRY_LEN) else {
            self.damaged(index, "expected an entry of the table, found the end of the file");
            return Ok(None);
        };
        let mut fields = FixedReader(bytes);
        let (before, _, end, checksum) = (fields.u32(), fields.u32(), fields.u32(), fields.u32());
        Ok(Some(Entry { start: if index == 0 { 0 } else { before }, end, checksum }))
    }

    fn damaged(&mut self, index: u32, reason: &str) {
        let reason = format!("chunk {index} of the compressed segment: {reason}");
        self.damages.insert(index, ChunkDamage { offset: entry_offset(index), reason });
    }
}

/// Returns where the entry of a chunk is in the file.
fn entry_offset(index: u32) -> u64 {
    TABLE_START + u64::from(index) * ENTRY_LEN as u64
}

impl DiskFile for CompressedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let header_end = SEGMENT_HEADER_LEN as u64;
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            // Header and trailer are at the start of the file, one after the other.
            let (part_end, in_file) = match at {
                _ if at < header_end => (header_end, Some(at)),
                _ if at < self.content_end() => (self.content_end(), None),
                _ => (self.size, Some(header_end + (at - self.content_end().min(at)))),
            };
            let length = usize::try_from(part_end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len() - filled);
            let part = buffer.get_mut(filled..filled + length).unwrap_or_default();
            let read = match in_file {
                _ if part.is_empty() => 0,
                Some(in_file) => self.file.read_at(part, in_file)?,
                None => self.read_chunk(part, at)?,
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A compressed segment is on disk before it gets its name.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

#[cfg(test)]
mod tests {
    use es_core::model::LogId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::frame::Place;
    use crate::record;

    /// A file in memory, which is only read.
    #[derive(Debug)]
    struct MemoryFile(Vec<u8>);

    impl DiskFile for MemoryFile {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn write_zeros(&self, _: u64, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn length(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }

    const NUMBER: u32 = 3;

    fn header(size: usize) -> SegmentHeader {
        let place = Place { log_id: LogId::from_uuid(Uuid::from_u128(7)), segment: NUMBER, base_time: -5 };
        let size = u32::try_from(size).unwrap();
        SegmentHeader { place, first_position: 1, first_frame: 1, size, is_compressed: false }
    }

    /// Returns a plain segment with this content.
    fn plain(content: &[u8]) -> Vec<u8> {
        let mut bytes = header(content.len() + SEGMENT_HEADER_LEN + TRAILER_LEN).encode();
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&[7; TRAILER_LEN]);
        bytes
    }

    fn compressed(content: &[u8]) -> Vec<u8> {
        let plain = plain(content);
        compress(&plain, &header(plain.len())).unwrap()
    }

    fn open(bytes: Vec<u8>) -> CompressedFile {
        let file: Arc<dyn DiskFile> = Arc::new(MemoryFile(bytes));
        CompressedFile::detect(&file, NUMBER).unwrap().expect("a compressed segment")
    }

    /// Reads all bytes of a file, with reads of this length.
    fn read_all(file: &dyn DiskFile, length: usize) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; length]);
        loop {
            match file.read_at(&mut buffer, bytes.len() as u64).unwrap() {
                0 => return bytes,
                read => bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Returns content of which a part can be compressed.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3_000),
            (0..FILLER, 0..40_000usize).prop_map(|(byte, length)| vec![byte; length]),
        ];
        proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_content_of_a_compressed_segment_is_that_of_the_plain_one(
            content in content(),
            length in 1..70_000usize,
        ) {
            let plain = plain(&content);
            let file = open(compressed(&content));
            let found = read_all(&file, length);
            prop_assert_eq!(&found[SEGMENT_HEADER_LEN..], &plain[SEGMENT_HEADER_LEN..]);
            prop_assert_eq!(file.length().unwrap(), plain.len() as u64);
            let header = SegmentHeader::decode(&found).unwrap();
            prop_assert_eq!(header, SegmentHeader { is_compressed: true, ..super::tests::header(plain.len()) });
            prop_assert!(file.damages().is_empty());
        }

        /// Lengths and ends of a hostile table neither panic nor reserve memory: a chunk is at most its content.
        #[test]
        fn a_changed_table_or_chunk_is_damage_of_its_chunks_only(
            content in content(),
            changed in any::<proptest::sample::Index>(),
            bytes in proptest::collection::vec(any::<u8>(), 1..8),
        ) {
            let before = compressed(&content);
            prop_assume!(before.len() > TABLE_START as usize);
            let mut after = before.clone();
            let at = TABLE_START as usize + changed.index(before.len() - TABLE_START as usize);
            let end = (at + bytes.len()).min(before.len());
            after[at..end].copy_from_slice(&bytes[..end - at]);
            prop_assume!(before != after);
            let file = open(after);
            let (plain, found) = (plain(&content), read_all(&file, 5_000));
            let damages = file.damages();
            // The end of a chunk is the start of the next one.
            prop_assert!((1..=3).contains(&damages.len()), "{damages:?}");
            prop_assert_eq!(found.len(), plain.len());
            let damaged = |chunk: &[u8]| chunk.iter().all(|byte| *byte == FILLER);
            let range = SEGMENT_HEADER_LEN..plain.len() - TRAILER_LEN;
            let pairs = plain[range.clone()].chunks(CHUNK_LEN).zip(found[range].chunks(CHUNK_LEN));
            prop_assert_eq!(pairs.filter(|(plain, found)| plain != found && damaged(found)).count(), damages.len());
        }

        #[test]
        fn any_bytes_after_a_valid_header_are_read_without_panic(
            size in any::<u32>(),
            rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let header = SegmentHeader { size, is_compressed: true, ..header(0) };
            let file = open([header.encode(), rest].concat());
            let found = read_all(&file, 100_000);
            prop_assert!(found.len() <= HEADERS + 75 * CHUNK_LEN, "an entry of eight bytes for each chunk");
        }
    }

    const HEADERS: usize = SEGMENT_HEADER_LEN + TRAILER_LEN;

    /// The decompressed length is that of the content, whatever a chunk with a valid checksum claims.
    #[test]
    fn a_chunk_that_claims_another_length_is_damage() {
        let content = vec![1; CHUNK_LEN];
        for claimed in [CHUNK_LEN - 1, CHUNK_LEN + 1, 1 << 20] {
            let mut bytes = compressed(&content);
            bytes.truncate(TABLE_START as usize);
            let mut stored = vec![0; 1 << 17];
            let length = CCtx::create().compress(&mut stored[..], &vec![1; claimed], LEVEL).unwrap();
            stored.truncate(length);
            stored.truncate(CHUNK_LEN);
            bytes.extend_from_slice(&u32::try_from(stored.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&checksum(NUMBER, 0, &stored).to_be_bytes());
            bytes.extend_from_slice(&stored);
            let file = open(bytes);
            assert_eq!(read_all(&file, 1 << 20)[SEGMENT_HEADER_LEN..][..CHUNK_LEN], vec![FILLER; CHUNK_LEN]);
            let damages = file.damages();
            assert!(damages[0].reason.starts_with("chunk 0 of the compressed segment: "), "{damages:?}");
        }
    }

    /// No reader takes the filler for content.
    #[test]
    fn the_filler_is_no_frame_no_record_and_no_block_of_offsets() {
        let filler = [FILLER; 5_000];
        assert!(crate::frame::FrameHeader::decode(&filler).is_err());
        assert!(record::split_first(&filler).is_err());
        assert!(Trailer::decode(&filler).is_none() && SegmentHeader::decode(&filler).is_err());
        for events in 0..=crate::layout::BLOCK_EVENTS {
            assert_eq!(segment::decode_block(&filler[..4 * events + 4]), None, "{events}");
        }
    }

    #[test]
    fn a_plain_segment_is_not_taken_for_a_compressed_one() {
        let file: Arc<dyn DiskFile> = Arc::new(MemoryFile(plain(&[1; 3_000])));
        assert!(CompressedFile::detect(&file, NUMBER).unwrap().is_none());
        let empty: Arc<dyn DiskFile> = Arc::new(MemoryFile(Vec::new()));
        assert!(CompressedFile::detect(&empty, NUMBER).unwrap().is_none());
    }
}
