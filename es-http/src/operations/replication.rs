//! The route of the replication.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use es_core::StoreError;
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
