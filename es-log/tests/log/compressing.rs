//! Compressed segments: the same content for all readers, damage, faults during a compression, and copies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use es_core::Position;
use es_core::model::LogId;
use es_log::{
    Body, Damage, Disk, Log, LogOptions, OpenError, ReadError, ReadableLog, RewriteError, Rewritten, SalvagedPart,
    VerifyReport, salvage, verify, verify_and_visit,
};

use crate::support::disk::Fault;
use crate::support::{Random, SimDisk, commit, number, options, real_options, seed};

const DIRECTORY: &str = "/log";
/// The lengths of the parts of a compressed segment before its chunks.
const HEADER_AND_TRAILER: usize = 128;
const ENTRY: usize = 8;

/// Returns options for segments of several chunks, with all events on the disk.
fn large_options(disk: &SimDisk) -> LogOptions {
    LogOptions { first_segment: 1 << 16, largest_segment: 1 << 17, tail_bytes: 0, ..options(disk) }
}

/// Writes commits, and seals the last segment.
fn write(log: &Log, commits: std::ops::Range<u64>) {
    for number in commits {
        commit(log, number, 1 + (number % 3) as u32).expect("it commits");
    }
    log.seal().expect("it seals");
}

fn compress_all(log: &Log) -> u64 {
    let compress = |segment| log.compress(segment, |_| false).expect("it is compressed").bytes;
    (1..=log.sealed_segments()).map(compress).sum()
}

/// Returns a disk with a closed log whose sealed segments are compressed, and the events of the log.
fn compressed(options: fn(&SimDisk) -> LogOptions, commits: u64) -> (SimDisk, Vec<Bytes>) {
    let disk = SimDisk::new(3);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    write(&log, 1..commits + 1);
    assert!(compress_all(&log) > 0);
    let events = records(&log).expect("it reads");
    log.close().expect("it closes");
    (disk, events)
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn verified(disk: &SimDisk) -> VerifyReport {
    verify(&shared(disk), Path::new(DIRECTORY)).expect("the disk does not fail")
}

fn segment_path(number: u32) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{number:08}.seg"))
}

/// Returns the bytes of all records of a log.
fn records(log: &ReadableLog) -> Result<Vec<Bytes>, ReadError> {
    let (mut records, mut reader) = (Vec::new(), log.read_after(None));
    while let Some(batch) = reader.next_batch()? {
        records.extend(batch.records().map(|record| batch.bytes().slice_ref(record.expect("it decodes").bytes)));
    }
    Ok(records)
}

/// Returns the bytes of all events, which are read one by one.
fn events_by_position(log: &ReadableLog) -> Vec<Bytes> {
    let (mut points, count) = (log.point_reader(), log.head().map_or(0, Position::get));
    let event = |at| {
        let position = Position::new(at).expect("from 1");
        let [one, other] = [log.event(position), points.event(position)].map(|batch| batch.expect("it reads"));
        let bytes = one.expect("it exists").bytes().clone();
        assert_eq!(Some(&bytes), other.as_ref().map(es_log::Batch::bytes), "at {at}");
        bytes
    };
    (1..=count).rev().map(event).collect()
}

/// Returns the bytes of all frames of a log, with their headers.
fn frames(disk: &SimDisk) -> Vec<Vec<Bytes>> {
    let visit = |frames: &mut Vec<Bytes>, frame: &es_log::Frame| frames.push(frame.bytes().clone());
    let verified = verify_and_visit(&shared(disk), Path::new(DIRECTORY), std::num::NonZeroUsize::MIN, visit);
    let (report, frames) = verified.expect("it verifies");
    assert!(report.is_sound(), "{report:?}");
    frames
}

#[test]
fn a_compressed_log_has_the_same_frames_and_events_for_all_readers() {
    for small in [true, false] {
        let disk = SimDisk::new(1);
        let options = || if small { options(&disk) } else { large_options(&disk) };
        let log = Log::open(Path::new(DIRECTORY), options()).expect("it opens");
        write(&log, 0..if small { 150 } else { 2_000 });
        let before = (records(&log).expect("it reads"), events_by_position(&log), frames(&disk));
        let snapshot = ReadableLog::open(DIRECTORY, shared(&disk)).expect("it opens");
        let lengths: Vec<usize> = (1..=log.sealed_segments()).map(|n| disk.content(&segment_path(n)).len()).collect();
        assert!(lengths.len() > 3);
        let active = log.sealed_segments() + 1;
        assert!(
            matches!(log.compress(active, |_| false), Err(RewriteError::NotSealed { segment }) if segment == active)
        );
        for (number, length) in (1..).zip(&lengths) {
            assert!(!log.is_compressed(number));
            let rewritten = log.compress(number, |_| false).expect("it is compressed");
            let bytes = length - disk.content(&segment_path(number)).len();
            assert_eq!(rewritten, Rewritten { bytes: bytes as u64, ..Rewritten::default() });
            assert!(log.is_compressed(number) && bytes > length / 4, "{bytes} of {length}");
            assert_eq!(log.compress(number, |_| false).expect("again"), Rewritten::default());
        }
        let is_compressed = log.segments().iter().map(|file| file.is_compressed).collect::<Vec<_>>();
        assert_eq!(is_compressed, [vec![true; lengths.len()], vec![false]].concat());
        let content = |log: &ReadableLog| (records(log).expect("it reads"), events_by_position(log), frames(&disk));
        assert_eq!(content(&log), before);
        // A reader that was opened before, with the places of the plain segments.
        assert_eq!(content(&snapshot), before);
        let positions = before.1.len() as u64;
        for from in [1, 2, positions / 3, positions / 2, positions].into_iter().filter_map(Position::new) {
            let mut reader = log.read(from);
            let batch = reader.next_batch().expect("it reads").expect("it exists");
            assert_eq!(batch.records().next().expect("one").expect("it decodes").position, from);
        }
        commit(&log, 5_000, 1).expect("it commits");
        drop(log);
        let log = Log::open(Path::new(DIRECTORY), options()).expect("it opens");
        assert!(log.is_compressed(1));
        commit(&log, 5_001, 1).expect("it commits");
        assert_eq!(records(&log).expect("it reads")[..before.0.len()], before.0);
        assert_eq!(frames(&disk).concat().len(), before.2.concat().len() + 2);
    }
}

/// A program that knows only format 1 refuses a compressed segment as this one refuses format 3.
#[test]
fn a_segment_of_a_newer_format_is_refused_with_its_format() {
    let (disk, _) = compressed(options, 60);
    let mut content = disk.content(&segment_path(2));
    assert_eq!(content[8..12], 2u32.to_be_bytes());
    content[8..12].copy_from_slice(&3u32.to_be_bytes());
    let checksum = crc32c::crc32c(&content[..60]).to_be_bytes();
    content[60..64].copy_from_slice(&checksum);
    disk.set_content(&segment_path(2), &content);
    let refused = Log::open(Path::new(DIRECTORY), options(&disk)).expect_err("it is refused");
    let expected = "expected log format 1 to 2 in 00000002.seg, found 3; use the program that wrote it";
    assert_eq!(refused.to_string(), expected);
}

/// Opening reads headers and trailers only, so that damage of the chunks does not fail it.
#[test]
fn an_opening_does_not_read_the_chunks() {
    let (disk, events) = compressed(options, 60);
    for segment in 1..4 {
        let mut content = disk.content(&segment_path(segment));
        content[HEADER_AND_TRAILER..].fill(0);
        disk.set_content(&segment_path(segment), &content);
    }
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    assert!(records(&log).is_err());
    assert!(log.head().is_some_and(|head| head.get() < events.len() as u64));
}

/// Flips a bit of a compressed segment: a verification finds it, and no reader returns other events.
fn check_flip(disk: &SimDisk, options: LogOptions, name: &Path, bit: usize, events: &[Bytes]) -> bool {
    let mut content = disk.content(name);
    content[bit / 8] ^= 1 << (bit % 8);
    disk.set_content(name, &content);
    let report = verified(disk);
    assert!(!report.is_sound(), "bit {bit} of {}: a verification finds nothing", name.display());
    match Log::open(Path::new(DIRECTORY), options).map(|log| records(&log)) {
        Err(_) | Ok(Err(_)) => true,
        // A trailer that is not readable hides no event.
        Ok(Ok(found)) => {
            assert_eq!(found, events, "bit {bit} of {}", name.display());
            false
        }
    }
}

#[test]
fn every_flipped_bit_of_a_compressed_segment_is_found() {
    let (disk, events) = compressed(options, 40);
    let name = segment_path(2);
    let bits = disk.content(&name).len() * 8;
    let failed = (0..bits).filter(|bit| {
        let flipped = disk.copy();
        check_flip(&flipped, options(&flipped), &name, *bit, &events)
    });
    let failed = failed.count();
    assert!(failed > bits - 64 * 8 - 1, "{failed} of {bits}");
}

#[test]
fn flipped_bits_of_larger_compressed_segments_are_found() {
    let (seed, flips) = (seed(), number("ES_FLIPS", 3_000) / 30);
    let mut random = Random::new(seed);
    let (disk, events) = compressed(large_options, 2_000);
    for _ in 0..flips {
        let name = segment_path(1 + u32::try_from(random.index(3)).expect("small"));
        let flipped = disk.copy();
        let bit = random.index(disk.content(&name).len() * 8);
        check_flip(&flipped, large_options(&flipped), &name, bit, &events);
    }
}

/// Returns the range of a chunk in the bytes of a compressed segment.
fn chunk_range(content: &[u8], index: usize) -> std::ops::Range<usize> {
    let size = u32::from_be_bytes(content[56..60].try_into().expect("four bytes")) as usize;
    let chunks = (size - HEADER_AND_TRAILER).div_ceil(16 * 1024);
    let first = HEADER_AND_TRAILER + chunks * ENTRY;
    let end = |index: usize| {
        let at = HEADER_AND_TRAILER + index * ENTRY;
        u32::from_be_bytes(content[at..at + 4].try_into().expect("four bytes")) as usize
    };
    first + index.checked_sub(1).map_or(0, end)..first + end(index)
}

/// Damage of one chunk is named by a verification, and costs only the frames that are in the chunk.
#[test]
fn a_damaged_chunk_is_named_and_the_others_stay_readable() {
    let (disk, events) = compressed(large_options, 2_000);
    let name = segment_path(2);
    let mut content = disk.content(&name);
    let chunk = chunk_range(&content, 2);
    // More than the one bit that a salvage corrects.
    content[chunk.start + 9..chunk.start + 30].fill(1);
    disk.set_content(&name, &content);
    let report = verified(&disk);
    let is_chunk = |damage: &&Damage| damage.reason.starts_with("chunk 2 of the compressed segment: expected");
    let named: Vec<_> = report.damages.iter().filter(is_chunk).collect();
    assert_eq!(named.len(), 1, "{report:?}");
    assert_eq!((named[0].file.as_str(), named[0].offset), ("00000002.seg", (HEADER_AND_TRAILER + 2 * ENTRY) as u64));
    let frame = report.damages.iter().find_map(|damage| damage.position).expect("the position is named");

    let log = Log::open(Path::new(DIRECTORY), large_options(&disk)).expect("it opens");
    let mut points = log.point_reader();
    let head = log.head().expect("events").get();
    let is_lost = |at: &u64| points.event(Position::new(*at).expect("from 1")).is_err();
    let lost: Vec<u64> = (1..=head).filter(is_lost).collect();
    let [first, .., last] = lost[..] else { panic!("expected the events of a chunk, found {lost:?}") };
    // A frame has up to three events.
    assert!((frame.get()..frame.get() + 3).contains(&first), "{frame} is named, {first} is lost");
    assert!(lost.len() as u64 == last + 1 - first && lost.len() < 16 * 1024 / 60, "the chunk loses {lost:?}");
    let (mut salvaged, mut gaps) = (0, 0);
    salvage::<ReadError>(&shared(&disk), Path::new(DIRECTORY), |part| {
        match part {
            SalvagedPart::Segment(_) => {}
            SalvagedPart::Frame(frame) => salvaged += frame.batch().records().count(),
            SalvagedPart::Gap(gap) => {
                gaps += 1;
                // A read by position begins at the offset of an event up to seven before, which can be in the chunk.
                let next = gap.next.get();
                assert!(gap.first == frame && (last - 7..last + 4).contains(&next), "{last}: {gap:?}");
            }
        }
        Ok(())
    })
    .expect("it is salvaged");
    assert_eq!(gaps, 1);
    assert!(salvaged < events.len() && salvaged > events.len() - 2 * lost.len(), "{salvaged} of {}", events.len());
}

fn salvaged(disk: &SimDisk) -> Vec<Bytes> {
    let mut salvaged = Vec::new();
    salvage::<ReadError>(&shared(disk), Path::new(DIRECTORY), |part| {
        if let SalvagedPart::Frame(frame) = part {
            let batch = frame.batch();
            salvaged.extend(batch.records().map(|record| batch.bytes().slice_ref(record.expect("it decodes").bytes)));
        }
        Ok(())
    })
    .expect("it is salvaged");
    salvaged
}

/// A chunk has many events, and also tombstones, which have no copy. So a salvage corrects a flipped bit.
#[test]
fn a_salvage_loses_nothing_to_a_flipped_bit_of_a_compressed_segment() {
    let (disk, events) = compressed(options, 40);
    let content = disk.content(&segment_path(2));
    for bit in (0..content.len() * 8).step_by(3) {
        let mut flipped = content.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.set_content(&segment_path(2), &flipped);
        assert_eq!(salvaged(&disk), events, "bit {bit}");
    }
}

/// Header or trailer of a compressed segment is lost: the other one tells how the content is stored.
#[test]
fn a_compressed_segment_is_salvaged_without_its_header_or_its_trailer() {
    for lost in [0..64, 64..128] {
        let (disk, events) = compressed(options, 60);
        let mut content = disk.content(&segment_path(2));
        content[lost].fill(0);
        disk.set_content(&segment_path(2), &content);
        assert!(!verified(&disk).is_sound());
        assert_eq!(salvaged(&disk), events);
    }
}

/// Ends or fails a compression at each of its operations, by a kill or a power failure.
#[test]
fn an_interrupted_compression_leaves_the_old_or_the_new_segment() {
    let (mut old, mut new) = (0, 0);
    for (fault, has_power) in [(Fault::Crash, true), (Fault::Crash, false), (Fault::Fail, true), (Fault::Fail, false)] {
        for (operations, seed) in (0..6).flat_map(|operations| (0..8).map(move |seed| (operations, seed))) {
            let disk = SimDisk::new(seed);
            let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
            write(&log, 1..40);
            let expected = records(&log).expect("it reads");
            disk.fail_after(operations, fault);
            let result = log.compress(1, |_| false);
            disk.heal();
            if matches!(result, Err(RewriteError::Io { .. })) && fault == Fault::Fail {
                assert_eq!(records(&log).expect("the open log still reads"), expected);
            }
            if !has_power {
                disk.fail_power();
            }
            drop(log);
            let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
            let is_compressed = log.is_compressed(1);
            assert!(is_compressed || result.is_err(), "a compression that has returned is on disk");
            (old, new) = (old + u32::from(!is_compressed), new + u32::from(is_compressed));
            assert_eq!(records(&log).expect("it reads"), expected, "{fault:?} after {operations}, seed {seed}");
            let is_rest = |name: &PathBuf| name.extension().is_some_and(|end| end == "new");
            assert!(!disk.all_names().iter().any(is_rest), "the rest of a compression is removed");
            drop(log);
            assert!(verified(&disk).is_sound());
        }
    }
    assert!(old > 20 && new > 20, "{old} old segments, {new} new ones");
}

#[test]
fn a_compression_on_a_full_disk_changes_nothing() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    write(&log, 1..60);
    let before = (records(&log).expect("it reads"), disk.all_names());
    disk.limit_space(100);
    assert!(matches!(log.compress(1, |_| false), Err(RewriteError::Io { .. })));
    disk.heal();
    assert_eq!((records(&log).expect("it reads"), disk.all_names()), before);
    assert!(!log.is_compressed(1));
    let report = verified(&disk);
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn a_damaged_segment_is_not_compressed() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes: 0, ..options(&disk) }).expect("it opens");
    write(&log, 1..60);
    let mut content = disk.content(&segment_path(1));
    content[300] ^= 1;
    disk.set_content(&segment_path(1), &content);
    assert!(matches!(log.compress(1, |_| false), Err(RewriteError::Read(ReadError::Damaged(_)))));
    assert_eq!(disk.content(&segment_path(1)), content);
}

/// Readers of all kinds run while segments are compressed, also those that were opened before.
#[test]
fn readers_continue_while_segments_are_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = LogOptions { tail_bytes: 1 << 14, ..real_options() };
    let log = Log::open(directory.path(), options).expect("it opens");
    write(&log, 0..4_000);
    let expected = records(&log).expect("it reads");
    let events = events_by_position(&log);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert!(records(&log).expect("it reads") == expected, "a scan has other records");
                }
            });
            scope.spawn(|| {
                let (mut points, mut random) = (log.point_reader(), Random::new(5));
                while !is_done.load(Ordering::Relaxed) {
                    let at = 1 + random.index(events.len());
                    let event = points.event(Position::new(at as u64).expect("from 1")).expect("it reads");
                    assert_eq!(event.expect("it exists").bytes(), &events[events.len() - at]);
                }
            });
        }
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                let snapshot = ReadableLog::open(directory.path(), Arc::new(es_log::SystemDisk)).expect("it opens");
                assert!(records(&snapshot).expect("it reads") == expected, "a snapshot has other records");
            }
        });
        for segment in 1..=log.sealed_segments() {
            log.compress(segment, |_| false).expect("it is compressed");
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(records(&log).expect("it reads"), expected);
}

#[test]
fn events_are_removed_from_compressed_segments_which_stay_compressed() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), large_options(&disk)).expect("it opens");
    write(&log, 0..2_000);
    compress_all(&log);
    let length = |segment| disk.content(&segment_path(segment)).len() as u64;
    let is_removed = |position: Position| position.get().is_multiple_of(2);
    for segment in 1..=3 {
        let before = length(segment);
        let is_unwanted = |record: &es_log::Record<'_>| is_removed(record.position) && record.body.has_position();
        let removed = log.rewrite(segment, is_unwanted).expect("it is rewritten");
        assert!(removed.events > 0 && log.is_compressed(segment), "{removed:?}");
        assert_eq!(removed.bytes, before.saturating_sub(length(segment)), "the bytes of the file");
        assert_eq!(log.rewrite(segment, is_unwanted).expect("again"), Rewritten::default());
    }
    let report = verified(&disk);
    assert!(report.is_sound(), "{report:?}");
    let last = log.place_of(log.head().expect("events")).expect("a place").segment;
    assert!(last > 3);
    for at in 1..=log.head().expect("events").get() {
        let position = Position::new(at).expect("from 1");
        let batch = log.event(position).expect("it reads").expect("it exists");
        let record = batch.records().next().expect("one").expect("it decodes");
        let is_tombstone = matches!(record.body, Body::Tombstone(_));
        assert_eq!(is_tombstone, is_removed(position) && batch.place().segment <= 3);
    }
}

/// A copy with another id, as a restore makes it, keeps the form of each segment; its last one can be compressed.
#[test]
fn a_copy_of_a_compressed_log_is_compressed() {
    let (disk, events) = compressed(large_options, 1_000);
    let last = disk.all_names().into_iter().rfind(|name| name.extension().is_some_and(|end| end == "seg"));
    // Without the active segment, which has no frame: a backup does not copy it.
    disk.remove_file(&last.expect("a segment"));
    let source = ReadableLog::open(DIRECTORY, shared(&disk)).expect("it opens");
    let copied = SimDisk::new(9);
    let id = LogId::new();
    source.copy_with_id(Path::new(DIRECTORY), shared(&copied), id, |_| ()).expect("it is copied");
    let read = ReadableLog::open(DIRECTORY, shared(&copied)).expect("it opens");
    assert!(read.segments().iter().all(|file| file.is_compressed));
    let report = verified(&copied);
    assert!(report.is_sound(), "{report:?}");
    for _ in 0..2 {
        let log = Log::open(Path::new(DIRECTORY), large_options(&copied)).expect("it opens for writing");
        assert_eq!((log.log_id(), &records(&log).expect("it reads")[..events.len()]), (id, &events[..]));
        commit(&log, 1_001, 1).expect("it commits");
    }
    assert!(verified(&copied).is_sound());
}

/// A header that can be read, but belongs to another segment, is damage also in a compressed segment.
#[test]
fn a_compressed_segment_under_the_name_of_another_is_damage() {
    let (disk, _) = compressed(options, 60);
    disk.set_content(&segment_path(2), &disk.content(&segment_path(1)));
    assert!(matches!(Log::open(Path::new(DIRECTORY), options(&disk)), Err(OpenError::Damaged(_))));
    assert!(!verified(&disk).is_sound());
}
