//! Commits for rules, deletions and scavenge points, and [`delete_stream`], which also removes snapshots.

use bytes::Bytes;

use crate::model::reserved::{SNAPSHOTS as SNAPSHOTS_TABLE, stream_prefix};
use crate::model::{
    ErrorChain, ExpectedRevision, RecordedEvent, Revision, StreamId, SubjectId, Table, Timestamp, to_stored_precision,
};
use crate::retention::{DeleteKind, Note, OperatorEvent, Rule, Scope, deletions_stream};
use crate::store::{
    Commit, CommitError, Committed, Conflict, EventStore, FailedCheck, Row, RowScan, StoreError, StreamRead,
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

    /// Returns a commit that records the erasure of a subject of personal data. Projections and reactors receive it as
    /// an [`Erasure`](crate::retention::Erasure). It hides no event and destroys no key: the crate es-personal commits
    /// it and then destroys the key of the subject.
    #[must_use]
    pub fn erase_subject(subject: SubjectId, note: Note) -> Self {
        Self::of_operator(&OperatorEvent::SubjectErased { subject, note })
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

/// The maximum number of snapshots that are removed in one commit.
const SNAPSHOTS: usize = 1000;
/// The maximum number of attempts to delete a stream while other writers append to it.
const ATTEMPTS: u32 = 100;

/// Deletes a stream at its current revision. The same commit deletes its snapshots; a snapshot that another writer
/// stored meanwhile is deleted afterwards.
///
/// Projections and reactors of the category receive the deletion as an [`Erasure`](crate::retention::Erasure).
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
    let mut attempt = 1;
    loop {
        let through = store.revision(stream).await?;
        if let Some(deletion) = repeated_deletion(store, stream, kind, expected, through).await? {
            // A crash may have interrupted the first deletion after its commit.
            delete_snapshots_before_begin(store, stream).await?;
            return Ok(Committed { events: vec![deletion], repeated: true });
        }
        let mut commit =
            Commit::delete_stream(stream.clone(), kind, through, note.clone()).expect(stream.clone(), expected);
        for row in store.rows(RowScan::new(snapshots(), stream_prefix(stream), SNAPSHOTS)).await? {
            commit = commit.delete_row(snapshots(), row.key);
        }
        match store.commit(commit).await {
            Err(CommitError::Conflict(conflict)) if attempt < ATTEMPTS && is_lost(&conflict, expected, through) => {
                attempt += 1;
            }
            Err(error) => return Err(error),
            Ok(committed) => {
                // The stream is deleted, whatever happens here. `StoreAdmin::scavenge` deletes the rest.
                if let Err(error) = delete_snapshots_before_begin(store, stream).await {
                    tracing::warn!(%stream, error = %ErrorChain(&error), "snapshots of a deleted stream not deleted");
                }
                return Ok(committed);
            }
        }
    }
}

/// Returns the table of snapshots.
pub(super) fn snapshots() -> Table {
    Table::well_known(SNAPSHOTS_TABLE)
}

pub(super) async fn delete_snapshot_rows(store: &dyn EventStore, keys: Vec<Bytes>) -> Result<(), CommitError> {
    if keys.is_empty() {
        return Ok(());
    }
    let commit = keys.into_iter().fold(Commit::new(), |commit, key| commit.delete_row(snapshots(), key));
    store.commit(commit).await.map(drop)
}

/// Deletes the snapshots of a stream from before its last deletion.
///
/// # Errors
/// [`CommitError`] if the store fails.
pub async fn delete_snapshots_before_begin(store: &dyn EventStore, stream: &StreamId) -> Result<(), CommitError> {
    let retained = store.retained(stream).await?;
    let is_before = |row: &Row| {
        let revision = row.key.last_chunk().map(|number| Revision::new(u64::from_be_bytes(*number)));
        retained.is_ended || revision.is_none_or(|revision| revision < retained.begins)
    };
    loop {
        // The oldest snapshots are first.
        let rows = store.rows(RowScan::new(snapshots(), stream_prefix(stream), SNAPSHOTS)).await?;
        let keys: Vec<Bytes> = rows.into_iter().take_while(is_before).map(|row| row.key).collect();
        let is_last = keys.len() < SNAPSHOTS;
        delete_snapshot_rows(store, keys).await?;
        if is_last {
            return Ok(());
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
