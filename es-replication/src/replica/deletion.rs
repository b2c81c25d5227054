//! [`Replica::delete`]: deletes a stream on all nodes.

use es_core::__private::DeletionPlan;
use es_core::retention::Note;
use es_core::store::{Conflict, NotOwner};
use es_core::{CommitError, StoreError, StreamId};

use crate::error::Refusal;
use crate::replica::Replica;
use crate::rows;

/// The maximum number of attempts to delete a stream while other writers append to it.
const ATTEMPTS: u32 = 100;

/// A stream was not deleted. Nothing was written, except possibly for [`Store`](Self::Store).
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
        let error = match error {
            CommitError::Rejected(error) => error,
            CommitError::Store(error) => return Self::Store(error),
            CommitError::Conflict(source) => return Self::Conflict { stream: stream.clone(), source },
            error => return Self::Commit(error),
        };
        let error = match error.downcast::<NotOwner>() {
            Ok(error) => return Self::NotOwner(*error),
            Err(error) => error,
        };
        match error.downcast::<Refusal>() {
            Ok(refusal) => Self::Refused(*refusal),
            Err(error) => Self::Commit(CommitError::Rejected(error)),
        }
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
    /// - **Views** delete their rows: see [`Projection::erased`](es_core::Projection::erased).
    /// - **Reads of the log** still return the covered events, and they use disk space.
    ///
    /// Use it for the domain and not for the erasure of a person, whose data is encrypted: see the crate es-personal.
    ///
    /// # Errors
    /// [`DeleteError`]: the stream is not replicated or has no events here, or another node decides on it.
    pub async fn delete(&self, stream: &StreamId, note: Note) -> Result<(), DeleteError> {
        if !rows::categories(&*self.store, &self.table).await?.contains(stream.category_str()) {
            return Err(DeleteError::NotReplicated { stream: stream.clone() });
        }
        let mut attempt = 1;
        loop {
            let commit = match DeletionPlan::new(&*self.store, stream, &note).await? {
                DeletionPlan::Commit(commit) => *commit,
                DeletionPlan::Deleted => return Ok(()),
                DeletionPlan::NoEvents => return Err(DeleteError::NoEvents { stream: stream.clone() }),
            };
            match self.store.commit(commit).await {
                Ok(_) => {
                    tracing::info!(%stream, by = note.by, reason = note.reason, "a replicated stream was deleted");
                    return Ok(());
                }
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(DeleteError::of_commit(error, stream)),
            }
        }
    }
}
