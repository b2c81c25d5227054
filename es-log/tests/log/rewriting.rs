//! Rewrites of sealed segments: removed records, and what stays as it was.

use std::path::Path;
use std::sync::Arc;

use es_core::Position;
use es_log::{Body, Disk, Log, LogOptions, RewriteError, Rewritten, verify};

use crate::support::{SimDisk, commit, options, read_all};

const DIRECTORY: &str = "/log";

/// Returns whether each event of the log is a tombstone, and the number of rows.
fn tombstones(log: &Log) -> (Vec<bool>, usize) {
    let (mut events, mut rows) = (Vec::new(), 0);
    let mut reader = log.read_after(None);
    while let Some(batch) = reader.next_batch().expect("it reads") {
        for record in batch.records() {
            match record.expect("it decodes").body {
                Body::Event(_) => events.push(false),
                Body::Tombstone(_) => events.push(true),
                _ => rows += 1,
            }
        }
    }
    (events, rows)
}

fn assert_sound(disk: &SimDisk) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let report = verify(&disk, Path::new(DIRECTORY)).expect("it verifies");
    assert!(report.is_sound(), "{report:?}");
}

fn log_with(disk: &SimDisk, commits: u64, tail_bytes: usize) -> Log {
    let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes, ..options(disk) }).expect("it opens");
    for number in 1..=commits {
        commit(&log, number, 1 + (number % 3) as u32).expect("it commits");
    }
    log
}

#[test]
fn removed_events_are_tombstones_everywhere_and_the_log_stays_sound() {
    for tail_bytes in [0, 1 << 20] {
        let disk = SimDisk::new(1);
        let log = log_with(&disk, 100, tail_bytes);
        let events = read_all(&log).expect("it reads").len();
        assert!(matches!(log.rewrite(99, |_| true), Err(RewriteError::NotSealed { segment: 99 })));
        log.seal().expect("it seals");
        let segments = log.sealed_segments();
        assert!(segments > 3);
        let mut open = log.read(Position::FIRST);
        assert!(open.next_batch().expect("it reads").is_some());
        // It has the file of the first segment open, and must not return its events after the rewrite.
        let mut points = log.point_reader();
        assert!(points.event(Position::FIRST).expect("it reads").is_some());
        // A middle segment, then all of them: the first rewrite changes no other segment.
        let is_even = |position: Position| position.get().is_multiple_of(2);
        let remove = |record: &es_log::Record<'_>| is_even(record.position) || !record.body.has_position();
        for segment in [2, 1, 3].into_iter().chain(4..=segments) {
            let removed = log.rewrite(segment, remove).expect("it is rewritten");
            assert!(removed.events > 0 && removed.changes > 0 && removed.bytes > 0, "{removed:?}");
            assert_eq!(log.rewrite(segment, remove).expect("again"), Rewritten::default());
            assert_sound(&disk);
        }
        while open.next_batch().expect("an open reader continues").is_some() {}
        let expected: Vec<bool> = (1..=events as u64).map(|position| position % 2 == 0).collect();
        assert_eq!(tombstones(&log), (expected.clone(), 0));
        for position in (1..=events as u64).filter_map(Position::new) {
            for batch in [log.event(position), points.event(position)] {
                let batch = batch.expect("it reads").expect("it exists");
                let record = batch.records().next().expect("one").expect("it decodes");
                assert_eq!(matches!(record.body, Body::Tombstone(_)), is_even(position));
            }
        }
        commit(&log, 101, 1).expect("it commits");
        drop(log);
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
        assert_eq!(tombstones(&log), ([expected, vec![false]].concat(), 1));
    }
}

#[test]
fn a_rewrite_that_fails_or_is_interrupted_changes_nothing() {
    let disk = SimDisk::new(1);
    let log = log_with(&disk, 60, 0);
    let before = read_all(&log).expect("it reads");
    disk.limit_space(0);
    log.rewrite(1, |_| true).expect_err("the disk is full");
    disk.heal();
    assert_eq!(read_all(&log).expect("it reads"), before);
    drop(log);
    // The rest of an interrupted rewrite.
    let path = Path::new(DIRECTORY).join("00000001.new");
    disk.create(&path).expect("it is created").write_at(b"a part of a segment", 0).expect("it is written");
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    assert_eq!(read_all(&log).expect("it reads"), before);
    assert!(!disk.all_names().contains(&path));
}

#[test]
fn a_rewrite_survives_a_power_failure_as_a_whole_or_not_at_all() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let log = log_with(&disk, 40, 0);
        log.rewrite(1, |record| record.position.get() % 2 == 1).expect("it is rewritten");
        disk.fail_power();
        drop(log);
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
        let (events, _) = tombstones(&log);
        assert!(events.first().is_some_and(|is_removed| *is_removed), "the rewrite was synced");
        assert_sound(&disk);
    }
}
