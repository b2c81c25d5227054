//! [`ReplicaHook`]: stamps local events, and decides on foreign ones, in the decision of the store.
//!
//! ```text
//!   local commit   --> before: stamp the events of replicated categories   --+
//!   foreign commit --> before: drop held events, refuse inadmissible ones  --+--> after: rows o, d, c, h
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use es_core::model::{Category, Clock, Dot, HybridTime, OriginId, RetiredOrigins, Stamp, Table};
use es_core::retention::{OperatorEvent, Scope};
use es_core::store::implement::{
    DecisionHook, LogView, Replication, RowChange, ValidCommit, is_membership_stream, is_retention_stream,
};
use es_core::{CommitError, EventData, EventId, NewEvent, RecordedEvent, StoreError, StreamId};

use crate::error::Refusal;
use crate::membership::{Change, MemberState, RecordedChange};
use crate::replica::state::{Admission, State};
use crate::rows::{self, Gap, Head};

/// The name of the hook.
pub(super) const NAME: &str = "es.replica";

/// The hook of a replica.
#[derive(Debug)]
pub(crate) struct ReplicaHook {
    table: Table,
    clock: Arc<dyn Clock>,
    max_clock_ahead: Duration,
    /// The present and former origins of the node.
    own_origins: BTreeSet<OriginId>,
    /// The name of the node.
    node: String,
    /// The origins that were removed from vector clocks, for readers of events.
    retired: RetiredOrigins,
    memory: Mutex<Memory>,
}

/// The state, and the state after the last commit that was decided. A later hook may have rejected that commit: it
/// counts once the log has its row `h`.
#[derive(Debug)]
struct Memory {
    current: State,
    decided: Option<State>,
    /// The withheld events of the present foreign commit that this node has: [`Known::withheld`] includes them only
    /// because its ranges were joined.
    stored: Vec<Dot>,
}

impl Memory {
    /// Returns the state that includes all earlier commits of the log.
    fn at(&mut self, head: Head, retired: &RetiredOrigins) -> Result<&State, StoreError> {
        if let Some(decided) = self.decided.take_if(|decided| decided.head == head) {
            // ORDER: before the next event is stored, whose clock may omit these origins.
            if !Arc::ptr_eq(&decided.group, &self.current.group) {
                retired.set(decided.group.retirements().iter().cloned());
            }
            self.current = decided;
        }
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
        node: String,
        own_origins: BTreeSet<OriginId>,
        state: State,
    ) -> Self {
        let retired = RetiredOrigins::default();
        retired.set(state.group.retirements().iter().cloned());
        let memory = Mutex::new(Memory { current: state, decided: None, stored: Vec::new() });
        Self { table, clock, max_clock_ahead, own_origins, node, retired, memory }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, view: &mut dyn LogView) -> Result<Head, StoreError> {
        let value = view.row(&self.table, rows::HEAD)?;
        Head::decode(&value.ok_or_else(|| rows::damaged("h", &[]))?)
    }

    /// Stamps the events of replicated categories.
    fn before_local(&self, state: &State, commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
        for (stream, event) in commit.events() {
            if let Some(scope) = changed_scope(stream, &event.data, &state.categories) {
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
        let mut replicated = commit.events().iter().filter(|(stream, _)| state.replicates(stream));
        let departs = state.group.state(&self.node).is_some_and(|state| state != MemberState::Joined);
        // An event that a node writes after its departure was acknowledged would be lost. If nobody else can cancel the
        // departure, the node may.
        let has_members = state.group.members().any(|(_, state)| state == MemberState::Joined);
        let is_refused = |(stream, _): &(StreamId, NewEvent)| has_members || !is_membership_stream(stream);
        if (departs || state.group.has_departed(state.own)) && replicated.clone().any(is_refused) {
            return Err(rejected(Refusal::Departed { node: self.node.clone() }));
        }
        if let Some((_, event)) = replicated.find(|(_, event)| !event.data.keys.is_empty()) {
            return Err(rejected(Refusal::UniqueKey { id: event.data.id }));
        }
        let streams: Vec<&StreamId> = commit.events().iter().map(|(stream, _)| stream).collect();
        let mut stamps = state.stamps(&streams, self.clock.now(), commit.command()).into_iter();
        commit.stamp_events(|_, _| stamps.next().flatten())?;
        Ok(())
    }

    /// Drops the events that are held, and refuses those that must not be stored. Returns the withheld events that are
    /// held.
    fn before_foreign(
        &self,
        state: &State,
        commit: &mut ValidCommit,
        view: &mut dyn LogView,
    ) -> Result<Vec<Dot>, CommitError> {
        let (mut progress, mut held, mut stored) = (state.clone(), BTreeSet::new(), Vec::new());
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
                stored.push(stamp.dot);
            }
            let admission = match progress.admit(stamp, now, self.max_clock_ahead) {
                _ if is_stored => Admission::Held,
                admission => admission.map_err(rejected)?,
            };
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
        Ok(stored)
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
        changes
    }
}

impl DecisionHook for ReplicaHook {
    fn name(&self) -> &str {
        NAME
    }

    fn replication(&self) -> Option<&dyn Replication> {
        Some(self)
    }

    fn before(&self, commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
        // A local commit of rows only, such as that of a view, does not concern the replica.
        if commit.events().is_empty() && !commit.is_foreign() {
            return Ok(());
        }
        let head = self.head(view)?;
        let mut memory = self.memory();
        let state = memory.at(head, &self.retired)?;
        if commit.is_foreign() {
            memory.stored = self.before_foreign(state, commit, view)?;
            Ok(())
        } else {
            self.before_local(state, commit, view)
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
        let stored = if commit.is_foreign() { std::mem::take(&mut memory.stored) } else { Vec::new() };
        if stamped.is_empty() && gaps.is_empty() && stored.is_empty() {
            return Ok(());
        }
        // `before` has run for this commit, so this is the state before it.
        let before = &memory.current;
        let mut next = before.clone();
        gaps.into_iter().for_each(|gap| next.skip(gap));
        stored.into_iter().for_each(|dot| next.clear(dot));
        let mut changes = Vec::new();
        for (stamp, event) in stamped {
            next.record(stamp, event.data.id, Some(event.position));
            next.head.position = Some(event.position);
            let position = event.position.get().to_be_bytes().to_vec();
            changes.push(rows::put(&self.table, rows::dot_key(stamp.dot), position));
            if !next.replicates(&event.stream) {
                next.categories.insert(event.stream.category());
            }
        }
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
        commit.add_rows(changes)?;
        memory.decided = Some(next);
        Ok(())
    }
}

impl Replication for ReplicaHook {
    fn is_own_origin(&self, origin: OriginId) -> bool {
        self.own_origins.contains(&origin)
    }

    fn replicates(&self, category: &Category) -> bool {
        self.memory().current.categories.contains(category)
    }

    fn retired_origins(&self) -> RetiredOrigins {
        self.retired.clone()
    }
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

fn rejected(refusal: Refusal) -> CommitError {
    CommitError::Rejected(Box::new(refusal))
}
