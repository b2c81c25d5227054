//! Retention as commits: rules, deletions and scavenge points, and the deletion of a stream with its snapshots.

use crate::model::reserved::{SNAPSHOTS as SNAPSHOTS_TABLE, stream_prefix};
use crate::model::{ExpectedRevision, Revision, StreamId, Table, Timestamp, to_stored_precision};
use crate::retention::{DeleteKind, Note, OperatorEvent, Rule, Scope};
use crate::store::{Commit, CommitError, Committed, Conflict, EventStore, FailedCheck, RowScan};

/// The reserved streams of [retention](crate::retention).
impl Commit {
    /// Sets the rule of a stream or of a category, in place of the one that it has.
    ///
    /// A store refuses an empty rule, and one for the reserved streams, with
    /// [`InvalidCommit::Reserved`](crate::store::InvalidCommit::Reserved).
    #[must_use]
    pub fn set_rule(scope: Scope, rule: Rule, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::RuleSet { scope, rule, note })
    }

    /// Clears the rule of a stream or of a category. What was hidden by it and not yet removed is shown again.
    #[must_use]
    pub fn clear_rule(scope: Scope, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::RuleCleared { scope, note })
    }

    /// Deletes a stream whose last event has the revision `through`; `None` for one that has no event, which only a hard delete
    /// may be of. The commit is refused when the stream is otherwise by then.
    #[must_use]
    pub fn delete_stream(stream: StreamId, kind: DeleteKind, through: Option<Revision>, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::StreamDeleted { stream, kind, through, note })
    }

    /// A scavenge point with this time. [`EventStore::scavenge`] commits one: there is seldom a reason to do it apart.
    #[must_use]
    pub fn scavenge_point(at: Timestamp, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::ScavengePoint { at: to_stored_precision(at), note })
    }

    fn of_operator(event: &OperatorEvent) -> Self {
        let (stream, event) = event.encode();
        Self::to(&stream, ExpectedRevision::Any, [event])
    }
}

/// How many snapshots of a stream are removed with it.
const SNAPSHOTS: usize = 1000;
/// How often a deletion is tried while others write to the stream.
const ATTEMPTS: u32 = 100;

/// Deletes a stream as it is now, with its snapshots.
///
/// # Errors
/// [`CommitError::Conflict`] when the stream is not as `expected`, does not exist (for a soft delete), or was hard deleted
/// before, or when others wrote to it each time that this was tried. The other variants say what to do.
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
            answer => return answer,
        }
    }
}

/// Whether nothing failed but that the stream was written to since it was looked at.
fn is_lost(conflict: &Conflict, demanded: ExpectedRevision, through: Option<Revision>) -> bool {
    conflict.failed.iter().all(|check| match check {
        FailedCheck::Revision { expected, .. } => {
            *expected == ExpectedRevision::unchanged(through) && *expected != demanded
        }
        _ => false,
    })
}
