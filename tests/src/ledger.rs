//! A projection whose rows say exactly which events were applied and in which order, and the comparison with a fold of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use es_core::__private::{StoredProjection, partition_of};
use es_core::aggregate::Source;
use es_core::model::Table;
use es_core::projection::{ApplyError, ProjectedContext, Projection, ProjectionAdmin, Rows};
use es_core::store::RowScan;
use es_core::{
    Commit, Event, EventId, EventStore, ExpectedRevision, LogRead, NewEvent, Position, StoreError, StreamId,
};

use crate::account::{Account, AccountEvent};

/// An amount that cannot be booked.
pub const POISON: u64 = 666;

/// For each stream a chain over the positions of its events, in which their order counts; and one sum over all positions, in
/// which it does not.
#[derive(Debug, Clone, Default)]
pub struct Ledger<const VERSION: u32 = 1> {
    /// Whether [`POISON`] can be booked after all.
    pub is_healed: Arc<AtomicBool>,
}

/// The table of the chains.
#[must_use]
pub fn chains() -> Table {
    Table::new("chains").expect("a name")
}

/// The table of the sum.
#[must_use]
pub fn sums() -> Table {
    Table::new("sums").expect("a name")
}

/// What follows on a chain.
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
            AccountEvent::Withdrawn { cents: POISON } if !self.is_healed.load(Ordering::SeqCst) => {
                Err(ApplyError::new("this amount cannot be booked"))
            }
            AccountEvent::Opened { owner } if owner == "panic" => panic!("this owner cannot be booked"),
            _ => Ok(()),
        }
    }
}

/// What a view holds: chains by stream, and the sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// The chains.
    pub chains: BTreeMap<String, String>,
    /// The sum.
    pub sum: u64,
}

impl Books {
    fn book(&mut self, stream: &StreamId, position: Position) {
        let chain = self.chains.entry(stream.to_string()).or_default();
        *chain = link(chain, position);
        self.sum = self.sum.wrapping_add(position.get());
    }

    /// How many events are booked.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.chains.values().filter_map(|chain| chain.split_once(':')?.0.parse::<u64>().ok()).sum()
    }
}

/// What the view holds that is read.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
pub async fn read_books(store: &dyn EventStore) -> Result<Books, StoreError> {
    let Some(build) = StoredProjection::read(store, "ledger").await?.active else { return Ok(Books::default()) };
    let physical = |logical| build.table("ledger", &logical).expect("a name");
    let rows = store.rows(RowScan::new(physical(chains()), Vec::new(), 100_000)).await?;
    let sum = store.row(&physical(sums()), b"all").await?;
    let chains = rows.into_iter().map(|row| (text(Some(&row.key)), text(Some(&row.value)))).collect();
    Ok(Books { chains, sum: text(sum.as_deref()).parse().unwrap_or_default() })
}

/// What the view that is read must hold: a fold of the log, for each partition up to its own checkpoint, without what is parked.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
pub async fn expected_books(store: &Arc<dyn EventStore>) -> Result<Books, StoreError> {
    let Some(build) = StoredProjection::read(&**store, "ledger").await?.active else { return Ok(Books::default()) };
    let parked = parked_positions(store).await?;
    let query = Account::query();
    let partitions = u32::try_from(build.checkpoints.len()).expect("a small number");
    let mut books = Books::default();
    for event in store.read_log(LogRead::all()).await?.collect().await? {
        let checkpoint = build.checkpoints[partition_of(event.stream.as_str(), partitions) as usize];
        if query.matches_event(&event) && Some(event.position) <= checkpoint && !parked.contains(&event.position) {
            books.book(&event.stream, event.position);
        }
    }
    Ok(books)
}

/// What is parked for the view that is read.
///
/// # Errors
/// [`StoreError`] when it cannot be read.
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

/// Compares the view with the fold of the log while nobody works on it. A commit that a killed worker had on its way may still
/// come in; then everything is read anew.
///
/// # Panics
/// When they differ.
pub async fn check(store: &Arc<dyn EventStore>, story: &str) -> Books {
    for _ in 0..100 {
        let before = marks(store).await;
        let (found, expected) = (read_books(&**store).await, expected_books(store).await);
        let (found, expected) = (found.expect("rows"), expected.expect("a log"));
        if before == marks(store).await {
            assert_eq!(found, expected, "{story}: the view is not the fold of the log up to its checkpoints");
            return found;
        }
    }
    panic!("{story}: somebody still works on the view");
}

async fn marks(store: &Arc<dyn EventStore>) -> String {
    let stored = StoredProjection::read(&**store, "ledger").await.expect("rows");
    format!("{stored:?} {:?}", parked_positions(store).await.expect("rows"))
}

/// An event as it is written.
///
/// # Panics
/// When it cannot be encoded.
#[must_use]
pub fn written(event: &AccountEvent) -> NewEvent {
    let encoded = event.encode().expect("it can be encoded");
    encoded.into_data(EventId::new()).into()
}

/// The stream of an account.
///
/// # Panics
/// Never: each number gives a name.
#[must_use]
pub fn account(number: u64) -> StreamId {
    StreamId::of("account", number).expect("a name")
}

/// Appends one event to an account, and returns where it stands.
///
/// # Panics
/// When the store refuses.
pub async fn append(store: &dyn EventStore, number: u64, event: AccountEvent) -> Position {
    let commit = Commit::to(&account(number), ExpectedRevision::Any, [written(&event)]);
    store.commit(commit).await.expect("committed").position().expect("an event")
}
