//! Two scavenges, which must not be two at a time.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::Duration;

use es_core::retention::{Note, Rule, Scope};
use es_core::{Commit, EventReader, EventType, ExpectedRevision, NewEvent, StreamRead};

use super::*;

const STREAMS: u64 = 8;

fn stream(number: u64) -> StreamId {
    StreamId::new(format!("order-{number}")).unwrap()
}

fn append(stream: &StreamId, count: usize) -> Commit {
    let event = || NewEvent::json(EventType::new("placed").unwrap(), "{}");
    Commit::to(stream, ExpectedRevision::Any, std::iter::repeat_with(event).take(count))
}

async fn revisions(store: &RocksDbStore, stream: &StreamId) -> Vec<u64> {
    let events = store.read_stream(StreamRead::new(stream.clone())).await.unwrap().collect().await.unwrap();
    events.iter().map(|event| event.revision.get()).collect()
}

/// Whoever gave up waiting for a scavenge freed its lock, while the work went on: the next one removed the same events beside it.
#[tokio::test]
async fn a_scavenge_that_nobody_waits_for_any_more_keeps_the_next_one_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    for number in 0..STREAMS {
        store.commit(append(&stream(number), 3)).await.unwrap();
    }
    let scope = Scope::Category(stream(0).category());
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    store.commit(Commit::set_rule(scope, rule, Note::default())).await.unwrap();

    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let removed = Arc::new(Mutex::new(0));
    let progress = {
        let removed = Arc::clone(&removed);
        move |progress: ScavengeProgress| {
            *removed.lock().unwrap() = progress.events;
            let _ = begun.send(());
            ControlFlow::Continue(())
        }
    };
    let first =
        Scavenge { pause: Duration::from_millis(30), progress: Some(Arc::new(progress)), ..Scavenge::default() };
    tokio::select! {
        report = store.scavenge(&first) => panic!("expected that it is under way, found that it is done: {report:?}"),
        _ = has_begun.recv() => {}
    }
    let report = store.scavenge(&Scavenge::default()).await.unwrap();
    assert_eq!(*removed.lock().unwrap(), 2 * STREAMS, "the second began before the first had ended");
    assert_eq!((report.events, report.earlier_points), (0, 0));
    for number in 0..STREAMS {
        assert_eq!(revisions(&store, &stream(number)).await, [2]);
    }
}

/// A part that was made before somebody else removed more, and written behind it, set the beginning of the stream back: what is
/// left was then read as damage, for good.
#[tokio::test]
async fn a_part_that_was_overtaken_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    let stream = stream(0);
    store.commit(append(&stream, 5)).await.unwrap();
    let overtaken = store.shared().locked(|database| part(database, &stream, Revision::new(2))).unwrap();
    store.remove_before(stream.clone(), Revision::new(4)).await.unwrap();
    let scavenger = store.scavenger(Scavenge::default()).await;
    let written = store.shared().locked(|database| scavenger.write_part(database, &stream, overtaken)).unwrap();
    assert!(written.is_none(), "expected that it does not count any more, found that {written:?} were removed again");
    assert_eq!(revisions(&store, &stream).await, [4]);
}
