//! Tests of concurrent scavenges.

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

/// Regression: a dropped future of a scavenge released its lock while the scavenge continued, and the next one removed
/// the same events concurrently.
#[tokio::test]
async fn the_next_scavenge_waits_for_one_whose_future_was_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    for number in 0..STREAMS {
        store.commit(append(&stream(number), 3)).await.unwrap();
    }
    let scope = Scope::Category(stream(0).category());
    let rule = Rule { max_count: Some(1), ..Rule::default() };
    store.commit(Commit::set_rule(scope, rule, Note::default())).await.unwrap();

    let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
    let removed = Arc::new(Mutex::new(0));
    let progress = {
        let removed = Arc::clone(&removed);
        move |progress: ScavengeProgress| {
            *removed.lock().unwrap() = progress.events;
            let _ = started.send(());
            ControlFlow::Continue(())
        }
    };
    let first =
        Scavenge { pause: Duration::from_millis(30), progress: Some(Arc::new(progress)), ..Scavenge::default() };
    tokio::select! {
        report = store.scavenge(&first) => panic!("expected a running scavenge, found that it ended: {report:?}"),
        _ = has_started.recv() => {}
    }
    let report = store.scavenge(&Scavenge::default()).await.unwrap();
    assert_eq!(*removed.lock().unwrap(), 2 * STREAMS, "the second started before the first ended");
    assert_eq!((report.events, report.earlier_points), (0, 0));
    for number in 0..STREAMS {
        assert_eq!(revisions(&store, &stream(number)).await, [2]);
    }
}

/// Regression: a removal that was read before another one and written after it lowered the first revision of the
/// stream. Every later read of the stream reported damage.
#[tokio::test]
async fn a_stale_removal_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    let stream = stream(0);
    store.commit(append(&stream, 5)).await.unwrap();
    let stale = store.shared().locked(|database| next_removal(database, &stream, Revision::new(2))).unwrap();
    store.remove_before(stream.clone(), Revision::new(4)).await.unwrap();
    let scavenger = store.scavenger(Scavenge::default()).await;
    let written = store.shared().locked(|database| scavenger.write_removal(database, &stream, stale)).unwrap();
    assert!(written.is_none(), "expected that nothing was written, found {written:?}");
    assert_eq!(revisions(&store, &stream).await, [4]);
}
