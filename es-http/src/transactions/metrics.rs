//! Counters of calls between coordinators and participants (feature `metrics`).

use es_transaction::ParticipantError;

use super::wire::ParticipantCall;

/// The counter of the calls that a participant has answered, with the labels `operation` and `outcome`.
#[cfg(feature = "metrics")]
pub const PARTICIPANT_CALLS: &str = "es_transaction_participant_calls_total";
/// The counter of the calls to remote participants, with the labels `participant`, `operation` and `outcome`. A call
/// counts once, however often it was sent.
#[cfg(feature = "metrics")]
pub const REMOTE_CALLS: &str = "es_transaction_remote_calls_total";

/// The outcome of a call that a client made for a coordinator for which it must not act.
pub(super) const FORBIDDEN: &str = "forbidden";

/// Returns the outcome of a call as a label.
pub(super) fn outcome<T>(result: &Result<T, ParticipantError>) -> &'static str {
    match result {
        Ok(_) => "answered",
        Err(ParticipantError::Unavailable { .. }) => "unavailable",
        Err(ParticipantError::Unreadable { .. }) => "unreadable",
        Err(ParticipantError::Fenced { .. }) => "fenced",
        Err(ParticipantError::Refused { .. }) => "refused",
        Err(ParticipantError::Unsupported { .. }) => "unsupported",
        Err(_) => "failed",
    }
}

/// Counts a call that the participant of this process has answered.
pub(super) fn count_answered(call: ParticipantCall, outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(PARTICIPANT_CALLS, "operation" => call.name(), "outcome" => outcome).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = (call, outcome);
}

/// Counts a call to a remote participant.
pub(super) fn count_called(participant: &str, call: ParticipantCall, outcome: &'static str) {
    #[cfg(feature = "metrics")]
    metrics::counter!(
        REMOTE_CALLS, "participant" => participant.to_owned(), "operation" => call.name(), "outcome" => outcome
    )
    .increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = (participant, call, outcome);
}
