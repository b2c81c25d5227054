//! Reads from memory and from segments, the threads of a log, and its limits.

use std::path::Path;
use std::time::{Duration, Instant};

use es_core::Position;
use es_log::{AppendError, Body, CommitDraft, EntryKind, Frame, Log, LogOptions, LogReader, PendingCommit, RowFields};

use crate::support::{SimDisk, append, commit, event, options, payloads, read_all, real_options};

const DIRECTORY: &str = "/log";

fn position(number: u64) -> Position {
    Position::new(number).expect("from 1")
}

/// Returns the numbers of the commits of all events from a position on.
fn numbers_from(log: &Log, from: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut reader = log.read(position(from));
    while let Some(batch) = reader.next_batch().expect("it reads") {
        for record in batch.records() {
            let record = record.expect("it decodes");
            if let Body::Event(event) = record.body {
                assert_eq!(record.position.get(), from + numbers.len() as u64);
                numbers.push(event.revision.get());
            }
        }
    }
    numbers
}

#[test]
fn a_read_starts_at_any_position_and_an_event_is_found_by_its_position() {
    for tail_bytes in [0, 1024, 1 << 20] {
        let disk = SimDisk::new(1);
        let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes, ..options(&disk) }).expect("it opens");
        for number in 1..=60 {
            commit(&log, number, 1 + (number % 20) as u32).expect("it commits");
        }
        let all = numbers_from(&log, 1);
        for from in 1..=all.len() {
            assert_eq!(numbers_from(&log, from as u64), all[from - 1..], "from {from}, {tail_bytes} bytes in memory");
            let batch = log.event(position(from as u64)).expect("it reads").expect("it exists");
            let records: Vec<_> = batch.records().map(|record| record.expect("it decodes")).collect();
            let [record] = records.as_slice() else { panic!("expected one record, found {records:?}") };
            assert_eq!(record.position.get(), from as u64);
            assert!(matches!(record.body, Body::Event(event) if event.revision.get() == all[from - 1]));
        }
        assert!(log.event(position(all.len() as u64 + 1)).expect("it reads").is_none());
        assert!(numbers_from(&log, all.len() as u64 + 1).is_empty());
    }
}

/// A point reader keeps the file and the bytes of its last read. They must not be taken for those of another event,
/// whatever the order of positions, and also after the log has grown.
#[test]
fn a_point_reader_returns_each_event_in_any_order() {
    for tail_bytes in [0, 1024] {
        let disk = SimDisk::new(1);
        let log = Log::open(Path::new(DIRECTORY), LogOptions { tail_bytes, ..options(&disk) }).expect("it opens");
        let mut points = log.point_reader();
        assert!(points.event(Position::FIRST).expect("it reads").is_none());
        for number in 1..=60 {
            commit(&log, number, 1 + (number % 20) as u32).expect("it commits");
            let all = numbers_from(&log, 1);
            let count = all.len() as u64;
            let strided = (0..count).map(|index| index * 7 % count + 1);
            let ordered = (1..=count).chain((1..=count).rev());
            for at in ordered.chain(strided).filter(|at| number % 20 == 0 || *at == count || at % 50 == 1) {
                let batch = points.event(position(at)).expect("it reads").expect("it exists");
                let records: Vec<_> = batch.records().map(|record| record.expect("it decodes")).collect();
                let [record] = records.as_slice() else { panic!("expected one record, found {records:?}") };
                assert_eq!(record.position.get(), at);
                assert!(matches!(record.body, Body::Event(event) if event.revision.get() == all[at as usize - 1]));
            }
        }
    }
}

#[test]
fn events_of_more_than_one_block_of_offsets_are_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), LogOptions { tail_bytes: 0, ..real_options() }).expect("it opens");
    for number in 0..8 {
        commit(&log, number, 1500).expect("it commits");
    }
    for at in [1, 2, 1023, 1024, 1025, 1500, 1501, 3001, 9000, 12_000] {
        let batch = log.event(position(at)).expect("it reads").expect("it exists");
        let found = batch.records().map(|record| record.expect("it decodes").position.get()).next();
        assert_eq!(found, Some(at));
        assert_eq!(numbers_from(&log, at).len() as u64, 12_001 - at);
    }
}

#[test]
fn a_frame_larger_than_a_segment_gets_a_segment_of_its_own() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    commit(&log, 1, 1).expect("it commits");
    commit(&log, 2, 1000).expect("it commits");
    commit(&log, 3, 1).expect("it commits");
    assert_eq!(payloads(&log).expect("it reads"), [1, 2, 3]);
    drop(log);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens again");
    assert_eq!(payloads(&log).expect("it reads"), [1, 2, 3]);
}

#[test]
fn a_rejected_commit_leaves_nothing() {
    let disk = SimDisk::new(1);
    let log = Log::open(Path::new(DIRECTORY), options(&disk)).expect("it opens");
    commit(&log, 1, 1).expect("it commits");
    let frames = log.last_frame();
    let rejected = log.commit(|draft| {
        append(draft, 2, 3)?;
        Err::<(), _>(AppendError::Closed)
    });
    assert!(matches!(rejected, Err(AppendError::Closed)));
    let empty = log.commit::<_, AppendError>(|_: &mut CommitDraft<'_>| Ok(()));
    assert!(matches!(empty, Err(AppendError::Size { found: 0 })));
    assert_eq!(log.last_frame(), frames);
    assert_eq!(commit(&log, 3, 1).expect("it commits"), 2);
    log.close().expect("it closes");
    assert!(matches!(commit(&log, 4, 1), Err(AppendError::Closed)));
    assert_eq!(payloads(&log).expect("a closed log can be read"), [1, 3]);
}

#[test]
fn concurrent_commits_share_frames_and_keep_their_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let log = &log;
            scope.spawn(move || {
                let mut last = 0;
                for index in 0..100 {
                    let position = commit(log, caller * 1000 + index, 1).expect("it commits");
                    assert!(position > last);
                    assert!(log.head().is_some_and(|head| head.get() >= position), "visible when acknowledged");
                    last = position;
                }
            });
        }
    });
    assert_eq!(log.head().map(Position::get), Some(1600));
    assert!(log.last_frame() < 1600, "no two commits shared a frame");
    let mut numbers = payloads(&log).expect("it reads");
    for caller in 0..16 {
        let own: Vec<u64> = numbers.iter().copied().filter(|number| number / 1000 == caller).collect();
        assert!(own.is_sorted(), "the commits of a caller are in its order");
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 1600);
}

#[test]
fn a_submitted_commit_is_written_also_if_nothing_waits_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    let submit = |number| log.submit(|draft| append(draft, number, 1));
    let (first, pending) = submit(1).expect("it is added");
    drop(pending);
    let (second, pending): (u64, PendingCommit) = submit(2).expect("it is added");
    pending.wait().expect("it is written");
    assert_eq!((first, second), (1, 2));
    drop(log);
    let log = Log::open(directory.path(), real_options()).expect("it opens again");
    assert_eq!(payloads(&log).expect("it reads"), [1, 2]);
}

#[test]
fn a_submitted_commit_is_a_future() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Wake, Waker};

    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    for number in 1..20 {
        let (_, pending) = log.submit(|draft| append(draft, number, 1)).expect("it is added");
        let mut pending = pin!(pending);
        while pending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            std::thread::park();
        }
        assert_eq!(log.head().map(Position::get), Some(number));
    }
}

#[test]
fn an_idle_log_confirms_its_last_frame_with_one_blank_frame() {
    let disk = SimDisk::new(1);
    let idle = Duration::from_millis(20);
    let options = LogOptions { has_threads: true, blank_after: Some(idle), ..options(&disk) };
    let log = Log::open(Path::new(DIRECTORY), options).expect("it opens");
    commit(&log, 1, 1).expect("it commits");
    let deadline = Instant::now() + Duration::from_secs(30);
    while log.last_frame() < 2 {
        assert!(Instant::now() < deadline, "no blank frame was written");
        std::thread::yield_now();
    }
    commit(&log, 2, 1).expect("it commits");
    assert_eq!(payloads(&log).expect("blank frames have no records"), [1, 2]);
    let content = disk.content(&Path::new(DIRECTORY).join("00000001.seg"));
    let kinds = content.windows(4).enumerate().filter(|(_, bytes)| *bytes == [0xe5, b'f', b'r', b'1']);
    let kinds: Vec<u8> = kinds.map(|(at, _)| content[at + 56]).take(3).collect();
    assert_eq!(kinds, [1, 2, 1], "commits, blank, commits");
}

#[test]
fn all_fields_of_an_event_are_read_back() {
    use es_core::model::CorrelationId;
    use es_core::{EventId, Revision};
    use es_log::{ContentCode, EventFields, KeyFields, RowFields, TagTexts, TombstoneFields};
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), LogOptions { base_time: 1_700_000_000_000_000, ..real_options() });
    let log = log.expect("it opens");
    let mut buffer = Vec::new();
    let full = EventFields {
        recorded_at: 1_700_000_000_000_001,
        occurred_at: -1,
        version: u32::MAX,
        content_type: ContentCode::Other("text/plain"),
        correlation_id: Some(CorrelationId::new()),
        causation_id: Some(EventId::new()),
        tags: TagTexts::encode_into([&b"customer:1"[..], b"vip"], &mut buffer).expect("in order"),
        metadata: br#"{"user":"ada"}"#,
        extensions: &[0, 1, 2],
        ..event(b"hello", 7, 1, 3)
    };
    let tombstone = TombstoneFields {
        stream: b"order-2",
        revision: Revision::new(9),
        id: EventId::new(),
        recorded_at: 5,
        part: full.part,
    };
    let bodies = [
        Body::Event(full),
        Body::Event(event(b"", 8, 0, 1)),
        Body::Tombstone(tombstone),
        Body::Row(RowFields { table: "t", key: b"k", value: Some(b"v") }),
        Body::Row(RowFields { table: "t", key: b"k", value: None }),
        Body::Key(KeyFields { key: &[1; 16], value: Some(b"claim") }),
        Body::Key(KeyFields { key: &[1; 16], value: None }),
    ];
    log.commit::<_, AppendError>(|commit| {
        for body in &bodies {
            commit.push(body)?;
        }
        Ok(())
    })
    .expect("it commits");
    let batch = log.read(Position::FIRST).next_batch().expect("it reads").expect("a batch");
    let found: Vec<_> = batch.records().map(|record| record.expect("it decodes").body).collect();
    assert_eq!(found, bodies);
    let mut visited = Vec::new();
    let broken = batch.visit_events(|position, fields| {
        visited.push((position.get(), *fields));
        if visited.len() < 2 { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(position) }
    });
    assert_eq!(broken.expect("it decodes"), Position::new(2));
    assert_eq!(visited, [(1, full), (2, event(b"", 8, 0, 1))], "no field of the first is left in the second");
    assert_eq!(full.tags.iter().collect::<Vec<_>>(), [&b"customer:1"[..], b"vip"]);
    assert!(TagTexts::encode_into([&b"b"[..], b"a"], &mut Vec::new()).is_err());
}

#[test]
fn a_frame_of_another_log_or_segment_is_rejected() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = Log::open(directory.path(), real_options()).expect("it opens");
    commit(&log, 1, 2).expect("it commits");
    let content = std::fs::read(directory.path().join("00000001.seg")).expect("it reads");
    let bytes = bytes::Bytes::from(content).slice(64..);
    let place = es_log::Place { log_id: log.log_id(), segment: 1, base_time: 0 };
    let frame = Frame::verify(&bytes, place).expect("a valid frame");
    assert_eq!((frame.header().kind, frame.header().number, frame.events()), (EntryKind::Commits, 1, 2));
    assert!(Frame::verify(&bytes, es_log::Place { segment: 2, ..place }).is_err());
    let other = es_core::model::LogId::new();
    assert!(Frame::verify(&bytes, es_log::Place { log_id: other, ..place }).is_err());
    assert_eq!(read_all(&log).expect("it reads").len(), 2);
}

/// Returns the keys of the rows of a reader.
fn rows_of(mut reader: LogReader) -> Vec<u64> {
    let mut rows = Vec::new();
    while let Some(batch) = reader.next_batch().expect("it reads") {
        for record in batch.records() {
            if let Body::Row(row) = record.expect("it decodes").body {
                rows.push(u64::from_be_bytes(row.key.try_into().expect("eight bytes")));
            }
        }
    }
    rows
}

/// Regression: the rows after the last event that a reader does not read at once, and those of later frames, were left
/// out of a read of all changes.
#[test]
fn a_read_of_all_changes_has_the_rows_of_a_long_frame_and_those_after_it() {
    for tail_bytes in [0, 8 << 20] {
        let disk = SimDisk::new(1);
        let options = LogOptions { tail_bytes, first_segment: 4 << 20, largest_segment: 4 << 20, ..options(&disk) };
        let log = Log::open(Path::new(DIRECTORY), options).expect("it opens");
        // The event of the long frame is not the first one of a segment, where a reader begins with a whole frame.
        commit(&log, 1, 1).expect("it commits");
        let long = log.commit(|draft| {
            append(draft, 2, 1)?;
            for key in 3..=1_000_u64 {
                let row = RowFields { table: "numbers", key: &key.to_be_bytes(), value: Some(&[7; 1024]) };
                draft.push(&Body::Row(row))?;
            }
            Ok::<_, AppendError>(())
        });
        long.expect("it commits");
        for number in 1_001..=1_003 {
            commit(&log, number, 0).expect("a commit of a row");
        }
        let expected: Vec<u64> = (2..=1_003).collect();
        assert_eq!(rows_of(log.read_after(Some(position(2)))), expected, "{tail_bytes} bytes in memory");
    }
}

/// Regression: segments without an event have one first position. A read of all changes began in the last of them, so
/// that a store lost the rows of the others when it was opened.
#[test]
fn a_read_of_all_changes_has_the_rows_of_segments_without_events() {
    for (tail_bytes, first_event) in [(0, None), (1024, None), (1 << 20, None), (0, Some(290)), (1024, Some(1))] {
        let disk = SimDisk::new(1);
        let options = LogOptions { tail_bytes, ..options(&disk) };
        let log = Log::open(Path::new(DIRECTORY), options.clone()).expect("it opens");
        for number in 1..=300 {
            commit(&log, number, u32::from(first_event == Some(number))).expect("it commits");
        }
        assert!(log.sealed_segments() > 1, "{}", log.sealed_segments());
        let rows_after = |log: &Log, event| rows_of(log.read_after(event));
        let all: Vec<u64> = (1..=300).collect();
        assert_eq!(rows_after(&log, None), all, "{tail_bytes} bytes in memory");
        for frame in [1, 77, 209, 210, 299, 300] {
            let event = first_event.filter(|event| *event <= frame).map(|_| Position::FIRST);
            let found = rows_of(log.read_after_frame(frame, event));
            assert_eq!(found, all[frame as usize..], "after frame {frame}");
        }
        if let Some(first) = first_event {
            assert_eq!(rows_after(&log, Some(Position::FIRST)), all[first as usize - 1..]);
        }
        log.close().expect("it closes");
        drop(log);
        let log = Log::open(Path::new(DIRECTORY), options).expect("it opens");
        assert_eq!(rows_after(&log, None), all, "opened again");
    }
}
