//! Cases: reads return the selected events in order, and the scanned position.

use super::tools::*;
use crate::model::EventId;
use crate::retention::{DeleteKind, Note};
use crate::store::{Commit, LogRead, Query, QueryItem, StreamRead};

/// Writes a log of nine events with overlapping streams, types and tags.
async fn sample(harness: &dyn Harness) -> Store {
    let store = harness.open().await;
    let rows: [(&str, &str, &[&str]); 9] = [
        ("order-1", "placed", &["customer:1", "product:a"]),
        ("order-2", "placed", &["customer:2", "product:a", "product:b"]),
        ("stock-a", "taken", &["product:a"]),
        ("order-1", "shipped", &["customer:1"]),
        ("settings", "changed", &[]),
        ("order-3", "placed", &["customer:1", "product:b"]),
        ("stock-b", "taken", &["product:b"]),
        ("order-2", "cancelled", &["customer:2"]),
        ("order-1", "delivered", &["customer:1"]),
    ];
    for (name, kind, tags) in rows {
        commit(&store, Commit::to(&stream(name), Any, [tagged(kind, tags)])).await;
    }
    store
}

/// A stream is read in both directions, from any revision, with any limit.
pub(super) async fn a_stream_reads_forward_and_backward_from_anywhere(harness: &dyn Harness) {
    let store = sample(harness).await;
    let all = || StreamRead::new(stream("order-1"));
    assert_eq!(revisions(&store, all()).await, [0, 1, 2]);
    assert_eq!(revisions(&store, all().backward()).await, [2, 1, 0]);
    assert_eq!(revisions(&store, all().from(rev(1))).await, [1, 2]);
    assert_eq!(revisions(&store, all().from(rev(1)).backward()).await, [1, 0]);
    assert_eq!(revisions(&store, all().limit(2)).await, [0, 1]);
    assert_eq!(revisions(&store, all().limit(2).backward()).await, [2, 1]);
    assert_eq!(revisions(&store, all().from(rev(1)).limit(1)).await, [1]);
    assert_eq!(revisions(&store, all().limit(0)).await, Vec::<u64>::new());
    assert_eq!(revisions(&store, all().from(rev(3))).await, Vec::<u64>::new());
    assert_eq!(revisions(&store, all().from(rev(u64::MAX))).await, Vec::<u64>::new());
    assert_eq!(revisions(&store, all().from(rev(99)).backward()).await, [2, 1, 0]);
    assert_eq!(revisions(&store, all().from(rev(u64::MAX)).backward()).await, [2, 1, 0]);
}

/// The log is read in both directions, from any position, with any limit.
pub(super) async fn the_log_reads_forward_and_backward_from_anywhere(harness: &dyn Harness) {
    let store = sample(harness).await;
    assert_eq!(positions(&store, LogRead::all()).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(positions(&store, LogRead::all().backward()).await, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(positions(&store, LogRead::all().from(at(8))).await, [8, 9]);
    assert_eq!(positions(&store, LogRead::all().after(Some(at(8)))).await, [9]);
    assert_eq!(positions(&store, LogRead::all().after(None).limit(1)).await, [1]);
    assert_eq!(positions(&store, LogRead::all().from(at(2)).backward()).await, [2, 1]);
    assert_eq!(positions(&store, LogRead::all().from(at(100)).backward().limit(1)).await, [9]);
    assert_eq!(positions(&store, LogRead::all().from(at(100))).await, Vec::<u64>::new());
}

/// Streams are listed in the byte order of their names, by prefix, in pages. Hidden streams are listed, too.
pub(super) async fn streams_are_listed_in_the_order_of_their_names(harness: &dyn Harness) {
    let store = sample(harness).await;
    commit(&store, Commit::delete_stream(stream("order-2"), DeleteKind::Soft, Some(rev(1)), Note::default())).await;
    let list = async |prefix: &str, after: Option<&str>, limit| {
        let after = after.map(stream);
        let listed = store.streams(prefix, after.as_ref(), limit).await.expect("listed");
        listed.into_iter().map(|(stream, last)| format!("{stream} {last}")).collect::<Vec<_>>()
    };
    assert_eq!(list("order", None, 10).await, ["order-1 2", "order-2 1", "order-3 0"]);
    assert_eq!(list("order-", Some("order-1"), 1).await, ["order-2 1"]);
    assert_eq!(list("s", Some("order-9"), 2).await, ["settings 0", "stock-a 0"]);
    assert_eq!(list("s", Some("stock-a"), 10).await, ["stock-b 0"]);
    assert_eq!(list("order-3", Some("order-3"), 10).await, Vec::<String>::new());
    assert_eq!(list("", None, 100).await.len(), 7, "with the stream of deletions");
    assert_eq!(list("z", None, 100).await, Vec::<String>::new());
}

/// The description of a store names its log and its last event.
pub(super) async fn a_store_is_described(harness: &dyn Harness) {
    let store = harness.open().await;
    let info = store.info().await.expect("described");
    assert_eq!((info.log_id, info.head, info.last_recorded_at), (store.log_id(), None, None));
    let written = commit(&store, Commit::to(&stream("a"), Any, [tagged("placed", &[])])).await;
    let info = store.info().await.expect("described");
    assert_eq!(info.head, written.position());
    assert_eq!(info.last_recorded_at, written.events.last().map(|event| event.recorded_at));
}

/// Categories, types and tags select events in both directions, from any position.
pub(super) async fn categories_types_and_tags_select_events(harness: &dyn Harness) {
    let store = sample(harness).await;
    let expected = [
        (LogRead::category(category("order")), vec![1, 2, 4, 6, 8, 9]),
        (LogRead::category(category("settings")), vec![5]),
        (LogRead::event_type(event_type("placed")), vec![1, 2, 6]),
        (LogRead::tag(tag("customer:1")), vec![1, 4, 6, 9]),
        (LogRead::tag(tag("product:b")), vec![2, 6, 7]),
        (LogRead::tag(tag("customer")), vec![]),
        (LogRead::category(category("ord")), vec![]),
        (LogRead::event_type(event_type("Placed")), vec![]),
    ];
    for (log_read, expected_positions) in expected {
        let reversed: Vec<u64> = expected_positions.iter().rev().copied().collect();
        let from_four: Vec<u64> = expected_positions.iter().filter(|p| **p >= 4).copied().collect();
        let back_from_four: Vec<u64> = reversed.iter().filter(|p| **p <= 4).copied().collect();
        assert_eq!(positions(&store, log_read.clone()).await, expected_positions, "{log_read:?}");
        assert_eq!(positions(&store, log_read.clone().backward()).await, reversed, "{log_read:?}");
        assert_eq!(positions(&store, log_read.clone().from(at(4))).await, from_four, "{log_read:?}");
        assert_eq!(positions(&store, log_read.clone().from(at(4)).backward()).await, back_from_four, "{log_read:?}");
    }
}

/// The items of a query are alternatives. An event that matches two of them is returned once.
pub(super) async fn query_items_are_alternatives_and_each_event_is_returned_once(harness: &dyn Harness) {
    let store = sample(harness).await;
    let item = QueryItem::new;
    let expected: [(Query, &[u64]); 8] = [
        (Query::any_of([item().tag(tag("customer:1")), item().event_type(event_type("placed"))]), &[1, 2, 4, 6, 9]),
        (item().tag(tag("product:a")).tag(tag("product:b")).into(), &[2]),
        (item().event_type(event_type("placed")).event_type(event_type("taken")).into(), &[1, 2, 3, 6, 7]),
        (item().event_type(event_type("placed")).tag(tag("customer:1")).into(), &[1, 6]),
        (item().category(category("stock")).category(category("settings")).into(), &[3, 5, 7]),
        (item().category(category("order")).tag(tag("product:b")).event_type(event_type("placed")).into(), &[2, 6]),
        (Query::any_of([]), &[]),
        (Query::any_of([item(), item().tag(tag("customer:1"))]), &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ];
    for (query, found) in expected {
        assert_eq!(positions(&store, LogRead::matching(query.clone())).await, found, "{query:?}");
        let reversed: Vec<u64> = found.iter().rev().copied().collect();
        assert_eq!(positions(&store, LogRead::matching(query.clone()).backward()).await, reversed, "{query:?}");
        let limited: Vec<u64> = found.iter().filter(|p| **p > 2).take(2).copied().collect();
        assert_eq!(
            positions(&store, LogRead::matching(query.clone()).from(at(3)).limit(2)).await,
            limited,
            "{query:?}"
        );
    }
}

/// A name that is a prefix of another name is a different name.
pub(super) async fn names_with_a_common_prefix_are_distinct(harness: &dyn Harness) {
    let store = harness.open().await;
    for name in ["a-1", "a-10", "a-1 ", "a-1-1", "a", "a-"] {
        commit(&store, Commit::to(&stream(name), NoStream, [tagged(name, &[name])])).await;
    }
    for (index, name) in ["a-1", "a-10", "a-1 ", "a-1-1", "a", "a-"].into_iter().enumerate() {
        let expected = [index as u64 + 1];
        assert_eq!(revisions(&store, StreamRead::new(stream(name))).await, [0], "stream {name:?}");
        assert_eq!(revisions(&store, StreamRead::new(stream(name)).backward()).await, [0], "stream {name:?}");
        assert_eq!(positions(&store, LogRead::tag(tag(name))).await, expected, "tag {name:?}");
        assert_eq!(positions(&store, LogRead::tag(tag(name)).backward()).await, expected, "tag {name:?}");
        assert_eq!(positions(&store, LogRead::event_type(event_type(name))).await, expected, "type {name:?}");
    }
    assert_eq!(positions(&store, LogRead::category(category("a"))).await, [1, 2, 3, 4, 5, 6]);
}

/// The scanned position includes events that the filter does not select, so that a checkpoint can pass them.
pub(super) async fn a_filtered_read_reports_the_scanned_position(harness: &dyn Harness) {
    let store = sample(harness).await;
    for (log_read, scanned) in [
        (LogRead::tag(tag("nobody")), Some(at(9))),
        (LogRead::tag(tag("customer:1")), Some(at(9))),
        (LogRead::event_type(event_type("placed")), Some(at(9))),
        (LogRead::event_type(event_type("placed")).limit(1), Some(at(1))),
        (LogRead::event_type(event_type("placed")).after(Some(at(1))).limit(1), Some(at(2))),
        (LogRead::all().after(Some(at(9))), None),
        (LogRead::tag(tag("customer:1")).backward(), Some(at(1))),
    ] {
        let mut events = store.read_log(log_read.clone()).await.expect("opened");
        while events.next().await.expect("read").is_some() {}
        assert_eq!(events.scanned(), scanned, "{log_read:?}");
    }
    let empty = harness.open().await;
    let mut events = empty.read_log(LogRead::all()).await.expect("opened");
    assert_eq!(events.next().await.expect("read"), None);
    assert_eq!(events.scanned(), None);
}

/// A limit of n returns n events, also if it is larger than a batch of the store.
pub(super) async fn a_limit_ends_a_read(harness: &dyn Harness) {
    let store = harness.open().await;
    let many = (0..3_000).map(|_| tagged("x", &["t"]));
    commit(&store, Commit::to(&stream("a-1"), Any, many)).await;
    for limit in [0, 1, 999, 1_000, 1_024, 2_999, 3_000, 3_001] {
        let expected = usize::try_from(limit.min(3_000)).expect("the limit is small");
        assert_eq!(read(&store, LogRead::all().limit(limit)).await.len(), expected);
        assert_eq!(read(&store, LogRead::tag(tag("t")).limit(limit).backward()).await.len(), expected);
        assert_eq!(read_stream(&store, StreamRead::new(stream("a-1")).limit(limit)).await.len(), expected);
    }
}

/// A read does not return events that were committed after it was opened.
pub(super) async fn a_read_ignores_later_commits(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, Commit::to(&stream("a-1"), Any, (0..2_500).map(|_| tagged("x", &["t"])))).await;
    let mut opened = Vec::new();
    for log_read in [LogRead::all(), LogRead::tag(tag("t")), LogRead::all().backward()] {
        opened.push(store.read_log(log_read).await.expect("opened"));
    }
    opened.push(store.read_stream(StreamRead::new(stream("a-1"))).await.expect("opened"));
    for events in &mut opened {
        events.next().await.expect("read").expect("an event");
    }
    commit(&store, Commit::to(&stream("a-1"), Any, (0..2_500).map(|_| tagged("x", &["t"])))).await;
    for events in opened {
        assert_eq!(events.collect().await.expect("read").len(), 2_499);
    }
}

/// A read of many batches is complete and in order.
pub(super) async fn long_reads_are_complete(harness: &dyn Harness) {
    let store = harness.open().await;
    for part in 0..10 {
        let commit_of = (0..1_000).fold(Commit::new(), |commit, n| {
            let name = stream(if n % 2 == 0 { "even-1" } else { "odd-1" });
            let tags: &[&str] = if n % 3 == 0 { &["three", "all"] } else { &["all"] };
            commit.append(name, tagged(if part % 2 == 0 { "x" } else { "y" }, tags))
        });
        commit(&store, commit_of).await;
    }
    let all = log(&store).await;
    assert_eq!(numbers(&all), (1..=10_000).collect::<Vec<_>>());
    let item = QueryItem::new().tag(tag("three")).tag(tag("all")).event_type(event_type("y"));
    let query = Query::from(item.category(category("odd")));
    let expected: Vec<_> = all.iter().filter(|event| query.matches_event(event)).cloned().collect();
    assert_eq!(read(&store, LogRead::matching(query.clone())).await, expected);
    let backward = read(&store, LogRead::matching(query).backward()).await;
    assert_eq!(backward, expected.into_iter().rev().collect::<Vec<_>>());
    let even: Vec<_> = all.iter().filter(|event| event.stream == "even-1").cloned().collect();
    assert_eq!(read_stream(&store, StreamRead::new(stream("even-1"))).await, even);
}

/// A read of a missing stream, event, key or row is empty and not an error.
pub(super) async fn reads_of_missing_items_are_empty(harness: &dyn Harness) {
    let store = sample(harness).await;
    assert_eq!(read_stream(&store, StreamRead::new(stream("order-4"))).await, []);
    assert_eq!(store.revision(&stream("order")).await.expect("revision"), None);
    assert_eq!(store.find(EventId::new()).await.expect("find"), None);
    assert_eq!(store.owner(&key("nobody")).await.expect("owner"), None);
    assert_eq!(row(&store, "nothing", "k").await, None);
}

/// An event is found by its id.
pub(super) async fn an_event_is_found_by_its_id(harness: &dyn Harness) {
    let store = sample(harness).await;
    for event in log(&store).await {
        assert_eq!(store.find(event.data.id).await.expect("find"), Some(event));
    }
}
