//! [`ParticipantRouter`]: the routes of a participant, for its coordinators.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use es_core::model::{CoordinatorEpoch, ParseTransactionIdError, TransactionId};
use es_transaction::{Finished, Participant, ParticipantError, ParticipantStatus, Prepare};

use super::metrics::{FORBIDDEN, count_answered, outcome};
use super::refusal::refused;
use super::wire::{
    AbortBody, CommitBody, ForgetBody, InDoubtAnswer, InDoubtBody, MAX_BODY_BYTES, MAX_VOTE_BYTES, ParticipantCall,
    PrepareBody,
};
use crate::auth::{authenticate, check_role_of_client, role_for};
use crate::operations::local_host;
use crate::origin::same_origin;
use crate::problem::shortened;
use crate::scope::RequestScope;
use crate::server::ConnectionScope;
use crate::{AllowedOrigins, Json, NoParameters, Path, PeerAddress, Problem, Role, Tokens};

/// The routes of a participant, for its coordinators. The [module](super) has an example and the list of routes.
///
/// Each coordinator is bound to the clients of [`Tokens`] that may act for it. A call for another coordinator is
/// answered with 403, logged and counted: without this rule, a client could commit the transactions of others, and
/// fence their coordinators with a high epoch. The clients need the role [`Write`](Role::Write).
///
/// A call ends when its connection breaks, at any point. Coordinators repeat calls, and participants return the same
/// result, so this has the effect of a crash at that point. The header `Idempotency-Key` of a call is not needed here.
pub struct ParticipantRouter<P> {
    participant: Arc<P>,
    authentication: Option<Authentication>,
    coordinators: BTreeMap<String, BTreeSet<String>>,
}

/// How the clients of a participant prove their identity.
#[derive(Debug, Clone)]
enum Authentication {
    Tokens(Tokens),
    /// They do not, and must be on this machine.
    Loopback,
}

/// The routes of a participant could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ParticipantRouterError {
    /// Neither tokens nor [`unauthenticated_on_loopback`](ParticipantRouter::unauthenticated_on_loopback) are
    /// configured.
    #[error("expected tokens for the coordinators of participant {participant:?}, found none; call `tokens`")]
    NoAuthentication {
        /// The name of the participant.
        participant: String,
    },
    /// No coordinator is configured, so that every call would be refused.
    #[error("expected a coordinator of participant {participant:?}, found none; call `coordinator`")]
    NoCoordinator {
        /// The name of the participant.
        participant: String,
    },
    /// The name of a coordinator is invalid.
    #[error(transparent)]
    Coordinator(#[from] ParseTransactionIdError),
}

impl<P: Participant> fmt::Debug for ParticipantRouter<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let participant = self.participant.name();
        let mut debug = f.debug_struct("ParticipantRouter");
        debug.field("participant", &participant).field("coordinators", &self.coordinators).finish_non_exhaustive()
    }
}

impl<P: Participant> ParticipantRouter<P> {
    /// Creates the routes of a participant without authentication and coordinators, which must be added.
    #[must_use]
    pub fn new(participant: Arc<P>) -> Self {
        Self { participant, authentication: None, coordinators: BTreeMap::new() }
    }

    /// Demands a bearer token or a client certificate of `tokens`. For certificates, serve the routes with
    /// [`Tls::load_mutual`](crate::Tls::load_mutual).
    #[must_use]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.authentication = Some(Authentication::Tokens(tokens));
        self
    }

    /// Answers every client of this machine, for tests. Requests from other machines are answered with 403, and so are
    /// those of a server that does not provide the address of the client. Do not use it where a proxy on this machine
    /// forwards requests.
    #[must_use]
    pub fn unauthenticated_on_loopback(mut self) -> Self {
        self.authentication = Some(Authentication::Loopback);
        self
    }

    /// Lets a client act for a coordinator. `client` is the name in [`Tokens`]. A coordinator can have several clients,
    /// and a client can act for several coordinators. Without authentication, the client has no meaning.
    #[must_use]
    pub fn coordinator(mut self, coordinator: impl Into<String>, client: impl Into<String>) -> Self {
        self.coordinators.entry(coordinator.into()).or_default().insert(client.into());
        self
    }

    /// Returns the routes, to be nested in the router of a service at the base URL of the participant.
    ///
    /// # Errors
    /// [`ParticipantRouterError`] if there is no authentication or no coordinator, or the name of a coordinator is
    /// invalid.
    pub fn build(self) -> Result<Router, ParticipantRouterError> {
        let Self { participant, authentication, coordinators } = self;
        let name = || participant.name().to_owned();
        let Some(authentication) = authentication else {
            return Err(ParticipantRouterError::NoAuthentication { participant: name() });
        };
        if coordinators.is_empty() {
            return Err(ParticipantRouterError::NoCoordinator { participant: name() });
        }
        for coordinator in coordinators.keys() {
            CoordinatorEpoch::new(coordinator, 0)?;
        }
        let has_clients = matches!(authentication, Authentication::Tokens(_));
        let calls = Calls { participant, coordinators, has_clients };
        let routes = ParticipantCall::ALL.into_iter().fold(Router::new(), |routes, call| {
            let method = match call {
                ParticipantCall::Prepare => post(prepare::<P>),
                ParticipantCall::PreCommit => post(pre_commit::<P>),
                ParticipantCall::Commit => post(commit::<P>),
                ParticipantCall::Abort => post(abort::<P>),
                ParticipantCall::Forget => post(forget::<P>),
                ParticipantCall::Status => get(status::<P>),
                ParticipantCall::InDoubt => post(in_doubt::<P>),
            };
            routes.route(call.route(), method)
        });
        let routes = routes.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(Arc::new(calls));
        let routes = match authentication {
            Authentication::Tokens(tokens) => {
                routes.layer(from_fn(demand_role)).layer(from_fn_with_state(tokens, authenticate))
            }
            // A page of another site could reach a loopback address through a name that resolves to it.
            Authentication::Loopback => routes.layer(from_fn(demand_loopback)).layer(from_fn(local_host)),
        };
        Ok(routes.layer(from_fn_with_state(AllowedOrigins::none(), same_origin)))
    }
}

/// The participant, and who may call it.
struct Calls<P> {
    participant: Arc<P>,
    /// The names of the clients that may act for a coordinator.
    coordinators: BTreeMap<String, BTreeSet<String>>,
    /// Whether each request has a client.
    has_clients: bool,
}

impl<P> Calls<P> {
    /// Checks that the client may act for the coordinator.
    fn authorize(
        &self,
        call: ParticipantCall,
        epoch: &CoordinatorEpoch,
        client: &CallingClient,
    ) -> Result<(), Problem> {
        let coordinator = epoch.coordinator();
        let clients = self.coordinators.get(coordinator);
        let is_allowed = match (clients, &client.0) {
            (None, _) => false,
            (Some(_), _) if !self.has_clients => true,
            (Some(clients), Some(client)) => clients.contains(client),
            (Some(_), None) => false,
        };
        if is_allowed {
            return Ok(());
        }
        let client = client.0.as_deref().unwrap_or("not authenticated");
        tracing::warn!(operation = call.name(), coordinator, client, "refused a call for a coordinator");
        count_answered(call, FORBIDDEN);
        let name = shortened(coordinator);
        Err(refused(format!("client {client:?} must not act for coordinator {name:?}; add it at the participant")))
    }
}

/// Counts a call, and returns the answer to it.
fn answer<T>(call: ParticipantCall, result: Result<T, ParticipantError>) -> Result<T, Problem> {
    count_answered(call, outcome(&result));
    result.map_err(Problem::from)
}

/// The name of the client of a request, if it has one.
struct CallingClient(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for CallingClient {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(RequestScope::client().map(|client| client.name.clone())))
    }
}

/// Demands the role for reading or for changing.
async fn demand_role(request: Request, next: Next) -> Response {
    match check_role_of_client(role_for(request.method(), Role::Write)) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Refuses requests from other machines.
async fn demand_loopback(request: Request, next: Next) -> Response {
    let peer = match ConnectionScope::address() {
        Some(PeerAddress::Tcp(address)) => Some(address),
        // Another server can run the router.
        _ => request.extensions().get().map(|ConnectInfo::<SocketAddr>(address)| *address),
    };
    if peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        return next.run(request).await;
    }
    let detail = "expected a client on the machine of the participant, which has no authentication; configure tokens";
    Problem::new(StatusCode::FORBIDDEN, detail).into_response()
}

async fn prepare<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Json(PrepareBody { prepare, request }): Json<PrepareBody<Prepare, P::Request>>,
) -> Result<Response, Problem> {
    let call = ParticipantCall::Prepare;
    calls.authorize(call, prepare.transaction.epoch(), &client)?;
    let vote = answer(call, calls.participant.prepare(&prepare, &request).await)?;
    let body = serde_json::to_vec(&vote).map_err(|error| Problem::internal(&error))?;
    // The coordinator could not send such prepared data in a commit. Without the vote, it aborts the transaction.
    if body.len() > MAX_VOTE_BYTES {
        let length = body.len();
        let detail = format!("expected a vote of at most {MAX_VOTE_BYTES} bytes, found {length}; prepare less data");
        return Err(refused(detail));
    }
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

async fn pre_commit<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Json(CommitBody { transaction, prepared }): Json<CommitBody<TransactionId, P::Prepared>>,
) -> Result<Json<Finished>, Problem> {
    let call = ParticipantCall::PreCommit;
    calls.authorize(call, transaction.epoch(), &client)?;
    answer(call, calls.participant.pre_commit(&transaction, &prepared).await).map(Json)
}

async fn commit<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Json(CommitBody { transaction, prepared }): Json<CommitBody<TransactionId, P::Prepared>>,
) -> Result<Json<Finished>, Problem> {
    let call = ParticipantCall::Commit;
    calls.authorize(call, transaction.epoch(), &client)?;
    answer(call, calls.participant.commit(&transaction, &prepared).await).map(Json)
}

async fn abort<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Json(AbortBody { transaction, prepared }): Json<AbortBody<TransactionId, P::Prepared>>,
) -> Result<Json<Finished>, Problem> {
    let call = ParticipantCall::Abort;
    calls.authorize(call, transaction.epoch(), &client)?;
    answer(call, calls.participant.abort(&transaction, prepared.as_ref()).await).map(Json)
}

async fn forget<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Json(ForgetBody { transaction }): Json<ForgetBody<TransactionId>>,
) -> Result<StatusCode, Problem> {
    let call = ParticipantCall::Forget;
    calls.authorize(call, transaction.epoch(), &client)?;
    answer(call, calls.participant.forget(&transaction).await).map(|()| StatusCode::NO_CONTENT)
}

async fn status<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Path(transaction): Path<TransactionId>,
) -> Result<Json<ParticipantStatus>, Problem> {
    let call = ParticipantCall::Status;
    calls.authorize(call, transaction.epoch(), &client)?;
    answer(call, calls.participant.status(&transaction).await).map(Json)
}

async fn in_doubt<P: Participant>(
    State(calls): State<Arc<Calls<P>>>,
    client: CallingClient,
    _: NoParameters,
    Json(InDoubtBody { epoch }): Json<InDoubtBody<CoordinatorEpoch>>,
) -> Result<Json<InDoubtAnswer>, Problem> {
    let call = ParticipantCall::InDoubt;
    calls.authorize(call, &epoch, &client)?;
    let transactions = answer(call, calls.participant.in_doubt(&epoch).await)?;
    Ok(Json(InDoubtAnswer { transactions }))
}
