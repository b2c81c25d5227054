//! The projections over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};

use super::Api;
use super::problem::Problem;
use crate::projections::{ShownParked, ShownStatus, Verb};

pub(super) async fn list(State(service): State<Arc<Api>>) -> Result<Json<Vec<ShownStatus>>, Problem> {
    Ok(Json(service.projections.status().await?))
}

pub(super) async fn parked(
    State(service): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ShownParked>>, Problem> {
    Ok(Json(service.projections.parked(&name).await?))
}

/// Does what is asked, and says how all of them are.
pub(super) async fn act(
    State(service): State<Arc<Api>>,
    Path(name): Path<String>,
    verb: Result<Json<Verb>, JsonRejection>,
) -> Result<Json<Vec<ShownStatus>>, Problem> {
    let Json(verb) = verb?;
    service.projections.act(&name, &verb).await?;
    list(State(service)).await
}
