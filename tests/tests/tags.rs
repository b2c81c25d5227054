//! A field that becomes a tag: typed queries and append conditions fail until the log is copied with the tag.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use es_core::aggregate::InfrastructureError;
use es_core::model::{Category, Tag, Tags};
use es_core::prelude::*;
use es_core::schema::{DecodeEventError, EncodeEventError, EncodedEvent, EventSchema, RawEvent, current_tags};
use es_core::store::implement::StoreLayer;
use es_core::store::{EventStream, Query, QueryItem, StoreError, TagError};
use es_core::{Commit, EventType, LogRead, NewEvent, RecordedEvent, StreamId};
use es_rocksdb::{HiddenEvents, ReadOnlyStore, RetagError, RocksDbStore};
use es_tests::stores::{on_every_store, rocksdb};
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

/// The events before `course` was a tag.
mod before {
    use super::*;

    #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    pub(crate) enum BookingEvent {
        #[event(name = "booked")]
        Booked {
            #[event(tag)]
            student: u64,
            course: u64,
        },
        #[event(name = "paid")]
        Paid { cents: u64 },
    }
}

/// The same events: `course` is a tag now.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
enum BookingEvent {
    #[event(name = "booked")]
    Booked {
        #[event(tag)]
        student: u64,
        #[event(tag)]
        course: Option<u64>,
    },
    #[event(name = "paid")]
    Paid { cents: u64 },
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).expect("a name")
}

fn event(encoded: EncodedEvent) -> NewEvent {
    NewEvent::from(encoded.into_data(es_core::EventId::new()))
}

async fn write<E: Event>(store: &dyn EventStore, name: &str, events: impl IntoIterator<Item = E>) {
    let events = events.into_iter().map(|booked| event(booked.encode().expect("encodes")));
    store.commit(Commit::to(&stream(name), ExpectedRevision::Any, events)).await.expect("written");
}

fn booked_before(student: u64, course: u64) -> before::BookingEvent {
    before::BookingEvent::Booked { student, course }
}

fn booked(student: u64, course: Option<u64>) -> BookingEvent {
    BookingEvent::Booked { student, course }
}

fn tag(key: &str, value: u64) -> Tag {
    Tag::of(key, value).expect("a tag")
}

async fn of_course(store: &dyn EventStore, course: u64) -> Result<QueryItem, TagError> {
    QueryItem::new().tag(tag("course", course)).of_events::<BookingEvent>(store).await
}

async fn read(store: &dyn EventReader, query: impl Into<Query>) -> Vec<RecordedEvent> {
    store.read_log(LogRead::matching(query)).await.expect("opened").collect().await.expect("read")
}

/// Row 12 of the trial of a new user: the query found nothing, and the append condition held.
#[test]
fn a_query_by_a_tag_that_older_events_lack_is_an_error() {
    on_every_store(async |store: Store| {
        write(&*store, "booking-1", [booked_before(7, 42), before::BookingEvent::Paid { cents: 1 }]).await;
        let untyped = QueryItem::new().tag(tag("course", 42));
        assert_eq!(read(&*store, untyped).await, [], "the fault: the query does not select the event");
        let error = of_course(&*store, 42).await.expect_err("the log has no such tag");
        let TagError::Incomplete { event_type, position, tag } = &error else { panic!("{error}") };
        assert_eq!((event_type.as_str(), position.get(), tag.as_str()), ("booked", 1, "course:42"));
        assert!(error.to_string().contains("es --store DIR retag"), "{error}");
    });
}

#[test]
fn a_tag_that_older_events_have_is_not_affected_by_another_tag() {
    on_every_store(async |store: Store| {
        write(&*store, "booking-1", [booked_before(7, 42)]).await;
        let item = QueryItem::new().tag(tag("student", 7)).of_events::<BookingEvent>(&*store).await.expect("complete");
        assert_eq!(item.event_types, [EventType::new("booked").expect("a name")].into());
        assert_eq!(read(&*store, item).await.len(), 1);
    });
}

#[test]
fn a_query_by_tags_of_all_events_selects_them() {
    on_every_store(async |store: Store| {
        assert!(of_course(&*store, 42).await.is_ok(), "an empty log");
        write(&*store, "booking-1", [booked(7, Some(42)), booked(8, None), booked(9, Some(43))]).await;
        for _ in 0..2 {
            let item = of_course(&*store, 42).await.expect("an event without a course needs no tag");
            assert_eq!(read(&*store, item).await.len(), 1);
        }
        // An older process appends an event after the check.
        write(&*store, "booking-2", [booked_before(7, 42)]).await;
        let error = of_course(&*store, 42).await.expect_err("found by the next check");
        assert!(matches!(error, TagError::Incomplete { position, .. } if position.get() == 4), "{error}");
    });
}

/// [`BookingEvent`] with a count of decoded events, at this version.
#[derive(Debug)]
struct Counted<const VERSION: u32>(BookingEvent);

static DECODED: AtomicUsize = AtomicUsize::new(0);

impl<const VERSION: u32> Event for Counted<VERSION> {
    const SCHEMA: &'static [EventSchema] =
        &[EventSchema { name: "booked", version: VERSION, aliases: &[], oldest: 1, tags: &["student", "course"] }];

    fn encode(&self) -> Result<EncodedEvent, EncodeEventError> {
        self.0.encode()
    }

    fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        Ok(BookingEvent::decode(event)?.into_iter().map(Self).collect())
    }
}

/// Returns the number of events that a check decodes.
async fn decoded<E: Event>(store: &dyn EventStore) -> usize {
    DECODED.store(0, Ordering::Relaxed);
    let item = QueryItem::new().tag(tag("course", 1)).of_events::<E>(store).await.expect("complete");
    assert_eq!(item.event_types.len(), 1);
    DECODED.load(Ordering::Relaxed)
}

#[test]
fn each_event_is_decoded_once_until_the_version_changes() {
    on_every_store(async |store: Store| {
        let many = |count| (0..count).map(|student| booked(student, Some(1)));
        write(&*store, "booking-1", many(3_000)).await;
        assert_eq!(decoded::<Counted<1>>(&*store).await, 3_000);
        assert_eq!(decoded::<Counted<1>>(&*store).await, 0);
        write(&*store, "booking-1", many(10)).await;
        assert_eq!(decoded::<Counted<1>>(&*store).await, 10);
        assert_eq!(decoded::<Counted<2>>(&*store).await, 3_010, "another version");
        assert_eq!(decoded::<Counted<2>>(&*store).await, 0);
    });
}

#[test]
fn the_category_and_the_event_types_restrict_the_check() {
    on_every_store(async |store: Store| {
        write(&*store, "booking-1", [booked(7, Some(42))]).await;
        let other = NewEvent::json(EventType::new("booked").expect("a name"), r#"{"room":1}"#);
        store.commit(Commit::to(&stream("room-1"), ExpectedRevision::Any, [other])).await.expect("written");
        let error = of_course(&*store, 42).await.expect_err("the event of another aggregate");
        assert!(matches!(error, TagError::Event { .. }), "{error}");
        let item = QueryItem::new().category(Category::new("booking").expect("a name")).tag(tag("course", 42));
        let item = item.of_events::<BookingEvent>(&*store).await.expect("complete");
        assert_eq!(read(&*store, item).await.len(), 1);
        for item in [
            QueryItem::new().tag(tag("cuorse", 42)),
            QueryItem::new().tag(tag("course", 42)).event_type(EventType::new("paid").expect("a name")),
        ] {
            let error = item.of_events::<BookingEvent>(&*store).await.expect_err("no event has both");
            assert!(matches!(error, TagError::Undeclared { .. }), "{error}");
        }
    });
}

/// A seat in a course, booked once.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "booking", id = u64, event = BookingEvent)]
struct Booking {
    is_booked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Book {
    course: u64,
}

impl Evolve for Booking {
    fn initial(_: &u64) -> Self {
        Self { is_booked: false }
    }
    fn evolve(&mut self, _: &BookingEvent, _: &EventContext<'_>) {
        self.is_booked = true;
    }
}

impl Decide<Book> for Booking {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Book { course }: Book, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(booked(1, Some(course)).into())
    }
}

/// Row 12 of the trial of a new user: the append condition held although the course was booked.
#[test]
fn an_append_condition_on_a_tag_that_older_events_lack_is_an_error() {
    on_every_store(async |store: Store| {
        let bookings = Repository::<Booking>::new(Arc::clone(&store));
        let book = |id: u64, course: u64, tags: Tags| {
            bookings.execute(&id, Book { course }).append_if_none(QueryItem { tags, ..QueryItem::new() }, None)
        };
        let of_course = |course| Tags::from([tag("course", course)]);
        book(1, 42, of_course(42)).await.expect("the first booking");
        let error = book(2, 42, of_course(42)).await.expect_err("the course is booked");
        assert!(error.conflict().is_some(), "{error}");
        // An event of another category has the wire name and the tag's field, and is not an event of the aggregate.
        write(&*store, "room-1", [booked_before(7, 43)]).await;
        book(3, 43, of_course(43)).await.expect("no booking of the course");
        write(&*store, "booking-4", [booked_before(7, 44)]).await;
        let before = store.head().await.expect("read");
        for error in [
            book(5, 44, of_course(44)).await.expect_err("incomplete"),
            book(5, 45, of_course(45)).await.expect_err("incomplete for every course"),
        ] {
            let ExecuteError::Failed(InfrastructureError::Tags(TagError::Incomplete { position, .. })) = &error else {
                panic!("{error}")
            };
            assert_eq!(Some(*position), before);
        }
        assert_eq!(store.head().await.expect("read"), before, "nothing was written");
        book(5, 44, Tags::from([tag("student", 8)])).await.expect("older events have this tag");
        book(6, 44, Tags::from([tag("room", 8)])).await.expect("no event of the aggregate declares this tag");
    });
}

/// Returns the events of a directory without what a new tag changes.
async fn without_tags(directory: &std::path::Path) -> Vec<RecordedEvent> {
    let store = ReadOnlyStore::open(directory).await.expect("opened");
    let events = store.read_log_with_hidden(LogRead::all(), HiddenEvents::AsTombstones).collect().await;
    let clear = |mut event: RecordedEvent| {
        event.data.tags = Tags::new();
        event
    };
    events.expect("read").into_iter().map(clear).collect()
}

/// A log with commits of several streams, a deletion, unique keys and metadata.
async fn old_store(directory: &std::path::Path) -> RocksDbStore {
    let store = rocksdb(directory).await;
    for student in 0..600 {
        write(&store, &format!("booking-{student}"), [booked_before(student, student % 3)]).await;
    }
    let booked = |student| event(booked_before(student, 1).encode().expect("encodes"));
    let key = es_core::model::UniqueKey::new("seat", "1a").expect("a key");
    let mut with_metadata = booked(1).claiming(key);
    with_metadata.data.metadata = es_core::model::Metadata::new().with("user", "ada");
    let commit = Commit::new()
        .append(stream("booking-0"), with_metadata)
        .append(stream("booking-600"), booked(600))
        .append(stream("booking-0"), NewEvent::json(EventType::new("other").expect("a name"), "[1]"));
    store.commit(commit).await.expect("written");
    es_core::store::delete_stream(
        &store,
        &stream("booking-5"),
        es_core::retention::DeleteKind::Soft,
        ExpectedRevision::Any,
        es_core::retention::Note::default(),
    )
    .await
    .expect("deleted");
    store
}

#[tokio::test]
async fn a_copy_with_tags_keeps_everything_else_and_completes_the_query() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    old_store(&old).await.close().await.expect("closed");
    let source = ReadOnlyStore::open(&old).await.expect("opened");
    let target = rocksdb(&new).await;
    let retagged = source
        .retag(&target, &mut |event| match event.event_type().as_str() {
            "booked" => Ok(current_tags::<BookingEvent>(event)?),
            _ => Ok(Tags::new()),
        })
        .await
        .expect("copied");
    // The deleted event is a tombstone, and the deletion and the other event get no tag.
    assert_eq!((retagged.events, retagged.tagged, retagged.lost_claims), (603, 601, 0));
    let item = of_course(&target, 1).await.expect("complete");
    assert_eq!(read(&target, item).await.len(), 202);
    let seat = es_core::model::UniqueKey::new("seat", "1a").expect("a key");
    assert_eq!(target.owner(&seat).await.expect("read"), Some(stream("booking-0")));
    target.close().await.expect("closed");
    assert_eq!(without_tags(&new).await, without_tags(&old).await);
    assert!(ReadOnlyStore::open(&new).await.expect("opened").verify(&mut |_, _, _| {}).expect("read").is_sound());
}

#[tokio::test]
async fn a_copy_into_a_store_with_events_or_of_an_unreadable_event_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    old_store(&old).await.close().await.expect("closed");
    let source = ReadOnlyStore::open(&old).await.expect("opened");
    let target = rocksdb(&new).await;
    let error = source.retag(&target, &mut |event| Ok(current_tags::<BookingEvent>(event)?)).await;
    let error = error.expect_err("an event of another type");
    assert!(matches!(error, RetagError::Tags { position, .. } if position.get() == 603), "{error}");
    write(&target, "booking-1", [booked(7, None)]).await;
    let error = source.retag(&target, &mut |_| Ok(Tags::new())).await.expect_err("not empty");
    assert!(matches!(error, RetagError::NotEmpty { .. }), "{error}");
    target.close().await.expect("closed");
}

/// A store whose reads of the log return no events.
#[derive(Debug)]
struct Unreadable(Store);

#[async_trait::async_trait]
impl StoreLayer for Unreadable {
    fn inner(&self) -> &dyn EventStore {
        &*self.0
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        self.0.read_log(read.limit(0)).await
    }
}

/// Regression: a check of a store whose reads do not reach its head never ended.
#[test]
fn a_read_that_does_not_reach_the_head_is_damage() {
    on_every_store(async |store: Store| {
        write(&*store, "booking-1", [booked(7, Some(42))]).await;
        let error = of_course(&Unreadable(store), 42).await.expect_err("no event can be read");
        assert!(matches!(error, TagError::Store(StoreError::Damaged { .. })), "{error}");
    });
}
