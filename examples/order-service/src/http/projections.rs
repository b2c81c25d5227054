//! Handlers for the status and administration of projections.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};

use super::Api;
use super::problem::Problem;
use crate::projections::{ParkedKeyJson, ProjectionAction, ProjectionJson};

pub(super) async fn list(State(service): State<Arc<Api>>) -> Result<Json<Vec<ProjectionJson>>, Problem> {
    Ok(Json(service.projections.status().await?))
}

pub(super) async fn parked(
    State(service): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ParkedKeyJson>>, Problem> {
    Ok(Json(service.projections.parked(&name).await?))
}

/// Runs an administrative action on a projection and returns the status of all projections.
pub(super) async fn act(
    State(service): State<Arc<Api>>,
    Path(name): Path<String>,
    action: Result<Json<ProjectionAction>, JsonRejection>,
) -> Result<Json<Vec<ProjectionJson>>, Problem> {
    let Json(action) = action?;
    service.projections.act(&name, &action).await?;
    list(State(service)).await
}
