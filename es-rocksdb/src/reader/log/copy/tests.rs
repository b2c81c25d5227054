use es_core::retention::{DeleteKind, Note, Scavenge};
use es_core::{Commit, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Revision, StreamId};

use super::*;
use crate::read_only::HiddenEvents;
use crate::store::RocksDbStore;

/// The numbers of the events of a fetched part, and the first position of the next part.
fn decoded(fetched: Fetched) -> (Vec<u64>, Option<Position>) {
    let Fetched::Records(mut records, next) = fetched else { panic!("expected records, found events") };
    let count = records.len();
    let events = records.decode(count, &mut Decoder::default()).unwrap();
    (events.iter().map(|event| event.position.get()).collect(), next)
}

/// Returns a store with 3,000 events at positions 1 to 3,000. Event 1,000 and the events of the last third are removed.
async fn three_thousand(directory: &std::path::Path) -> RocksDbStore {
    let store = crate::Options::new().durability(crate::Durability::Buffered).open(directory).await.unwrap();
    let event = || NewEvent::json(EventType::new("happened").unwrap(), "1");
    for (name, count) in [("order-1", 999), ("order-2", 1), ("order-3", 1000), ("order-4", 1000)] {
        let stream = StreamId::new(name).unwrap();
        let events: Vec<_> = std::iter::repeat_with(event).take(count).collect();
        store.commit(Commit::to(&stream, ExpectedRevision::Any, events)).await.unwrap();
    }
    for (name, last) in [("order-2", 0), ("order-4", 999)] {
        store
            .commit(Commit::delete_stream(
                StreamId::new(name).unwrap(),
                DeleteKind::Hard,
                Some(Revision::new(last)),
                Note::default(),
            ))
            .await
            .unwrap();
    }
    store.scavenge(&Scavenge::default()).await.unwrap();
    store
}

#[tokio::test]
async fn a_part_that_is_copied_in_halves_has_the_records_of_one_copy() {
    let directory = tempfile::tempdir().unwrap();
    let store = three_thousand(directory.path()).await;
    let database = store.shared().database().unwrap();
    let at = |number| Position::new(number).unwrap();
    let mut halved = 0;
    for (direction, start, remaining) in [
        (Direction::Forward, 1, None),
        (Direction::Forward, 999, None),
        (Direction::Forward, 700, Some(1500)),
        (Direction::Forward, 2500, None),
        (Direction::Forward, 2996, None),
        (Direction::Backward, 3000, None),
        (Direction::Backward, 1900, Some(1402)),
        (Direction::Backward, 700, None),
    ] {
        for hidden in [None, Some(HiddenEvents::WithContent)] {
            for events in [1026, 1100, 2048, 4096] {
                let read = LogRead { direction, ..LogRead::all() };
                let scan = LogScan { read, head: at(3000), next: at(start), remaining, hidden, record_bytes: 80 };
                let limits = ReadLimits { events, bytes: 1 << 20 };
                halved += usize::from(scan.halves(limits).is_some());
                let (positions, next) = decoded(scan.copy_records(&database, limits).unwrap());
                let (records, next_of_one) = scan.copy_part(&database, limits).unwrap();
                let expected = decoded(Fetched::Records(records, next_of_one));
                assert_eq!((positions, next), expected, "{direction:?} from {start}, {events} events, {hidden:?}");
            }
        }
    }
    assert!(halved > 20, "{halved} parts were copied in halves");
}

#[tokio::test]
async fn records_that_are_larger_than_expected_end_a_part_before_its_second_half() {
    let directory = tempfile::tempdir().unwrap();
    let store = three_thousand(directory.path()).await;
    let database = store.shared().database().unwrap();
    let (head, limits) = (Position::new(3000).unwrap(), ReadLimits { events: 2048, bytes: 20_000 });
    let scan =
        LogScan { read: LogRead::all(), head, next: Position::FIRST, remaining: None, hidden: None, record_bytes: 1 };
    assert!(scan.halves(limits).is_some());
    let (positions, next) = decoded(scan.copy_records(&database, limits).unwrap());
    let last = *positions.last().unwrap();
    assert!((1..1024).contains(&last), "ends at {last}");
    assert_eq!((positions, next), ((1..=last).collect(), Position::new(last + 1)));
    let scan = LogScan { record_bytes: 80, ..scan };
    assert!(scan.halves(limits).is_none(), "the size of the part before is taken into account");
}
