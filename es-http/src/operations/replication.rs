//! The route of the replication, and the deletion of replicated streams.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use es_core::retention::{DeleteKind, Note};
use es_core::store::DeletedStream;
use es_core::{ExpectedRevision, StoreError, StreamId};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::Operations;
use crate::{Json, NoInput, Problem};

/// Returns the status of the replication of the service. es-http does not know its fields.
#[derive(Clone)]
pub(super) struct Replication(Arc<dyn Fn() -> BoxFuture<'static, Result<Value, Problem>> + Send + Sync>);

impl Replication {
    pub(super) fn new<T, F>(status: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        T: Serialize,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        Self(Arc::new(move || {
            let status = status();
            Box::pin(async move { serde_json::to_value(status.await?).map_err(|error| unserializable(&error)) })
        }))
    }
}

/// The deletion of a stream, as an operator requests it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDeletion {
    /// The stream.
    pub stream: StreamId,
    /// The kind of the deletion.
    pub kind: DeleteKind,
    /// The expected revision of the stream.
    pub expected: ExpectedRevision,
    /// The operator and the reason.
    pub note: Note,
}

/// Deletes a stream on all nodes, if it is replicated.
type Delete = dyn Fn(StreamDeletion) -> BoxFuture<'static, Result<Option<DeletedStream>, Problem>> + Send + Sync;

/// Deletes the streams that the service replicates. es-http does not know which ones these are.
#[derive(Clone)]
pub(super) struct DeletionOnAllNodes(Arc<Delete>);

impl DeletionOnAllNodes {
    pub(super) fn new<F>(delete: impl Fn(StreamDeletion) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<DeletedStream>, Problem>> + Send + 'static,
    {
        Self(Arc::new(move |deletion| Box::pin(delete(deletion))))
    }

    /// Deletes a stream. Returns `None` if it is not replicated.
    pub(super) async fn delete(&self, deletion: StreamDeletion) -> Result<Option<DeletedStream>, Problem> {
        let Self(delete) = self;
        delete(deletion).await
    }
}

fn unserializable(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "could not serialize the status of the replication");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "could not serialize the status of the replication")
}

pub(super) async fn status(State(operations): State<Operations>, _: NoInput) -> Result<Json<Value>, Problem> {
    match &operations.replication {
        Some(Replication(status)) => Ok(Json(status().await?)),
        None => Err(Problem::new(StatusCode::NOT_FOUND, "this service does not replicate")),
    }
}
