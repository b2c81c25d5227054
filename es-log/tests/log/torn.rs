//! A last frame that is cut or has holes is removed; the frames before it stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_log::{Disk, Log, verify};

use crate::support::{SimDisk, commit, options, payloads};

const DIRECTORY: &str = "/log";
/// The length of the header of a segment.
const HEADER: usize = 64;

fn segment() -> PathBuf {
    Path::new(DIRECTORY).join("00000001.seg")
}

/// Returns a log of two frames in one segment, as it was on disk before and after the second one. The high-water mark
/// has the first only, as after a power failure.
fn two_frames() -> (SimDisk, Vec<u8>, Vec<u8>) {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    commit(&log, 1, 1).expect("it commits");
    let before = disk.copy();
    commit(&log, 2, 3).expect("it commits");
    let after = disk.content(&segment());
    let content = before.content(&segment());
    (before, content, after)
}

/// Returns the commits after the segment was replaced, and whether bytes were removed.
fn opened_with(disk: &SimDisk, content: &[u8]) -> (Vec<u64>, bool) {
    let disk = disk.copy();
    disk.set_content(&segment(), content);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("a torn end is not damage");
    let removed = log.removed_bytes() > 0;
    let commits = payloads(&log).expect("it reads");
    // The log continues after the torn end, and nothing of it remains.
    commit(&log, 9, 1).expect("it commits");
    drop(log);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens again");
    assert_eq!(log.removed_bytes(), 0);
    assert_eq!(payloads(&log).expect("it reads"), [commits.as_slice(), &[9]].concat());
    (commits, removed)
}

#[test]
fn every_cut_of_the_last_frame_removes_this_frame_only() {
    let (disk, before, after) = two_frames();
    let end = |content: &[u8]| content.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    let (start, stop) = (end(&before), end(&after));
    assert!(HEADER < start && start < stop);
    for cut in start..stop {
        let mut content = before.clone();
        content[start..cut].copy_from_slice(&after[start..cut]);
        assert_eq!(opened_with(&disk, &content).0, [1], "cut at {cut}");
    }
    assert_eq!(opened_with(&disk, &after), (vec![1, 2], false));
}

#[test]
fn every_hole_in_the_last_frame_removes_this_frame_only() {
    let (disk, before, after) = two_frames();
    let changed: Vec<usize> = (0..after.len()).filter(|index| before[*index] != after[*index]).collect();
    for length in [1, 8, 64, 200] {
        for start in changed.iter().step_by(3) {
            let mut content = after.clone();
            let end = (start + length).min(content.len());
            content[*start..end].copy_from_slice(&before[*start..end]);
            let (commits, removed) = opened_with(&disk, &content);
            assert_eq!((commits.as_slice(), removed), (&[1][..], true), "hole of {length} bytes at {start}");
        }
    }
}

#[test]
fn a_file_that_was_cut_in_its_zeros_is_completed() {
    let (disk, before, _) = two_frames();
    let used = before.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    for length in [used, used + 1, before.len() - 1] {
        let disk = disk.copy();
        disk.set_content(&segment(), &before[..length]);
        let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("nothing is missing");
        assert_eq!(payloads(&log).expect("it reads"), [1]);
        assert_eq!(disk.content(&segment()).len(), before.len());
    }
}

/// Regression: a power failure while a segment is sealed can keep the trailer and lose the offsets before it. The log
/// opened, but each verification found the segment damaged, so that no backup succeeded any more.
#[test]
fn a_footer_that_lost_its_offsets_is_written_again() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    for number in 1..=5 {
        commit(&log, number, 2).expect("it commits");
    }
    log.seal().expect("it seals");
    drop(log);
    // The process ended before it created the next segment.
    disk.remove(&Path::new(DIRECTORY).join("00000002.seg")).expect("it is there");
    let mut content = disk.content(&segment());
    // The trailer of 64 bytes is last; before it is one block of ten offsets and a checksum.
    let trailer = content.len() - 64;
    content[trailer - 44..trailer].fill(0);
    disk.set_content(&segment(), &content);

    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    commit(&log, 6, 1).expect("it commits");
    assert_eq!(payloads(&log).expect("it reads"), [1, 2, 3, 4, 5, 6]);
    drop(log);
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let report = verify(&disk, Path::new(DIRECTORY)).expect("the disk does not fail");
    assert!(report.is_sound(), "{report:?}");
}
