//! [`Node::operations`]: what an operator does with a running node.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use es_core::CommitError;
use es_core::model::ErrorChain;
use es_http::operations::Operations;
use es_http::{Json, Path, Problem};
use es_replication::{MemberState, Membership, MembershipError, Refusal};
use serde::Deserialize;

use crate::node::Node;

/// A change of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
enum MemberAction {
    Join,
    Leave,
    Retire,
}

impl Node {
    /// Returns the operations on this node, which `es --url` uses: those of its store, and these:
    ///
    /// | request | answer |
    /// |---|---|
    /// | `GET /replication` | [`ReplicationStatus`](es_replication::ReplicationStatus) |
    /// | `POST /replication/members/{name}` | the [state](MemberState) of each node of the group |
    ///
    /// The body of the second one is `{"verb": "join"}`, `{"verb": "leave"}` or `{"verb": "retire"}`; see
    /// [`Membership`]. Add the projections of the service, and serve the operations with an
    /// [`OperationsListener`](es_http::operations::OperationsListener).
    #[must_use]
    pub fn operations(&self) -> Operations {
        let monitor = self.monitor();
        let status = move || {
            let monitor = monitor.clone();
            async move { monitor.status().await }
        };
        let members = Router::new().route("/replication/members/{name}", post(change));
        let members = members.with_state(self.replica().membership());
        Operations::new(Arc::clone(self.store())).replication(status).merge(members)
    }
}

async fn change(
    State(membership): State<Membership>,
    Path(name): Path<String>,
    Json(action): Json<MemberAction>,
) -> Result<Json<BTreeMap<String, MemberState>>, Problem> {
    let changed = match action {
        MemberAction::Join => membership.join(&name).await,
        MemberAction::Leave => membership.leave(&name).await,
        MemberAction::Retire => membership.retire(&name).await,
    };
    changed.map_err(problem)?;
    Ok(Json(membership.members().await?))
}

/// 404 for a name that is no member, 400 for an invalid name, 409 for a change that this node cannot make.
fn problem(error: MembershipError) -> Problem {
    match error {
        MembershipError::NotAMember { .. } => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        MembershipError::InvalidName(_) => Problem::new(StatusCode::BAD_REQUEST, error.to_string()),
        MembershipError::OwnName { .. } => Problem::new(StatusCode::CONFLICT, error.to_string()),
        MembershipError::Commit(CommitError::Rejected(refusal)) if refusal.is::<Refusal>() => {
            Problem::new(StatusCode::CONFLICT, ErrorChain(&*refusal).to_string())
        }
        MembershipError::Commit(error) => error.into(),
        MembershipError::Store(error) => error.into(),
        error => Problem::internal(&error),
    }
}
