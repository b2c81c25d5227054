//! Commits of events of an instance.

use es_core::model::{Clock, Context, Entropy, EventId, NewEvent};
use es_core::schema::{EncodeEventError, Event};
use es_core::{Commit, ExpectedRevision, Revision, StreamId, Timestamp};

/// Returns the present time with the precision with which it is stored.
pub(crate) fn stored_time(clock: &dyn Clock) -> Timestamp {
    es_core::__private::to_stored_precision(clock.now())
}

/// The time, the cause and the ids of new events.
pub(crate) struct EventStamp<'a> {
    pub(crate) now: Timestamp,
    pub(crate) context: Context,
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
            let mut data = encoded.into_data(self.event_id());
            data.correlation_id = Some(self.context.correlation_id);
            data.causation_id = self.context.causation_id;
            commit = commit.append(stream.clone(), NewEvent::from(data).occurred_at(self.now));
        }
        Ok(commit)
    }

    fn event_id(&self) -> EventId {
        let millis = u64::try_from(self.now.timestamp_millis()).unwrap_or(0);
        let bits = u128::from(self.entropy.next_u64()) << 64 | u128::from(self.entropy.next_u64());
        let mut random = [0; 10];
        random.copy_from_slice(&bits.to_be_bytes()[..10]);
        EventId::from_uuid(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}
