//! The stores on disk return the same results as the memory store for random commits, conditions and reads, with
//! restarts.
//!
//! A proptest state machine generates the steps. A failure is shrunk by removing and simplifying steps, while their
//! preconditions hold. The memory store is the model.
//!
//! `ES_MODEL_CASES=10000` runs the long form.

use std::sync::Arc;

use bytes::Bytes;
use es_core::model::{Category, KeyChange, Metadata, Table, Tag, UniqueKey};
use es_core::retention::{DeleteKind, Note, Rule, Scavenge, Scope};
use es_core::store::memory::MemoryStore;
use es_core::store::{Direction, RowScan};
use es_core::store::{Query, QueryItem};
use es_core::testing::ManualClock;
use es_core::{
    Commit, CommitError, EventId, EventReader, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position,
    RecordedEvent, Revision, StreamId, StreamRead,
};
use es_rocksdb::RocksDbStore;
use es_tests::stores::{small, verify};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;
use uuid::Uuid;

const STREAMS: [&str; 5] = ["order-1", "order-10", "stock-1", "order", "-"];
const TYPES: [&str; 3] = ["placed", "shipped", "taken/é"];
const TAGS: [&str; 4] = ["a", "a:1", "a:10", "b"];
const CATEGORIES: [&str; 4] = ["order", "stock", "", "none"];

#[derive(Debug, Clone)]
enum Step {
    Commit(Commit),
    /// Repeats an earlier commit.
    Repeat(prop::sample::Index),
    /// Commits the events of an earlier commit with one event added or removed.
    Alter(prop::sample::Index, Alteration),
    ReadStream(StreamRead),
    ReadLog(LogRead),
    Rows(RowScan),
    Row(Table, Bytes),
    Owner(UniqueKey),
    /// Looks up the events of an earlier commit by id.
    Find(prop::sample::Index),
    Operate(Commit),
    Delete(StreamId, DeleteKind),
    Scavenge,
    Advance(u64),
    SetBack(u64),
    /// Closes and reopens the store.
    Reopen,
    /// Drops the store without closing it, and reopens it.
    DropAndReopen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alteration {
    AddEvent,
    RemoveEvent,
}

/// The commits that were sent, successful or not. The choice of the next step depends on them.
#[derive(Debug, Clone, Default)]
struct Sent(Vec<Commit>);

impl Sent {
    fn earlier(&self, index: prop::sample::Index) -> Option<&Commit> {
        (!self.0.is_empty()).then(|| index.get(&self.0))
    }
}

/// The generator of steps.
struct Steps;

impl ReferenceStateMachine for Steps {
    type State = Sent;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Sent> {
        Just(Sent::default()).boxed()
    }

    fn transitions(sent: &Sent) -> BoxedStrategy<Step> {
        if sent.0.is_empty() { commit().prop_map(Step::Commit).boxed() } else { step().boxed() }
    }

    fn preconditions(sent: &Sent, step: &Step) -> bool {
        match step {
            Step::Repeat(_) | Step::Alter(..) | Step::Find(_) => !sent.0.is_empty(),
            _ => true,
        }
    }

    fn apply(mut sent: Sent, step: &Step) -> Sent {
        if let Step::Commit(commit) = step {
            sent.0.push(commit.clone());
        }
        sent
    }
}

fn stream() -> impl Strategy<Value = StreamId> {
    select(&STREAMS[..]).prop_map(|name| StreamId::new(name).expect("a name"))
}

fn tag() -> impl Strategy<Value = Tag> {
    select(&TAGS[..]).prop_map(|name| Tag::new(name).expect("a name"))
}

fn event_type() -> impl Strategy<Value = EventType> {
    select(&TYPES[..]).prop_map(|name| EventType::new(name).expect("a name"))
}

fn table() -> impl Strategy<Value = Table> {
    select(&["t", "tt"][..]).prop_map(|name| Table::new(name).expect("a name"))
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(select(&[0_u8, 1, b'a', 255][..]), 1..4).prop_map(Bytes::from)
}

fn unique_key() -> impl Strategy<Value = UniqueKey> {
    (select(&["s", "s2"][..]), select(&["x", "y"][..]))
        .prop_map(|(scope, value)| UniqueKey::new(scope, value).expect("a key"))
}

fn expected() -> impl Strategy<Value = ExpectedRevision> {
    prop_oneof![
        4 => Just(ExpectedRevision::Any),
        1 => Just(ExpectedRevision::NoStream),
        1 => Just(ExpectedRevision::StreamExists),
        2 => (0_u64..8).prop_map(|revision| ExpectedRevision::Exact(Revision::new(revision))),
    ]
}

fn event() -> impl Strategy<Value = NewEvent> {
    let content = (any::<u128>(), event_type(), 1_u32..3, proptest::collection::vec(any::<u8>(), 0..20));
    let labels = (proptest::collection::btree_set(tag(), 0..3), any::<Option<u32>>(), any::<bool>());
    let keys = proptest::collection::vec((unique_key(), any::<bool>()), 0..2);
    (content, labels, keys).prop_map(|((id, event_type, version, payload), (tags, seconds, annotated), keys)| {
        let mut event = NewEvent::json(event_type, payload).with_id(EventId::from_uuid(Uuid::from_u128(id)));
        event.data.version = version;
        event.data.tags = tags.into();
        event.occurred_at = seconds.and_then(|seconds| chrono::DateTime::from_timestamp(i64::from(seconds), 999));
        if annotated {
            event.data.metadata = Metadata::new().with("k", "v");
        }
        let change = |(key, is_claim)| if is_claim { KeyChange::Claim(key) } else { KeyChange::Release(key) };
        event.data.keys = keys.into_iter().map(change).collect();
        event
    })
}

fn query() -> impl Strategy<Value = Query> {
    let categories = proptest::collection::btree_set(
        select(&CATEGORIES[..]).prop_map(|name| Category::new(name).expect("a category")),
        0..2,
    );
    let item =
        (categories, proptest::collection::btree_set(event_type(), 0..3), proptest::collection::btree_set(tag(), 0..3))
            .prop_map(|(categories, event_types, tags)| QueryItem { categories, event_types, tags: tags.into() });
    prop_oneof![
        1 => Just(Query::all()),
        6 => proptest::collection::vec(item, 0..3).prop_map(Query::any_of),
    ]
}

fn position() -> impl Strategy<Value = Option<Position>> {
    prop_oneof![Just(None), (1_u64..40).prop_map(Position::new)]
}

fn commit() -> impl Strategy<Value = Commit> {
    let events = proptest::collection::vec((stream(), event()), 0..5);
    let conditions = (
        proptest::collection::vec((stream(), expected()), 0..3),
        proptest::option::weighted(0.2, (query(), position())),
        proptest::option::weighted(0.2, (table(), bytes(), proptest::option::of(bytes()))),
    );
    let changes = proptest::collection::vec((table(), bytes(), proptest::option::of(bytes())), 0..3);
    (events, conditions, changes).prop_map(|(events, (expected, condition, seen), rows)| {
        let mut commit = Commit::new();
        for (stream, event) in events {
            commit = commit.append(stream, event);
        }
        for (stream, expected) in expected {
            commit = commit.expect(stream, expected);
        }
        if let Some((query, after)) = condition {
            commit = commit.append_if_none(query, after);
        }
        if let Some((table, key, value)) = seen {
            commit = commit.expect_row(table, key, value);
        }
        for (table, key, value) in rows {
            commit = match value {
                Some(value) => commit.put_row(table, key, value),
                None => commit.delete_row(table, key),
            };
        }
        commit
    })
}

fn direction() -> impl Strategy<Value = Direction> {
    select(&[Direction::Forward, Direction::Backward][..])
}

fn step() -> impl Strategy<Value = Step> {
    let limit = || proptest::option::of(0_u64..6);
    let read_stream = (stream(), proptest::option::of((0_u64..8).prop_map(Revision::new)), direction(), limit())
        .prop_map(|(stream, from, direction, limit)| StreamRead { stream, from, direction, limit });
    let read_log = (query(), position(), direction(), limit()).prop_map(|(query, from, direction, limit)| LogRead {
        query,
        from,
        direction,
        limit,
    });
    let rows = (table(), proptest::option::of(bytes()), proptest::option::of(bytes()), direction(), 0_usize..5)
        .prop_map(|(table, prefix, after, direction, limit)| RowScan {
            table,
            prefix: prefix.unwrap_or_default(),
            after,
            direction,
            limit,
        });
    prop_oneof![
        12 => commit().prop_map(Step::Commit),
        2 => any::<prop::sample::Index>().prop_map(Step::Repeat),
        2 => (any::<prop::sample::Index>(), select(&[Alteration::AddEvent, Alteration::RemoveEvent][..]))
            .prop_map(|(index, alteration)| Step::Alter(index, alteration)),
        1 => any::<prop::sample::Index>().prop_map(Step::Find),
        3 => read_stream.prop_map(Step::ReadStream),
        6 => read_log.prop_map(Step::ReadLog),
        2 => rows.prop_map(Step::Rows),
        1 => (table(), bytes()).prop_map(|(table, key)| Step::Row(table, key)),
        1 => unique_key().prop_map(Step::Owner),
        2 => operation().prop_map(Step::Operate),
        1 => (stream(), prop_oneof![4 => Just(DeleteKind::Soft), 1 => Just(DeleteKind::Hard)])
            .prop_map(|(stream, kind)| Step::Delete(stream, kind)),
        1 => Just(Step::Scavenge),
        1 => (0_u64..100_000).prop_map(Step::Advance),
        1 => (0_u64..100_000).prop_map(Step::SetBack),
        1 => Just(Step::Reopen),
        1 => Just(Step::DropAndReopen),
    ]
}

/// Generates rules for streams and categories. Deletions and scavenges are separate steps.
fn operation() -> impl Strategy<Value = Commit> {
    let category = select(&["order", "stock"][..]).prop_map(|name| Category::new(name).expect("a category"));
    let scope = prop_oneof![stream().prop_map(Scope::Stream), category.prop_map(Scope::Category)];
    let age = (0_u64..300).prop_map(std::time::Duration::from_millis);
    let limits = (
        proptest::option::weighted(0.3, age),
        proptest::option::weighted(0.5, 1_u64..5),
        proptest::option::weighted(0.4, (0_u64..8).prop_map(Revision::new)),
    );
    (scope, limits).prop_map(|(scope, (max_age, max_count, truncate_before))| {
        let rule = Rule { max_age, max_count, truncate_before };
        if rule.is_empty() {
            Commit::clear_rule(scope, Note::default())
        } else {
            Commit::set_rule(scope, rule, Note::default())
        }
    })
}

/// Clears the id of a scavenge point, which differs between the stores.
fn without_random_id(event: Option<RecordedEvent>) -> Option<RecordedEvent> {
    event.map(|mut event| {
        if event.data.event_type == "es.scavenge-point" {
            event.data.id = EventId::from_uuid(Uuid::nil());
        }
        event
    })
}

/// Formats the result of a commit for comparison.
fn outcome(result: &Result<es_core::store::Committed, CommitError>) -> String {
    match result {
        Ok(committed) => format!("{committed:?}"),
        Err(error) => format!("{error:?}"),
    }
}

/// The memory store and a store on disk.
struct Pair {
    model: MemoryStore,
    /// `None` only while the store is reopened.
    store: Option<RocksDbStore>,
    clock: Arc<ManualClock>,
    dir: tempfile::TempDir,
}

impl Pair {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2024-01-01T00:00:00.123456789Z".parse().expect("a time")));
        let dir = tempfile::tempdir().expect("a directory");
        let store = Self::open(&clock, &dir).await;
        let model = MemoryStore::with_clock(Arc::clone(&clock) as _);
        Self { model, store: Some(store), clock, dir }
    }

    async fn open(clock: &Arc<ManualClock>, dir: &tempfile::TempDir) -> RocksDbStore {
        // Batches of three events, tables of five and small segments, so that short logs have several of them.
        let options = small().read_batch(3, 1 << 20).index_run(5, 1 << 20).log_segment_bytes(8 << 10).tail_bytes(1024);
        RocksDbStore::open_with(dir.path(), options.clock(Arc::clone(clock) as _)).await.expect("opens")
    }

    fn store(&self) -> &RocksDbStore {
        self.store.as_ref().expect("the store is open")
    }

    async fn apply(&mut self, sent: &Sent, step: Step) {
        match step {
            Step::Commit(commit) => self.commit(&commit).await,
            Step::Repeat(index) => self.commit(sent.earlier(index).expect("a commit was sent")).await,
            Step::Alter(index, alteration) => {
                self.commit(&altered(sent.earlier(index).expect("a commit was sent"), alteration)).await;
            }
            Step::Find(index) => self.find(sent.earlier(index).expect("a commit was sent")).await,
            Step::ReadStream(read) => {
                let expected = self.model.read_stream(read.clone()).await.expect("read").collect().await.expect("read");
                let found = self.store().read_stream(read.clone()).await.expect("read").collect().await.expect("read");
                assert_eq!(found, expected, "{read:?}");
            }
            Step::ReadLog(read) => self.read_log(read).await,
            Step::Rows(scan) => {
                let expected = self.model.rows(scan.clone()).await.expect("scanned");
                assert_eq!(self.store().rows(scan.clone()).await.expect("scanned"), expected, "{scan:?}");
            }
            Step::Row(table, key) => {
                let expected = self.model.row(&table, &key).await.expect("read");
                assert_eq!(self.store().row(&table, &key).await.expect("read"), expected, "{table} {key:?}");
            }
            Step::Owner(key) => {
                let expected = self.model.owner(&key).await.expect("read");
                assert_eq!(self.store().owner(&key).await.expect("read"), expected, "{key}");
            }
            Step::Operate(commit) => self.commit(&commit).await,
            Step::Delete(stream, kind) => {
                let through = self.model.revision(&stream).await.expect("read");
                if kind == DeleteKind::Hard || through.is_some() {
                    self.commit(&Commit::delete_stream(stream, kind, through, Note::default())).await;
                }
            }
            Step::Scavenge => {
                let expected = self.model.scavenge(&Scavenge::default()).await.expect("scavenged");
                let found = self.store().scavenge(&Scavenge::default()).await.expect("scavenged");
                assert_eq!(
                    (found.point, found.events, found.earlier_points),
                    (expected.point, expected.events, expected.earlier_points)
                );
            }
            Step::Advance(micros) => self.clock.advance(std::time::Duration::from_micros(micros)),
            Step::SetBack(micros) => {
                use es_core::model::Clock;
                let back = chrono::TimeDelta::microseconds(i64::try_from(micros).expect("small"));
                self.clock.set(self.clock.now() - back);
            }
            Step::Reopen => {
                self.store().close().await.expect("closed");
                self.reopen().await;
            }
            Step::DropAndReopen => self.reopen().await,
        }
    }

    async fn reopen(&mut self) {
        // ORDER: drop the last handle, which releases the directory, before opening the store.
        drop(self.store.take());
        self.store = Some(Self::open(&self.clock, &self.dir).await);
    }

    async fn commit(&self, commit: &Commit) {
        let expected = self.model.commit(commit.clone()).await;
        let found = self.store().commit(commit.clone()).await;
        assert_eq!(outcome(&found), outcome(&expected), "{commit:?}");
    }

    async fn find(&self, commit: &Commit) {
        for (_, event) in commit.events() {
            let (found, expected) = (self.store().find(event.data.id).await, self.model.find(event.data.id).await);
            assert_eq!(found.expect("read"), expected.expect("read"));
        }
    }

    async fn read_log(&self, read: LogRead) {
        let mut expected = self.model.read_log(read.clone()).await.expect("read");
        let mut found = self.store().read_log(read.clone()).await.expect("read");
        loop {
            let (next, model) = (found.next().await.expect("read"), expected.next().await.expect("read"));
            assert_eq!(without_random_id(next.clone()), without_random_id(model), "{read:?}");
            if next.is_none() {
                break;
            }
        }
        assert_eq!(found.scanned(), expected.scanned(), "{read:?}");
    }

    /// Compares all readable content of both stores.
    async fn compare(&self, sent: &Sent) {
        self.read_log(LogRead::all()).await;
        self.read_log(LogRead::all().backward()).await;
        assert_eq!(self.store().head().await.expect("read"), self.model.head().await.expect("read"));
        for name in STREAMS {
            let stream = StreamId::new(name).expect("a name");
            let (found, expected) = (self.store().revision(&stream).await, self.model.revision(&stream).await);
            assert_eq!(found.expect("read"), expected.expect("read"), "{name:?}");
            let (found, expected) = (self.store().retained(&stream).await, self.model.retained(&stream).await);
            assert_eq!(found.expect("read"), expected.expect("read"), "{name:?}");
        }
        for commit in &sent.0 {
            self.find(commit).await;
        }
    }
}

/// Returns a commit with the events of `commit`, without conditions, and with an event added or removed at the end.
fn altered(commit: &Commit, alteration: Alteration) -> Commit {
    let adds = alteration == Alteration::AddEvent;
    let count = if adds { commit.events().len() } else { commit.events().len().saturating_sub(1) };
    let kept = commit.events().iter().take(count).cloned();
    let added = commit
        .events()
        .last()
        .filter(|_| adds)
        .map(|(stream, event)| (stream.clone(), NewEvent::json(event.data.event_type.clone(), "added")));
    kept.chain(added).fold(Commit::new(), |commit, (stream, event)| commit.append(stream, event))
}

/// The stores and their runtime.
struct Compared {
    runtime: Runtime,
    pair: Pair,
}

impl StateMachineTest for Compared {
    type SystemUnderTest = Self;
    type Reference = Steps;

    fn init_test(_: &Sent) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let pair = runtime.block_on(Pair::new());
        Self { runtime, pair }
    }

    fn apply(mut compared: Self, sent: &Sent, step: Step) -> Self {
        compared.runtime.block_on(compared.pair.apply(sent, step));
        compared
    }

    fn check_invariants(compared: &Self, _: &Sent) {
        let Self { runtime, pair } = compared;
        let (found, expected) = runtime.block_on(async { (pair.store().head().await, pair.model.head().await) });
        assert_eq!(found.expect("read"), expected.expect("read"));
    }

    fn teardown(mut compared: Self, sent: Sent) {
        let Self { runtime, pair } = &mut compared;
        runtime.block_on(async {
            pair.compare(&sent).await;
            pair.apply(&sent, Step::Reopen).await;
            pair.compare(&sent).await;
            pair.store().close().await.expect("closed");
            verify(pair.dir.path()).await;
        });
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::with_cases(
        std::env::var("ES_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60)
    ) })]
    #[test]
    fn rocksdb_returns_the_results_of_the_memory_store(sequential 1..60 => Compared);
}
