//! What a store needs of the log: frames in order, a replay with rows, copies of records, and the turn of a lone
//! commit.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::Position;
use es_log::{AppendError, Batch, Body, Follower, FrameHeader, Log, LogOptions, RecordError};

use crate::support::{SimDisk, append, commit, options, real_options};

const DIRECTORY: &str = "/log";

/// The number of commits of each written frame.
#[derive(Debug, Default)]
struct Written {
    frames: Mutex<Vec<(u64, u32)>>,
    failures: Mutex<Vec<String>>,
    /// The causes of stalls, and their ends.
    stalls: Mutex<Vec<Option<String>>>,
    /// How many more frames are refused.
    refusals: AtomicU32,
}

impl Follower for Written {
    fn written(&self, frame: &FrameHeader) -> std::io::Result<()> {
        if let Some(refusals) = self.refusals.load(Ordering::SeqCst).checked_sub(1) {
            self.refusals.store(refusals, Ordering::SeqCst);
            return Err(std::io::Error::other("not now"));
        }
        self.frames.lock().expect("no panic").push((frame.number, frame.commits));
        Ok(())
    }

    fn stalled(&self, cause: Option<&std::io::Error>) {
        self.stalls.lock().expect("no panic").push(cause.map(ToString::to_string));
    }

    fn failed(&self, error: &AppendError) {
        self.failures.lock().expect("no panic").push(error.to_string());
    }
}

#[test]
fn a_follower_is_called_for_each_frame_in_order_before_its_commits_are_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = Arc::new(Written::default());
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    log.follow(written.clone());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (log, written) = (&log, &written);
            scope.spawn(move || {
                for number in 0..50 {
                    commit(log, thread * 50 + number, 1).expect("it commits");
                    let frames = written.frames.lock().expect("no panic");
                    let commits: u32 = frames.iter().map(|(_, commits)| commits).sum();
                    assert!(u64::from(commits) > number, "the own commits are reported");
                }
            });
        }
    });
    let frames = written.frames.lock().expect("no panic");
    assert!(frames.iter().zip(1..).all(|((frame, _), expected)| *frame == expected), "{frames:?}");
    assert_eq!(frames.iter().map(|(_, commits)| commits).sum::<u32>(), 200);
}

#[test]
fn a_follower_is_told_of_a_failed_frame() {
    let disk = SimDisk::new(1);
    let written = Arc::new(Written::default());
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    log.follow(written.clone());
    commit(&log, 1, 1).expect("it commits");
    disk.refuse_syncs();
    commit(&log, 2, 1).expect_err("the sync fails");
    assert_eq!(written.failures.lock().expect("no panic").len(), 1);
    assert_eq!(written.frames.lock().expect("no panic").len(), 1);
}

/// Returns the keys of the rows and the positions of the events that a replay returns.
fn replay(log: &Log, after: Option<Position>) -> (Vec<u64>, Vec<u64>) {
    let (mut rows, mut events) = (Vec::new(), Vec::new());
    let mut reader = log.read_after(after);
    while let Some(batch) = reader.next_batch().expect("it reads") {
        for record in batch.records() {
            let record = record.expect("it decodes");
            match record.body {
                Body::Row(row) => rows.push(u64::from_be_bytes(row.key.try_into().expect("a number"))),
                _ => events.push(record.position.get()),
            }
        }
    }
    (rows, events)
}

#[test]
fn a_replay_has_the_rows_that_no_event_follows() {
    for tail_bytes in [0, 1 << 20] {
        let disk = SimDisk::new(1);
        let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes, ..options(&disk) }).expect("it opens");
        commit(&log, 1, 0).expect("a commit of a row");
        assert_eq!(replay(&log, None), (vec![1], vec![]));
        for (number, size) in [(2, 2), (3, 0), (4, 1), (5, 0)] {
            commit(&log, number, size).expect("it commits");
        }
        assert_eq!(replay(&log, None), (vec![1, 2, 3, 4, 5], vec![1, 2, 3]));
        assert_eq!(replay(&log, Position::new(1)), (vec![2, 3, 4, 5], vec![2, 3]));
        assert_eq!(replay(&log, Position::new(2)), (vec![2, 3, 4, 5], vec![3]));
        assert_eq!(replay(&log, Position::new(3)), (vec![4, 5], vec![]));
    }
}

#[test]
fn a_copy_of_a_record_is_verified_against_its_position() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes: 0, ..options(&disk) }).expect("it opens");
    for number in 1..200 {
        commit(&log, number, 1).expect("it commits");
    }
    for number in [1, 150] {
        let position = Position::new(number).expect("from 1");
        let place = log.place_of(position).expect("it exists");
        let batch = log.event(position).expect("it reads").expect("it exists");
        let copy = Batch::of_copy(batch.bytes().clone(), position, place).expect("the same record");
        let bodies = [&batch, &copy].map(|batch| batch.records().next().map(|record| record.expect("valid").body));
        assert_eq!(bodies[0], bodies[1]);
        let moved = Batch::of_copy(batch.bytes().clone(), Position::new(number + 1).expect("from 1"), place);
        assert!(matches!(moved, Err(RecordError::Checksum { .. })), "{moved:?}");
    }
    assert_eq!(log.place_of(Position::new(200).expect("from 1")), None);
}

#[test]
fn a_lone_commit_gets_the_turn_and_a_dropped_turn_is_taken_by_a_thread() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    let (_, first, turn) = log.begin(|draft| append(draft, 1, 1)).expect("it is added");
    let turn = turn.expect("the commit is alone");
    let (_, second, other) = log.begin(|draft| append(draft, 2, 1)).expect("it is added");
    assert!(other.is_none(), "the first commit has the turn");
    turn.write();
    first.wait().expect("it is written");
    second.wait().expect("it is written with the first");
    assert_eq!(log.last_frame(), 1);
    let (_, third, turn) = log.begin(|draft| append(draft, 3, 1)).expect("it is added");
    drop(turn);
    third.wait().expect("a thread writes it");
}

/// Regression: a caller that kept its turn while it added further commits waited without end once the frame was full:
/// only the holder of the turn could write it.
#[test]
fn a_caller_that_has_the_turn_can_fill_the_frame() {
    for has_threads in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let options = LogOptions { frame_bytes: 1024, has_threads, ..real_options() };
        let log = Log::open(directory.path(), options).expect("it opens");
        let (sender, frames) = std::sync::mpsc::channel();
        // A thread of its own, because a caller that waits cannot be ended.
        std::thread::spawn(move || {
            let (_, first, turn) = log.begin(|draft| append(draft, 1, 1)).expect("it is added");
            let turn = turn.expect("the commit is alone");
            let add = |number| log.submit(|draft| append(draft, number, 1)).expect("it is added").1;
            let later: Vec<_> = (2..=40).map(add).collect();
            turn.write();
            first.wait().expect("it is written");
            later.into_iter().for_each(|commit| commit.wait().expect("it is written"));
            sender.send(log.last_frame()).expect("the test waits");
        });
        let frames = frames.recv_timeout(Duration::from_secs(60)).expect("the caller waits for its own turn");
        assert!(frames > 1, "{frames}");
    }
}

/// Regression: a reader that had read a frame from memory took the offset of the next event for that of the next frame,
/// once the frames had left the memory, and reported damage.
#[test]
fn a_reader_continues_after_its_frames_have_left_the_memory() {
    for after in [None, Position::new(1)] {
        let disk = SimDisk::new(1);
        let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes: 4096, ..options(&disk) }).expect("it opens");
        for number in 1..=4 {
            commit(&log, number, 2).expect("it commits");
        }
        commit(&log, 5, 0).expect("a commit of a row");
        commit(&log, 6, 2).expect("it commits");
        let mut replay = log.read_after(after);
        let mut events = log.read(Position::FIRST);
        for reader in [&mut replay, &mut events] {
            reader.next_batch().expect("it reads").expect("a frame in memory");
        }
        for number in 7..100 {
            commit(&log, number, 2).expect("it commits");
        }
        let mut rows = 0;
        while let Some(batch) = replay.next_batch().expect("it reads") {
            rows += batch.records().filter(|record| matches!(record.as_ref().expect("ok").body, Body::Row(_))).count();
        }
        assert_eq!(rows, 5, "the rows of the commits 2 to 6");
        let mut last = 0;
        while let Some(batch) = events.next_batch().expect("it reads") {
            last = batch.records().last().map_or(last, |record| record.expect("ok").position.get());
        }
        assert!(last >= 10, "{last}");
    }
}

/// The follower of a store writes to another database, which can be out of space while the log is not.
#[test]
fn a_frame_that_the_follower_refuses_is_offered_again_and_commits_wait_or_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = Arc::new(Written::default());
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    log.follow(written.clone());
    written.refusals.store(3, Ordering::SeqCst);
    let ((), waiting) = log.submit(|draft| append(draft, 1, 1).map(drop)).expect("it is added");
    let refused = std::iter::from_fn(|| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        Some(log.submit(|draft| append(draft, 2, 1)))
    });
    let refused = refused.take(10_000).find_map(Result::err).expect("a commit is refused");
    assert!(matches!(refused, AppendError::Stalled { .. }), "{refused}");
    waiting.wait().expect("the follower has taken the frame");
    commit(&log, 3, 1).expect("it commits again");
    let stalls = written.stalls.lock().expect("no panic").clone();
    let refusals = stalls.iter().filter(|cause| cause.as_deref() == Some("not now")).count();
    assert_eq!((refusals, stalls.last()), (3, Some(&None)), "{stalls:?}");
    let numbers: Vec<u64> = written.frames.lock().expect("no panic").iter().map(|(number, _)| *number).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    log.close().expect("it closes");
}

#[test]
fn a_follower_that_refuses_a_frame_until_the_end_is_told_that_it_failed() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = Arc::new(Written::default());
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    log.follow(written.clone());
    written.refusals.store(u32::MAX, Ordering::SeqCst);
    let ((), waiting) = log.submit(|draft| append(draft, 1, 1).map(drop)).expect("it is added");
    std::thread::sleep(std::time::Duration::from_millis(50));
    log.close().expect("it closes");
    waiting.wait().expect("the commit is on disk");
    assert_eq!(written.failures.lock().expect("no panic").len(), 1);
    drop(log);
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    assert_eq!(log.head(), Some(es_core::Position::FIRST));
}
