//! Cases: appended events are stored completely and in order.

use std::num::NonZeroU64;
use std::ops::ControlFlow;

use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use super::tools::*;
use crate::model::{
    CommandDigest, CommandId, CommitPart, ContentType, CorrelationId, Dot, EventData, EventId, EventView, HybridTime,
    KeyChange, MAX_NAME_BYTES, Metadata, MetadataValue, NewEvent, OriginId, RecordedEvent, Stamp, VectorClock,
    to_stored_precision,
};
use crate::store::{
    Commit, CommitError, InvalidCommit, LogRead, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_PAYLOAD_BYTES,
    MAX_ROW_KEY_BYTES, MAX_TAGS, StreamRead,
};

/// Positions start at 1, revisions of each stream at 0. Neither has gaps.
pub(super) async fn positions_count_from_one_and_revisions_from_zero(harness: &dyn Harness) {
    let store = harness.open().await;
    assert_eq!(store.head().await.expect("head"), None, "an empty log has no head");
    let first = append(&store, "a-1", &["x", "x"]).await;
    let second = append(&store, "b-1", &["x"]).await;
    let third = append(&store, "a-1", &["x"]).await;
    assert_eq!(numbers(&first.events), [1, 2]);
    assert_eq!(numbers(&second.events), [3]);
    assert_eq!(numbers(&third.events), [4]);
    assert_eq!(first.revision(&stream("a-1")), Some(rev(1)));
    assert_eq!(second.revision(&stream("b-1")), Some(rev(0)));
    assert_eq!(third.revision(&stream("a-1")), Some(rev(2)));
    assert_eq!(store.head().await.expect("head"), Some(at(4)));
    assert_eq!(store.revision(&stream("a-1")).await.expect("revision"), Some(rev(2)));
    assert_eq!(positions(&store, LogRead::all()).await, [1, 2, 3, 4]);
    assert!(!first.repeated);
}

/// Events of several streams in one commit keep their order in the log.
pub(super) async fn one_commit_keeps_the_order_of_its_streams(harness: &dyn Harness) {
    let store = harness.open().await;
    let names = ["a-1", "b-1", "a-1", "c-1", "b-1"];
    let interleaved = names.iter().fold(Commit::new(), |commit, name| commit.append(stream(name), event("x")));
    let committed = commit(&store, interleaved).await;
    let found: Vec<(String, u64)> =
        log(&store).await.iter().map(|e| (e.stream.as_str().to_owned(), e.revision.get())).collect();
    let expected = [("a-1", 0), ("b-1", 0), ("a-1", 1), ("c-1", 0), ("b-1", 1)].map(|(s, r)| (s.to_owned(), r));
    assert_eq!(found, expected);
    let parts: Vec<CommitPart> = committed.events.iter().map(|event| event.part).collect();
    let expected: Vec<CommitPart> = (0..5).map(|index| CommitPart { index, size: 5 }).collect();
    assert_eq!(parts, expected);
}

/// The commit and every kind of read return every field of an event as it was written.
pub(super) async fn an_event_is_read_as_it_was_written(harness: &dyn Harness) {
    let store = harness.open().await;
    let cause = append(&store, "a-1", &["cause"]).await.events.remove(0);
    let data = EventData {
        id: EventId::from_uuid(Uuid::from_u128(42)),
        event_type: event_type("order placed/é"),
        version: 7,
        content_type: ContentType::from("text/plain; charset=utf-8"),
        payload: vec![0, 255, 10, 0].into(),
        tags: [tag("customer:Ü"), tag("b")].into(),
        metadata: Metadata::new()
            .with("user", "ada")
            .with("number", 0.1 + 0.2)
            .with("digits", r#"[12345678901234567890123, 1.10, -0]"#.parse::<MetadataValue>().expect("JSON"))
            .with("nested", serde_json::json!({"a": [1, null, true]})),
        correlation_id: Some(CorrelationId::new()),
        causation_id: Some(cause.data.id),
        keys: [KeyChange::Claim(key("ada")), KeyChange::Release(key("é"))].into_iter().collect(),
        stamp: None,
    };
    let written = NewEvent { data, occurred_at: "1999-12-31T23:59:59.123456Z".parse().ok() };
    let name = stream("order-1");
    let committed = commit(&store, Commit::new().append(name.clone(), written.clone())).await;
    let recorded = committed.events.first().expect("one event").clone();
    assert!(recorded.is_record_of(&name, &written));
    assert_eq!(recorded.data, written.data);
    assert_eq!(Some(recorded.occurred_at), written.occurred_at);
    let expected = std::slice::from_ref(&recorded);
    assert_eq!(read_stream(&store, StreamRead::new(name)).await, expected);
    assert_eq!(read(&store, LogRead::all().from(at(2))).await, expected);
    assert_eq!(read(&store, LogRead::tag(tag("customer:Ü"))).await, expected);
    assert_eq!(store.find(written.data.id).await.expect("found").as_ref(), Some(&recorded));
}

/// Every kind of read returns the stamp of an event as it was written, also after a restart.
pub(super) async fn a_stamp_is_stored(harness: &dyn Harness) {
    let store = harness.open().await;
    let dot = |origin, sequence| Dot { origin: OriginId::new(origin), sequence };
    let stamp = Stamp {
        dot: dot(u64::MAX, NonZeroU64::MIN),
        time: HybridTime::from_bits(u64::MAX),
        seen: Some([dot(1, NonZeroU64::MAX)].into_iter().collect()),
        command: Some((CommandId::new("request/é").expect("a name"), CommandDigest::from_bits(7))),
    };
    let without_clock = Stamp { seen: None, ..stamp.clone() };
    let with_empty_clock = Stamp { seen: Some(VectorClock::new()), command: None, ..stamp.clone() };
    let stamps = [None, Some(stamp), None, Some(without_clock), Some(with_empty_clock)];
    let given = stamps.map(|stamp| {
        let mut event = event("x").tagged(tag("t"));
        event.data.stamp = stamp.map(Box::new);
        event
    });
    let name = stream("a-1");
    let all = Commit::to(&name, Any, given.clone());
    let committed = commit(&store, all.clone()).await;
    assert!(committed.events.iter().map(|event| &event.data).eq(given.iter().map(|event| &event.data)));
    check_reads(&store, &committed.events).await;
    let Some(store) = harness.reopen(store).await else { return };
    check_reads(&store, &committed.events).await;
    assert!(commit(&store, all).await.repeated, "the stamps are the same");
}

/// Checks that every kind of read returns these events of the stream `a-1` with the tag `t`.
async fn check_reads(store: &Store, expected: &[RecordedEvent]) {
    assert_eq!(log(store).await, expected);
    assert_eq!(read(store, LogRead::tag(tag("t"))).await, expected);
    assert_eq!(read_stream(store, StreamRead::new(stream("a-1"))).await, expected);
    let mut visited = Vec::new();
    let mut visit = |event: EventView<'_>| {
        visited.push(event.to_recorded());
        ControlFlow::Continue(())
    };
    store.visit_stream(StreamRead::new(stream("a-1")), &mut visit).await.expect("the stream is read");
    assert_eq!(visited, expected);
    for event in expected {
        assert_eq!(store.find(event.data.id).await.expect("the event is read").as_ref(), Some(event));
    }
}

/// A commit without events is accepted and has no position.
pub(super) async fn an_empty_commit_changes_nothing(harness: &dyn Harness) {
    let store = harness.open().await;
    let committed = commit(&store, Commit::new()).await;
    assert_eq!((committed.position(), committed.repeated), (None, false));
    assert_eq!(store.head().await.expect("head"), None);
}

/// Names may contain spaces, slashes, colons and accents, and have up to 512 bytes.
pub(super) async fn unusual_names_are_read_as_written(harness: &dyn Harness) {
    let store = harness.open().await;
    let long = "é".repeat(MAX_NAME_BYTES / 2);
    for name in ["W_Completeren aanvraag", "a/b:c d", "Münster-Straße 5", "-", "--", "日本-語", &long] {
        let written = NewEvent::json(event_type(name), "{}").tagged(tag(name));
        commit(&store, Commit::to(&stream(name), NoStream, [written])).await;
        assert_eq!(revisions(&store, StreamRead::new(stream(name))).await, [0], "stream {name:?}");
        assert_eq!(read(&store, LogRead::tag(tag(name))).await.len(), 1, "tag {name:?}");
        assert_eq!(read(&store, LogRead::event_type(event_type(name))).await.len(), 1, "type {name:?}");
        let category = stream(name).category();
        let found = read(&store, LogRead::category(category.clone())).await;
        assert!(found.iter().any(|event| event.stream == name), "category {category:?} of {name:?}");
    }
}

/// A commit that breaks a limit is rejected, and nothing of it is written.
pub(super) async fn a_commit_that_breaks_a_limit_is_rejected(harness: &dyn Harness) {
    let store = harness.open().await;
    let large = NewEvent::json(event_type("x"), vec![b' '; MAX_PAYLOAD_BYTES + 1]);
    let many_tags = (0..=MAX_TAGS).fold(event("x"), |event, n| event.tagged(tag(&format!("t:{n}"))));
    let mut version_zero = event("x");
    version_zero.data.version = 0;
    let mut untyped = event("x");
    untyped.data.content_type = ContentType::from("");
    let deep = (0..=MAX_METADATA_DEPTH).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let deep = event("x").with_metadata(Metadata::new().with("deep", deep));
    let long = event("x").with_metadata(Metadata::new().with("long", "x".repeat(MAX_METADATA_BYTES)));
    // serde_json decodes such an object as null, or fails.
    let reserved = serde_json::json!([{"$serde_json::private::RawValue": "null"}]);
    let reserved = event("x").with_metadata(Metadata::new().with("reserved", reserved));
    let not_finite = event("x").with_metadata(Metadata::new().with("ratio", f64::NAN));
    for broken in [large, many_tags, version_zero, untyped, deep, long, reserved, not_finite] {
        let two = Commit::new().append(stream("a-1"), event("x")).append(stream("a-1"), broken);
        let refused = store.commit(two).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_))), "expected an invalid commit, found {refused:?}");
    }
    let long_key = Commit::new().put_row(table("t"), vec![b'k'; MAX_ROW_KEY_BYTES + 1], "v");
    let refused = store.commit(long_key).await;
    assert!(matches!(refused, Err(CommitError::Invalid(InvalidCommit::RowKeyLength { .. }))), "{refused:?}");
    assert_eq!(log(&store).await, []);
}

/// Recorded times never decrease along the log. The time of an event in the domain is stored with microseconds.
pub(super) async fn times_have_microseconds_and_recorded_times_never_decrease(harness: &dyn Harness) {
    let store = harness.open().await;
    let before = to_stored_precision(Utc::now()) - TimeDelta::days(1);
    let nanoseconds = "2020-01-02T03:04:05.123456789Z".parse().expect("a time");
    for _ in 0..20 {
        commit(&store, Commit::to(&stream("a-1"), Any, [event("x"), event("x").occurred_at(nanoseconds)])).await;
    }
    let events = log(&store).await;
    assert!(events.windows(2).all(|pair| match pair {
        [earlier, later] => earlier.recorded_at <= later.recorded_at,
        _ => true,
    }));
    for event in &events {
        assert!(event.recorded_at > before, "recorded at {}", event.recorded_at);
        assert_eq!(event.recorded_at, to_stored_precision(event.recorded_at));
        let expected = if event.part.index == 0 { event.recorded_at } else { to_stored_precision(nanoseconds) };
        assert_eq!(event.occurred_at, expected);
    }
}

/// A commit of ten thousand events to ten streams is written as one commit.
pub(super) async fn a_large_commit_is_one_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let large =
        (0..10_000).fold(Commit::new(), |commit, n| commit.append(stream(&format!("s-{}", n % 10)), event("x")));
    let committed = commit(&store, large).await;
    assert_eq!(committed.events.len(), 10_000);
    assert_eq!(store.head().await.expect("head"), Some(at(10_000)));
    assert_eq!(store.revision(&stream("s-9")).await.expect("revision"), Some(rev(999)));
    assert_eq!(log(&store).await, committed.events);
}

/// After a restart all events are unchanged, and positions and revisions continue.
pub(super) async fn a_restart_preserves_all_events(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = append(&store, "a-1", &["x", "y"]).await;
    append(&store, "b-1", &["x"]).await;
    let before = log(&store).await;
    let Some(store) = harness.reopen(store).await else { return };
    assert_eq!(log(&store).await, before);
    assert_eq!(store.head().await.expect("head"), Some(at(3)));
    assert_eq!(read_stream(&store, StreamRead::new(stream("a-1"))).await, first.events);
    let next = append(&store, "a-1", &["z"]).await;
    assert_eq!((numbers(&next.events), next.revision(&stream("a-1"))), (vec![4], Some(rev(2))));
    assert!(next.events[0].recorded_at >= before[2].recorded_at);
}
