//! The decision on a commit, apart from carrying it out: a plain function over a view of the log.
//!
//! Every store calls [`decide`] from its one append path, through a [`Decider`](crate::store::implement::Decider), so that all stores give the same answer. What it takes from
//! the log it takes through [`LogView`]; a store whose writer gathers several commits into one write shows a view in
//! which the commits before this one have happened already.

use crate::model::StreamId;
use crate::model::{CommitPart, RecordedEvent, Timestamp, to_stored_precision};
use crate::model::{ExpectedRevision, Position, Revision, found};
use crate::retention::{DeleteKind, Deletion, OperatorEvent, REMOVED, is_reserved};
use crate::store::commit::{AppendCondition, Commit, Committed, RowCondition};
use crate::store::error::{CommitError, Conflict, FailedCheck, IdConflict, InvalidCommit, StoreError};
use crate::store::key_changes::failed_key_changes;
use crate::store::valid::ValidCommit;
use crate::store::view::LogView;

/// What a store does with a commit that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitDecision {
    /// Write these events with their changes of unique keys, and the row changes of the commit.
    Write(Committed),
    /// Write nothing: the commit was written before and gave this.
    Repeat(Committed),
}

/// Decides on a commit that came at the time `now`.
///
/// 1. Is it valid at all? Its type says so. 2. Was it written before? Then its first result is the answer, and no
///    condition is looked at: they held when they counted. 3. Do all conditions hold? 4. Then each event gets its
///    position, its revision and its time.
///
/// # Errors
/// [`CommitError`]: the commit must not be written.
pub fn decide(commit: &ValidCommit, view: &mut dyn LogView, now: Timestamp) -> Result<CommitDecision, CommitError> {
    let now = commit.recorded_time().unwrap_or(now);
    if let Some(committed) = written_before(commit, view)? {
        return Ok(CommitDecision::Repeat(committed));
    }
    check_removed(commit, view)?;
    let failed = failed_checks(commit, view, now)?;
    if !failed.is_empty() {
        return Err(Conflict { failed }.into());
    }
    Ok(CommitDecision::Write(Committed { events: number(commit, view, now)?, repeated: false }))
}

/// A commit was written before if all its ids stand in the log as one whole commit with the same content. Ids that
/// stand there in any other way are an error: adding the rest would break the promise that a commit is whole.
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
        if !same_commit || !recorded.is_record_of(stream, event) {
            return Err(IdConflict::Taken { id, position }.into());
        }
        expected_position = position.next();
        events.push(recorded);
    }
    Ok(Some(Committed { events, repeated: true }))
}

/// Removed events are the beginning of their stream: there is nothing but removed ones before them.
fn check_removed(commit: &Commit, view: &mut dyn LogView) -> Result<(), CommitError> {
    if !commit.has_removed {
        return Ok(());
    }
    let mut emptied = std::collections::HashMap::<&StreamId, bool>::new();
    for (stream, event) in commit.events() {
        let is_removed = event.data.event_type == REMOVED;
        let is_emptied = match emptied.get(stream) {
            Some(is_emptied) => *is_emptied,
            None if is_removed => view.first_left(stream)? == Revision::following(view.revision(stream)?),
            None => false,
        };
        if is_removed && !is_emptied {
            let found = "a removed event behind one that is there".to_owned();
            return Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found }.into());
        }
        emptied.insert(stream, is_removed);
    }
    Ok(())
}

fn failed_checks(commit: &Commit, view: &mut dyn LogView, now: Timestamp) -> Result<Vec<FailedCheck>, StoreError> {
    // A foreign commit has no expectations, and a deletion of its streams does not refuse it.
    let mut failed = if commit.is_foreign() { Vec::new() } else { failed_deletions(commit, view)? };
    for (stream, expected) in commit.expectations() {
        failed.extend(failed_expectation(stream, *expected, view)?);
    }
    for AppendCondition { query, after } in commit.append_conditions() {
        if let Some(found) = view.first_match(query, *after, now)? {
            failed.push(FailedCheck::Match { query: query.clone(), after: *after, found });
        }
    }
    failed.extend(failed_key_changes(commit, view)?);
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

/// A stream that is deleted and was not written since is no stream, but its last revision is what it is.
fn failed_expectation(
    stream: &StreamId,
    expected: ExpectedRevision,
    view: &mut dyn LogView,
) -> Result<Option<FailedCheck>, StoreError> {
    let (last, retention) = (view.revision(stream)?, view.retention(stream)?);
    if retention.hard_deletion().is_some() {
        // NOTE: this has failed already, whatever is expected.
        return Ok(None);
    }
    let actual = match expected {
        ExpectedRevision::Exact(_) => last,
        _ => retention.existing(last),
    };
    let failed = FailedCheck::Revision { stream: stream.clone(), expected, actual };
    Ok((!expected.is_met_by(actual)).then_some(failed))
}

/// Nothing is written to a stream, or expected of it, or said of its deletion, once it was hard deleted. And a deletion is of
/// the stream as whoever decided on it has seen it.
fn failed_deletions(commit: &Commit, view: &mut dyn LogView) -> Result<Vec<FailedCheck>, StoreError> {
    let (mut failed, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
    let mut check = |stream: &StreamId, view: &mut dyn LogView| -> Result<bool, StoreError> {
        let deletion = view.retention(stream)?.hard_deletion();
        if let Some(Deletion { position, .. }) = deletion
            && seen.insert(stream.clone())
        {
            failed.push(FailedCheck::Deleted { stream: stream.clone(), position });
        }
        Ok(deletion.is_some())
    };
    let mut deleted = Vec::new();
    let mut last: Option<&StreamId> = None;
    let streams = commit.expectations().iter().map(|(stream, _)| (stream, None));
    for (stream, event) in streams.chain(commit.events().iter().map(|(stream, event)| (stream, Some(event)))) {
        if last.replace(stream) != Some(stream) {
            check(stream, view)?;
        }
        let Some(event) = event.filter(|_| is_reserved(stream)) else { continue };
        if let Ok(OperatorEvent::StreamDeleted { stream, kind, through, .. }) =
            OperatorEvent::read(stream, &event.data.event_type, &event.data.payload)
            && !check(&stream, view)?
        {
            deleted.push((stream, kind, through));
        }
    }
    for (stream, kind, through) in deleted {
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

/// Gives positions, revisions and times: the only place where they come from.
fn number(commit: &Commit, view: &mut dyn LogView, now: Timestamp) -> Result<Vec<RecordedEvent>, StoreError> {
    // NOTE: a wall clock that goes back must not make recorded times go back.
    let recorded_at = view.last_recorded_at()?.map_or(now, |last| last.max(now));
    let recorded_at = to_stored_precision(recorded_at);
    let mut revisions = std::collections::HashMap::<&StreamId, Option<Revision>>::new();
    let mut last_position = view.head()?;
    let size = u32::try_from(commit.events().len()).unwrap_or(u32::MAX);
    let mut events = Vec::with_capacity(commit.events().len());
    for (index, (stream, event)) in (0u32..).zip(commit.events()) {
        let last_revision = match revisions.get(stream) {
            Some(last) => *last,
            None => view.revision(stream)?,
        };
        let revision = Revision::following(last_revision);
        if revision.get() == u64::MAX {
            // NOTE: only damage can say so. Written all the same, the event would take the place of another, or not be read.
            let detail = format!("expected a revision that another can follow, found {}", found(last_revision));
            return Err(StoreError::damaged(format!("head of stream {stream:?}"), detail));
        }
        revisions.insert(stream, Some(revision));
        let position = Position::following(last_position);
        if position.get() == u64::MAX {
            return Err(StoreError::damaged("the head of the log", "expected a position that another can follow"));
        }
        last_position = Some(position);
        events.push(RecordedEvent {
            position,
            stream: stream.clone(),
            revision,
            recorded_at,
            occurred_at: event.occurred_at.map_or(recorded_at, to_stored_precision),
            part: CommitPart { index, size },
            data: event.data.clone(),
        });
    }
    Ok(events)
}
