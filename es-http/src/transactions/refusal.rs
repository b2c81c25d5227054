//! The problems that a participant answers with.

use axum::http::StatusCode;
use es_core::model::ErrorChain;
use es_transaction::ParticipantError;

use crate::Problem;
use crate::problem::kind;

/// Details that can name files or addresses are logged and not sent.
impl From<ParticipantError> for Problem {
    fn from(error: ParticipantError) -> Self {
        match error {
            ParticipantError::Unavailable { participant, source } => {
                tracing::warn!(participant, error = %ErrorChain(&*source), "a participant is unavailable");
                Self::unavailable("the participant is unavailable; repeat the call later")
            }
            ParticipantError::Unreadable { participant, detail } => {
                tracing::error!(participant, detail, "a participant cannot read its state");
                let unreadable = "the participant cannot read its state; the log of its service has the cause";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, unreadable).with_type(kind::TRANSACTION_UNREADABLE)
            }
            ParticipantError::Fenced { known, found } => {
                let detail = format!("expected epoch {known} of the coordinator or a later one, found {found}");
                let problem = Self::new(StatusCode::CONFLICT, detail).with_type(kind::TRANSACTION_FENCED);
                problem.with("known", known.to_string()).with("found", found.to_string())
            }
            ParticipantError::Refused { detail, .. } => refused(detail),
            ParticipantError::Unsupported { operation } => {
                let detail = format!("the participant does not implement {operation}; use two-phase commit");
                Self::new(StatusCode::NOT_IMPLEMENTED, detail).with_type(kind::TRANSACTION_UNSUPPORTED)
            }
            error => Self::internal(&error),
        }
    }
}

/// Returns the response to a call that fails in the same way when it is repeated.
pub(super) fn refused(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail).with_type(kind::TRANSACTION_REFUSED)
}
