use es_core::retention::{Note, Rule, Scavenge, Scope};
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, Revision, StreamId};

use super::*;
use crate::store::RocksDbStore;

/// A rule, and a scavenge by it, may come between the look at what is hidden and the scan: the records of what was removed are
/// there then, although the scan was begun as one where everything is shown.
#[tokio::test]
async fn what_is_removed_before_a_scan_that_expects_nothing_hidden_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(folder.path()).await.unwrap();
    let stream = StreamId::new("order-1").unwrap();
    let event = || NewEvent::json(EventType::new("happened").unwrap(), "1");
    store.commit(Commit::to(&stream, ExpectedRevision::Any, [event(), event(), event()])).await.unwrap();
    let rule = Rule { truncate_before: Some(Revision::new(2)), ..Rule::default() };
    store.commit(Commit::set_rule(Scope::Stream(stream), rule, Note::default())).await.unwrap();
    store.scavenge(&Scavenge::default()).await.unwrap();

    let database = store.shared().database().unwrap();
    let third = Position::new(3).unwrap();
    for (direction, next) in [(Direction::Forward, Position::FIRST), (Direction::Backward, third)] {
        let read = LogRead { direction, ..LogRead::all() };
        let scan = LogScan { read, head: third, next, left: None, hidden: None };
        let fetched = scan.copy(&database, FIRST).unwrap();
        assert_eq!((fetched.len(), fetched.last(), fetched.next()), (1, Some(third), None), "{direction:?}");
    }
}
