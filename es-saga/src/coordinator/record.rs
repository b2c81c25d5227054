//! Commits of the events of a saga.

use es_core::model::{Clock, Entropy, EventId, NewEvent};
use es_core::schema::{EncodeEventError, Event};
use es_core::{Commit, ExpectedRevision, Revision, StreamId, Timestamp};

use crate::id::SagaId;
use crate::instance::SagaEvent;

/// Returns the present time with the precision with which it is stored.
pub(super) fn stored_now(clock: &dyn Clock) -> Timestamp {
    es_core::__private::to_stored_precision(clock.now())
}

/// The instance to whose stream events are added, at this time.
pub(super) struct Recorder<'a> {
    pub(super) id: &'a SagaId,
    pub(super) stream: &'a StreamId,
    pub(super) revision: Option<Revision>,
    pub(super) now: Timestamp,
    pub(super) entropy: &'a dyn Entropy,
}

impl Recorder<'_> {
    /// Adds the events to a commit, on the condition that the instance is unchanged.
    pub(super) fn add(&self, commit: Commit, events: &[SagaEvent]) -> Result<Commit, EncodeEventError> {
        let unchanged = self.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        let mut commit = commit.expect(self.stream.clone(), unchanged);
        for event in events {
            let (encoded, _) = event.encode_and_decode()?;
            let mut data = encoded.into_data(self.event_id());
            data.correlation_id = Some(self.id.correlation());
            commit = commit.append(self.stream.clone(), NewEvent::from(data).occurred_at(self.now));
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
