//! [`AnyParticipant`]: a participant whose requests and prepared data are JSON.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use es_core::__private::panic_message;
use es_core::model::{CoordinatorEpoch, TransactionId};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::participant::{Finished, Participant, ParticipantError, ParticipantStatus, Prepare, Vote};

/// A participant of any type.
#[async_trait]
pub(crate) trait AnyParticipant: Send + Sync {
    async fn prepare(&self, prepare: &Prepare, request: &Value) -> Result<Vote<Value>, ParticipantError>;
    async fn pre_commit(&self, transaction: &TransactionId, prepared: &Value) -> Result<Finished, ParticipantError>;
    async fn commit(&self, transaction: &TransactionId, prepared: &Value) -> Result<Finished, ParticipantError>;
    async fn abort(&self, transaction: &TransactionId, prepared: Option<&Value>) -> Result<Finished, ParticipantError>;
    async fn status(&self, transaction: &TransactionId) -> Result<ParticipantStatus, ParticipantError>;
    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError>;
    async fn forget(&self, transaction: &TransactionId) -> Result<(), ParticipantError>;
}

#[async_trait]
impl<P: Participant> AnyParticipant for P {
    async fn prepare(&self, prepare: &Prepare, request: &Value) -> Result<Vote<Value>, ParticipantError> {
        let request: P::Request = self.decode("a request", request)?;
        Ok(match Participant::prepare(self, prepare, &request).await? {
            Vote::Prepared(prepared) => {
                let prepared = serde_json::to_value(prepared);
                Vote::Prepared(prepared.map_err(|error| self.refused(format!("prepared data: {error}")))?)
            }
            Vote::ReadOnly => Vote::ReadOnly,
            Vote::No { reason } => Vote::No { reason },
        })
    }

    async fn pre_commit(&self, transaction: &TransactionId, prepared: &Value) -> Result<Finished, ParticipantError> {
        let prepared: P::Prepared = self.decode("prepared data", prepared)?;
        Participant::pre_commit(self, transaction, &prepared).await
    }

    async fn commit(&self, transaction: &TransactionId, prepared: &Value) -> Result<Finished, ParticipantError> {
        let prepared: P::Prepared = self.decode("prepared data", prepared)?;
        Participant::commit(self, transaction, &prepared).await
    }

    async fn abort(&self, transaction: &TransactionId, prepared: Option<&Value>) -> Result<Finished, ParticipantError> {
        let prepared = prepared.map(|prepared| self.decode::<P::Prepared>("prepared data", prepared)).transpose()?;
        Participant::abort(self, transaction, prepared.as_ref()).await
    }

    async fn status(&self, transaction: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        Participant::status(self, transaction).await
    }

    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        Participant::in_doubt(self, epoch).await
    }

    async fn forget(&self, transaction: &TransactionId) -> Result<(), ParticipantError> {
        Participant::forget(self, transaction).await
    }
}

/// Decodes values for a participant.
trait Decode: Participant {
    fn refused(&self, detail: String) -> ParticipantError {
        ParticipantError::Refused { participant: self.name().to_owned(), detail }
    }

    fn decode<T: DeserializeOwned>(&self, what: &str, value: &Value) -> Result<T, ParticipantError> {
        T::deserialize(value).map_err(|error| self.refused(format!("expected {what} of this participant: {error}")))
    }
}

impl<P: Participant> Decode for P {}

/// Waits for a call to a participant, at most for this time. Converts a panic of the participant into an error.
pub(crate) async fn within<T>(
    participant: &str,
    time: Duration,
    call: impl Future<Output = Result<T, ParticipantError>>,
) -> Result<T, ParticipantError> {
    let unavailable = |source| Err(ParticipantError::Unavailable { participant: participant.to_owned(), source });
    // The state of the participant is its own. Nothing here is left inconsistent by its panic.
    match tokio::time::timeout(time, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => unavailable(format!("the call panicked: {}", panic_message(&*panic)).into()),
        Err(elapsed) => unavailable(elapsed.into()),
    }
}
