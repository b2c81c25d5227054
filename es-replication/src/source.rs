//! [`LogSource`]: builds the pages that answer pulls.
//!
//! A page has the events of the log of this node in the order of the log, which extends causality: an event is stored
//! after everything that it depends on. So each event is admissible when it arrives, in any topology.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use es_core::__private::to_stored_precision;
use es_core::model::{Category, Dot, ErrorChain, HybridTime, Keys, LogPosition, OriginId, Stamp, Table, VectorClock};
use es_core::store::{LogRead, Query, QueryItem};
use es_core::{Commit, CommitError, EventId, EventStore, Position, RecordedEvent, StoreError};

use crate::error::AnswerError;
use crate::filter::StreamFilter;
use crate::frontiers::{Arrival, Frontiers};
use crate::group::{self, Group};
use crate::hook::{self, ReplicaHook};
use crate::knowledge::Knowledge;
use crate::owner;
use crate::page::{Claim, Confirmation, ForeignEvent, GapReason, Item, Page, Pull, Sender};
use crate::promise::Promise;
use crate::ranges::RangeSet;
use crate::rows::{self, Known, StoredDots};
use crate::token::Token;

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
struct PageBuilder<'a> {
    filter: &'a StreamFilter,
    max_bytes: usize,
    items: Vec<Item>,
    bytes: usize,
    /// What the target knows after the page.
    target: Knowledge,
    /// For each origin, the last event that the filter excludes and that the target does not know.
    excluded: VectorClock,
    /// What the page declares.
    declared: VectorClock,
    /// What this node knows, at the end of the page or later.
    own: BTreeMap<OriginId, Known>,
    /// The position after which the page begins.
    start: Option<Position>,
    /// The position up to which all events were added.
    scanned: Option<Position>,
}

impl LogSource {
    pub(crate) const fn new(store: Arc<dyn EventStore>, table: Table) -> Self {
        Self { store, table }
    }

    /// Returns the members of the group.
    pub(crate) async fn group(&self, frontiers: &Frontiers) -> Result<Arc<Group>, StoreError> {
        frontiers.group(&*self.store).await
    }

    /// Returns the time of a report that this node receives now.
    pub(crate) fn arrival(&self) -> Arrival {
        hook::arrival(&*self.store)
    }

    /// Returns the token of everything that this node has now.
    pub(crate) async fn token(&self) -> Result<Token, StoreError> {
        Token::of_store(&*self.store, &self.table).await
    }

    /// Returns the origins for which this node decides.
    pub(crate) async fn homes(&self) -> Result<Vec<OriginId>, StoreError> {
        Ok(owner::start::read_node(&*self.store).await?.map(|node| node.origins).unwrap_or_default())
    }

    /// Returns the page that answers a pull. If there is no new event, waits for one, for at most the time that the
    /// pull names.
    pub(crate) async fn page(&self, pull: &Pull, group: &Group) -> Result<Page, StoreError> {
        let start = self.resolve(pull.cursor);
        if self.store.watch_head().current() <= start && !pull.wait.is_zero() {
            // The error of a closed store is returned by the read.
            let _ = tokio::time::timeout(pull.wait, self.store.watch_head().wait_after(start)).await;
        }
        // ORDER: the promises before the knowledge, so that the page covers the events that they name.
        let promises = promises(&*self.store).await;
        // ORDER: the knowledge before the end of the page, so that the page covers it.
        let knowledge = rows::reported_knowledge(&*self.store, &self.table, group).await?;
        let ids = self.common_ids(&knowledge, &pull.knowledge).await?;
        match self.build(pull, start, knowledge.clone()).await? {
            Some(page) => Ok(Page { ids, promises, ..page }),
            // An event before the cursor is missing at the target: the cursor was wrong.
            None => {
                let page = self.build(pull, None, knowledge).await?;
                let detail = "a row \"d\" names a position that the log does not have";
                let page = page.map(|page| Page { ids, promises, ..page });
                page.ok_or_else(|| StoreError::damaged("table es.replica", detail))
            }
        }
    }

    /// Returns for each origin the last event that both nodes have, with its id.
    async fn common_ids(&self, own: &Knowledge, other: &Knowledge) -> Result<Vec<(Dot, EventId)>, StoreError> {
        let mut ids = Vec::new();
        for Dot { origin, sequence } in other.clock().iter() {
            let mut last = sequence.get().min(own.through(origin));
            let first_withheld = |last| {
                let range = |knowledge: &Knowledge| knowledge.ranges(origin)?.range_of(last);
                range(own).or_else(|| range(other)).map(|(first, _)| first)
            };
            while let Some(first) = first_withheld(last) {
                last = first - 1;
            }
            let Some(sequence) = NonZeroU64::new(last) else { continue };
            let last = Dot { origin, sequence };
            ids.extend(event_id(&*self.store, &self.table, last).await?.map(|id| (last, id)));
        }
        Ok(ids)
    }

    /// Returns the position of a cursor, or `None` if it belongs to another log.
    fn resolve(&self, cursor: Option<LogPosition>) -> Option<Position> {
        cursor?.resolve(&*self.store).ok().flatten()
    }

    /// Builds a page from the events after a position. Returns `None` if the target lacks an event before it.
    /// The page covers `knowledge`, which this node had before.
    async fn build(
        &self,
        pull: &Pull,
        start: Option<Position>,
        knowledge: Knowledge,
    ) -> Result<Option<Page>, StoreError> {
        // ORDER: the end of the page, then the rest. So the query selects every replicated event of the page: an event
        // and the row of its category are one commit. An event before the end that is neither stored nor withheld was
        // removed.
        let end = self.store.watch_head().current();
        let (query, own) = (self.query().await?, rows::origins(&*self.store, &self.table).await?);
        let mut page = PageBuilder::new(pull, own, start);
        let (mut cursor, mut count, mut commit) = (start, 0, Vec::<RecordedEvent>::new());
        loop {
            let mut events = self.store.read_log(LogRead::matching(query.clone()).after(cursor).limit(BATCH)).await?;
            let before = count;
            while let Some(event) = events.next().await?.filter(|event| Some(event.position) <= end) {
                // A page ends between two commits.
                if commit.first().is_some_and(|first| start_of_commit(first) != start_of_commit(&event)) {
                    if !self.add_commit(&mut page, std::mem::take(&mut commit)).await? {
                        return Ok(None);
                    }
                    if page.is_full() || count >= MAX_READ {
                        return self.finish(page, knowledge, cursor, false).await;
                    }
                }
                cursor = Some(event.position);
                count += 1;
                commit.push(event);
            }
            if count - before < BATCH {
                break;
            }
        }
        if !self.add_commit(&mut page, commit).await? {
            return Ok(None);
        }
        page.scanned = cursor.max(end);
        for dot in knowledge.clock().iter() {
            if !self.account_through(&mut page, dot).await? {
                return Ok(None);
            }
        }
        let is_last = !pull.filter.selects_all() || self.add_withheld(&mut page, end).await?;
        self.finish(page, knowledge, cursor.max(end), is_last).await
    }

    /// Completes a page. Returns `None` if the target lacks an event before it.
    async fn finish(
        &self,
        mut page: PageBuilder<'_>,
        mut knowledge: Knowledge,
        cursor: Option<Position>,
        is_last: bool,
    ) -> Result<Option<Page>, StoreError> {
        // The next page begins after the excluded events.
        for dot in std::mem::take(&mut page.excluded).iter() {
            if !self.account_through(&mut page, dot).await? {
                return Ok(None);
            }
        }
        for dot in page.declared.iter() {
            if knowledge.clock().includes(dot) {
                continue;
            }
            let withheld = page.own.get(&dot.origin).map(|known| known.withheld.clone()).unwrap_or_default();
            knowledge.insert(dot, withheld.intersection(&RangeSet::of(1, dot.sequence.get())));
        }
        let cursor = LogPosition::in_log(self.store.log_id(), cursor);
        let sender = sender(&*self.store, &self.table).await?;
        let (reports, items, ids, promises) = (Vec::new(), page.items, Vec::new(), Vec::new());
        Ok(Some(Page { sender, reports, items, cursor, knowledge, is_last, ids, promises }))
    }

    /// Returns the query of all replicated events.
    async fn query(&self) -> Result<Query, StoreError> {
        let mut categories = rows::categories(&*self.store, &self.table).await?;
        let membership = Category::new(es_core::__private::MEMBERSHIP_STREAM);
        categories.insert(membership.map_err(|error| StoreError::io("name a category", error))?);
        // The erasures of subjects are replicated. A deletion of a stream has no stamp, and is skipped.
        Ok(Query::from(QueryItem { categories, ..QueryItem::new() }).or(QueryItem::erasures()))
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

    /// Adds the events of a commit that the target lacks and the filter selects. Returns `false` if the target lacks an
    /// event before the start of the page, so that the page would omit it.
    async fn add_commit(&self, page: &mut PageBuilder<'_>, events: Vec<RecordedEvent>) -> Result<bool, StoreError> {
        let Some(last) = events.last().map(|event| event.position) else { return Ok(true) };
        let mut selected: Vec<(RecordedEvent, Stamp)> = Vec::new();
        for event in events {
            let Some(stamp) = self.stamp(&event).await? else { continue };
            if page.target.holds(stamp.dot) {
                continue;
            }
            if page.filter.selects(&event.stream) {
                selected.push((event, stamp));
            } else if !page.target.clock().includes(stamp.dot) {
                page.excluded.extend([stamp.dot]);
            }
        }
        // The log has the earlier events of an origin, and those that its node had seen, before an event. The target
        // must account for them first. If the filter divides the commit, all of its events are declared as withheld,
        // and the selected ones follow in one commit.
        let mut previous = None;
        for (_, stamp) in &selected {
            let before = NonZeroU64::new(stamp.dot.sequence.get() - 1).map(|sequence| Dot { sequence, ..stamp.dot });
            let before = before.filter(|before| previous != Some(*before));
            for dot in stamp.seen.iter().flat_map(VectorClock::iter).chain(before) {
                if !self.account_through(page, dot).await? {
                    return Ok(false);
                }
            }
            previous = Some(stamp.dot);
        }
        page.push(selected);
        page.scanned = page.scanned.max(Some(last));
        Ok(true)
    }

    /// Declares the events of an origin up to `last` that the target does not know, and that the page has not sent.
    /// Returns `false` if one of them is stored before the start of the page, so that the page would omit it.
    async fn account_through(&self, page: &mut PageBuilder<'_>, last: Dot) -> Result<bool, StoreError> {
        let (origin, through) = (last.origin, last.sequence.get());
        let first = page.target.through(origin).saturating_add(1);
        if page.target.clock().includes(last) {
            return Ok(true);
        }
        // An event without a row was removed before this node received it, or is withheld from this node.
        let mut removed = RangeSet::of(first, through);
        let mut dots = StoredDots::new(&*self.store, &self.table, origin, first, through);
        while let Some((sequence, position)) = dots.next().await? {
            if page.start >= Some(position) {
                return Ok(false);
            }
            // The log does not have the event, or the filter excludes it, or it comes later: this node received it
            // after others of its origin.
            let is_removed = page.filter.selects_all() && Some(position) <= page.scanned;
            if !is_removed {
                removed.remove(sequence, sequence);
            }
        }
        page.declare(last, &page.removed_of(origin, removed));
        Ok(true)
    }

    /// Adds what the target withholds although it pulls every event and the log has no further one: events that the
    /// log does not have any more, and events that the target has but does not know to have. Returns `false` if the
    /// page is full.
    async fn add_withheld(&self, page: &mut PageBuilder<'_>, end: Option<Position>) -> Result<bool, StoreError> {
        let origins: Vec<OriginId> = page.own.keys().copied().collect();
        for origin in origins {
            let Some(withheld) = page.target.ranges(origin).cloned() else { continue };
            for (first, last) in page.removed_of(origin, withheld).iter() {
                let mut removed = RangeSet::of(first, last);
                let mut dots = StoredDots::new(&*self.store, &self.table, origin, first, last);
                while let Some((sequence, position)) = dots.next().await? {
                    if page.is_full() {
                        return Ok(false);
                    }
                    let event = self.event(position).await?;
                    if Some(position) > end || event.is_some() {
                        removed.remove(sequence, sequence);
                    }
                    if let Some(event) = event.filter(|_| Some(position) <= end)
                        && !self.add_commit(page, vec![event]).await?
                    {
                        return Ok(false);
                    }
                }
                page.remove(origin, &removed);
            }
        }
        Ok(true)
    }

    /// Returns the event at a position, or `None` if it was removed.
    async fn event(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        event_at(&*self.store, position).await
    }

    /// Returns the answer to a claim; see [`confirm`].
    pub(crate) async fn confirm(&self, claim: Claim) -> Result<Confirmation, AnswerError> {
        confirm(&*self.store, &self.table, claim).await
    }
}

/// Returns the promise of this node, and those of other members that count on it.
async fn promises(store: &dyn EventStore) -> Vec<Promise> {
    let Some(replication) = store.replication() else { return Vec::new() };
    let Some(hook) = ReplicaHook::of(&*replication) else { return Vec::new() };
    match hook.promise(store).await {
        Ok(own) => hook.promises().of_others().into_iter().chain([own]).collect(),
        Err(error) => {
            // The events of the page do not depend on it.
            tracing::warn!(error = %ErrorChain(&error), "no promise could be made");
            hook.promises().of_others()
        }
    }
}

/// Returns the last event of an origin that a store has, for the member that wants to continue it. Pages that the node
/// has requested but not yet stored are discarded: they may have an event that the member has lost, and that the answer
/// does not name.
pub(crate) async fn confirm(store: &dyn EventStore, table: &Table, claim: Claim) -> Result<Confirmation, AnswerError> {
    let group = group::read(store).await?;
    group.check_node(&claim.node, None)?;
    let is_retired = group.is_retired(claim.origin);
    // ORDER: the count before the last event of the origin. A page that is stored before the count is part of the
    // answer; one that is stored after it fails on its expectation of the count.
    while let Err(error) = count_confirmation(store, table).await {
        // Another member asked at the same time. A count that returned to a former value would not discard its pages.
        if !matches!(error, CommitError::Conflict(_)) {
            return Err(error.into());
        }
    }
    let known = store.row(table, &rows::origin_key(claim.origin)).await?;
    let Some(known) = known else { return Ok(Confirmation { last: None, is_retired }) };
    let dot = Dot { origin: claim.origin, sequence: Known::decode(&known)?.through };
    Ok(Confirmation { last: Some((dot, event_id(store, table, dot).await?)), is_retired })
}

/// Returns the node of a store as the sender of a message.
pub(crate) async fn sender(store: &dyn EventStore, table: &Table) -> Result<Sender, StoreError> {
    let identity = rows::identity(store, table).await?.ok_or_else(|| rows::damaged("s", &[]))?;
    let time = to_stored_precision(hook::arrival(store).now);
    Ok(Sender { node: identity.name, origin: identity.origin, time })
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
    let known = known.map(|value| Known::decode(&value)).transpose()?;
    if let Some(known) = known.filter(|known| known.through == dot.sequence) {
        return Ok(known.id);
    }
    let Some(row) = store.row(table, &rows::dot_key(dot)).await? else { return Ok(None) };
    Ok(event_at(store, rows::position_of(&row)?).await?.map(|event| event.data.id))
}

/// Returns the event at a position, or `None` if it was removed.
async fn event_at(store: &dyn EventStore, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
    let read = LogRead { from: Some(position), ..LogRead::all().limit(1) };
    let event = store.read_log(read).await?.next().await?;
    Ok(event.filter(|event| event.position == position))
}

impl<'a> PageBuilder<'a> {
    fn new(pull: &'a Pull, own: BTreeMap<OriginId, Known>, start: Option<Position>) -> Self {
        Self {
            filter: &pull.filter,
            max_bytes: pull.max_bytes as usize,
            items: Vec::new(),
            bytes: 0,
            target: pull.knowledge.clone(),
            excluded: VectorClock::new(),
            declared: VectorClock::new(),
            own,
            start,
            scanned: start,
        }
    }

    fn is_full(&self) -> bool {
        !self.items.is_empty() && self.bytes >= self.max_bytes
    }

    /// Adds the events of a commit.
    fn push(&mut self, events: Vec<(RecordedEvent, Stamp)>) {
        if events.is_empty() {
            return;
        }
        let foreign = |(event, stamp): (RecordedEvent, Stamp)| {
            let mut data = event.data;
            if data.stamp.is_none() {
                // Unique keys of events from before the replication stay on this node.
                data.keys = Keys::default();
            }
            self.target.add(stamp.dot);
            self.declared.extend([stamp.dot]);
            data.stamp = Some(Box::new(stamp));
            let foreign = ForeignEvent { stream: event.stream, data, occurred_at: event.occurred_at };
            self.bytes += foreign.bytes();
            foreign
        };
        let events = events.into_iter().map(foreign).collect();
        self.items.push(Item::Commit(events));
    }

    /// Returns the sequences of an origin without those that this node withholds or does not know.
    fn removed_of(&self, origin: OriginId, mut sequences: RangeSet) -> RangeSet {
        let known = self.own.get(&origin);
        known.into_iter().for_each(|known| sequences.remove_all(&known.withheld));
        sequences.remove(known.map_or(0, |known| known.through.get()).saturating_add(1), u64::MAX);
        sequences
    }

    /// Declares the events of an origin up to `last` that the target does not know as removed or withheld.
    fn declare(&mut self, last: Dot, removed: &RangeSet) {
        let first = self.target.through(last.origin).saturating_add(1);
        let mut withheld = RangeSet::of(first, last.sequence.get());
        withheld.remove_all(removed);
        let gaps =
            |ranges: &RangeSet, reason| ranges.iter().map(move |(from, through)| (from, through, reason)).collect();
        let mut all: Vec<_> = gaps(removed, GapReason::Removed);
        all.extend::<Vec<_>>(gaps(&withheld, GapReason::Withheld));
        all.sort_unstable_by_key(|(from, ..)| *from);
        for (from, through, reason) in all {
            self.push_gap(last.origin, from, through, reason);
        }
        self.target.insert(last, RangeSet::default());
        withheld.iter().for_each(|(from, through)| self.target.withhold(last.origin, from..=through));
    }

    /// Declares withheld events of the target as removed.
    fn remove(&mut self, origin: OriginId, removed: &RangeSet) {
        for (from, through) in removed.iter() {
            self.push_gap(origin, from, through, GapReason::Removed);
            self.target.clear(origin, from, through);
        }
    }

    fn push_gap(&mut self, origin: OriginId, from: u64, through: u64, reason: GapReason) {
        if let (Some(from), Some(through)) = (NonZeroU64::new(from), NonZeroU64::new(through)) {
            self.items.push(Item::Gap { origin, from, through, reason });
            self.declared.extend([Dot { origin, sequence: through }]);
        }
    }
}

/// Returns the position of the first event of the commit of an event.
fn start_of_commit(event: &RecordedEvent) -> Position {
    let start = event.position.get().saturating_sub(u64::from(event.part.index));
    Position::new(start).unwrap_or(Position::FIRST)
}
