//! [`MemoryStore`]: the reference implementation of a store, in memory and without indexes, for tests and as
//! documentation.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{Clock, SystemClock};
use crate::model::{EventId, EventView, LogId, OriginId, RecordedEvent, Timestamp};
use crate::model::{Position, Revision};
use crate::model::{StreamId, Table, UniqueKey};
use crate::retention::{
    Retained, Retention, Scavenge, ScavengePoint, ScavengeProgress, ScavengeReport, StreamRetention,
};
use crate::store::decide::CommitDecision;
use crate::store::decider::{Decider, PrepareHook};
use crate::store::head::HeadSender;
use crate::store::implement::{Replication, RowChange};
use crate::store::keys::{KeyHash, KeyOwner, KeySecret, key_entries};
use crate::store::locks::Locks;
use crate::store::read::Batch;
use crate::store::store_clock::ahead_of_clock;
use crate::store::view::LogView;
use crate::store::{
    Commit, CommitError, Committed, Direction, EventReader, EventStore, EventStream, HeadWatch, LogRead, Query, Row,
    RowScan, StartHookError, StoreError, StoreInfo, StreamRead, Visitor,
};

/// An in-memory store for tests. Its contents are lost when the last handle is dropped. Reads scan the whole log.
#[derive(Clone)]
pub struct MemoryStore {
    id: LogId,
    log: Arc<Mutex<Log>>,
    clock: Arc<dyn Clock>,
    head: Arc<HeadSender>,
    decider: Arc<Decider>,
}

/// The state of the store: events in the order of their positions, owners of unique keys, rows, and retention.
#[derive(Debug, Clone)]
struct Log {
    events: Vec<Arc<RecordedEvent>>,
    ids: HashMap<EventId, Position>,
    streams: HashMap<StreamId, Revision>,
    secret: KeySecret,
    owners: HashMap<KeyHash, KeyOwner>,
    rows: BTreeMap<(Table, Bytes), Bytes>,
    retention: Retention,
    /// The position of the last completed scavenge point.
    scavenged: Option<Position>,
}

impl MemoryStore {
    /// Returns an empty store that uses the system clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// Returns an empty store that uses this clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            id: LogId::new(),
            log: Arc::new(Mutex::new(Log::new())),
            clock,
            head: Arc::new(HeadSender::new(None)),
            decider: Arc::default(),
        }
    }

    /// Returns a store with a copy of the contents, this log id, and no hooks: with the same id, the store after a
    /// restart; with another id, a restored backup.
    #[must_use]
    pub fn copy(&self, id: LogId) -> Self {
        let log = self.log().clone();
        let head = log.events.last().map(|event| event.position);
        Self {
            id,
            clock: Arc::clone(&self.clock),
            head: Arc::new(HeadSender::new(head)),
            decider: Arc::new(Decider::new(log.locks())),
            log: Arc::new(Mutex::new(log)),
        }
    }

    /// Installs a hook, which takes part in every later commit. While the hook prepares itself, other handles of the
    /// store can commit.
    ///
    /// # Errors
    /// - [`StartHookError::Duplicate`] if the store has a hook with this name.
    /// - [`StartHookError::Prepare`] if the hook cannot be prepared.
    pub async fn with_hook(self, hook: impl PrepareHook) -> Result<Self, StartHookError> {
        let at_end = |start: &mut dyn FnMut(Option<Position>) -> bool| {
            // ORDER: the lock is held until the hook has started, so that no commit is decided in between.
            let log = self.log();
            start(log.events.last().map(|event| event.position))
        };
        self.decider.start(&self, &hook, at_end).await?;
        Ok(self)
    }

    /// Returns by how much the last recorded time is ahead of the clock, if that is more than a minute. Recorded times
    /// never decrease, so later events get the same time until the clock has caught up.
    #[must_use]
    pub fn ahead_of_clock(&self) -> Option<Duration> {
        ahead_of_clock(self.log().events.last().map(|event| event.recorded_at), self.clock.now())
    }

    /// Returns the visible events of a read of one stream.
    fn select_stream(&self, read: &StreamRead) -> Result<Vec<Arc<RecordedEvent>>, StoreError> {
        let (log, now) = (self.open_log()?, self.clock.now());
        let visible = log.events.iter().filter(|event| event.stream == read.stream && log.shows(event, now));
        Ok(select(visible, |event| event.revision, read.from, read.direction, read.limit))
    }

    /// Returns the visible events of a read of the log, and the last position that the read scans.
    fn select_log(&self, read: &LogRead) -> Result<(Vec<Arc<RecordedEvent>>, Option<Position>), StoreError> {
        let (log, now) = (self.open_log()?, self.clock.now());
        let matching = log.events.iter().filter(|event| read.query.matches_event(event) && log.shows(event, now));
        let events = select(matching, |event| event.position, read.from, read.direction, read.limit);
        let head = log.events.last().map(|event| event.position);
        let scanned = read.scanned_to(head, &events);
        Ok((events, scanned))
    }

    /// Locks the log unless the store was closed.
    fn open_log(&self) -> Result<MutexGuard<'_, Log>, StoreError> {
        let log = self.log();
        if self.head.is_closed() { Err(StoreError::Closed) } else { Ok(log) }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // Code that can panic never runs between two changes of the log, so a poisoned lock still guards a consistent
        // log.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("events", &self.log().events.len()).finish_non_exhaustive()
    }
}

impl Log {
    fn new() -> Self {
        Self {
            events: Vec::new(),
            ids: HashMap::new(),
            streams: HashMap::new(),
            secret: KeySecret::random(),
            owners: HashMap::new(),
            rows: BTreeMap::new(),
            retention: Retention::default(),
            scavenged: None,
        }
    }

    fn apply(&mut self, commit: &Commit, committed: &Committed) -> Result<(), StoreError> {
        for event in &committed.events {
            self.ids.insert(event.data.id, event.position);
            self.streams.insert(event.stream.clone(), event.revision);
            self.events.push(Arc::new(event.clone()));
            self.retention.apply(event)?;
            for (key, owner) in key_entries(event) {
                let hash = self.secret.hash(key);
                match owner {
                    Some(owner) => self.owners.insert(hash, owner),
                    None => self.owners.remove(&hash),
                };
            }
        }
        for RowChange { table, key, value } in commit.rows() {
            let row = (table.clone(), key.clone());
            match value {
                Some(value) => self.rows.insert(row, value.clone()),
                None => self.rows.remove(&row),
            };
        }
        Ok(())
    }

    /// Returns the locks of the rows.
    fn locks(&self) -> Locks {
        let rows = self.rows.iter().filter(|((table, _), _)| *table == Locks::rows_table());
        // Only the decision writes these rows, so they can be read.
        Locks::from_rows(rows.map(|((_, key), value)| (key, value))).unwrap_or_default()
    }

    /// Returns `true` if an event is visible at the time `now`.
    fn shows(&self, event: &RecordedEvent, now: Timestamp) -> bool {
        let last = self.streams.get(&event.stream).copied();
        !event.is_removed() && self.retention.of(&event.stream).shows(event.revision, event.recorded_at, last, now)
    }

    /// Removes the events that were hidden at the position and the time of a scavenge point, stream by stream, and adds
    /// them to the report. Breaks if the scavenge is stopped before the point is completed.
    fn remove(
        &mut self,
        point: ScavengePoint,
        how: &Scavenge,
        report: &mut ScavengeReport,
    ) -> Result<ControlFlow<()>, StoreError> {
        let end = index_of(point.position).min(self.events.len());
        let (before_point, _) = self.events.split_at_mut(end);
        let (mut retention, mut last) = (Retention::default(), HashMap::new());
        for event in before_point.iter() {
            retention.apply(event)?;
            last.insert(event.stream.clone(), event.revision);
        }
        let mut hidden = BTreeMap::<StreamId, Vec<&mut Arc<RecordedEvent>>>::new();
        for event in before_point.iter_mut().filter(|event| !event.is_removed()) {
            let last = last.get(&event.stream).copied();
            if !retention.of(&event.stream).shows(event.revision, event.recorded_at, last, point.at) {
                hidden.entry(event.stream.clone()).or_default().push(event);
            }
        }
        for (streams, events) in (1..).zip(hidden.into_values()) {
            for event in events {
                report.events += 1;
                report.bytes += event.data.payload.len() as u64;
                *event = Arc::new(event.without_content());
            }
            if how.report(ScavengeProgress { streams, events: report.events }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.scavenged = Some(point.position);
        Ok(ControlFlow::Continue(()))
    }
}

fn index_of(position: Position) -> usize {
    usize::try_from(position.get() - 1).unwrap_or(usize::MAX)
}

impl LogView for Log {
    fn head(&mut self) -> Result<Option<Position>, StoreError> {
        Ok(self.events.last().map(|event| event.position))
    }

    fn last_recorded_at(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.events.last().map(|event| event.recorded_at))
    }

    fn revision(&mut self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        Ok(self.streams.get(stream).copied())
    }

    fn position_of(&mut self, id: EventId) -> Result<Option<Position>, StoreError> {
        Ok(self.ids.get(&id).copied())
    }

    fn event(&mut self, position: Position) -> Result<RecordedEvent, StoreError> {
        self.events
            .get(index_of(position))
            .map(|event| RecordedEvent::clone(event))
            .ok_or_else(|| StoreError::damaged(format!("position {position}"), "expected an event, found none"))
    }

    fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
        now: Timestamp,
    ) -> Result<Option<Position>, StoreError> {
        let start = after.map_or(0, |after| index_of(after) + 1);
        let mut rest = self.events.iter().skip(start);
        Ok(rest.find(|event| query.matches_event(event) && self.shows(event, now)).map(|event| event.position))
    }

    fn first_left(&mut self, stream: &StreamId) -> Result<Revision, StoreError> {
        let first = self.events.iter().find(|event| event.stream == *stream && !event.is_removed());
        let next = Revision::following(self.streams.get(stream).copied());
        Ok(first.map_or(next, |event| event.revision))
    }

    fn retention(&mut self, stream: &StreamId) -> Result<StreamRetention, StoreError> {
        Ok(self.retention.of(stream))
    }

    fn owner(&mut self, key: &UniqueKey) -> Result<Option<KeyOwner>, StoreError> {
        Ok(self.owners.get(&self.secret.hash(key)).cloned())
    }

    fn row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.get(&(table.clone(), Bytes::copy_from_slice(key))).cloned())
    }
}

/// Selects events from a bound on, in a direction, up to a limit.
fn select<'a, N: Ord + Copy>(
    events: impl DoubleEndedIterator<Item = &'a Arc<RecordedEvent>>,
    number: impl Fn(&RecordedEvent) -> N,
    from: Option<N>,
    direction: Direction,
    limit: Option<u64>,
) -> Vec<Arc<RecordedEvent>> {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    match direction {
        Direction::Forward => {
            events.filter(|event| from.is_none_or(|from| number(event) >= from)).take(limit).cloned().collect()
        }
        Direction::Backward => {
            events.rev().filter(|event| from.is_none_or(|from| number(event) <= from)).take(limit).cloned().collect()
        }
    }
}

fn to_owned(events: &[Arc<RecordedEvent>]) -> Vec<RecordedEvent> {
    events.iter().map(|event| RecordedEvent::clone(event)).collect()
}

/// Visits events. Returns the position of the event at which the visitor broke. The log is not locked during the visit,
/// so a visitor may use the store.
fn visit(events: &[Arc<RecordedEvent>], visitor: &mut Visitor<'_>) -> Option<Position> {
    let broke = events.iter().find(|event| visitor(EventView::from(&***event)).is_break());
    broke.map(|event| event.position)
}

#[async_trait]
impl EventReader for MemoryStore {
    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        let events = to_owned(&self.select_stream(&read)?);
        Ok(EventStream::ready(Batch { events, scanned: None }))
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        let (events, scanned) = self.select_log(&read)?;
        Ok(EventStream::ready(Batch { events: to_owned(&events), scanned }))
    }

    async fn visit_stream(&self, read: StreamRead, visitor: &mut Visitor<'_>) -> Result<(), StoreError> {
        visit(&self.select_stream(&read)?, visitor);
        Ok(())
    }

    async fn visit_log(&self, read: LogRead, visitor: &mut Visitor<'_>) -> Result<Option<Position>, StoreError> {
        let (events, scanned) = self.select_log(&read)?;
        Ok(visit(&events, visitor).or(scanned))
    }

    async fn head(&self) -> Result<Option<Position>, StoreError> {
        LogView::head(&mut *self.open_log()?)
    }

    fn log_id(&self) -> LogId {
        self.id
    }

    fn watch_head(&self) -> HeadWatch {
        self.head.watch()
    }

    async fn revision(&self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        LogView::revision(&mut *self.open_log()?, stream)
    }

    async fn find(&self, id: EventId) -> Result<Option<RecordedEvent>, StoreError> {
        let mut log = self.open_log()?;
        match log.position_of(id)? {
            Some(position) => Ok(Some(log.event(position)?).filter(|event| log.shows(event, self.clock.now()))),
            None => Ok(None),
        }
    }

    async fn owner(&self, key: &UniqueKey) -> Result<Option<StreamId>, StoreError> {
        let mut log = self.open_log()?;
        let Some(owner) = LogView::owner(&mut *log, key)? else { return Ok(None) };
        let begins = log.retention.of(&owner.stream).begins();
        Ok(owner.holder(begins))
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        LogView::row(&mut *self.open_log()?, table, key)
    }

    async fn rows(&self, scan: RowScan) -> Result<Vec<Row>, StoreError> {
        let log = self.open_log()?;
        let first = (Bound::Included((scan.table.clone(), scan.prefix.clone())), Bound::Unbounded);
        let matching = log
            .rows
            .range(first)
            .take_while(|((table, key), _)| *table == scan.table && key.starts_with(&scan.prefix))
            .map(|((_, key), value)| Row { key: key.clone(), value: value.clone() });
        let rows: Vec<Row> = match scan.direction {
            Direction::Forward => matching
                .filter(|row| scan.after.as_ref().is_none_or(|after| row.key > *after))
                .take(scan.limit)
                .collect(),
            Direction::Backward => {
                let mut rows: Vec<Row> = matching.collect();
                rows.reverse();
                rows.retain(|row| scan.after.as_ref().is_none_or(|after| row.key < *after));
                rows.truncate(scan.limit);
                rows
            }
        };
        Ok(rows)
    }

    async fn retained(&self, stream: &StreamId) -> Result<Retained, StoreError> {
        let (log, now) = (self.open_log()?, self.clock.now());
        let last = log.streams.get(stream).copied();
        let mut stream_events = log.events.iter().filter(|event| event.stream == *stream);
        let first = stream_events.find(|event| log.shows(event, now)).map(|event| event.revision);
        let first = first.unwrap_or_else(|| Revision::following(last));
        Ok(Retained::new(&log.retention.of(stream), first, last))
    }

    async fn streams(
        &self,
        prefix: &str,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<(StreamId, Revision)>, StoreError> {
        let log = self.open_log()?;
        let selected = log.streams.iter().filter(|(stream, _)| {
            stream.as_str().starts_with(prefix) && after.is_none_or(|after| stream.as_str() > after.as_str())
        });
        let mut streams: Vec<_> = selected.map(|(stream, revision)| (stream.clone(), *revision)).collect();
        streams.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        streams.truncate(limit);
        Ok(streams)
    }

    async fn info(&self) -> Result<StoreInfo, StoreError> {
        let ahead_of_clock_seconds = self.ahead_of_clock().map(|ahead| ahead.as_secs());
        let log = self.open_log()?;
        let last = log.events.last();
        Ok(StoreInfo {
            directory: None,
            store_id: None,
            log_id: self.id,
            created: None,
            head: last.map(|event| event.position),
            last_recorded_at: last.map(|event| event.recorded_at),
            ahead_of_clock_seconds,
            bytes_on_disk: None,
            files: None,
            mode: None,
        })
    }
}

#[async_trait]
impl EventStore for MemoryStore {
    /// Returns 1, because the contents are lost with the last handle.
    fn opening(&self) -> Option<u64> {
        Some(1)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let mut commit = commit.validated()?;
        let mut log = self.open_log()?;
        match self.decider.decide(&mut commit, &mut *log, self.clock.now())? {
            CommitDecision::Repeat(committed) => Ok(committed),
            CommitDecision::Write(committed) => {
                log.apply(&commit, &committed)?;
                // ORDER: publish before the lock is released, so that heads are published in order.
                self.head.publish(LogView::head(&mut *log)?);
                Ok(committed)
            }
        }
    }

    fn runs_hook(&self, name: &str) -> bool {
        self.decider.runs(name)
    }

    fn is_own_origin(&self, origin: OriginId) -> bool {
        self.decider.is_own_origin(origin)
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.decider.replication()
    }

    async fn scavenge(&self, how: &Scavenge) -> Result<ScavengeReport, CommitError> {
        let committed = self.commit(Commit::scavenge_point(self.clock.now(), how.note.clone())).await?;
        let mut log = self.open_log()?;
        let pending: Vec<_> =
            log.retention.points().iter().filter(|point| Some(point.position) > log.scavenged).copied().collect();
        let missing = || StoreError::damaged("scavenge points", "expected the point that was just written, found none");
        let point = pending.iter().find(|point| Some(point.position) == committed.position()).ok_or_else(missing)?;
        let mut report = ScavengeReport { point: *point, is_complete: true, events: 0, bytes: 0, earlier_points: 0 };
        for point in &pending {
            if log.remove(*point, how, &mut report)?.is_break() {
                report.is_complete = false;
                break;
            }
            report.earlier_points += u64::from(Some(point.position) < committed.position());
        }
        Ok(report)
    }

    /// Has no effect: there are no files.
    async fn compact(&self) -> Result<(), StoreError> {
        self.open_log().map(drop)
    }

    async fn close(&self) -> Result<(), StoreError> {
        // ORDER: close under the lock, so that every commit is either written before the close or rejected.
        let _log = self.log();
        self.head.close();
        Ok(())
    }
}
