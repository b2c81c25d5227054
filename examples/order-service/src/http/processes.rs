//! The routes of operators for process managers, on the listener of the operations.

use std::sync::Arc;

use axum::extract::State;
use es_http::operations::Operator;
use es_http::{Json, NoInput, Path, Problem, Query};
use es_saga::process::ProcessAdmin;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::input::{MAX_LIMIT, UnversionedWrite, recorded_name};
use super::openapi::ProblemDetails;
use crate::processes::{
    self, DEFAULT_LIMIT, InstanceFilter, ParkedEventAction, ProcessAction, ProcessReport, ProcessSummary,
    SetAsideEvent, SetAsideKind, process_id,
};

/// Returns the routes.
pub(super) fn process_routes(admin: ProcessAdmin) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(parked))
        .routes(routes!(skipped))
        .routes(routes!(act_on_event))
        .routes(routes!(show, act))
        .with_state(Arc::new(admin))
}

/// The parameters of the list of instances.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct InstanceParameters {
    /// The process; without it, all processes.
    process: Option<String>,
    /// Only the quarantined instances.
    #[serde(default)]
    quarantined: bool,
    /// The maximum number of instances, at most 10000.
    limit: Option<usize>,
}

/// The parameters of a list of events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SetAsideParameters {
    /// The process; without it, all processes.
    process: Option<String>,
    /// The maximum number of events, at most 10000.
    limit: Option<usize>,
}

/// Lists instances of processes that have not ended, in the order in which they are due. Quarantined ones are last.
#[utoipa::path(
    get, path = "/processes", tag = "processes", params(InstanceParameters),
    responses(
        (status = 200, description = "The instances.", body = Vec<ProcessSummary>),
        (status = 404, description = "There is no such process.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
    )
)]
async fn list(
    State(admin): State<Arc<ProcessAdmin>>,
    Query(InstanceParameters { process, quarantined, limit }): Query<InstanceParameters>,
) -> Result<Json<Vec<ProcessSummary>>, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let filter = if quarantined { InstanceFilter::Quarantined } else { InstanceFilter::Unfinished };
    Ok(Json(processes::list(&admin, filter, process.as_deref(), limit).await?))
}

/// Lists the events that processes have parked.
#[utoipa::path(
    get, path = "/processes/parked", tag = "processes", params(SetAsideParameters),
    responses(
        (status = 200, description = "The events, in the order of the log.", body = Vec<SetAsideEvent>),
        (status = 404, description = "There is no such process.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
    )
)]
async fn parked(
    State(admin): State<Arc<ProcessAdmin>>,
    Query(parameters): Query<SetAsideParameters>,
) -> Result<Json<Vec<SetAsideEvent>>, Problem> {
    set_aside(&admin, SetAsideKind::Parked, parameters).await
}

/// Lists the events that processes, or operators, have skipped.
#[utoipa::path(
    get, path = "/processes/skipped", tag = "processes", params(SetAsideParameters),
    responses(
        (status = 200, description = "The events, in the order of the log.", body = Vec<SetAsideEvent>),
        (status = 404, description = "There is no such process.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
    )
)]
async fn skipped(
    State(admin): State<Arc<ProcessAdmin>>,
    Query(parameters): Query<SetAsideParameters>,
) -> Result<Json<Vec<SetAsideEvent>>, Problem> {
    set_aside(&admin, SetAsideKind::Skipped, parameters).await
}

async fn set_aside(
    admin: &ProcessAdmin,
    kind: SetAsideKind,
    SetAsideParameters { process, limit }: SetAsideParameters,
) -> Result<Json<Vec<SetAsideEvent>>, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    Ok(Json(processes::set_aside(admin, kind, process.as_deref(), limit).await?))
}

/// Performs an action on a parked event. It is durable then, and recorded with the operator and the reason.
#[utoipa::path(
    post, path = "/processes/parked/{process}/{position}", tag = "processes",
    params(
        ("process" = String, Path, description = "The process."),
        ("position" = u64, Path, description = "The position of the event in the log."),
    ),
    request_body = ParkedEventAction,
    responses(
        (status = 200, description = "The event.", body = SetAsideEvent),
        (status = 404, description = "There is no such process, or it has no such parked event.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
        UnversionedWrite,
    )
)]
async fn act_on_event(
    State(admin): State<Arc<ProcessAdmin>>,
    operator: Operator,
    Path((process, position)): Path<(String, u64)>,
    _: UnversionedWrite,
    Json(action): Json<ParkedEventAction>,
) -> Result<Json<SetAsideEvent>, Problem> {
    let by = recorded_name(&operator, action.by.as_deref());
    Ok(Json(processes::act_on_event(&admin, &process, position, &action, &by).await?))
}

/// Returns an instance with its timers, keys, waits and pending events. The id is that of the instance or of the order.
#[utoipa::path(
    get, path = "/processes/{id}", tag = "processes",
    params(("id" = String, Path, description = "The instance, or the order.")),
    responses(
        (status = 200, description = "The instance.", body = ProcessReport),
        (status = 404, description = "The instance does not exist.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
    )
)]
async fn show(
    State(admin): State<Arc<ProcessAdmin>>,
    Path(id): Path<String>,
    _: NoInput,
) -> Result<Json<ProcessReport>, Problem> {
    Ok(Json(processes::show(&admin, &process_id(&admin, &id).await?).await?))
}

/// Performs an action on an instance. It is durable then, and recorded with the operator and the reason.
#[utoipa::path(
    post, path = "/processes/{id}", tag = "processes",
    params(("id" = String, Path, description = "The instance, or the order.")),
    request_body = ProcessAction,
    responses(
        (status = 200, description = "The instance after the action.", body = ProcessSummary),
        (status = 404, description = "The instance does not exist.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
        UnversionedWrite,
    )
)]
async fn act(
    State(admin): State<Arc<ProcessAdmin>>,
    operator: Operator,
    Path(id): Path<String>,
    _: UnversionedWrite,
    Json(action): Json<ProcessAction>,
) -> Result<Json<ProcessSummary>, Problem> {
    let by = recorded_name(&operator, action.by.as_deref());
    Ok(Json(processes::act(&admin, &process_id(&admin, &id).await?, &action, &by).await?))
}
