//! [`LogSource`]: builds the pages that answer pulls.
//!
//! A page has the events of the log of this node in the order of the log, which extends causality: an event is stored
//! after everything that it depends on. So each event is admissible when it arrives, in any topology.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use es_core::model::{Dot, HybridTime, Keys, LogPosition, OriginId, Stamp, Table, VectorClock};
use es_core::store::{LogRead, Query, QueryItem, RowScan};
use es_core::{Commit, CommitError, EventId, EventStore, Position, RecordedEvent, StoreError};

use crate::page::{Claim, Confirmation, ForeignEvent, Item, Page, Pull};
use crate::rows;

/// The number of events that a source reads at once.
const BATCH: u64 = 256;
/// The number of events after which a page ends even if the target has all of them, so that the target gets an answer.
const MAX_READ: u64 = 100_000;

/// Answers other nodes from the log of a store.
#[derive(Debug, Clone)]
pub(crate) struct LogSource {
    store: Arc<dyn EventStore>,
    table: Table,
}

/// A page that is being built.
#[derive(Debug)]
struct PageBuilder {
    items: Vec<Item>,
    bytes: usize,
    /// The last sequence of each origin that the target has after the page.
    sent: BTreeMap<OriginId, u64>,
    /// The position of the first event of the commit that was added last.
    commit: Option<Position>,
}

impl LogSource {
    pub(crate) const fn new(store: Arc<dyn EventStore>, table: Table) -> Self {
        Self { store, table }
    }

    /// Returns the page that answers a pull. If there is no new event, waits for one, for at most the time that the
    /// pull names.
    pub(crate) async fn page(&self, pull: &Pull) -> Result<Page, StoreError> {
        let start = self.resolve(pull.cursor);
        if self.store.watch_head().current() <= start && !pull.wait.is_zero() {
            // The error of a closed store is returned by the read.
            let _ = tokio::time::timeout(pull.wait, self.store.watch_head().wait_after(start)).await;
        }
        let ids = self.common_ids(&pull.knowledge).await?;
        match self.build(pull, start).await? {
            Some(page) => Ok(Page { ids, ..page }),
            // An event before the cursor is missing at the target: the cursor was wrong.
            None => {
                let page = self.build(pull, None).await?;
                let detail = "a row \"d\" names a position that the log does not have";
                page.map(|page| Page { ids, ..page }).ok_or_else(|| StoreError::damaged("table es.replica", detail))
            }
        }
    }

    /// Returns for each origin the last event that is both here and in `other`, with its id.
    async fn common_ids(&self, other: &VectorClock) -> Result<Vec<(Dot, EventId)>, StoreError> {
        let (mut ids, own) = (Vec::new(), rows::knowledge(&*self.store, &self.table).await?);
        for Dot { origin, sequence } in other.iter() {
            let Some(through) = own.get(origin) else { continue };
            let last = Dot { origin, sequence: through.min(sequence) };
            ids.extend(event_id(&*self.store, &self.table, last).await?.map(|id| (last, id)));
        }
        Ok(ids)
    }

    /// Returns the position of a cursor, or `None` if it belongs to another log.
    fn resolve(&self, cursor: Option<LogPosition>) -> Option<Position> {
        cursor?.resolve(&*self.store).ok().flatten()
    }

    /// Builds a page from the events after a position. Returns `None` if the target lacks an event before it.
    async fn build(&self, pull: &Pull, start: Option<Position>) -> Result<Option<Page>, StoreError> {
        // ORDER: the knowledge, then the end of the page, then the categories. So the page covers the knowledge, and
        // the query selects every replicated event of the page: an event and the row of its category are one commit.
        let knowledge = rows::knowledge(&*self.store, &self.table).await?;
        let end = self.store.watch_head().current();
        let query = self.query().await?;
        let mut page = PageBuilder::new(&pull.knowledge);
        let (mut cursor, mut count, mut is_last) = (start, 0, false);
        while !is_last {
            let mut events = self.store.read_log(LogRead::matching(query.clone()).after(cursor).limit(BATCH)).await?;
            let before = count;
            while let Some(event) = events.next().await?.filter(|event| Some(event.position) <= end) {
                let is_full = !page.items.is_empty() && page.bytes >= pull.max_bytes as usize || count >= MAX_READ;
                // A page ends between two commits.
                if is_full && page.commit != Some(start_of_commit(&event)) {
                    return Ok(Some(page.finish(self.cursor(cursor), knowledge, false)));
                }
                cursor = Some(event.position);
                count += 1;
                let Some(stamp) = self.stamp(&event).await? else { continue };
                if !self.add_gaps_before(&mut page, &stamp, start).await? {
                    return Ok(None);
                }
                page.push(event, stamp);
            }
            is_last = count - before < BATCH;
        }
        for dot in knowledge.iter() {
            if !self.add_gap_through(&mut page, dot, start).await? {
                return Ok(None);
            }
        }
        Ok(Some(page.finish(self.cursor(cursor.max(end)), knowledge, true)))
    }

    /// Returns the query of all replicated events.
    async fn query(&self) -> Result<Query, StoreError> {
        let categories = rows::categories(&*self.store, &self.table).await?;
        // An item without categories would select every event.
        let items = (!categories.is_empty()).then(|| QueryItem { categories, ..QueryItem::new() });
        Ok(Query::any_of(items))
    }

    fn cursor(&self, position: Option<Position>) -> LogPosition {
        LogPosition::in_log(self.store.log_id(), position)
    }

    /// Returns the stamp of a replicated event. An event that was recorded before the replication gets one here, unless
    /// this node has not adopted it: it has received the category from another node, and does not declare it.
    async fn stamp(&self, event: &RecordedEvent) -> Result<Option<Stamp>, StoreError> {
        if let Some(stamp) = &event.data.stamp {
            return Ok(Some(Stamp::clone(stamp)));
        }
        let row = self.store.row(&self.table, &rows::genesis_key(event.position)).await?;
        let Some(row) = row else { return Ok(None) };
        let sequence = rows::number_of(&row)?;
        let dot = Dot { origin: OriginId::GENESIS, sequence };
        let time = HybridTime::at(event.recorded_at);
        Ok(Some(Stamp { dot, time, seen: Some(VectorClock::new()), command: None }))
    }

    /// Adds the gaps before an event. The log has the earlier events of its origin, and those that its node had seen,
    /// before it; those that the target does not have were removed. Returns `false` if one of them is stored before
    /// `start`, so that the page would omit it.
    async fn add_gaps_before(
        &self,
        page: &mut PageBuilder,
        stamp: &Stamp,
        start: Option<Position>,
    ) -> Result<bool, StoreError> {
        let before = NonZeroU64::new(stamp.dot.sequence.get() - 1).map(|sequence| Dot { sequence, ..stamp.dot });
        for dot in stamp.seen.iter().flat_map(VectorClock::iter).chain(before) {
            if !self.add_gap_through(page, dot, start).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the gap of an origin up to `last`, if the target does not have it yet. Returns as
    /// [`add_gaps_before`](Self::add_gaps_before).
    async fn add_gap_through(
        &self,
        page: &mut PageBuilder,
        last: Dot,
        start: Option<Position>,
    ) -> Result<bool, StoreError> {
        let Dot { origin, sequence: through } = last;
        let sent = page.sent.get(&origin).copied().unwrap_or_default();
        if sent >= through.get() {
            return Ok(true);
        }
        let from = NonZeroU64::MIN.saturating_add(sent);
        if start.is_some() && self.first_position(Dot { origin, sequence: from }, through).await? <= start {
            return Ok(false);
        }
        page.items.push(Item::Gap { origin, from, through });
        page.sent.insert(origin, through.get());
        page.commit = None;
        Ok(true)
    }

    /// Returns the position of the first event of an origin from `first` up to the sequence `through`, or the last
    /// position if none has a row: an event without a row was removed before this node received it. The positions of an
    /// origin ascend with its sequences.
    async fn first_position(&self, first: Dot, through: NonZeroU64) -> Result<Option<Position>, StoreError> {
        let (prefix, last) = (rows::dots_of(first.origin), rows::dot_key(Dot { sequence: through, ..first }));
        let before = NonZeroU64::new(first.sequence.get() - 1).map(|sequence| rows::dot_key(Dot { sequence, ..first }));
        let scan = RowScan { after: before, ..RowScan::new(self.table.clone(), prefix, 1) };
        match self.store.rows(scan).await?.pop().filter(|row| row.key <= last) {
            Some(row) => rows::position_of(&row.value).map(Some),
            None => Ok(Position::new(u64::MAX)),
        }
    }

    /// Returns the answer to a claim; see [`confirm`].
    pub(crate) async fn confirm(&self, claim: Claim) -> Result<Confirmation, CommitError> {
        confirm(&*self.store, &self.table, claim).await
    }
}

/// Returns the last event of an origin that a store has, for the member that wants to continue it. Pages that the node
/// has requested but not yet stored are discarded: they may have an event that the member has lost, and that the answer
/// does not name.
pub(crate) async fn confirm(store: &dyn EventStore, table: &Table, claim: Claim) -> Result<Confirmation, CommitError> {
    // ORDER: the count before the last event of the origin. A page that is stored before the count is part of the
    // answer; one that is stored after it fails on its expectation of the count.
    while let Err(error) = count_confirmation(store, table).await {
        // Another member asked at the same time. A count that returned to a former value would not discard its pages.
        if !matches!(error, CommitError::Conflict(_)) {
            return Err(error);
        }
    }
    let known = store.row(table, &rows::origin_key(claim.origin)).await?;
    let Some(known) = known else { return Ok(Confirmation { last: None }) };
    let dot = Dot { origin: claim.origin, sequence: rows::Known::decode(&known)?.through };
    Ok(Confirmation { last: Some((dot, event_id(store, table, dot).await?)) })
}

/// Adds one to the row that counts the confirmations.
///
/// # Errors
/// [`CommitError::Conflict`] if the row has changed in the meantime.
async fn count_confirmation(store: &dyn EventStore, table: &Table) -> Result<(), CommitError> {
    let count = confirmations(store, table).await?;
    let next = count.as_deref().map(rows::number_of).transpose()?.map_or(1, |count| count.get() + 1);
    let row = Commit::new().expect_row(table.clone(), rows::CONFIRMATIONS, count);
    store.commit(row.put_row(table.clone(), rows::CONFIRMATIONS, next.to_be_bytes().to_vec())).await?;
    Ok(())
}

/// Returns the row that counts the confirmations.
pub(crate) async fn confirmations(store: &dyn EventStore, table: &Table) -> Result<Option<Bytes>, StoreError> {
    store.row(table, rows::CONFIRMATIONS).await
}

/// Returns the id of the event with a dot, or `None` if it was removed or is not known.
pub(crate) async fn event_id(store: &dyn EventStore, table: &Table, dot: Dot) -> Result<Option<EventId>, StoreError> {
    let known = store.row(table, &rows::origin_key(dot.origin)).await?;
    let known = known.map(|value| rows::Known::decode(&value)).transpose()?;
    if let Some(known) = known.filter(|known| known.through == dot.sequence) {
        return Ok(known.id);
    }
    let Some(row) = store.row(table, &rows::dot_key(dot)).await? else { return Ok(None) };
    let position = Some(rows::position_of(&row)?);
    let read = LogRead { from: position, ..LogRead::all().limit(1) };
    let event = store.read_log(read).await?.next().await?;
    Ok(event.filter(|event| Some(event.position) == position).map(|event| event.data.id))
}

impl PageBuilder {
    fn new(knowledge: &VectorClock) -> Self {
        let sent = knowledge.iter().map(|dot| (dot.origin, dot.sequence.get())).collect();
        Self { items: Vec::new(), bytes: 0, sent, commit: None }
    }

    /// Adds an event, unless the target has it.
    fn push(&mut self, event: RecordedEvent, stamp: Stamp) {
        let Dot { origin, sequence } = stamp.dot;
        if self.sent.get(&origin).is_some_and(|sent| *sent >= sequence.get()) {
            return;
        }
        self.sent.insert(origin, sequence.get());
        let commit = start_of_commit(&event);
        let mut data = event.data;
        if data.stamp.is_none() {
            // Unique keys of events from before the replication stay on this node.
            data.keys = Keys::default();
        }
        data.stamp = Some(Box::new(stamp));
        let foreign = ForeignEvent { stream: event.stream, data, occurred_at: event.occurred_at };
        self.bytes += foreign.bytes();
        match self.items.last_mut() {
            Some(Item::Commit(events)) if self.commit == Some(commit) => events.push(foreign),
            _ => self.items.push(Item::Commit(vec![foreign])),
        }
        self.commit = Some(commit);
    }

    fn finish(self, cursor: LogPosition, knowledge: VectorClock, is_last: bool) -> Page {
        Page { items: self.items, cursor, knowledge, is_last, ids: Vec::new() }
    }
}

/// Returns the position of the first event of the commit of an event.
fn start_of_commit(event: &RecordedEvent) -> Position {
    let start = event.position.get().saturating_sub(u64::from(event.part.index));
    Position::new(start).unwrap_or(Position::FIRST)
}
