//! Flipped bits and removed files are detected.

use std::path::Path;
use std::sync::Arc;

use es_log::{Damage, Disk, Log, OpenError, verify};

use crate::support::{History, Random, SimDisk, commit, number, options, payloads, seed};

const DIRECTORY: &str = "/log";

/// Returns a closed log with this number of commits.
fn written(commits: u64) -> (SimDisk, History) {
    let disk = SimDisk::new(7);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    let mut history = History::default();
    for number in 1..=commits {
        history.acknowledge(commit(&log, number, 1).expect("it commits"), number, 1);
    }
    log.close().expect("it closes");
    drop(log);
    (disk, history)
}

#[derive(Debug, Default)]
struct Counts {
    refused: u64,
    failed_reads: u64,
    harmless: u64,
}

/// Flips a bit and checks that nothing is missing silently, and that a verification finds what a reader does.
fn check_flip(disk: &SimDisk, history: &History, name: &Path, bit: usize, counts: &mut Counts) {
    let flipped = disk.copy();
    let mut content = flipped.content(name);
    content[bit / 8] ^= 1 << (bit % 8);
    flipped.set_content(name, &content);
    let before: Arc<dyn Disk> = Arc::new(flipped.copy());
    let report = verify(&before, Path::new(DIRECTORY)).expect("the disk does not fail");
    match history.open_and_check(options(&flipped)) {
        Err(_) => counts.refused += 1,
        Ok(Err(message)) if message.starts_with("read: ") => counts.failed_reads += 1,
        Ok(Err(message)) => panic!("bit {bit} of {}: {message}", name.display()),
        Ok(Ok(())) => {
            counts.harmless += 1;
            return;
        }
    }
    assert!(!report.is_sound(), "bit {bit} of {}: a verification finds nothing", name.display());
}

#[test]
fn every_flipped_bit_of_a_small_log_is_detected_or_harmless() {
    let (disk, history) = written(3);
    let mut counts = Counts::default();
    for name in disk.all_names() {
        for bit in 0..disk.content(&name).len() * 8 {
            check_flip(&disk, &history, &name, bit, &mut counts);
        }
    }
    println!("{counts:?}");
    assert!(counts.refused > 4_000, "{counts:?}");
}

#[test]
fn flipped_bits_of_a_larger_log_are_detected_or_harmless() {
    let (seed, flips) = (seed(), number("ES_FLIPS", 3_000));
    let mut random = Random::new(seed);
    let (disk, history) = written(120);
    let names: Vec<_> = disk.all_names().into_iter().filter(|name| name.extension().is_some()).collect();
    assert!(names.len() > 3, "{names:?}");
    let mut counts = Counts::default();
    for _ in 0..flips {
        let name = &names[random.index(names.len())];
        check_flip(&disk, &history, name, random.index(disk.content(name).len() * 8), &mut counts);
    }
    println!("ES_SEED={seed}: {counts:?}");
    assert!(counts.refused > 0 && counts.failed_reads > 0 && counts.harmless > 0, "{counts:?}");
}

#[test]
fn a_flipped_bit_before_the_last_frame_names_the_position() {
    let (disk, _) = written(3);
    let name = Path::new(DIRECTORY).join("00000001.seg");
    let mut content = disk.content(&name);
    let second = content.windows(3).position(|bytes| bytes == b"2:2").expect("the payload of the second commit");
    content[second] ^= 1;
    disk.set_content(&name, &content);
    match Log::open(Path::new(DIRECTORY), options(&disk)) {
        Err(OpenError::Damaged(Damage { file, position, .. })) => {
            assert_eq!((file.as_str(), position.map(es_core::Position::get)), ("00000001.seg", Some(2)));
        }
        other => panic!("expected damage, found {other:?}"),
    }
}

#[test]
fn a_damaged_footer_loses_no_event() {
    let (disk, history) = written(120);
    let sealed = Path::new(DIRECTORY).join("00000002.seg");
    let content = disk.content(&sealed);
    let footer = content.iter().rposition(|byte| *byte == 0).expect("zeros");
    let block = content[..footer].len().min(content.len() - 80);
    for byte in [content.len() - 1, content.len() - 60, block] {
        let disk = disk.copy();
        let mut flipped = content.clone();
        flipped[byte] ^= 0x10;
        disk.set_content(&sealed, &flipped);
        let shared: Arc<dyn Disk> = Arc::new(disk.copy());
        assert!(!verify(&shared, Path::new(DIRECTORY)).expect("it reads").is_sound(), "byte {byte}");
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("a footer is no event");
        history.check(&log).expect("all events");
        for position in 1..=120 {
            let position = es_core::Position::new(position).expect("a position");
            assert!(log.event(position).expect("it reads").is_some());
        }
    }
}

#[test]
fn a_missing_mark_a_missing_segment_and_a_cut_log_are_detected() {
    let (disk, _) = written(60);
    let in_directory = |name: &str| Path::new(DIRECTORY).join(name);
    let segments: Vec<_> = disk.all_names().into_iter().filter(|name| name.extension().is_some()).collect();
    let last = segments.last().expect("a segment");
    // The mark and the end of the log are removed together.
    let cut = disk.copy();
    cut.remove_file(&in_directory("ACKNOWLEDGED"));
    let mut content = cut.content(last);
    let length = content.len();
    content.truncate(100);
    content.resize(length, 0);
    cut.set_content(last, &content);
    assert!(matches!(Log::open(Path::new(DIRECTORY), options(&cut)), Err(OpenError::MarkMissing { .. })));
    for (name, expected) in [(last, "was acknowledged"), (&segments[0], "expected a segment, found no file")] {
        let disk = disk.copy();
        disk.remove_file(name);
        let error = Log::open(Path::new(DIRECTORY), options(&disk)).expect_err("a segment is missing");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // All segments are removed, and the mark is left.
    let empty = disk.copy();
    segments.iter().for_each(|name| empty.remove_file(name));
    let error = Log::open(Path::new(DIRECTORY), options(&empty)).expect_err("the log is missing");
    assert!(matches!(error, OpenError::AcknowledgedMissing { .. }), "{error}");
}

#[test]
fn a_verification_of_an_undamaged_log_is_sound() {
    let (disk, _) = written(120);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = verify(&shared, Path::new(DIRECTORY)).expect("it reads");
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.frames, report.events, report.torn_bytes), (120, 120, 0));
    assert!(report.segments > 3);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    assert_eq!(payloads(&log).expect("it reads").len(), 120);
}
