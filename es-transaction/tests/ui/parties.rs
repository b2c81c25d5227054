//! The parameters of the transactions: a participant, and an error.

use es_core::model::{CoordinatorEpoch, TransactionId};
#[allow(unused_imports, reason = "each test uses a part of it")]
pub use es_transaction::{EnlistError, Tx, transaction};
use es_transaction::{Finished, Participant, ParticipantError, ParticipantStatus, Prepare, Vote};

pub struct Seats;

impl Participant for Seats {
    type Request = u32;
    type Prepared = ();

    fn name(&self) -> &str {
        "seats"
    }

    async fn prepare(&self, _: &Prepare, _: &u32) -> Result<Vote<()>, ParticipantError> {
        Ok(Vote::Prepared(()))
    }

    async fn commit(&self, _: &TransactionId, _: &()) -> Result<Finished, ParticipantError> {
        Ok(Finished::Done)
    }

    async fn abort(&self, _: &TransactionId, _: Option<&()>) -> Result<Finished, ParticipantError> {
        Ok(Finished::Done)
    }

    async fn status(&self, _: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        Err(ParticipantError::Unsupported { operation: "status" })
    }

    async fn in_doubt(&self, _: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        Ok(Vec::new())
    }
}
