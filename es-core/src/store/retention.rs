//! Commits for rules, deletions and scavenge points, and [`delete_stream`], which also removes snapshots.

use crate::model::reserved::{SNAPSHOTS as SNAPSHOTS_TABLE, stream_prefix};
use crate::model::{ExpectedRevision, RecordedEvent, Revision, StreamId, Table, Timestamp, to_stored_precision};
use crate::retention::{DeleteKind, Note, OperatorEvent, Rule, Scope, deletions_stream};
use crate::store::{
    Commit, CommitError, Committed, Conflict, EventStore, FailedCheck, RowScan, StoreError, StreamRead,
};

/// Commits to the reserved streams of [retention](crate::retention).
impl Commit {
    /// Returns a commit that sets the rule of a stream or a category. It replaces the existing rule.
    ///
    /// A store rejects an empty rule, and a rule for the reserved streams, with
    /// [`InvalidCommit::Reserved`](crate::store::InvalidCommit::Reserved), and a rule that truncates a stream after its
    /// last revision with [`FailedCheck::Revision`]: it would hide events that are not written yet.
    #[must_use]
    pub fn set_rule(scope: Scope, rule: Rule, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::RuleSet { scope, rule, note })
    }

    /// Returns a commit that clears the rule of a stream or a category. Events that it hid and that were not removed
    /// become visible again.
    #[must_use]
    pub fn clear_rule(scope: Scope, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::RuleCleared { scope, note })
    }

    /// Returns a commit that deletes a stream whose last event has the revision `through`. `None` is for a stream
    /// without events, which can only be hard deleted. The store rejects the commit if the last revision is another
    /// one, or the stream is already deleted. [`delete_stream`] recognizes a repeated deletion.
    #[must_use]
    pub fn delete_stream(stream: StreamId, kind: DeleteKind, through: Option<Revision>, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::StreamDeleted { stream, kind, through, note })
    }

    /// Returns a commit that writes a scavenge point with this time. [`EventStore::scavenge`] commits one itself, so
    /// applications rarely need this.
    #[must_use]
    pub fn scavenge_point(at: Timestamp, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::ScavengePoint { at: to_stored_precision(at), note })
    }

    fn of_operator(event: &OperatorEvent) -> Self {
        let (stream, event) = event.encode();
        Self::to(&stream, ExpectedRevision::Any, [event])
    }
}

/// The maximum number of snapshots that are removed with a stream.
const SNAPSHOTS: usize = 1000;
/// The maximum number of attempts to delete a stream while other writers append to it.
const ATTEMPTS: u32 = 100;

/// Deletes a stream at its current revision, and its snapshots.
///
/// The deletion of a deleted stream is a repeat: it returns the last deletion, with [`Committed::repeated`], and writes
/// nothing. A hard delete of a stream that was only soft deleted is not a repeat. The expectation of a repeat must be
/// [`Any`](ExpectedRevision::Any) or the revision of the last deleted event.
///
/// # Errors
/// - [`CommitError::Conflict`] if the stream is not at the `expected` revision, does not exist (for a soft delete), or
///   was written by others during each of 100 attempts.
/// - [`CommitError::Store`] if the infrastructure fails.
/// - The other errors of [`EventStore::commit`].
pub async fn delete_stream(
    store: &dyn EventStore,
    stream: &StreamId,
    kind: DeleteKind,
    expected: ExpectedRevision,
    note: Note,
) -> Result<Committed, CommitError> {
    let snapshots = Table::well_known(SNAPSHOTS_TABLE);
    let mut attempt = 1;
    loop {
        let through = store.revision(stream).await?;
        if let Some(deletion) = repeated_deletion(store, stream, kind, expected, through).await? {
            return Ok(Committed { events: vec![deletion], repeated: true });
        }
        let mut commit =
            Commit::delete_stream(stream.clone(), kind, through, note.clone()).expect(stream.clone(), expected);
        for row in store.rows(RowScan::new(snapshots.clone(), stream_prefix(stream), SNAPSHOTS)).await? {
            commit = commit.delete_row(snapshots.clone(), row.key);
        }
        match store.commit(commit).await {
            Err(CommitError::Conflict(conflict)) if attempt < ATTEMPTS && is_lost(&conflict, expected, through) => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Returns the deletion event of a stream that is already deleted as requested. Reads the deletions from the newest on,
/// but only for a stream that was deleted.
async fn repeated_deletion(
    store: &dyn EventStore,
    stream: &StreamId,
    kind: DeleteKind,
    expected: ExpectedRevision,
    last: Option<Revision>,
) -> Result<Option<RecordedEvent>, StoreError> {
    let is_expected = match expected {
        ExpectedRevision::Any => true,
        ExpectedRevision::Exact(_) => expected.is_met_by(last),
        ExpectedRevision::NoStream | ExpectedRevision::StreamExists => false,
    };
    if !is_expected {
        return Ok(None);
    }
    let retained = store.retained(stream).await?;
    let is_soft_deleted = last.is_some_and(|last| retained.begins > last);
    if !retained.is_ended && (kind == DeleteKind::Hard || !is_soft_deleted) {
        return Ok(None);
    }
    let mut deletions = store.read_stream(StreamRead::new(deletions_stream()).backward()).await?;
    while let Some(event) = deletions.next().await? {
        let action = OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload);
        if matches!(&action, Ok(OperatorEvent::StreamDeleted { stream: deleted, .. }) if deleted == stream) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// Returns `true` if the only failed condition is that another writer appended to the stream.
fn is_lost(conflict: &Conflict, demanded: ExpectedRevision, through: Option<Revision>) -> bool {
    conflict.failed.iter().all(|check| match check {
        FailedCheck::Revision { expected, .. } => {
            *expected == ExpectedRevision::unchanged(through) && *expected != demanded
        }
        _ => false,
    })
}
