//! [`Replica::delete`], [`Replica::erase`] and [`Replica::delete_stream`]: delete a stream on all nodes.

use std::fmt;

use es_core::__private::{DeletionPlan, delete_snapshots_before_begin};
use es_core::model::{ErrorChain, SubjectId};
use es_core::retention::{DeleteKind, Note, ReplicatedDeletion, ReplicatedErasure};
use es_core::store::{Conflict, DeletedStream, FailedCheck, NotOwner, StreamRead};
use es_core::{Commit, CommitError, ExpectedRevision, Position, RecordedEvent, Revision, StoreError, StreamId};

use crate::erasure::is_erasure;
use crate::error::{CommitFailure, Refusal};
use crate::replica::Replica;
use crate::rows;

/// The maximum number of attempts to delete a stream while other writers append to it.
const ATTEMPTS: u32 = 100;

/// A stream was not deleted or erased. Nothing was written, except possibly for [`Store`](Self::Store).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// The stream belongs to an aggregate of one node. Delete it with [`delete_stream`](es_core::store::delete_stream).
    #[error("stream {stream:?} is not replicated; delete it on its node with `delete_stream`")]
    NotReplicated {
        /// The stream.
        stream: StreamId,
    },
    /// The stream has no events on this node.
    #[error("stream {stream:?} has no events on this node")]
    NoEvents {
        /// The stream.
        stream: StreamId,
    },
    /// Another node decides on the stream, because its aggregate declares `owner`. Delete it there.
    #[error(transparent)]
    NotOwner(NotOwner),
    /// The stream is not at the expected revision of this node. Read it again.
    #[error(transparent)]
    Expectation(Conflict),
    /// Other writers appended to the stream in each of 100 attempts, or a transaction locks it. Retry.
    #[error("stream {stream:?} was written by others in every attempt, or a transaction locks it; retry")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// The conflict of the last attempt.
        source: Conflict,
    },
    /// The replica refused the event: this node [departs](Refusal::Departed).
    #[error(transparent)]
    Refused(Refusal),
    /// The store rejected the event for another reason.
    #[error("could not write the deletion")]
    Commit(#[source] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeleteError {
    fn of_commit(error: CommitError, stream: &StreamId) -> Self {
        match error.into() {
            CommitFailure::NotOwner(error) => Self::NotOwner(error),
            CommitFailure::Refused(refusal) => Self::Refused(refusal),
            CommitFailure::Commit(CommitError::Conflict(source)) => Self::Conflict { stream: stream.clone(), source },
            CommitFailure::Commit(error) => Self::Commit(error),
            CommitFailure::Store(error) => Self::Store(error),
        }
    }
}

/// What a removal leaves of a stream.
#[derive(Debug)]
enum Removal {
    /// The events that other nodes appended without knowing of it.
    Deletion(Note),
    /// Nothing.
    Erasure(ReplicatedErasure),
}

impl Removal {
    const fn note(&self) -> &Note {
        match self {
            Self::Deletion(note) => note,
            Self::Erasure(erasure) => &erasure.note,
        }
    }

    const fn kind(&self) -> DeleteKind {
        match self {
            Self::Deletion(_) => DeleteKind::Soft,
            Self::Erasure(_) => DeleteKind::Hard,
        }
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deletion(_) => "deletion",
            Self::Erasure(_) => "erasure",
        })
    }
}

impl Replica {
    /// Deletes a stream on all nodes: appends an event that covers all events that the stream has on this node. Has no
    /// effect if earlier deletions cover them.
    ///
    /// - **Every node that has the event** loads the aggregate without the covered events, whatever the order in which
    ///   events arrive. Without other events it does not exist, and a command can create it again.
    /// - **Events that other nodes appended without knowing of the deletion are kept**, so nothing that a node has
    ///   acknowledged is lost: the aggregate then consists of them. Delete it again if they must not stay.
    /// - **Views** delete their rows: see [`Projection::erased`](es_core::projection::Projection::erased).
    /// - **Reads of the log** still return the covered events, and they use disk space.
    ///
    /// Use it for the domain; for the erasure of a person use [`erase`](Self::erase).
    ///
    /// # Errors
    /// [`DeleteError`]: the stream is not replicated or has no events here, or another node decides on it.
    pub async fn delete(&self, stream: &StreamId, note: Note) -> Result<(), DeleteError> {
        self.remove(stream, ExpectedRevision::Any, &Removal::Deletion(note)).await.map(drop)
    }

    /// Erases a stream on all nodes and closes it. Has no effect if it was erased.
    ///
    /// - **Every node that has the event** deletes the events of the stream in the same commit, as
    ///   [`delete_stream`](es_core::store::delete_stream) does: reads do not return them, views and reactors of the
    ///   node receive the deletion, and its snapshots are deleted. A scavenge and a compaction of the node remove the
    ///   content.
    /// - **Events that other nodes append without knowing of it are erased, too**: a node that has the event does not
    ///   store them, and does not send those that it had. So it gets no content from nodes that have not received it,
    ///   and a new node gets none from it.
    /// - **Commands to the aggregate** are refused with [`Refusal::Erased`].
    /// - **The erasure of each subject** is recorded on every node.
    ///   [`PersonalData::follow_erasures`](es_personal::PersonalData::follow_erasures) destroys the keys: run it on
    ///   every node.
    ///
    /// A node whose filter excludes a stream that it had selected before does not receive the event.
    ///
    /// # Errors
    /// [`DeleteError`]: the stream is not replicated or has no events here, or another node decides on it.
    pub async fn erase(
        &self,
        stream: &StreamId,
        subjects: impl IntoIterator<Item = SubjectId> + Send,
        note: Note,
    ) -> Result<(), DeleteError> {
        let erasure = ReplicatedErasure { subjects: subjects.into_iter().collect(), note };
        self.remove(stream, ExpectedRevision::Any, &Removal::Erasure(erasure)).await.map(drop)
    }

    /// Deletes a stream on all nodes as an operator requests it, and returns what was done. A soft deletion is
    /// [`delete`](Self::delete), a hard one is [`erase`](Self::erase) without subjects. The parameters are those of
    /// [`delete_stream`](es_core::store::delete_stream). The expected revision is one of this node.
    ///
    /// A stream that is deleted already is not deleted again: the result describes the last deletion, with
    /// [`DeletedStream::repeated`]. The expectation of a repeat must be [`Any`](ExpectedRevision::Any), the revision of
    /// the last deleted event, or that of the last event. The kind is hard if the stream was erased.
    ///
    /// # Errors
    /// [`DeleteError`]: the stream is not replicated or has no events here, is at another revision, or another node
    /// decides on it.
    pub async fn delete_stream(
        &self,
        stream: &StreamId,
        kind: DeleteKind,
        expected: ExpectedRevision,
        note: Note,
    ) -> Result<DeletedStream, DeleteError> {
        let removal = match kind {
            DeleteKind::Soft => Removal::Deletion(note),
            DeleteKind::Hard => Removal::Erasure(ReplicatedErasure { subjects: Vec::new(), note }),
        };
        self.remove(stream, expected, &removal).await
    }

    /// Removes a stream, and deletes its snapshots after an erasure.
    async fn remove(
        &self,
        stream: &StreamId,
        expected: ExpectedRevision,
        removal: &Removal,
    ) -> Result<DeletedStream, DeleteError> {
        let removed = self.append_removal(stream, expected, removal).await?;
        if removed.kind == DeleteKind::Hard {
            self.delete_snapshots(std::slice::from_ref(stream)).await;
        }
        Ok(removed)
    }

    /// Appends the event that removes a stream, unless it has no effect.
    async fn append_removal(
        &self,
        stream: &StreamId,
        expected: ExpectedRevision,
        removal: &Removal,
    ) -> Result<DeletedStream, DeleteError> {
        if !rows::categories(&*self.store, &self.table).await?.contains(stream.category_str()) {
            return Err(DeleteError::NotReplicated { stream: stream.clone() });
        }
        let mut attempt = 1;
        loop {
            let planned = self.plan_removal(stream, removal).await?;
            // ORDER: after the plan, so that the commit conflicts if the stream was written between the two reads.
            let last = self.store.revision(stream).await?;
            let Some(commit) = planned else { return self.earlier_removal(stream, expected, last, removal).await };
            if !expected.is_met_by(last) {
                return Err(unexpected(stream, expected, last));
            }
            match self.store.commit(commit).await {
                Ok(committed) => {
                    let Note { by, reason } = removal.note();
                    tracing::info!(%stream, %removal, by, reason, "a replicated stream was removed");
                    let position = committed.events.first().map(|event| event.position);
                    return Ok(removed(stream, removal.kind(), last, position, false));
                }
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(DeleteError::of_commit(error, stream)),
            }
        }
    }

    /// Describes the last removal of a stream whose removal has no effect.
    async fn earlier_removal(
        &self,
        stream: &StreamId,
        expected: ExpectedRevision,
        last: Option<Revision>,
        removal: &Removal,
    ) -> Result<DeletedStream, DeleteError> {
        let mut events = self.store.read_stream(StreamRead::new(stream.clone()).backward()).await?;
        let mut found = None;
        while let Some(event) = events.next().await? {
            if let Some(kind) = kind_of(&event) {
                let through = event.revision.get().checked_sub(1).map(Revision::new);
                found = Some(removed(stream, kind, through, Some(event.position), true));
                break;
            }
        }
        let found = found.unwrap_or_else(|| removed(stream, removal.kind(), None, None, true));
        let is_expected = match expected {
            ExpectedRevision::Any => true,
            ExpectedRevision::Exact(revision) => [last, found.through].contains(&Some(revision)),
            ExpectedRevision::NoStream | ExpectedRevision::StreamExists => false,
        };
        if is_expected { Ok(found) } else { Err(unexpected(stream, expected, last)) }
    }

    /// Returns the commit that removes a stream, or `None` if it was removed. The commit conflicts if the stream was
    /// written in the meantime.
    async fn plan_removal(&self, stream: &StreamId, removal: &Removal) -> Result<Option<Commit>, DeleteError> {
        let no_events = || DeleteError::NoEvents { stream: stream.clone() };
        match removal {
            Removal::Deletion(note) => match DeletionPlan::new(&*self.store, stream, note).await? {
                DeletionPlan::Commit(commit) => Ok(Some(*commit)),
                DeletionPlan::Deleted => Ok(None),
                DeletionPlan::NoEvents => Err(no_events()),
            },
            Removal::Erasure(erasure) => {
                if self.store.row(&self.table, &rows::erased_key(stream)).await?.is_some() {
                    return Ok(None);
                }
                let last = self.store.revision(stream).await?.ok_or_else(no_events)?;
                let event = erasure.encode().map_err(|error| StoreError::io("encode an erasure", error))?;
                Ok(Some(Commit::to(stream, ExpectedRevision::Exact(last), [event])))
            }
        }
    }

    /// Deletes the snapshots of erased streams. No load uses them.
    pub(super) async fn delete_snapshots(&self, erased: &[StreamId]) {
        for stream in erased {
            if let Err(error) = delete_snapshots_before_begin(&*self.store, stream).await {
                // The stream is erased. `StoreAdmin::scavenge` deletes the rest.
                tracing::warn!(%stream, error = %ErrorChain(&error), "snapshots of an erased stream not deleted");
            }
        }
    }
}

/// Returns the kind of the removal that an event is.
fn kind_of(event: &RecordedEvent) -> Option<DeleteKind> {
    if is_erasure(&event.data) {
        return Some(DeleteKind::Hard);
    }
    let deletion = ReplicatedDeletion::read(&event.data.event_type, &event.data.payload);
    matches!(deletion, Ok(Some(_))).then_some(DeleteKind::Soft)
}

fn removed(
    stream: &StreamId,
    kind: DeleteKind,
    through: Option<Revision>,
    position: Option<Position>,
    repeated: bool,
) -> DeletedStream {
    DeletedStream { stream: stream.clone(), kind, through, position, repeated, is_replicated: true }
}

fn unexpected(stream: &StreamId, expected: ExpectedRevision, actual: Option<Revision>) -> DeleteError {
    let check = FailedCheck::Revision { stream: stream.clone(), expected, actual };
    DeleteError::Expectation(Conflict { failed: vec![check] })
}
