//! Commits for rules, deletions and scavenge points, and [`delete_stream`], which also removes snapshots.

use crate::model::reserved::{SNAPSHOTS as SNAPSHOTS_TABLE, stream_prefix};
use crate::model::{ExpectedRevision, Revision, StreamId, Table, Timestamp, to_stored_precision};
use crate::retention::{DeleteKind, Note, OperatorEvent, Rule, Scope};
use crate::store::{Commit, CommitError, Committed, Conflict, EventStore, FailedCheck, RowScan};

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
    /// one.
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
/// # Errors
/// - [`CommitError::Conflict`] if the stream is not at the `expected` revision, does not exist (for a soft delete), was
///   hard deleted before, or was written by others during each of 100 attempts.
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

/// Returns `true` if the only failed condition is that another writer appended to the stream.
fn is_lost(conflict: &Conflict, demanded: ExpectedRevision, through: Option<Revision>) -> bool {
    conflict.failed.iter().all(|check| match check {
        FailedCheck::Revision { expected, .. } => {
            *expected == ExpectedRevision::unchanged(through) && *expected != demanded
        }
        _ => false,
    })
}
