//! [`ReplicaHook`]: stamps local events, and decides on foreign ones, in the decision of the store.
//!
//! ```text
//!   local commit   --> before: stamp the events of replicated categories   --+
//!   foreign commit --> before: drop held events, refuse inadmissible ones  --+--> after: rows o, d, c, h
//! ```

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use es_core::model::{
    Category, Clock, Dot, HybridTime, OriginId, RetiredOrigins, Stamp, SystemClock, Table, VectorClock,
};
use es_core::retention::{OperatorEvent, Scope};
use es_core::store::implement::{
    DecisionHook, LogView, Replication, RowChange, SettledTime, ValidCommit, is_membership_stream, is_retention_stream,
};
use es_core::{
    Commit, CommitError, EventData, EventId, EventStore, NewEvent, Position, RecordedEvent, StoreError, StreamId,
    Timestamp,
};
use tokio::sync::watch;

use crate::erasure;
use crate::error::Refusal;
use crate::frontiers::{Arrival, DEFAULT_MAX_CLOCK_AHEAD};
use crate::group::{Change, GroupCache, MemberState, RecordedChange};
use crate::owner::{self, Owners};
use crate::page::GapReason;
use crate::promise::{Promise, Promises};
use crate::rows::{self, Gap, Head, Identity, Known, StoredDots};
use crate::state::{Admission, State};

/// How far the ceiling of promises is ahead, so that it is written once a second.
const CEILING_AHEAD: TimeDelta = TimeDelta::seconds(1);
/// The name of the hook.
pub(crate) const NAME: &str = "es.replica";

/// The hook of a replica.
#[derive(Debug)]
pub(crate) struct ReplicaHook {
    table: Table,
    clock: Arc<dyn Clock>,
    max_clock_ahead: Duration,
    /// The present and former origins of the node.
    own_origins: BTreeSet<OriginId>,
    owners: Owners,
    memory: Mutex<Memory>,
    promises: Promises,
    group: GroupCache,
    /// The ceiling in row `s`.
    ceiling: tokio::sync::Mutex<HybridTime>,
}

/// The state, and the state after the last commit that was decided. A later hook may have rejected that commit: it
/// counts once the log has its row `h`.
#[derive(Debug)]
struct Memory {
    current: State,
    decided: Option<State>,
    /// The events of the present foreign commit that are not stored.
    dropped: Dropped,
    /// The latest time that this node has promised. Later events of this node have later times.
    promised: HybridTime,
    /// Whether a commit may be between its stamps and `decided`.
    is_stamping: bool,
    /// The origins that were removed from vector clocks, for readers of events.
    retired: RetiredOrigins,
}

/// The events of a foreign commit that are not stored, and that change what the node knows.
#[derive(Debug, Default)]
struct Dropped {
    /// The withheld events that this node has: [`Known::withheld`] includes them only because its ranges were joined.
    stored: Vec<Dot>,
    /// The events of erased streams. The node knows of them as if they had been removed before it received them.
    erased: Vec<Gap>,
}

impl Dropped {
    const fn is_empty(&self) -> bool {
        self.stored.is_empty() && self.erased.is_empty()
    }
}

impl Memory {
    /// Notes that every earlier commit is decided, at a commit after which the log has the row `h` with this head.
    fn finish_decision(&mut self, head: Head) {
        self.is_stamping = false;
        if let Some(decided) = self.decided.take_if(|decided| decided.head == head) {
            // ORDER: before the next event is stored, whose clock may omit these origins.
            if !Arc::ptr_eq(&decided.group, &self.current.group) {
                self.retired.set(decided.group.retirements().iter().cloned());
            }
            self.current = decided;
        }
        // A later hook has rejected any other one.
        self.decided = None;
    }

    /// Returns what this node can promise now: the last events of its origins, and a time. `visible` is the head that
    /// reads see.
    fn promise(
        &mut self,
        visible: Option<Head>,
        own: &BTreeSet<OriginId>,
        now: Timestamp,
    ) -> (VectorClock, HybridTime) {
        let is_written = self.decided.as_ref().is_some_and(|decided| Some(decided.head) == visible);
        let state = self.decided.as_ref().filter(|_| is_written).unwrap_or(&self.current);
        let last = state.head.time.max(self.promised);
        // A commit that is being decided has later times than the last event and the last promise, and may have an
        // earlier one than the clock.
        let is_idle = !self.is_stamping && (self.decided.is_none() || is_written);
        let time = if is_idle { last.max(HybridTime::at(now)) } else { last };
        // Only one node has adopted events from before the replication; it is the last one that has all of them.
        let is_own = |dot: &Dot| own.contains(&dot.origin) || dot.origin == OriginId::GENESIS;
        let clock = rows::clock(&state.origins).iter().filter(is_own).collect();
        self.promised = time;
        (clock, time)
    }

    /// Returns the state that includes all earlier commits of the log.
    fn at(&mut self, head: Head) -> Result<&State, StoreError> {
        self.finish_decision(head);
        if self.current.head == head {
            return Ok(&self.current);
        }
        let (expected, found) = (self.current.head.generation, head.generation);
        let detail = format!("expected generation {expected} of the state, found {found}");
        Err(StoreError::damaged("row \"h\" of table es.replica", detail))
    }
}

impl ReplicaHook {
    pub(crate) fn new(
        table: Table,
        clock: Arc<dyn Clock>,
        max_clock_ahead: Duration,
        own_origins: BTreeSet<OriginId>,
        owners: Owners,
        state: State,
        (promises, ceiling): (Promises, HybridTime),
    ) -> Self {
        let retired = RetiredOrigins::default();
        retired.set(state.group.retirements().iter().cloned());
        let (decided, dropped, is_stamping) = (None, Dropped::default(), false);
        // A promise up to the ceiling may have been made before a crash.
        let memory = Memory { current: state, decided, dropped, promised: ceiling, is_stamping, retired };
        let (memory, group, ceiling) = (Mutex::new(memory), GroupCache::default(), tokio::sync::Mutex::new(ceiling));
        Self { table, clock, max_clock_ahead, own_origins, owners, memory, promises, group, ceiling }
    }

    /// Returns the time of a report that the node receives now.
    fn arrival(&self) -> Arrival {
        Arrival::new(self.clock.now(), self.max_clock_ahead)
    }

    /// Returns the hook of a replica, if this is one.
    pub(crate) fn of(replication: &dyn Replication) -> Option<&Self> {
        (replication as &dyn Any).downcast_ref()
    }

    pub(crate) const fn promises(&self) -> &Promises {
        &self.promises
    }

    /// Makes a promise. It is kept after a crash, too.
    pub(crate) async fn promise(&self, store: &dyn EventStore) -> Result<Promise, StoreError> {
        let (visible, now) = (rows::head(store, &self.table).await?, self.clock.now());
        let (clock, time) = self.memory().promise(visible, &self.own_origins, now);
        // ORDER: the ceiling before the promise is made known. The memory has it already, so no event gets its time.
        self.raise_ceiling(store, time.max(HybridTime::at(now))).await?;
        Ok(self.promises.make(time, clock))
    }

    /// Raises the ceiling in row `s` to a second after this time, if it is lower than this time. The commit also shows
    /// that every commit before it is decided, so the next promise can name the present time.
    async fn raise_ceiling(&self, store: &dyn EventStore, time: HybridTime) -> Result<(), StoreError> {
        let mut ceiling = self.ceiling.lock().await;
        if time <= *ceiling {
            return Ok(());
        }
        let row = store.row(&self.table, rows::IDENTITY).await?.ok_or_else(|| rows::damaged("s", &[]))?;
        let mut identity: Identity = serde_json::from_slice(&row).map_err(|_| rows::damaged("s", &row))?;
        let after = time.physical().checked_add_signed(CEILING_AHEAD).unwrap_or(Timestamp::MAX_UTC);
        identity.ceiling = time.max(HybridTime::at(after));
        let value = serde_json::to_vec(&identity).map_err(|error| StoreError::io("write the identity", error))?;
        let commit = Commit::new().expect_row(self.table.clone(), rows::IDENTITY, Some(row));
        store.commit(commit.put_row(self.table.clone(), rows::IDENTITY, value)).await.map_err(|error| match error {
            CommitError::Store(error) => error,
            error => StoreError::io("raise the ceiling of promises", error),
        })?;
        *ceiling = identity.ceiling;
        Ok(())
    }

    /// Adds the promises in a page, after its events were stored.
    pub(crate) async fn receive(&self, store: &dyn EventStore, promises: Vec<Promise>) -> Result<(), StoreError> {
        let group = self.group.read(store).await?;
        let has = Accounted::read(store, &self.table).await?;
        self.promises.receive(&group, promises, |clock| has.includes(clock));
        Ok(())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, view: &mut dyn LogView) -> Result<Head, StoreError> {
        let value = view.row(&self.table, rows::HEAD)?;
        Head::decode(&value.ok_or_else(|| rows::damaged("h", &[]))?)
    }

    /// Stamps the events of replicated categories.
    fn before_local(
        &self,
        state: &State,
        promised: HybridTime,
        commit: &mut ValidCommit,
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        for (stream, event) in commit.events() {
            if let Some(scope) = changed_scope(stream, &event.data, &state.categories)
                && !is_cleared_rule(stream, &event.data)
            {
                return Err(rejected(Refusal::Retention { scope: scope.to_string() }));
            }
            if event.data.stamp.is_some() {
                return Err(rejected(Refusal::Stamped { id: event.data.id }));
            }
            check_membership(stream, &event.data)?;
        }
        let Some((_, first)) = commit.events().iter().find(|(stream, _)| state.replicates(stream)) else {
            return Ok(());
        };
        // A repeat of an earlier commit keeps the stamps of that commit.
        if view.position_of(first.data.id)?.is_some() {
            return Ok(());
        }
        owner::hook::check(&self.owners, state.own, commit, view)?;
        let mut replicated = commit.events().iter().filter(|(stream, _)| state.replicates(stream));
        let departs = state.group.state(self.promises.node()).is_some_and(|state| state != MemberState::Joined);
        // An event that a node writes after its departure was acknowledged would be lost. If nobody else can cancel the
        // departure, the node may.
        let has_members = state.group.members().any(|(_, state)| state == MemberState::Joined);
        let is_refused = |(stream, _): &(StreamId, NewEvent)| has_members || !is_membership_stream(stream);
        if (departs || state.group.has_departed(state.own)) && replicated.clone().any(is_refused) {
            return Err(rejected(Refusal::Departed { node: self.promises.node().to_owned() }));
        }
        if let Some((stream, _)) = replicated.clone().find(|(stream, _)| state.erased.contains(stream)) {
            return Err(rejected(Refusal::Erased { stream: stream.clone() }));
        }
        if let Some((_, event)) = replicated.find(|(_, event)| !event.data.keys.is_empty()) {
            return Err(rejected(Refusal::UniqueKey { id: event.data.id }));
        }
        let streams: Vec<&StreamId> = commit.events().iter().map(|(stream, _)| stream).collect();
        let mut stamps = state.stamps(&streams, self.clock.now(), promised, commit.command()).into_iter();
        commit.stamp_events(|_, _| stamps.next().flatten())?;
        erasure::add_local_events(commit, view)
    }

    /// Drops the events that are held and those of erased streams, and refuses those that must not be stored. Returns
    /// what it dropped.
    fn before_foreign(
        &self,
        state: &State,
        commit: &mut ValidCommit,
        view: &mut dyn LogView,
    ) -> Result<Dropped, CommitError> {
        let (mut progress, mut held, mut dropped) = (state.clone(), BTreeSet::new(), Dropped::default());
        for gap in self.declared_gaps(commit) {
            check_gap(state, gap)?;
            progress.skip(gap);
        }
        let now = self.clock.now();
        let mut times = BTreeMap::new();
        for (stream, event) in commit.events() {
            check_membership(stream, &event.data)?;
            // A foreign commit without stamps is invalid.
            let Some(stamp) = &event.data.stamp else { continue };
            let is_stored =
                progress.is_withheld(stamp.dot) && view.row(&self.table, &rows::dot_key(stamp.dot))?.is_some();
            if is_stored {
                progress.clear(stamp.dot);
                dropped.stored.push(stamp.dot);
            }
            let admission = match progress.admit(stamp, now, self.max_clock_ahead) {
                _ if is_stored => Admission::Held,
                admission => admission.map_err(rejected)?,
            };
            if admission != Admission::Held && state.erased.contains(stream) {
                let Dot { origin, sequence } = stamp.dot;
                let gap = Gap { origin, from: sequence, through: sequence, reason: GapReason::Removed };
                progress.skip(gap);
                dropped.erased.push(gap);
                held.insert(event.data.id);
                continue;
            }
            if admission != Admission::Held && !view.retention(stream)?.rule.is_empty() {
                return Err(rejected(Refusal::Rule { stream: stream.clone(), dot: stamp.dot }));
            }
            match admission {
                Admission::New => {}
                Admission::Late => self.check_neighbors(&progress, stamp, &times, view)?,
                Admission::Held => {
                    self.check_same(stamp.dot, event.data.id, view)?;
                    held.insert(event.data.id);
                    continue;
                }
            }
            progress.record(stamp, event.data.id, None);
            times.insert(stamp.dot, stamp.time);
        }
        commit.retain_events(|_, event| !held.contains(&event.data.id))?;
        erasure::add_local_events(commit, view)?;
        Ok(dropped)
    }

    /// Checks that the hybrid time of a withheld event is between those of its neighbors. `times` are those of the
    /// commit.
    fn check_neighbors(
        &self,
        state: &State,
        stamp: &Stamp,
        times: &BTreeMap<Dot, HybridTime>,
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let [before, after] = state.neighbors(stamp.dot);
        let mut time = |dot: Option<Dot>| -> Result<Option<HybridTime>, StoreError> {
            let Some(dot) = dot else { return Ok(None) };
            if let Some(time) = times.get(&dot) {
                return Ok(Some(*time));
            }
            // A dot without a row was removed.
            let Some(row) = view.row(&self.table, &rows::dot_key(dot))? else { return Ok(None) };
            let event = view.event(rows::position_of(&row)?)?;
            Ok(event.data.stamp.map(|stamp| stamp.time))
        };
        let (before, after) = (time(before)?, time(after)?);
        // Events from before the replication may have equal times.
        let tick = u64::from(stamp.dot.origin != OriginId::GENESIS);
        let follows =
            |earlier: HybridTime, later: HybridTime| earlier.to_bits().saturating_add(tick) <= later.to_bits();
        let is_between = before.is_none_or(|before| follows(before, stamp.time))
            && after.is_none_or(|after| follows(stamp.time, after));
        if is_between { Ok(()) } else { Err(rejected(Refusal::TimeOrder { dot: stamp.dot })) }
    }

    /// Checks that the stored event with this dot has this id.
    fn check_same(&self, dot: Dot, found: EventId, view: &mut dyn LogView) -> Result<(), CommitError> {
        // A dot without a row was removed at the source before this node received it.
        let Some(position) = view.row(&self.table, &rows::dot_key(dot))? else { return Ok(()) };
        let expected = view.event(rows::position_of(&position)?)?.data.id;
        if expected == found { Ok(()) } else { Err(rejected(Refusal::Forked { dot, expected, found })) }
    }

    fn declared_gaps(&self, commit: &ValidCommit) -> Vec<Gap> {
        commit.rows().iter().filter_map(|row| Gap::declared(row, &self.table)).collect()
    }

    /// Returns the rows that change from one state to the next, without those of dots.
    fn changed_rows(&self, before: &State, after: &State) -> Vec<RowChange> {
        let mut changes = vec![rows::put(&self.table, rows::HEAD.into(), after.head.encode())];
        let origins = after.origins.iter().filter(|(origin, known)| before.origins.get(origin) != Some(known));
        changes
            .extend(origins.map(|(origin, known)| rows::put(&self.table, rows::origin_key(*origin), known.encode())));
        let received = after.categories.difference(&before.categories);
        changes.extend(received.map(|category| rows::put(&self.table, rows::category_key(category.as_str()), "")));
        let erased = after.erased.difference(&before.erased);
        changes.extend(erased.map(|stream| rows::put(&self.table, rows::erased_key(stream), "")));
        changes
    }
}

impl DecisionHook for ReplicaHook {
    fn name(&self) -> &str {
        NAME
    }

    fn replication(self: Arc<Self>) -> Option<Arc<dyn Replication>> {
        Some(self)
    }

    fn before(&self, commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
        // A local commit of rows only, such as that of a view, does not concern the replica.
        if commit.events().is_empty() && !commit.is_foreign() {
            let is_deciding = |memory: &Memory| memory.is_stamping || memory.decided.is_some();
            if is_deciding(&self.memory()) {
                let head = self.head(view)?;
                self.memory().finish_decision(head);
            }
            return Ok(());
        }
        let head = self.head(view)?;
        let mut memory = self.memory();
        if commit.is_foreign() {
            let state = memory.at(head)?;
            memory.dropped = self.before_foreign(state, commit, view)?;
            Ok(())
        } else {
            let promised = memory.promised;
            let state = memory.at(head)?;
            self.before_local(state, promised, commit, view)?;
            memory.is_stamping = true;
            Ok(())
        }
    }

    fn after(
        &self,
        commit: &mut ValidCommit,
        events: &[RecordedEvent],
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let stamped: Vec<(&Stamp, &RecordedEvent)> =
            events.iter().filter_map(|event| event.data.stamp.as_deref().map(|stamp| (stamp, event))).collect();
        let gaps = if commit.is_foreign() { self.declared_gaps(commit) } else { Vec::new() };
        let mut memory = self.memory();
        // ORDER: `before` has run for this commit if it is foreign, so these are its events.
        let dropped = if commit.is_foreign() { std::mem::take(&mut memory.dropped) } else { Dropped::default() };
        if stamped.is_empty() && gaps.is_empty() && dropped.is_empty() {
            memory.is_stamping = false;
            return Ok(());
        }
        // `before` has run for this commit, so this is the state before it.
        let before = &memory.current;
        let mut next = before.clone();
        gaps.into_iter().for_each(|gap| next.skip(gap));
        dropped.stored.into_iter().for_each(|dot| next.clear(dot));
        let mut changes = Vec::new();
        for (stamp, event) in stamped {
            next.record(stamp, event.data.id, Some(event.position));
            next.head.position = Some(event.position);
            let position = event.position.get().to_be_bytes().to_vec();
            changes.push(rows::put(&self.table, rows::dot_key(stamp.dot), position));
            if !next.replicates(&event.stream) {
                next.categories.insert(event.stream.category());
            }
            if erasure::is_erasure(&event.data) {
                Arc::make_mut(&mut next.erased).insert(event.stream.clone());
            }
        }
        // ORDER: after the stored events. An event that follows a gap of its origin would be taken for a late one.
        dropped.erased.into_iter().for_each(|gap| next.skip(gap));
        let membership = events.iter().filter(|event| is_membership_stream(&event.stream));
        let membership: Vec<_> = membership.filter_map(|event| RecordedChange::read(event).ok()).collect();
        if !membership.is_empty() {
            next.group = Arc::new(next.group.with(membership));
        }
        next.head.generation += 1;
        changes.extend(self.changed_rows(before, &next));
        if commit.is_foreign() {
            changes.extend(es_core::__private::foreign_results(events, view)?);
        }
        changes.extend(owner::hook::changes(&self.owners, events, view)?);
        commit.add_rows(changes)?;
        memory.decided = Some(next);
        memory.is_stamping = false;
        Ok(())
    }
}

#[async_trait]
impl Replication for ReplicaHook {
    fn is_own_origin(&self, origin: OriginId) -> bool {
        self.own_origins.contains(&origin)
    }

    fn replicates(&self, category: &Category) -> bool {
        self.memory().current.categories.contains(category)
    }

    fn retired_origins(&self) -> RetiredOrigins {
        self.memory().retired.clone()
    }

    async fn settled(&self, store: &dyn EventStore) -> Result<SettledTime, StoreError> {
        // A promise costs a write each second, so a node whose events are settled makes none for itself.
        let last = rows::head(store, &self.table).await?.map(|head| head.time);
        let own = match self.promises.settled() >= last {
            true => None,
            false => Some(self.promise(store).await?),
        };
        // ORDER: the members and the promises before the events that this node has. A node must not stop to wait for
        // the promises of a departed member before it has the events of that member.
        let (group, snapshot) = (self.group.read(store).await?, self.promises.snapshot());
        let has = Accounted::read(store, &self.table).await?;
        let settling = self.promises.settle(&group, snapshot, own, |clock| has.includes(clock));
        let is_held_back = settling.time.is_none_or(|time| has.last_time() > Some(time));
        Ok(SettledTime {
            time: settling.time,
            held_back_by: is_held_back.then_some(settling.oldest),
            known: rows::clock(&has.origins),
            position: rows::head(store, &self.table).await?.and_then(|head| head.position),
            late: has.origins.values().filter_map(|known| known.late).max(),
        })
    }

    fn watch_settled(&self) -> watch::Receiver<()> {
        self.promises.watch()
    }

    async fn stored_after(
        &self,
        store: &dyn EventStore,
        origin: OriginId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(Dot, Position)>, StoreError> {
        let mut stored = StoredDots::new(store, &self.table, origin, after.saturating_add(1), u64::MAX);
        let mut dots = Vec::with_capacity(limit);
        while dots.len() < limit
            && let Some((sequence, position)) = stored.next().await?
        {
            let sequence = NonZeroU64::new(sequence).ok_or_else(|| rows::damaged("d", &[]))?;
            dots.push((Dot { origin, sequence }, position));
        }
        Ok(dots)
    }
}

/// The events that this node has.
#[derive(Debug)]
struct Accounted {
    origins: BTreeMap<OriginId, Known>,
    /// Whether a link has a filter, so that this node does not wait for withheld events.
    has_filter: bool,
}

impl Accounted {
    async fn read(store: &dyn EventStore, table: &Table) -> Result<Self, StoreError> {
        let has_filter = rows::has_filter(store, table).await?;
        Ok(Self { origins: rows::origins(store, table).await?, has_filter })
    }

    fn includes(&self, clock: &VectorClock) -> bool {
        clock.iter().all(|dot| {
            self.origins.get(&dot.origin).is_some_and(|known| {
                let first_withheld = known.withheld.iter().next().map(|(first, _)| first);
                let is_held = self.has_filter || first_withheld.is_none_or(|first| first > dot.sequence.get());
                known.through >= dot.sequence && is_held
            })
        })
    }

    fn last_time(&self) -> Option<HybridTime> {
        self.origins.values().map(|known| known.time).max()
    }
}

/// Returns the time of a report that the node of a store receives now, by the clock of its replica.
pub(crate) fn arrival(store: &dyn EventStore) -> Arrival {
    let replication = store.replication();
    let hook = replication.as_deref().and_then(ReplicaHook::of);
    // A store around that of the replica may not pass the hook on.
    hook.map_or_else(|| Arrival::new(SystemClock::new().now(), DEFAULT_MAX_CLOCK_AHEAD), ReplicaHook::arrival)
}

/// Checks the content of an event if it is one of the membership.
fn check_membership(stream: &StreamId, event: &EventData) -> Result<(), CommitError> {
    if !is_membership_stream(stream) {
        return Ok(());
    }
    let change = Change::decode(&event.event_type, &event.payload);
    change.map(drop).map_err(|found| rejected(Refusal::Membership { id: event.id, found }))
}

/// Checks that a gap begins at the latest after the last event that is accounted for.
fn check_gap(state: &State, gap: Gap) -> Result<(), CommitError> {
    let known = state.origins.get(&gap.origin).map_or(0, |known| known.through.get());
    let through = Dot { origin: gap.origin, sequence: gap.through };
    let is_own = gap.origin == state.own;
    if gap.from.get() <= known.saturating_add(1) && !is_own { Ok(()) } else { Err(rejected(Refusal::Gap { through })) }
}

/// Returns the stream or the category whose retention an event changes, if it is one of these categories or belongs to
/// one. The change would hide events on this node only.
pub(crate) fn changed_scope(stream: &StreamId, event: &EventData, categories: &BTreeSet<Category>) -> Option<Scope> {
    if !is_retention_stream(stream) {
        return None;
    }
    let scope = match OperatorEvent::read(stream, &event.event_type, &event.payload) {
        Ok(OperatorEvent::RuleSet { scope, .. } | OperatorEvent::RuleCleared { scope, .. }) => scope,
        Ok(OperatorEvent::StreamDeleted { stream, .. }) => Scope::Stream(stream),
        _ => return None,
    };
    let category = match &scope {
        Scope::Stream(stream) => stream.category_str(),
        Scope::Category(category) => category.as_str(),
    };
    categories.contains(category).then_some(scope)
}

/// Returns `true` if an event clears a rule. It hides no event.
fn is_cleared_rule(stream: &StreamId, event: &EventData) -> bool {
    let read = OperatorEvent::read(stream, &event.event_type, &event.payload);
    matches!(read, Ok(OperatorEvent::RuleCleared { .. }))
}

fn rejected(refusal: Refusal) -> CommitError {
    CommitError::Rejected(Box::new(refusal))
}
