//! The requests of a coordinator and the answers of a participant, as both sides encode them.

use es_core::model::TransactionId;
use serde::{Deserialize, Deserializer, Serialize};

/// The maximum length of the body of a call in bytes. It is the default limit of
/// [`ServeOptions::max_body_bytes`](crate::ServeOptions::max_body_bytes): do not choose less for a participant.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The maximum length of a vote with its prepared data in bytes, as JSON. It is less than [`MAX_BODY_BYTES`], because
/// the body of the commit contains the prepared data.
pub const MAX_VOTE_BYTES: usize = MAX_BODY_BYTES - 4096;

/// A call of a coordinator to a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParticipantCall {
    Prepare,
    PreCommit,
    Commit,
    Abort,
    Forget,
    Status,
    InDoubt,
}

impl ParticipantCall {
    /// All calls. The router has the routes of this list.
    pub(super) const ALL: [Self; 7] =
        [Self::Prepare, Self::PreCommit, Self::Commit, Self::Abort, Self::Forget, Self::Status, Self::InDoubt];

    /// Returns the name of the method of [`Participant`](es_transaction::Participant).
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::PreCommit => "pre_commit",
            Self::Commit => "commit",
            Self::Abort => "abort",
            Self::Forget => "forget",
            Self::Status => "status",
            Self::InDoubt => "in_doubt",
        }
    }

    /// Returns the route, which begins with a slash.
    pub(super) const fn route(self) -> &'static str {
        match self {
            Self::Prepare => "/prepare",
            Self::PreCommit => "/pre-commit",
            Self::Commit => "/commit",
            Self::Abort => "/abort",
            Self::Forget => "/forget",
            Self::Status => "/status/{transaction}",
            Self::InDoubt => "/in-doubt",
        }
    }
}

/// The body of a prepare.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrepareBody<P, R> {
    pub(super) prepare: P,
    pub(super) request: R,
}

/// The body of a pre-commit and of a commit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommitBody<T, P> {
    pub(super) transaction: T,
    pub(super) prepared: P,
}

/// The body of an abort.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AbortBody<T, P> {
    pub(super) transaction: T,
    /// Absent if the vote was not received. It can be `null`: the JSON of `()`.
    #[serde(
        default = "Option::default",
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none",
        bound(deserialize = "P: Deserialize<'de>")
    )]
    pub(super) prepared: Option<P>,
}

/// The body of a call that forgets a heuristic outcome.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgetBody<T> {
    pub(super) transaction: T,
}

/// The body of the question for the transactions in doubt.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InDoubtBody<E> {
    pub(super) epoch: E,
}

/// The transactions in doubt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InDoubtAnswer {
    pub(super) transactions: Vec<TransactionId>,
}

/// Deserializes a member that is present, also if it is `null`.
fn present<'de, P: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<P>, D::Error> {
    P::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_exactly_the_routes_of_the_router() {
        let document = include_str!("../../openapi/participant.json");
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        let paths = document["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation["operationId"].clone()))
        });
        let mut documented: Vec<_> = operations.collect();
        documented.sort_by_key(|(path, ..)| *path);
        let method = |call| if call == ParticipantCall::Status { "get" } else { "post" };
        let mut routed: Vec<_> =
            ParticipantCall::ALL.map(|call| (call.route(), method(call), call.name().into())).into();
        routed.sort_by_key(|(path, ..)| *path);
        assert_eq!(documented, routed);
    }

    #[test]
    fn absent_prepared_data_is_distinguished_from_null() {
        let parse = |text: &str| serde_json::from_str::<AbortBody<u8, ()>>(text).unwrap().prepared;
        assert_eq!(parse(r#"{"transaction": 1}"#), None);
        assert_eq!(parse(r#"{"transaction": 1, "prepared": null}"#), Some(()));
        let text = |prepared: Option<()>| serde_json::to_string(&AbortBody { transaction: 1, prepared }).unwrap();
        assert_eq!(text(None), r#"{"transaction":1}"#);
        assert_eq!(text(Some(())), r#"{"transaction":1,"prepared":null}"#);
        serde_json::from_str::<AbortBody<u8, ()>>(r#"{"transaction": 1, "prepard": null}"#).unwrap_err();
    }
}
