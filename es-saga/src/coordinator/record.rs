//! Commits of the events of a saga.

use es_core::consumer::timer::Timer;
use es_core::model::{Context, CorrelationId, Entropy, Metadata};
use es_core::schema::EncodeEventError;
use es_core::{Commit, Evolve, Revision, StreamId, Timestamp};
use serde_json::Value;

use crate::coordinator::error::CreateError;
use crate::coordinator::wake::Slot;
use crate::graph::Definition;
use crate::id::SagaId;
use crate::instance::{SagaEvent, SagaInstance};
use crate::record::EventStamp;

/// The instance to whose stream events are added, at this time.
pub(super) struct Recorder<'a> {
    pub(super) correlation: CorrelationId,
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
        let (shape, fingerprint) = (definition.shape.clone(), definition.fingerprint);
        let mut state = SagaInstance::initial(id);
        let events = state.record(SagaEvent::Created { shape, fingerprint, input, deadline, parent }, now);
        let recorder = Recorder { correlation: id.correlation(), stream, revision: None, now, entropy, metadata };
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
        let Self { now, entropy, .. } = *self;
        let context = Context::with_correlation(self.correlation);
        let stamp = EventStamp { now, context, metadata: self.metadata.clone(), entropy };
        stamp.append(commit, self.stream, self.revision, events)
    }
}
