//! [`CanonicalLog`]: the events of a node in canonical order, up to its settled time.
//!
//! ```text
//!   rows of origin A:  A.7  A.8 ...  --+
//!   rows of origin B:  B.2  B.3 ...  --+--> the least canonical key up to the settled time --> batch, mark
//!   events of this node only:  ...   --+--> a key before the mark: late
//! ```
//!
//! The events of an origin are in canonical order already, so a merge of all origins needs no index, and its memory
//! does not grow with the number of events that wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use super::mark::{Lane, SettledMark, SettledStep};
use crate::consumer::selection::Selection;
use crate::model::{CanonicalKey, Dot, EventId, OriginId, Position, RecordedEvent};
use crate::projection::is_projected;
use crate::retention::Erasure;
use crate::store::implement::{Replication, SettledTime};
use crate::store::{EventStore, LogRead, Query, QueryItem, StoreError};

/// The number of events of an origin that are read at once.
const READ: usize = 64;
/// The number of events, also of other projections, after which a batch ends.
const MAX_SCANNED: usize = 20_000;

/// The events of a node in canonical order, up to its settled time.
pub(crate) struct CanonicalLog {
    store: Arc<dyn EventStore>,
    replication: Arc<dyn Replication>,
    selection: Selection,
    limit: usize,
    /// The events that were read and that are not in a batch yet, by origin.
    origins: BTreeMap<OriginId, OriginEvents>,
    local: Local,
    /// The batch that is being built, so that a dropped read loses nothing.
    batch: CanonicalBatch,
    settled: SettledTime,
    /// Publishes the settled time.
    publish: watch::Sender<Option<SettledTime>>,
    /// The last position that was returned.
    returned: Option<Position>,
}

/// Events in canonical order.
#[derive(Debug, Clone, Default)]
pub(crate) struct CanonicalBatch {
    pub(crate) events: Vec<RecordedEvent>,
    /// One step for each event.
    pub(crate) steps: Vec<SettledStep>,
    /// The events that arrived below the settled time, if there are any; `events` is empty then.
    pub(crate) late: Vec<EventId>,
    /// The mark after the batch.
    pub(crate) mark: SettledMark,
    /// The position before the first event of the log that is not in this batch or an earlier one.
    pub(crate) position: Option<Position>,
}

/// The next events of an origin.
#[derive(Debug, Default)]
struct OriginEvents {
    events: VecDeque<(Dot, RecordedEvent)>,
    /// The last sequence that was read.
    read_to: u64,
}

/// The next events that only this node has: those of other levels, and erasures of this node.
#[derive(Debug)]
struct Local {
    query: Query,
    events: VecDeque<RecordedEvent>,
    read_to: Option<Position>,
}

/// The choice of the next event.
enum NextLane {
    Late(OriginId),
    Apply(Lane),
    None,
}

impl CanonicalLog {
    pub(crate) fn new(
        store: Arc<dyn EventStore>,
        replication: Arc<dyn Replication>,
        selection: Selection,
        mark: SettledMark,
        limit: u32,
        publish: watch::Sender<Option<SettledTime>>,
    ) -> Self {
        let local =
            Local { query: local_query(&selection, &*replication), events: VecDeque::new(), read_to: mark.log() };
        let batch = CanonicalBatch { mark, ..CanonicalBatch::default() };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (origins, settled) = (BTreeMap::new(), SettledTime::default());
        Self { store, replication, selection, limit, origins, local, batch, settled, publish, returned: None }
    }

    /// Returns the next batch. Waits until another event is settled, or the position changes. If this future is
    /// dropped, the next call returns the same events.
    pub(crate) async fn next(&mut self) -> Result<CanonicalBatch, StoreError> {
        let mut changes = self.replication.watch_settled();
        loop {
            changes.mark_unchanged();
            let settled = self.replication.settled(&*self.store).await?;
            let mut head = self.store.watch_head();
            // A row can be visible before the head includes its event.
            if let Some(last) = settled.position {
                head.wait_after(last.previous()).await?;
            }
            let seen = head.current();
            self.publish.send_replace(Some(settled.clone()));
            self.settled = settled;
            if self.merge(seen).await? {
                self.returned = self.batch.position;
                let rest = CanonicalBatch { mark: self.batch.mark.clone(), ..CanonicalBatch::default() };
                return Ok(std::mem::replace(&mut self.batch, rest));
            }
            tokio::select! {
                moved = head.wait_after(seen) => drop(moved?),
                // A replica that ends closes its store, too.
                changed = changes.changed() => if changed.is_err() { head.wait_after(seen).await?; },
            }
        }
    }

    /// Adds the settled events up to a position of the log to the batch. Returns `false` if there is nothing new.
    async fn merge(&mut self, seen: Option<Position>) -> Result<bool, StoreError> {
        self.find_late_admissions(seen).await?;
        self.batch.mark.see(seen);
        let origins: Vec<OriginId> = self.settled.known.iter().map(|dot| dot.origin).collect();
        for origin in origins {
            self.fill(origin, seen).await?;
        }
        self.fill_local(seen).await?;
        let mut scanned = 0;
        let mut is_at_head = false;
        while self.batch.events.len() < self.limit && scanned < MAX_SCANNED {
            scanned += 1;
            match self.choose() {
                NextLane::Late(_) if !self.batch.events.is_empty() => break,
                NextLane::Late(origin) => {
                    self.skip_late(origin);
                    self.fill(origin, seen).await?;
                }
                NextLane::Apply(_) if !self.batch.late.is_empty() => break,
                NextLane::Apply(Lane::Origin(dot)) => {
                    self.apply(dot.origin);
                    self.fill(dot.origin, seen).await?;
                }
                NextLane::Apply(Lane::Local(_)) => {
                    self.apply_local();
                    self.fill_local(seen).await?;
                }
                NextLane::None => {
                    is_at_head = true;
                    break;
                }
            }
        }
        self.batch.position = self.position(seen);
        let has_events = !self.batch.events.is_empty() || !self.batch.late.is_empty();
        Ok(has_events || !is_at_head || self.batch.position > self.returned)
    }

    /// Returns the event with the least canonical key that is settled.
    fn choose(&self) -> NextLane {
        let heads = self.origins.values().filter_map(|events| {
            let (dot, event) = events.events.front()?;
            Some((event.canonical_key(), *dot))
        });
        let least = heads.min_by_key(|(key, _)| *key);
        let local = self.local.events.front().map(|event| (local_key(event), Lane::Local(event.position)));
        if let Some((None, lane)) = local {
            return NextLane::Apply(lane);
        }
        if let Some((_, dot)) = least.filter(|(key, _)| !self.batch.mark.precedes(*key)) {
            return NextLane::Late(dot.origin);
        }
        let local = local.and_then(|(key, lane)| Some((key?, lane)));
        let all = local.into_iter().chain(least.map(|(key, dot)| (key, Lane::Origin(dot))));
        let next = all.min_by_key(|(key, _)| *key).filter(|(key, _)| Some(key.time) <= self.settled.time);
        next.map_or(NextLane::None, |(_, lane)| NextLane::Apply(lane))
    }

    /// Adds the next event of an origin to the batch, if the projection selects it.
    fn apply(&mut self, origin: OriginId) {
        let Some((dot, event)) = self.origins.get_mut(&origin).and_then(|events| events.events.pop_front()) else {
            return;
        };
        let key = Some(event.canonical_key());
        self.add(event, SettledStep { key, lane: Lane::Origin(dot) });
    }

    fn apply_local(&mut self) {
        let Some(event) = self.local.events.pop_front() else { return };
        // An event of this node can be recorded at a time that other nodes have passed already.
        let key = local_key(&event).filter(|key| self.batch.mark.precedes(*key));
        let lane = Lane::Local(event.position);
        self.add(event, SettledStep { key, lane });
    }

    fn add(&mut self, event: RecordedEvent, step: SettledStep) {
        if is_projected(&event) && self.selection.selects(&event) {
            self.batch.mark.apply(step);
            self.batch.events.push(event);
            self.batch.steps.push(step);
        } else {
            self.batch.mark.skip(step.lane);
        }
    }

    /// Skips the next event of an origin, which arrived below the settled time.
    fn skip_late(&mut self, origin: OriginId) {
        let Some((dot, event)) = self.origins.get_mut(&origin).and_then(|events| events.events.pop_front()) else {
            return;
        };
        self.batch.mark.skip(Lane::Origin(dot));
        if is_projected(&event) && self.selection.selects(&event) {
            self.batch.late.push(event.data.id);
        }
    }

    /// Finds the events that were withheld, and that arrived after later events of their origins were applied. Those
    /// that precede no applied event are read again in their order.
    async fn find_late_admissions(&mut self, seen: Option<Position>) -> Result<(), StoreError> {
        if self.settled.late <= self.batch.mark.seen() || self.batch.mark == SettledMark::default() {
            return Ok(());
        }
        let read = LogRead::matching(self.selection.log_query().clone()).after(self.batch.mark.seen());
        let mut events = self.store.read_log(read).await?;
        while let Some(event) = events.next().await?.filter(|event| Some(event.position) <= seen) {
            let dot = event.data.stamp.as_ref().map(|stamp| stamp.dot);
            let is_selected = self.selection.includes(&event);
            if is_selected
                && dot.is_some_and(|dot| self.batch.mark.includes(dot))
                && !self.batch.late.contains(&event.data.id)
            {
                self.batch.late.push(event.data.id);
            }
        }
        self.origins.clear();
        Ok(())
    }

    /// Reads the next events of an origin, if none is left.
    async fn fill(&mut self, origin: OriginId, seen: Option<Position>) -> Result<(), StoreError> {
        let through = self.settled.known.get(origin).map_or(0, std::num::NonZeroU64::get);
        let first = self.batch.mark.sequence(origin);
        let events =
            self.origins.entry(origin).or_insert_with(|| OriginEvents { read_to: first, ..OriginEvents::default() });
        while events.events.is_empty() && events.read_to < through {
            let found = self.replication.stored_after(&*self.store, origin, events.read_to, READ).await?;
            let is_end = found.len() < READ;
            // The settled time does not include events that were stored since it was read.
            let is_known = |(dot, position): &(Dot, Position)| dot.sequence.get() <= through && Some(*position) <= seen;
            let dots: Vec<_> = found.into_iter().filter(is_known).collect();
            events.events = read_events(&*self.store, &dots).await?.into();
            // A withheld event at the end of the origin may still arrive, so `read_to` stays before it.
            let Some((last, _)) = dots.last() else { break };
            events.read_to = last.sequence.get();
            if is_end {
                break;
            }
        }
        Ok(())
    }

    /// Reads the next events that only this node has, if none is left.
    async fn fill_local(&mut self, seen: Option<Position>) -> Result<(), StoreError> {
        let Self { local, store, replication, selection, .. } = self;
        while local.events.is_empty() && local.read_to < seen {
            let read = LogRead::matching(local.query.clone()).after(local.read_to).limit(READ as u64);
            let found = store.read_log(read).await?.collect().await?;
            let last = found.last().map(|event| event.position).filter(|_| found.len() == READ);
            let found = found.into_iter().filter(|event| Some(event.position) <= seen);
            let is_local = |event: &RecordedEvent| match Erasure::of(event) {
                // A replicated erasure or deletion is applied in the order of its origin.
                Some(_) => event.data.stamp.is_none() && selection.includes(event),
                None => event.data.stamp.is_none() && !replication.replicates(&event.stream.category()),
            };
            local.events = found.filter(is_local).collect();
            local.read_to = last.map_or(seen, |last| seen.min(Some(last)));
        }
        Ok(())
    }

    /// Returns the position before the first event of the log that is not in the batch or an earlier one.
    fn position(&self, seen: Option<Position>) -> Option<Position> {
        let waiting = self.origins.values().flat_map(|events| &events.events).map(|(_, event)| event.position);
        let local = self.local.events.front().map(|event| event.position);
        waiting.chain(local).min().map_or(seen, |first| seen.min(first.previous()))
    }
}

/// Returns the canonical key of an event that only this node has; `None` for an erasure.
fn local_key(event: &RecordedEvent) -> Option<CanonicalKey> {
    Erasure::of(event).is_none().then(|| event.canonical_key())
}

/// Returns the query of the events of a selection that may be on this node only.
fn local_query(selection: &Selection, replication: &dyn Replication) -> Query {
    let Some(items) = selection.query().items() else { return Query::all() };
    let items = items.iter().filter_map(|item| {
        let mut local = item.clone();
        local.categories.retain(|category| !replication.replicates(category));
        (item.categories.is_empty() || !local.categories.is_empty()).then_some(local)
    });
    Query::any_of(items).or(QueryItem::erasures())
}

/// Reads the events at these positions. Those that were removed are left out.
async fn read_events(
    store: &dyn EventStore,
    dots: &[(Dot, Position)],
) -> Result<Vec<(Dot, RecordedEvent)>, StoreError> {
    let mut found = Vec::with_capacity(dots.len());
    // Events of one commit are next to each other in the log.
    for run in dots.chunk_by(|(_, before), (_, after)| before.next() == *after) {
        let [(_, first), ..] = run else { continue };
        let read = LogRead::all().from(*first).limit(run.len() as u64);
        let events = store.read_log(read).await?.collect().await?;
        for (dot, position) in run {
            if let Some(event) = events.iter().find(|event| event.position == *position) {
                found.push((*dot, event.clone()));
            }
        }
    }
    Ok(found)
}
