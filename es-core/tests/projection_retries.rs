//! Projections that retry an event while they are repartitioned or paused.
#![cfg(feature = "derive")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use es_core::__private::{StoredProjection, partition_of};
use es_core::aggregate::RetryPolicy;
use es_core::consumer::WaitError;
use es_core::model::Table;
use es_core::prelude::*;
use es_core::projection::{ProjectionAdmin, ProjectionHandle, ProjectionOptions, RunningProjections, Supervisor};
use es_core::retention::{DeleteKind, Note};
use es_core::store::implement::StoreLayer;
use es_core::store::memory::MemoryStore;
use es_core::store::{Committed, delete_stream};
use es_core::{Commit, CommitError, EventType, NewEvent, StreamId};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum ItemEvent {
    #[event(name = "counted")]
    Counted {},
    #[event(name = "broken")]
    Broken {},
}

#[derive(Clone, Aggregate)]
#[aggregate(category = "item", id = u64, event = ItemEvent)]
struct Item;

/// A projection that cannot apply broken items until it accepts them.
#[derive(Debug, Clone, Default)]
struct Items {
    accepts_broken: Arc<AtomicBool>,
    /// Whether a broken item was applied.
    has_broken: Arc<AtomicBool>,
}

impl Projection for Items {
    type Source = Item;
    const NAME: &'static str = "items";

    fn apply(&self, event: &ItemEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        if matches!(event, ItemEvent::Broken {}) {
            if !self.accepts_broken.load(Ordering::SeqCst) {
                return Err(ApplyError::new("broken"));
            }
            self.has_broken.store(true, Ordering::SeqCst);
        }
        rows.put(&Table::new("items")?, context.position().to_string(), "");
        Ok(())
    }
}

async fn start(
    store: &Arc<dyn EventStore>,
    items: &Items,
    options: ProjectionOptions,
) -> (RunningProjections, ProjectionHandle) {
    let supervisor = Supervisor::new().projection(items.clone(), options);
    let running = supervisor.start(Arc::clone(store)).await.expect("the projection starts");
    let handle = running.projection(Items::NAME).expect("it was added").clone();
    (running, handle)
}

async fn append(store: &dyn EventStore, stream: &StreamId, event_type: &str) -> Position {
    let event = NewEvent::json(EventType::new(event_type).expect("a name"), "{}");
    let committed = store.commit(Commit::to(stream, ExpectedRevision::Any, [event])).await.expect("committed");
    committed.position().expect("one event")
}

async fn wait_until(description: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("timed out waiting until {description}"));
}

/// Returns the checkpoints of the active view.
async fn checkpoints(store: &dyn EventStore) -> Vec<Option<Position>> {
    let stored = StoredProjection::read(store, Items::NAME).await.expect("read");
    stored.active.map(|active| active.checkpoints).unwrap_or_default()
}

/// Returns the name of an item, of which partition 0 of 2 has the events.
fn item_of_first_partition(after: u64) -> (u64, StreamId) {
    let mut names = (after + 1..).map(|number| (number, format!("item-{number}")));
    let (number, name) = names.find(|(_, name)| partition_of(name, 2) == 0).expect("the search has no end");
    (number, StreamId::new(name).expect("a name"))
}

fn hours() -> RetryPolicy {
    let hours = Duration::from_secs(10 * 3600);
    RetryPolicy { attempts: 1000, first_pause: hours, longest_pause: hours }
}

/// Regression: a worker ended at the common position although an event was still retried. A partition that waited at an
/// erasure for this event waited for ever.
#[tokio::test]
async fn partitions_can_be_changed_while_one_waits_at_an_erasure_for_an_event_that_is_retried() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let (number, broken) = item_of_first_partition(0);
    let (_, deleted) = item_of_first_partition(number);
    append(&*store, &broken, "broken").await;
    append(&*store, &deleted, "counted").await;
    let (kind, expected) = (DeleteKind::Soft, ExpectedRevision::StreamExists);
    let committed = delete_stream(&*store, &deleted, kind, expected, Note::default()).await.expect("deleted");
    let deletion = committed.position();

    let (items, options) = (Items::default(), ProjectionOptions::new().retry(hours()));
    let (running, _) = start(&store, &items, options.partitions(2)).await;
    wait_until("partition 0 has passed the deletion", async || {
        checkpoints(&*store).await.first().is_some_and(|first| *first >= deletion)
    })
    .await;
    running.shutdown(PATIENCE).await.expect("the projection stops");
    assert!(checkpoints(&*store).await[1] < deletion, "partition 1 waits at the deletion");

    items.accepts_broken.store(true, Ordering::SeqCst);
    let (running, handle) = start(&store, &items, options.partitions(3)).await;
    let head = store.head().await.expect("a head");
    handle.wait_for(head, PATIENCE).await.expect("the partitions are changed, and the event is applied");
    running.shutdown(PATIENCE).await.expect("the projection stops");
    assert_eq!(checkpoints(&*store).await.len(), 3);
}

/// No partition waits for the event, so the worker does not make all attempts of the policy first.
#[tokio::test]
async fn a_change_of_the_partitions_does_not_wait_for_an_event_that_is_retried() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    append(&*store, &item_of_first_partition(0).1, "broken").await;
    let (items, options) = (Items::default(), ProjectionOptions::new().retry(hours()));
    let (running, handle) = start(&store, &items, options.partitions(2)).await;
    wait_until("the event is retried", async || !handle.admin().parked(None, 1).await.expect("a list").is_empty())
        .await;
    running.shutdown(PATIENCE).await.expect("the projection stops");
    let (running, _) = start(&store, &items, options.partitions(3)).await;
    wait_until("the partitions are changed", async || checkpoints(&*store).await.len() == 3).await;
    running.shutdown(PATIENCE).await.expect("the projection stops");
}

/// Pauses the projection within each commit that follows the application of a broken item.
#[derive(Debug)]
struct PausedInCommit {
    inner: Arc<dyn EventStore>,
    has_broken: Arc<AtomicBool>,
    /// The number of pauses.
    pauses: Arc<AtomicUsize>,
}

#[async_trait]
impl StoreLayer for PausedInCommit {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let committed = self.inner.commit(commit).await?;
        if self.has_broken.swap(false, Ordering::SeqCst) {
            let admin = ProjectionAdmin::new(Arc::clone(&self.inner), Items::NAME).expect("a name");
            admin.pause("test").await.expect("paused");
            self.pauses.fetch_add(1, Ordering::SeqCst);
            // The runner notices the pause and stops the worker, which waits for this commit.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(committed)
    }
}

/// Regression: a worker that was stopped between two commits of a retry forgot the retry, and published the events that
/// were left as applied. The second retry here is one that an operator requests.
#[tokio::test]
async fn an_event_whose_retry_was_interrupted_is_not_reported_as_applied() {
    let inner: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let items = Items::default();
    let (has_broken, pauses) = (Arc::clone(&items.has_broken), Arc::new(AtomicUsize::new(0)));
    let layer = PausedInCommit { inner: Arc::clone(&inner), has_broken, pauses: Arc::clone(&pauses) };
    let store: Arc<dyn EventStore> = Arc::new(layer);
    let stream = StreamId::new("item-1").expect("a name");
    let mut last = Position::FIRST;
    for _ in 0..3 {
        last = append(&*inner, &stream, "broken").await;
    }
    let pause = Duration::from_millis(5);
    let retry = RetryPolicy { attempts: 100_000, first_pause: pause, longest_pause: pause };
    let (running, handle) = start(&store, &items, ProjectionOptions::new().batch(1).retry(retry)).await;
    let admin = handle.admin();
    let parked = async || admin.parked_events("item-1", None, 10).await.expect("a list").len();
    wait_until("all events are parked", async || parked().await == 3).await;
    items.accepts_broken.store(true, Ordering::SeqCst);
    for pause in 1..=2 {
        let waited = handle.wait_for(last, Duration::from_secs(1)).await;
        assert!(matches!(waited, Err(WaitError::Timeout { .. })), "{waited:?}");
        wait_until("the projection is paused", async || pauses.load(Ordering::SeqCst) == pause).await;
        assert_eq!(parked().await, 3 - pause);
        admin.retry("item-1").await.expect("requested");
        admin.resume("test").await.expect("resumed");
    }
    wait_until("the projection is paused", async || pauses.load(Ordering::SeqCst) == 3).await;
    admin.resume("test").await.expect("resumed");
    handle.wait_for(last, PATIENCE).await.expect("all events are applied");
    running.shutdown(PATIENCE).await.expect("the projection stops");
}
