//! The routes that change a store.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use es_core::model::{Category, ErrorChain};
use es_core::retention::{DeleteKind, Rule, Scope};
use es_core::store::{CommitError, Committed, Conflict, Coverage, DeletedStream, FailedCheck, RetentionReport};
use es_core::{ExpectedRevision, Position, Revision, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::audit::Operator;
use super::jobs::JobStatus;
use super::parameters::{MAX_WAIT_SECONDS, ScopeParameters, bad, expected, scope};
use super::{Operations, StreamDeletion};
use crate::{Draining, Json, NoInput, NoParameters, Path, Problem, Query};

/// The longest pause of a scavenge after a write, in milliseconds.
const MAX_PAUSE_MS: u64 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteParameters {
    kind: Option<DeleteKind>,
    expect: Option<String>,
    by: Option<String>,
    reason: Option<String>,
}

pub(super) async fn delete_stream(
    State(operations): State<Operations>,
    operator: Operator,
    Path(stream): Path<StreamId>,
    Query(DeleteParameters { kind, expect, by, reason }): Query<DeleteParameters>,
) -> Result<Json<DeletedStream>, Problem> {
    let (kind, expected) = (kind.unwrap_or(DeleteKind::Soft), expected(expect.as_deref())?);
    // The library can delete a stream that does not exist. In a request its name is more likely misspelled.
    if operations.store.revision(&stream).await?.is_none() {
        return Err(match expected {
            ExpectedRevision::Any | ExpectedRevision::NoStream => {
                Problem::new(StatusCode::NOT_FOUND, format!("expected stream {stream:?}, found none"))
            }
            expected => {
                let check = FailedCheck::Revision { stream, expected, actual: None };
                CommitError::Conflict(Conflict { failed: vec![check] }).into()
            }
        });
    }
    let note = operator.note(by, reason);
    if let Some(deletion) = &operations.deletion_on_all_nodes {
        let requested = StreamDeletion { stream: stream.clone(), kind, expected, note: note.clone() };
        if let Some(deleted) = deletion.delete(requested).await? {
            return Ok(Json(deleted));
        }
    }
    let committed = operations.admin().delete_stream(&stream, kind, expected, note).await.map_err(rejected)?;
    Ok(Json(DeletedStream::of(&stream, kind, &committed)))
}

/// 409 with the reason of the hook that rejected a change. An operator can act on it.
fn rejected(error: CommitError) -> Problem {
    match error {
        CommitError::Rejected(reason) => Problem::new(StatusCode::CONFLICT, ErrorChain(&*reason).to_string()),
        error => error.into(),
    }
}

/// The body of a request for a rule. Its fields are not those of [`Scope`] and [`Rule`] by `flatten`, with which serde
/// ignores unknown fields and a second scope.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleBody {
    stream: Option<StreamId>,
    category: Option<Category>,
    max_age_ms: Option<u64>,
    max_count: Option<u64>,
    truncate_before: Option<Revision>,
    by: Option<String>,
    reason: Option<String>,
}

/// The result of a change of a rule.
#[derive(Debug, Serialize)]
pub(super) struct RuleAnswer {
    scope: String,
    position: Option<Position>,
    #[serde(flatten)]
    coverage: Coverage,
}

pub(super) async fn set_rule(
    State(operations): State<Operations>,
    operator: Operator,
    _: NoParameters,
    Json(body): Json<RuleBody>,
) -> Result<Json<RuleAnswer>, Problem> {
    let RuleBody { stream, category, max_age_ms, max_count, truncate_before, by, reason } = body;
    let scope = scope_of_rule(stream, category)?;
    let rule = Rule { max_age: max_age_ms.map(Duration::from_millis), max_count, truncate_before };
    let committed =
        operations.admin().set_rule(scope.clone(), rule, operator.note(by, reason)).await.map_err(rejected)?;
    rule_answer(&operations, &scope, &committed).await
}

pub(super) async fn clear_rule(
    State(operations): State<Operations>,
    operator: Operator,
    Query(parameters): Query<ScopeParameters>,
) -> Result<Json<RuleAnswer>, Problem> {
    let ScopeParameters { stream, category, by, reason } = parameters;
    let scope = scope_of_rule(stream, category)?;
    if !RetentionReport::read(&*operations.store).await?.rules.iter().any(|rule| rule.scope == scope) {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("expected a rule for {scope}, found none")));
    }
    let committed = operations.admin().clear_rule(scope.clone(), operator.note(by, reason)).await.map_err(rejected)?;
    rule_answer(&operations, &scope, &committed).await
}

fn scope_of_rule(stream: Option<StreamId>, category: Option<Category>) -> Result<Scope, Problem> {
    scope(stream, category)?.ok_or_else(|| bad("expected stream or category, found neither"))
}

async fn rule_answer(
    operations: &Operations,
    scope: &Scope,
    committed: &Committed,
) -> Result<Json<RuleAnswer>, Problem> {
    let coverage = Coverage::of(&*operations.store, scope).await?;
    Ok(Json(RuleAnswer { scope: scope.to_string(), position: committed.position(), coverage }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotScope {
    stream: Option<StreamId>,
    category: Option<Category>,
    #[serde(default)]
    all: bool,
}

/// Deletes snapshots. There is no default, so that a missing parameter does not delete all.
pub(super) async fn delete_snapshots(
    State(operations): State<Operations>,
    Query(SnapshotScope { stream, category, all }): Query<SnapshotScope>,
) -> Result<Json<Value>, Problem> {
    let scope = scope(stream, category)?;
    if scope.is_some() == all {
        return Err(bad("expected one of stream, category and all=true"));
    }
    let deleted = operations.admin().delete_snapshots(scope.as_ref()).await?;
    Ok(Json(json!({ "deleted": deleted })))
}

/// The body of a request for a scavenge.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScavengeBody {
    /// The pause after each write.
    #[serde(default)]
    pause_ms: u64,
    by: Option<String>,
    reason: Option<String>,
}

/// The body of a request for a compaction.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompactBody {
    by: Option<String>,
    reason: Option<String>,
}

pub(super) async fn scavenge(
    State(operations): State<Operations>,
    operator: Operator,
    _: NoParameters,
    body: Option<Json<ScavengeBody>>,
) -> Result<(StatusCode, Json<JobStatus>), Problem> {
    let ScavengeBody { pause_ms, by, reason } = body.unwrap_or_default().0;
    if pause_ms > MAX_PAUSE_MS {
        return Err(bad(format!("pause_ms: expected at most {MAX_PAUSE_MS}, found {pause_ms}")));
    }
    let started = operations.jobs.scavenge(operator.note(by, reason), Duration::from_millis(pause_ms))?;
    Ok((StatusCode::ACCEPTED, Json(started)))
}

pub(super) async fn compact(
    State(operations): State<Operations>,
    operator: Operator,
    _: NoParameters,
    body: Option<Json<CompactBody>>,
) -> Result<(StatusCode, Json<JobStatus>), Problem> {
    let CompactBody { by, reason } = body.unwrap_or_default().0;
    Ok((StatusCode::ACCEPTED, Json(operations.jobs.compact(operator.note(by, reason))?)))
}

pub(super) async fn jobs(State(operations): State<Operations>, _: NoInput) -> Json<Vec<JobStatus>> {
    Json(operations.jobs.list())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitParameters {
    /// The time to wait for the end of the job, in seconds.
    #[serde(default)]
    wait: u64,
}

pub(super) async fn job(
    State(operations): State<Operations>,
    draining: Draining,
    Path(id): Path<Uuid>,
    Query(WaitParameters { wait }): Query<WaitParameters>,
) -> Result<Json<JobStatus>, Problem> {
    let limit = Duration::from_secs(wait.min(MAX_WAIT_SECONDS));
    operations.jobs.wait(id, limit, draining.requested()).await.map(Json)
}

pub(super) async fn stop_job(
    State(operations): State<Operations>,
    Path(id): Path<Uuid>,
    _: NoInput,
) -> Result<Json<JobStatus>, Problem> {
    operations.jobs.stop(id).map(Json)
}
