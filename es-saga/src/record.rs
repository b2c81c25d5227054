//! The events of an instance of a saga or a process, added to a commit.

use es_core::__private::{event_id_at, to_stored_precision};
use es_core::model::{Clock, Context, Entropy, Metadata, NewEvent};
use es_core::schema::{EncodeEventError, Event};
use es_core::{Commit, ExpectedRevision, Revision, StreamId, Timestamp};
use uuid::Uuid;

/// Returns the present time with the precision with which it is stored.
pub(crate) fn stored_now(clock: &dyn Clock) -> Timestamp {
    to_stored_precision(clock.now())
}

/// Returns a random id for an owner of leases.
pub(crate) fn owner_id(entropy: &dyn Entropy) -> Uuid {
    let bits = u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}

/// The time, the cause, the metadata and the ids of new events.
pub(crate) struct EventStamp<'a> {
    pub(crate) now: Timestamp,
    pub(crate) context: Context,
    pub(crate) metadata: Metadata,
    pub(crate) entropy: &'a dyn Entropy,
}

impl EventStamp<'_> {
    /// Adds events of a stream to a commit, on the condition that the stream is unchanged.
    pub(crate) fn append<E: Event>(
        &self,
        commit: Commit,
        stream: &StreamId,
        revision: Option<Revision>,
        events: &[E],
    ) -> Result<Commit, EncodeEventError> {
        let mut commit = commit.expect(stream.clone(), ExpectedRevision::unchanged(revision));
        for event in events {
            let (encoded, _) = event.encode_and_decode()?;
            let mut data = encoded.into_data(event_id_at(self.now, self.entropy));
            data.correlation_id = Some(self.context.correlation_id);
            data.causation_id = self.context.causation_id;
            data.metadata = self.metadata.clone();
            commit = commit.append(stream.clone(), NewEvent::from(data).occurred_at(self.now));
        }
        Ok(commit)
    }
}
