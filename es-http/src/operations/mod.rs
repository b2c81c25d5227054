//! Operations on a running service: a router for operators, which `es --url` uses, and a listener for it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /info` | [`StoreInfo`](es_core::store::StoreInfo) |
//! | `GET /streams?category&prefix&after&limit` | [`StreamPage`](es_core::store::StreamPage) |
//! | `GET /streams/{stream}/events?from&limit&backward` | a page of events, each as a [line](es_core::schema::line) |
//! | `GET /log?from&after&category&type&tag&limit&wait` | a page of events; `wait` seconds for a new event at the end |
//! | `DELETE /streams/{stream}?kind&expect&by&reason` | [`DeletedStream`] |
//! | `GET /retention` | [`RetentionReport`](es_core::store::RetentionReport) |
//! | `PUT /retention/rules`, `DELETE /retention/rules?stream&category&by&reason` | the affected streams and events |
//! | `POST /scavenge`, `POST /compact` | 202 with a job |
//! | `GET /jobs`, `GET /jobs/{id}?wait` | the progress and the results of jobs |
//! | `DELETE /jobs/{id}` | stops a job |
//! | `GET /snapshots?stream&category&after_stream&after_revision&limit` | [`SnapshotPage`](es_core::aggregate::SnapshotPage) |
//! | `DELETE /snapshots?stream&category&all` | the number of deleted snapshots |
//! | `GET /projections` | a list of [`ProjectionReport`] |
//! | `GET /projections/{name}/parked` | the parked keys |
//! | `POST /projections/{name}` | runs a [`ProjectionAction`] |
//! | `GET /replication` | the status of [`Operations::replication`]; 404 if the service does not replicate |
//!
//! # Access
//!
//! An [`OperationsListener`] without authentication accepts only clients of this machine. With
//! [`Tokens`], `GET` demands [`Role::Read`] and every other method [`Role::Operate`].
//!
//! # Audit
//!
//! Each request that is not a `GET` is logged with the target `audit`, also a refused one: the operator, the method,
//! the path, and the status of the response. The operator is the name of the token, or `uid:N` for a client of a Unix
//! socket. Deletions, rules, scavenges and requests to projections are also events in the log, with the operator as
//! [`Note::by`](es_core::retention::Note). A `by` in a request cannot replace the operator: it is added, as in `ops for
//! ada`.
//!
//! # Replicated streams
//!
//! A deletion of one node would hide events on that node only, so a store that replicates a stream refuses it.
//! [`Operations::delete_on_all_nodes`] makes `DELETE /streams/{stream}` delete it on all nodes.
//!
//! # Refused input
//!
//! Nothing that a client sends is ignored. A body of a `GET` or `DELETE` request is 415, a parameter that a route does
//! not have 400, and a field that a body does not have 422. A change with `If-Match`, `If-None-Match` or
//! `If-Unmodified-Since` is 412: the routes have no versions, so the condition of the client cannot be checked.
//!
//! # Routes of the service
//!
//! [`Operations::merge`] adds routes, which have the access rules and the audit of the others. They refuse input
//! themselves.
//!
//! # Jobs
//!
//! A scavenge and a compaction can take hours, so they run as jobs of the service, one at a time. A job continues when
//! the connection of its operator breaks. It ends early when an operator stops it or the service stops; the next
//! scavenge removes the rest.

mod audit;
mod jobs;
mod listener;
mod parameters;
mod projections;
mod reads;
mod replication;
#[cfg(unix)]
mod unix_socket;
mod verbs;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use es_core::projection::ProjectionHandle;
use es_core::store::{DeletedStream, StoreAdmin};
use es_core::{EventStore, StoreError};
use http_body::Body as _;
use serde::Serialize;

pub use audit::Operator;
use jobs::Jobs;
use listener::Socket;
pub use listener::{BindError, OperationsAddress, OperationsListener, ParseAddressError};
pub use projections::{ParkedKeyReport, ProjectionAction, ProjectionReport, RebuildReport};
pub use replication::StreamDeletion;
use replication::{DeletionOnAllNodes, Replication};

use crate::auth::{authenticate, check_role_of_client, role_for};
use crate::extract::{check_body_length, unexpected_body};
use crate::host::AllowedHosts;
use crate::origin::same_origin;
use crate::problem::kind;
use crate::{AllowedOrigins, Drained, Problem, Role, ServeOptions, Tokens, serve};

/// The operations on a store and its projections.
///
/// ```
/// # use std::sync::Arc;
/// # use es_core::{EventStore, Service, store::memory::MemoryStore};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
/// # let mut service = Service::new(store.clone()).start().await?;
/// use es_http::ServeOptions;
/// use es_http::operations::{Operations, OperationsListener};
///
/// let operations = Operations::new(store).projections(service.projections().cloned());
/// let listener = OperationsListener::local(&"127.0.0.1:0".parse()?).await?;
/// service.intake("operations", |stop| async move {
///     operations.serve(listener, ServeOptions::new(), stop.requested()).await.complete()
/// });
/// # service.run_until(async {}).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Operations {
    store: Arc<dyn EventStore>,
    projections: Arc<[ProjectionHandle]>,
    jobs: Jobs,
    replication: Option<Replication>,
    deletion_on_all_nodes: Option<DeletionOnAllNodes>,
    /// The routes of the service.
    merged: Router,
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Operations {
    /// Creates the operations on a store.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        let jobs = Jobs::new(StoreAdmin::new(Arc::clone(&store)), Arc::clone(&store));
        Self {
            store,
            projections: Arc::default(),
            jobs,
            replication: None,
            deletion_on_all_nodes: None,
            merged: Router::new(),
        }
    }

    /// Sets the projections of the service, such as those of
    /// [`RunningService::projections`](es_core::service::RunningService::projections).
    #[must_use]
    pub fn projections(mut self, projections: impl IntoIterator<Item = ProjectionHandle>) -> Self {
        self.projections = projections.into_iter().collect();
        self
    }

    /// Sets the function that returns the status of the replication, such as `Monitor::status` of es-replication. Each
    /// `GET /replication` calls it, and answers with the status as JSON.
    #[must_use]
    pub fn replication<T, F>(mut self, status: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        T: Serialize,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.replication = Some(Replication::new(status));
        self
    }

    /// Sets the function that deletes a replicated stream on all nodes, such as `Replica::delete_stream` of
    /// es-replication. `DELETE /streams/{stream}` calls it. If it returns `None`, because the stream is not replicated,
    /// the stream is deleted in this store.
    #[must_use]
    pub fn delete_on_all_nodes<F>(mut self, delete: impl Fn(StreamDeletion) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<DeletedStream>, Problem>> + Send + 'static,
    {
        self.deletion_on_all_nodes = Some(DeletionOnAllNodes::new(delete));
        self
    }

    /// Adds routes of the service, with the access rules and the audit of the other routes. Their handlers get the
    /// operator from the extractor [`Operator`].
    ///
    /// # Panics
    /// When the routes are served, if one of them is a route of these operations; see [`Router::merge`].
    #[must_use]
    pub fn merge(mut self, routes: Router) -> Self {
        self.merged = self.merged.merge(routes);
        self
    }

    /// Serves requests of operators until `stop` completes, as [`serve`] does. Stops the jobs then, and waits up to
    /// 5 seconds for their end.
    pub async fn serve(
        self,
        listener: OperationsListener,
        options: ServeOptions,
        stop: impl Future<Output = ()> + Send,
    ) -> Drained {
        let OperationsListener { socket, tokens } = listener;
        let router = match (tokens, &socket) {
            (Some(tokens), _) => self.clone().authenticated_router(tokens),
            (None, Socket::Tcp(_)) => audit::recorded(self.routes().layer(from_fn(local_host))),
            #[cfg(unix)]
            (None, Socket::Unix(_)) => audit::recorded(self.routes()),
        };
        // The file of a Unix socket is removed after the drain.
        let (listener, _file) = socket.into_listener();
        let jobs = self.jobs.clone();
        let stop = async move {
            stop.await;
            // A request that waits for a job ends with the drain.
            jobs.stop_all();
        };
        let drained = serve(listener, router, options, stop).await;
        self.jobs.shutdown().await;
        drained
    }

    /// Returns the routes for clients with tokens, to be nested in the router of a service. `GET` demands
    /// [`Role::Read`], every other method [`Role::Operate`].
    ///
    /// Jobs end when the router and all clones of these operations are dropped.
    pub fn authenticated_router(self, tokens: Tokens) -> Router {
        let routes = self.routes_with(|routes| routes.layer(from_fn(demand_role)));
        audit::recorded(routes.layer(from_fn(audit::identify)).layer(from_fn_with_state(tokens, authenticate)))
    }

    /// Returns the routes without authentication.
    fn routes(&self) -> Router {
        self.clone().routes_with(|routes| routes)
    }

    /// Returns the routes without the audit. `protect` adds the layers that are closest to the handlers.
    fn routes_with(self, protect: impl FnOnce(Router<Self>) -> Router<Self>) -> Router {
        let routes = Router::new()
            .route("/info", get(reads::info))
            .route("/streams", get(reads::streams))
            .route("/streams/{stream}/events", get(reads::stream_events))
            .route("/streams/{stream}", delete(verbs::delete_stream))
            .route("/log", get(reads::log))
            .route("/retention", get(reads::retention))
            .route("/retention/rules", put(verbs::set_rule).delete(verbs::clear_rule))
            .route("/snapshots", get(reads::list_snapshots).delete(verbs::delete_snapshots))
            .route("/scavenge", post(verbs::scavenge))
            .route("/compact", post(verbs::compact))
            .route("/jobs", get(verbs::jobs))
            .route("/jobs/{id}", get(verbs::job).delete(verbs::stop_job))
            .route("/projections", get(projections::list))
            .route("/projections/{name}", post(projections::act))
            .route("/projections/{name}/parked", get(projections::parked))
            .route("/replication", get(replication::status))
            .route_layer(from_fn(refuse_ignored_input))
            .merge(self.merged.clone().with_state::<Self>(()))
            .layer(from_fn(refuse_long_body));
        protect(routes).layer(from_fn_with_state(AllowedOrigins::none(), same_origin)).with_state(self)
    }

    fn admin(&self) -> StoreAdmin {
        StoreAdmin::new(Arc::clone(&self.store))
    }
}

/// Refuses a body that is declared too long, also where no handler reads it.
async fn refuse_long_body(request: Request, next: Next) -> Response {
    match check_body_length(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The conditions of a change, which no route of this module can check.
const CONDITIONS: [HeaderName; 3] = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];

/// Refuses a body and a condition that the handler would ignore. A deletion would be broader than the client demands.
async fn refuse_ignored_input(request: Request, next: Next) -> Response {
    match check_ignored_input(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_ignored_input(request: &Request) -> Result<(), Problem> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if (is_read || *request.method() == Method::DELETE) && !request.body().is_end_stream() {
        return Err(unexpected_body(request.method()));
    }
    if let Some(name) = CONDITIONS.iter().find(|name| !is_read && request.headers().contains_key(*name)) {
        let detail = format!("{name}: expected no condition, because the resource has no version");
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail).with_type(kind::PRECONDITION));
    }
    Ok(())
}

/// Demands the role for looking or for changing.
async fn demand_role(request: Request, next: Next) -> Response {
    match check_role_of_client(role_for(request.method(), Role::Operate)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Refuses requests that were sent to the name of another machine.
pub(crate) async fn local_host(request: Request, next: Next) -> Response {
    match AllowedHosts::default().check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
