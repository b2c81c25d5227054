//! The decision on a commit: a pure function of the commit, a view of the log, and the time.
//!
//! Every store calls [`decide`] from its one append path, through a [`Decider`](crate::store::implement::Decider), so
//! all stores decide alike. The function reads the log only through [`LogView`]. A store that combines several commits
//! into one write passes a view that already includes the earlier commits of that write.

use crate::model::StreamId;
use crate::model::reserved::{DELETED, ERASED};
use crate::model::{AheadOfLog, CommitPart, EventData, RecordedEvent, Timestamp, to_stored_precision};
use crate::model::{ExpectedRevision, Position, Revision, found};
use crate::retention::{DeleteKind, Deletion, OperatorEvent, REMOVED, Scope, is_reserved};
use crate::store::commit::{AppendCondition, Commit, Committed, RowCondition};
use crate::store::error::{CommitError, Conflict, FailedCheck, IdConflict, InvalidCommit, StoreError};
use crate::store::key_changes::failed_key_changes;
use crate::store::locks::{Locks, as_committed};
use crate::store::valid::ValidCommit;
use crate::store::view::LogView;

/// The decision to accept a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitDecision {
    /// Write these events with their changes of unique keys, and the row changes of the commit.
    Write(Committed),
    /// Write nothing: the commit was written before, with this result.
    Repeat(Committed),
}

/// Decides on a commit that arrived at the time `now`.
///
/// 1. If the commit was written before, the decision is its first result. Its conditions are not checked again, because
///    they held when it was written.
/// 2. All conditions must hold, and no prepared transaction may lock a stream of the commit.
/// 3. Each event gets its position, its revision and its recorded time. The events leave the commit, so that they are
///    not copied.
///
/// # Errors
/// - [`CommitError::IdConflict`] if the log contains an event id of the commit, but not as part of the same commit.
/// - [`CommitError::Invalid`] if the commit adds a tombstone after an event that was not removed, an event of a
///   transaction where it must not be, or a replicated deletion of a stream that is not replicated.
/// - [`CommitError::Conflict`] if a condition does not hold, or a stream is locked.
/// - [`CommitError::Store`] if the view fails.
pub fn decide(
    commit: &mut ValidCommit,
    locks: &mut Locks,
    view: &mut dyn LogView,
    now: Timestamp,
) -> Result<CommitDecision, CommitError> {
    let now = commit.recorded_time().unwrap_or(now);
    if let Some(committed) = written_before(commit, view)? {
        return Ok(CommitDecision::Repeat(committed));
    }
    check_removed(commit, view)?;
    check_deletions(commit)?;
    let mut failed = failed_checks(commit, view, now)?;
    failed.extend(locks.check(commit, view)?);
    if !failed.is_empty() {
        return Err(Conflict { failed }.into());
    }
    Ok(CommitDecision::Write(Committed { events: number(commit, view, now)?, repeated: false }))
}

/// Returns the result of the first commit if `commit` repeats it: the log contains all its ids, as one whole commit
/// with the same content. If the log contains the ids in any other way, writing the rest would break the atomicity of
/// commits.
fn written_before(commit: &Commit, view: &mut dyn LogView) -> Result<Option<Committed>, CommitError> {
    let mut known = Vec::new();
    for (_, event) in commit.events() {
        if let Some(position) = view.position_of(event.data.id)? {
            known.push((event.data.id, position));
        }
    }
    let Some(&(first_id, first_position)) = known.first() else { return Ok(None) };
    if known.len() < commit.events().len() {
        return Err(IdConflict::Partial { found: known.len(), of: commit.events().len(), id: first_id }.into());
    }
    let mut events = Vec::with_capacity(known.len());
    let mut expected_position = first_position;
    for (index, ((stream, event), &(id, position))) in commit.events().iter().zip(&known).enumerate() {
        let recorded = view.event(position)?;
        if recorded.is_removed() && recorded.stream == *stream && event.data.event_type != REMOVED {
            return Err(IdConflict::Removed { id, position }.into());
        }
        let same_commit = position == expected_position
            && recorded.part.index as usize == index
            && recorded.part.size as usize == commit.events().len();
        if !same_commit || !recorded.has_content_of(stream, event) {
            return Err(IdConflict::Taken { id, position }.into());
        }
        if let Some(field) = recorded.different_attribution(event) {
            return Err(IdConflict::Differs { id, position, field }.into());
        }
        expected_position = position.next();
        events.push(recorded);
    }
    Ok(Some(Committed { events, repeated: true }))
}

/// Checks that tombstones are added only before all other events of their stream.
fn check_removed(commit: &Commit, view: &mut dyn LogView) -> Result<(), CommitError> {
    if !commit.has_removed {
        return Ok(());
    }
    // Whether all events of a stream so far are tombstones.
    let mut all_removed = std::collections::HashMap::<&StreamId, bool>::new();
    for (stream, event) in commit.events() {
        let is_tombstone = event.data.event_type == REMOVED;
        let may_follow = match all_removed.get(stream) {
            Some(all_removed) => *all_removed,
            None if is_tombstone => view.first_left(stream)? == Revision::following(view.revision(stream)?),
            None => false,
        };
        if is_tombstone && !may_follow {
            let found = "a tombstone after an event that was not removed".to_owned();
            return Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found }.into());
        }
        all_removed.insert(stream, is_tombstone);
    }
    Ok(())
}

/// Checks that every deletion and every erasure in the stream itself is of a replicated stream, whose events have
/// stamps. On another stream they would have no effect.
fn check_deletions(commit: &Commit) -> Result<(), CommitError> {
    let is_deletion =
        |event: &EventData| [DELETED, ERASED].iter().any(|name| event.event_type == *name) && event.stamp.is_none();
    let Some((stream, event)) = commit.events().iter().find(|(_, event)| is_deletion(&event.data)) else {
        return Ok(());
    };
    let found = format!("the event type {:?} in a stream that is not replicated", event.data.event_type);
    Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found }.into())
}

fn failed_checks(commit: &Commit, view: &mut dyn LogView, now: Timestamp) -> Result<Vec<FailedCheck>, StoreError> {
    // A foreign commit has no expectations, and it may write to a hard-deleted stream.
    let mut failed = if commit.is_foreign() { Vec::new() } else { failed_deletions(commit, view)? };
    failed.extend(failed_truncations(commit, view)?);
    for (stream, expected) in commit.expectations() {
        failed.extend(failed_expectation(stream, *expected, view)?);
    }
    for AppendCondition { query, after } in commit.append_conditions() {
        if let Err(ahead) = AheadOfLog::check(*after, view.head()?) {
            failed.push(FailedCheck::AheadOfLog(ahead));
            continue;
        }
        if let Some(found) = view.first_match(query, *after, now)? {
            failed.push(FailedCheck::Match { query: query.clone(), after: *after, found });
        }
    }
    failed.extend(failed_key_changes(commit, view)?);
    if let Some(later) = as_committed(commit) {
        failed.extend(failed_key_changes(&later, view)?);
    }
    for RowCondition { table, key, value } in commit.row_conditions() {
        let actual = view.row(table, key)?;
        if actual != *value {
            failed.push(FailedCheck::Row {
                table: table.clone(),
                key: key.clone(),
                expected_present: value.is_some(),
                found_present: actual.is_some(),
            });
        }
    }
    Ok(failed)
}

/// Checks the expectation on a stream. A deleted stream that was not written since does not exist, but keeps its
/// revision.
fn failed_expectation(
    stream: &StreamId,
    expected: ExpectedRevision,
    view: &mut dyn LogView,
) -> Result<Option<FailedCheck>, StoreError> {
    let (last, retention) = (view.revision(stream)?, view.retention(stream)?);
    if retention.hard_deletion().is_some() {
        // `failed_deletions` has reported it.
        return Ok(None);
    }
    let actual = match expected {
        ExpectedRevision::Exact(_) => last,
        _ => retention.existing(last),
    };
    let failed = FailedCheck::Revision { stream: stream.clone(), expected, actual };
    Ok((!expected.is_met_by(actual)).then_some(failed))
}

/// Checks the streams that the commit names: no expectation, event or deletion may concern a hard-deleted stream, and a
/// deletion must name the last revision of its stream.
fn failed_deletions(commit: &Commit, view: &mut dyn LogView) -> Result<Vec<FailedCheck>, StoreError> {
    let mut hard_deleted = HardDeleted::default();
    let mut previous = None;
    for (stream, _) in commit.expectations() {
        if previous.replace(stream) != Some(stream) {
            hard_deleted.check(stream, view)?;
        }
    }
    let mut deletions = Vec::new();
    for (stream, event) in commit.events() {
        if previous.replace(stream) != Some(stream) {
            hard_deleted.check(stream, view)?;
        }
        if is_reserved(stream)
            && let Ok(OperatorEvent::StreamDeleted { stream, kind, through, .. }) =
                OperatorEvent::read(stream, &event.data.event_type, &event.data.payload)
            && !hard_deleted.check(&stream, view)?
        {
            deletions.push((stream, kind, through));
        }
    }
    let mut failed = hard_deleted.failed;
    for (stream, kind, through) in deletions {
        let last = view.revision(&stream)?;
        if last != through {
            let expected = ExpectedRevision::unchanged(through);
            failed.push(FailedCheck::Revision { stream: stream.clone(), expected, actual: last });
        }
        if kind == DeleteKind::Soft {
            failed.extend(failed_expectation(&stream, ExpectedRevision::StreamExists, view)?);
        }
    }
    Ok(failed)
}

/// Checks the rules that truncate a stream: they must not hide events that are not written yet.
fn failed_truncations(commit: &Commit, view: &mut dyn LogView) -> Result<Vec<FailedCheck>, StoreError> {
    // A copy of a rule that another store accepted is not checked again.
    if commit.is_foreign() || commit.recorded_time().is_some() {
        return Ok(Vec::new());
    }
    let mut failed = Vec::new();
    for (operator_stream, event) in commit.events().iter().filter(|(stream, _)| is_reserved(stream)) {
        let EventData { event_type, payload, .. } = &event.data;
        let Ok(OperatorEvent::RuleSet { scope: Scope::Stream(stream), rule, .. }) =
            OperatorEvent::read(operator_stream, event_type, payload)
        else {
            continue;
        };
        let Some(last_hidden) = rule.truncate_before.and_then(Revision::previous) else { continue };
        let actual = view.revision(&stream)?;
        if Some(last_hidden) > actual {
            failed.push(FailedCheck::Revision { stream, expected: ExpectedRevision::Exact(last_hidden), actual });
        }
    }
    Ok(failed)
}

/// Reports each hard-deleted stream once.
#[derive(Default)]
struct HardDeleted {
    failed: Vec<FailedCheck>,
    reported: std::collections::BTreeSet<StreamId>,
}

impl HardDeleted {
    /// Returns `true` if a stream was hard deleted, and reports it.
    fn check(&mut self, stream: &StreamId, view: &mut dyn LogView) -> Result<bool, StoreError> {
        let Some(Deletion { position, .. }) = view.retention(stream)?.hard_deletion() else { return Ok(false) };
        if self.reported.insert(stream.clone()) {
            self.failed.push(FailedCheck::Deleted { stream: stream.clone(), position });
        }
        Ok(true)
    }
}

/// Assigns positions, revisions and recorded times. Nothing else assigns them.
fn number(commit: &mut ValidCommit, view: &mut dyn LogView, now: Timestamp) -> Result<Vec<RecordedEvent>, StoreError> {
    // Recorded times never decrease, even if the wall clock is set back.
    let recorded_at = view.last_recorded_at()?.map_or(now, |last| last.max(now));
    let recorded_at = to_stored_precision(recorded_at);
    let new = commit.take_events();
    let size = u32::try_from(new.len()).unwrap_or(u32::MAX);
    let mut revisions = LastRevisions::default();
    let mut last_position = view.head()?;
    let mut events = Vec::with_capacity(new.len());
    for (index, (stream, event)) in (0u32..).zip(new) {
        let last_revision = revisions.of(&stream, view)?;
        let revision = Revision::following(last_revision);
        if revision.get() == u64::MAX {
            // Only damage leads to this revision. If it were written, it would overwrite another event or be
            // unreadable.
            let detail = format!("expected a revision below the maximum, found {}", found(last_revision));
            return Err(StoreError::damaged(format!("head of stream {stream:?}"), detail));
        }
        revisions.last = Some((stream.clone(), revision));
        let position = Position::following(last_position);
        if position.get() == u64::MAX {
            return Err(StoreError::damaged("the head of the log", "expected a position below the maximum"));
        }
        last_position = Some(position);
        events.push(RecordedEvent {
            position,
            stream,
            revision,
            recorded_at,
            occurred_at: event.occurred_at.map_or(recorded_at, to_stored_precision),
            part: CommitPart { index, size },
            data: event.data,
        });
    }
    Ok(events)
}

/// The last revisions of streams while the events of a commit are numbered.
#[derive(Default)]
struct LastRevisions {
    /// The stream of the event before. Most commits write to one stream, which needs no map.
    last: Option<(StreamId, Revision)>,
    others: std::collections::HashMap<StreamId, Revision>,
}

impl LastRevisions {
    fn of(&mut self, stream: &StreamId, view: &mut dyn LogView) -> Result<Option<Revision>, StoreError> {
        match self.last.take() {
            Some((same, revision)) if same == *stream => return Ok(Some(revision)),
            Some((other, revision)) => drop(self.others.insert(other, revision)),
            None => {}
        }
        self.others.get(stream).map_or_else(|| view.revision(stream), |revision| Ok(Some(*revision)))
    }
}
