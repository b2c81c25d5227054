//! [`Node::operations`]: what an operator does with a running node.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use es_core::model::ErrorChain;
use es_core::store::{DeletedStream, Home, NotOwner};
use es_core::{CommitError, StoreError};
use es_http::operations::{Operations, StreamDeletion};
use es_http::{Json, Path, Problem};
use es_replication::{DeleteError, MemberState, Membership, MembershipError, Peer, Refusal, Replica};
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
    /// [`Membership`]. `DELETE /streams/{stream}` deletes a replicated stream on all nodes, with
    /// [`Replica::delete_stream`]. Add the projections of the service, and serve the operations with an
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
        let (replica, peers) = (self.replica().clone(), Arc::<[Arc<dyn Peer>]>::from(self.peers()));
        let delete = move |deletion| delete_on_all_nodes(replica.clone(), Arc::clone(&peers), deletion);
        let operations = Operations::new(Arc::clone(self.store())).replication(status).merge(members);
        operations.delete_on_all_nodes(delete)
    }
}

/// Deletes a stream on all nodes. Returns `None` if it is not replicated.
async fn delete_on_all_nodes(
    replica: Replica,
    peers: Arc<[Arc<dyn Peer>]>,
    StreamDeletion { stream, kind, expected, note }: StreamDeletion,
) -> Result<Option<DeletedStream>, Problem> {
    match replica.delete_stream(&stream, kind, expected, note).await {
        Ok(deleted) => Ok(Some(deleted)),
        Err(DeleteError::NotReplicated { .. }) => Ok(None),
        Err(DeleteError::NotOwner(error)) => Err(owned_elsewhere(&replica, &peers, error).await?),
        Err(error) => Err(deletion_problem(error)),
    }
}

/// 421 with the name of the node that decides on a stream, if a node says that it does. 503 if that is this node, once
/// its former origin is confirmed.
async fn owned_elsewhere(replica: &Replica, peers: &[Arc<dyn Peer>], error: NotOwner) -> Result<Problem, StoreError> {
    let NotOwner { stream, home: Home::Origin(origin) } = &error else { return Ok(error.into()) };
    if replica.unconfirmed_origins().await?.contains(origin) {
        return Ok(Problem::unavailable(format!(
            "stream {stream:?} is decided by a former origin of this node, {origin}, of which this node may have lost \
             events; it decides again once every member has confirmed that it has all of them: see the status of the \
             replication"
        )));
    }
    let node = replica.node_that_decides(*origin, peers).await?;
    let home = node.map_or(Home::Origin(*origin), Home::Node);
    Ok(NotOwner { stream: stream.clone(), home }.into())
}

/// 404 for a stream without events, 409 for a deletion that the stream or this node does not allow.
fn deletion_problem(error: DeleteError) -> Problem {
    match error {
        DeleteError::NoEvents { .. } => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        DeleteError::Expectation(conflict) => conflict.into(),
        DeleteError::Conflict { .. } | DeleteError::Refused(_) => Problem::new(StatusCode::CONFLICT, error.to_string()),
        // Another hook of the store rejected the commit.
        DeleteError::Commit(CommitError::Rejected(reason)) => {
            Problem::new(StatusCode::CONFLICT, ErrorChain(&*reason).to_string())
        }
        DeleteError::Commit(error) => error.into(),
        DeleteError::Store(error) => error.into(),
        error => Problem::internal(&error),
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
