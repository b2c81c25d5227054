//! The calls of participants.

use std::sync::Arc;

use es_core::model::TransactionId;
use serde_json::Value;

use crate::any::{AnyParticipant, within};
use crate::coordinator::shared::{RunState, Shared};
use crate::hooks::{HookAction, HookPlace};
use crate::machine::{Call, StateReport};
use crate::participant::{Finished, ParticipantError, Prepare, Vote};

/// What a participant answered.
pub(super) enum Answer {
    Voted(Vote<Value>),
    Finished(Finished),
    Reported(StateReport),
    Forgotten,
    Failed(ParticipantError),
}

/// What a call needs.
pub(super) struct CallContext {
    pub(super) shared: Arc<Shared>,
    pub(super) transaction: TransactionId,
    /// The name of the participant.
    pub(super) name: String,
    /// `None` for a transaction that has been recovered, which prepares no participant.
    pub(super) prepare: Option<Prepare>,
    pub(super) request: Option<Value>,
    /// What the participant returned when it was prepared.
    pub(super) prepared: Option<Value>,
}

impl CallContext {
    /// Calls the participant. After a simulated crash, it never returns.
    pub(super) async fn call(&self, call: Call) -> Answer {
        let participant = self.name.as_str();
        match self.hook(HookPlace::BeforeCall { participant, call }).await {
            HookAction::Lose => return self.lost(),
            HookAction::Repeat => {
                self.call_once(call).await;
            }
            HookAction::Continue | HookAction::Crash | HookAction::Delay(_) => {}
        }
        let answer = self.call_once(call).await;
        if let Answer::Failed(ParticipantError::Fenced { known, .. }) = &answer {
            tracing::warn!(participant, epoch = %self.shared.epoch, %known, "a participant knows a later epoch");
            self.shared.enter(RunState::Fenced);
        }
        match self.hook(HookPlace::AfterCall { participant, call }).await {
            HookAction::Lose => self.lost(),
            _ => answer,
        }
    }

    async fn hook(&self, place: HookPlace<'_>) -> HookAction {
        match self.shared.hook(&self.transaction, place) {
            HookAction::Crash => std::future::pending().await,
            HookAction::Delay(time) => {
                tokio::time::sleep(time).await;
                HookAction::Continue
            }
            action => action,
        }
    }

    fn lost(&self) -> Answer {
        let (participant, source) = (self.name.clone(), "the message was lost".into());
        Answer::Failed(ParticipantError::Unavailable { participant, source })
    }

    async fn call_once(&self, call: Call) -> Answer {
        let Some(registered) = self.shared.participants.get(self.name.as_str()) else {
            let detail = "it is not registered with the coordinator; register it, so that the transaction can end";
            let (participant, detail) = (self.name.clone(), detail.to_owned());
            return Answer::Failed(ParticipantError::Refused { participant, detail });
        };
        self.answer(&*registered.participant, call).await.unwrap_or_else(Answer::Failed)
    }

    async fn answer(&self, participant: &dyn AnyParticipant, call: Call) -> Result<Answer, ParticipantError> {
        let (name, transaction, time) = (self.name.as_str(), &self.transaction, self.shared.times.call);
        let prepared = self.prepared.as_ref().unwrap_or(&Value::Null);
        match call {
            Call::Prepare => {
                let (Some(prepare), Some(request)) = (&self.prepare, &self.request) else {
                    return Ok(self.lost());
                };
                let vote = participant.prepare(prepare, request);
                within(name, prepare.timeout(), vote).await.map(Answer::Voted)
            }
            Call::PreCommit => {
                within(name, time, participant.pre_commit(transaction, prepared)).await.map(Answer::Finished)
            }
            Call::Commit => within(name, time, participant.commit(transaction, prepared)).await.map(Answer::Finished),
            Call::Abort => {
                within(name, time, participant.abort(transaction, self.prepared.as_ref())).await.map(Answer::Finished)
            }
            Call::Status => {
                let status = within(name, time, participant.status(transaction)).await?;
                Ok(Answer::Reported(StateReport::from(&status)))
            }
            Call::Forget => within(name, time, participant.forget(transaction)).await.map(|()| Answer::Forgotten),
        }
    }
}
