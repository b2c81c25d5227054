//! Commits of the events of a saga.

use es_core::consumer::timer::Timer;
use es_core::model::{Clock, Entropy, EventId, Metadata, NewEvent};
use es_core::schema::{EncodeEventError, Event};
use es_core::{Commit, Evolve, ExpectedRevision, Revision, StreamId, Timestamp};
use serde_json::Value;

use crate::coordinator::error::CreateError;
use crate::coordinator::wake::Slot;
use crate::graph::Definition;
use crate::id::SagaId;
use crate::instance::{SagaEvent, SagaInstance, Transition};

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
    /// The metadata with which the instance was created, which all of its events have.
    pub(super) metadata: &'a Metadata,
}

/// An instance that is to be created.
pub(super) struct NewInstance<'a> {
    pub(super) definition: &'a Definition,
    pub(super) id: &'a SagaId,
    pub(super) stream: &'a StreamId,
    pub(super) input: Value,
    /// The saga of which it is a step.
    pub(super) parent: Option<SagaId>,
    pub(super) metadata: &'a Metadata,
}

impl NewInstance<'_> {
    /// Adds the creation to a commit, which conflicts if the instance exists.
    pub(super) fn add(self, commit: Commit, now: Timestamp, entropy: &dyn Entropy) -> Result<Commit, CreateError> {
        let Self { definition, id, stream, input, parent, metadata } = self;
        let deadline = definition.deadline.and_then(|deadline| {
            chrono::TimeDelta::from_std(deadline).ok().and_then(|deadline| now.checked_add_signed(deadline))
        });
        let shape = definition.shape.clone();
        let mut state = SagaInstance::initial(id);
        let created = state.transition(Transition::Create { shape, input, deadline, parent }, now);
        // The instance is new, so the transition fits.
        let events = created.unwrap_or_default();
        let recorder = Recorder { id, stream, revision: None, now, entropy, metadata };
        let commit = recorder.add(commit, &events)?;
        // A graph without nodes is completed at once.
        let timer = (!state.phase().is_final()).then(|| Timer::new(stream.clone(), now));
        let commit = Slot::of(stream).queue().replace(commit, stream, None, timer.as_ref());
        Ok(commit.map_err(es_core::CommitError::Store)?)
    }
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
            data.metadata = self.metadata.clone();
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
