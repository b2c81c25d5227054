//! Handlers for the status and administration of projections.

use std::sync::Arc;

use axum::extract::State;
use es_http::{Json, Path, Problem};

use super::Api;
use crate::projections::{ParkedKeyJson, ProjectionAction, ProjectionJson};

pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Vec<ProjectionJson>>, Problem> {
    Ok(Json(api.projections.status().await?))
}

pub(super) async fn parked(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ParkedKeyJson>>, Problem> {
    Ok(Json(api.projections.parked(&name).await?))
}

/// Runs an administrative action on a projection and returns the status of all projections.
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Json(action): Json<ProjectionAction>,
) -> Result<Json<Vec<ProjectionJson>>, Problem> {
    api.projections.act(&name, &action).await?;
    list(State(api)).await
}
