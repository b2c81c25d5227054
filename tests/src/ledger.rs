//! A projection whose rows depend on which events were applied and in which order, and its comparison with the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::__private::{StoredProjection, partition_of};
use es_core::aggregate::Source;
use es_core::model::Table;
use es_core::projection::{ApplyError, ProjectedContext, Projection, ProjectionAdmin, Rows};
use es_core::store::RowScan;
use es_core::{
    Commit, Event, EventId, EventStore, ExpectedRevision, LogRead, NewEvent, Position, StoreError, StreamId,
};

use crate::account::{Account, AccountEvent};

/// An amount that the projection rejects.
pub const POISON: u64 = 666;

/// The lease in the kill test, which is longer than the test.
pub const LEASE: Duration = Duration::from_secs(300);

/// The projection. It maintains, for each stream, a chain (an order-dependent digest) of the positions of its events,
/// and the sum of all positions.
#[derive(Debug, Clone, Default)]
pub struct Ledger<const VERSION: u32 = 1> {
    /// Whether [`POISON`] is accepted.
    pub accepts_poison: Arc<AtomicBool>,
}

/// Returns the table of the chains.
#[must_use]
pub fn chains() -> Table {
    Table::new("chains").expect("a name")
}

/// Returns the table of the sum.
#[must_use]
pub fn sums() -> Table {
    Table::new("sums").expect("a name")
}

/// Appends a position to a chain (`COUNT:DIGEST`).
fn link(before: &str, position: Position) -> String {
    let (count, digest) = before.split_once(':').unwrap_or(("0", "0"));
    let (count, digest) = (count.parse::<u64>().unwrap_or_default(), digest.parse::<u64>().unwrap_or_default());
    format!("{}:{}", count + 1, digest.wrapping_mul(31).wrapping_add(position.get()))
}

fn text(row: Option<&[u8]>) -> String {
    row.map_or_else(String::new, |row| String::from_utf8_lossy(row).into_owned())
}

impl<const V: u32> Projection for Ledger<V> {
    type Source = Account;
    const NAME: &'static str = "ledger";
    const VERSION: u32 = V;

    fn apply(&self, event: &AccountEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let chain = text(rows.get(&chains(), at.stream().as_str().as_bytes())?.as_deref());
        rows.put(&chains(), at.stream().as_str().to_owned(), link(&chain, at.position()));
        let sum: u64 = text(rows.get(&sums(), b"all")?.as_deref()).parse().unwrap_or_default();
        rows.put(&sums(), "all", sum.wrapping_add(at.position().get()).to_string());
        match event {
            AccountEvent::Withdrawn { cents: POISON } if !self.accepts_poison.load(Ordering::SeqCst) => {
                Err(ApplyError::new("injected error"))
            }
            AccountEvent::Opened { owner } if owner == "panic" => panic!("injected panic"),
            _ => Ok(()),
        }
    }
}

/// The content of the view: the chains by stream, and the sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// The chains.
    pub chains: BTreeMap<String, String>,
    /// The sum.
    pub sum: u64,
}

impl Books {
    fn apply(&mut self, stream: &StreamId, position: Position) {
        let chain = self.chains.entry(stream.to_string()).or_default();
        *chain = link(chain, position);
        self.sum = self.sum.wrapping_add(position.get());
    }

    /// Returns the number of applied events.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.chains.values().filter_map(|chain| chain.split_once(':')?.0.parse::<u64>().ok()).sum()
    }
}

/// Reads the active view.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub async fn read_books(store: &dyn EventStore) -> Result<Books, StoreError> {
    let Some(build) = StoredProjection::read(store, "ledger").await?.active else { return Ok(Books::default()) };
    let physical = |logical| build.table("ledger", &logical).expect("a name");
    let rows = store.rows(RowScan::new(physical(chains()), Vec::new(), 100_000)).await?;
    let sum = store.row(&physical(sums()), b"all").await?;
    let chains = rows.into_iter().map(|row| (text(Some(&row.key)), text(Some(&row.value)))).collect();
    Ok(Books { chains, sum: text(sum.as_deref()).parse().unwrap_or_default() })
}

/// Computes the expected content of the active view from the log: for each partition up to its checkpoint, without
/// parked events.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub async fn expected_books(store: &Arc<dyn EventStore>) -> Result<Books, StoreError> {
    let Some(build) = StoredProjection::read(&**store, "ledger").await?.active else { return Ok(Books::default()) };
    let parked = parked_positions(store).await?;
    let query = Account::query();
    let partitions = u32::try_from(build.checkpoints.len()).expect("a small number");
    let mut books = Books::default();
    for event in store.read_log(LogRead::all()).await?.collect().await? {
        let checkpoint = build.checkpoints[partition_of(event.stream.as_str(), partitions) as usize];
        if query.matches_event(&event) && Some(event.position) <= checkpoint && !parked.contains(&event.position) {
            books.apply(&event.stream, event.position);
        }
    }
    Ok(books)
}

/// Returns the positions of the parked events of the active view.
///
/// # Errors
/// [`StoreError`] if the store cannot be read.
pub async fn parked_positions(store: &Arc<dyn EventStore>) -> Result<BTreeSet<Position>, StoreError> {
    let admin = ProjectionAdmin::new(Arc::clone(store), "ledger").expect("a name");
    let active = StoredProjection::read(&**store, "ledger").await?.active.map(|build| build.generation);
    let mut positions = BTreeSet::new();
    for parked in admin.parked(None, 100_000).await? {
        if active == Some(parked.generation) {
            let events = admin.parked_events(&parked.key, None, 100_000).await?;
            positions.extend(events.into_iter().map(|event| event.position));
        }
    }
    Ok(positions)
}

/// Compares the view with the log while no worker runs. A pending commit of a stopped worker may still complete; then
/// the comparison is repeated. `context` is a prefix of the message of a panic.
///
/// # Panics
/// If the view differs from the log.
pub async fn check(store: &Arc<dyn EventStore>, context: &str) -> Books {
    for _ in 0..100 {
        let before = progress(store).await;
        let (found, expected) = (read_books(&**store).await, expected_books(store).await);
        let (found, expected) = (found.expect("rows"), expected.expect("a log"));
        if before == progress(store).await {
            assert_eq!(found, expected, "{context}: the view differs from the log up to its checkpoints");
            return found;
        }
    }
    panic!("{context}: a worker still changes the view");
}

/// Returns a text that changes with every commit of a worker.
async fn progress(store: &Arc<dyn EventStore>) -> String {
    let stored = StoredProjection::read(&**store, "ledger").await.expect("rows");
    format!("{stored:?} {:?}", parked_positions(store).await.expect("rows"))
}

/// Encodes an event for a commit.
///
/// # Panics
/// If the event cannot be encoded.
#[must_use]
pub fn written(event: &AccountEvent) -> NewEvent {
    let encoded = event.encode().expect("encode the event");
    encoded.into_data(EventId::new()).into()
}

/// Returns the stream of an account.
///
/// # Panics
/// Never: every number is a valid name.
#[must_use]
pub fn account(number: u64) -> StreamId {
    StreamId::of("account", number).expect("a name")
}

/// Appends one event to an account and returns its position.
///
/// # Panics
/// If the commit fails.
pub async fn append(store: &dyn EventStore, number: u64, event: AccountEvent) -> Position {
    let commit = Commit::to(&account(number), ExpectedRevision::Any, [written(&event)]);
    store.commit(commit).await.expect("committed").position().expect("an event")
}
