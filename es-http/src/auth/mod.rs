//! Authentication by bearer tokens and client certificates, and roles.

mod revocation;
mod tokens;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub use revocation::Revocation;
pub use tokens::{Tokens, TokensError};

use crate::Problem;
use crate::client::{Authenticated, Credentials, Role};
use crate::edge_headers::{EdgeHeaders, HeaderValues};
use crate::scope::RequestScope;

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Problem> {
        RequestScope::client().map(|client| Self::clone(&client)).ok_or_else(unauthorized)
    }
}

/// Returns the client of a request. The error is 401: the request has no bearer token or client certificate of
/// `tokens`. If it has both, the token counts. Await [`Tokens::check`] before.
pub(crate) fn identify(
    tokens: &Tokens,
    authorization: HeaderValues<'_>,
    request: &Request,
) -> Result<Arc<Authenticated>, Problem> {
    let client = match authorization {
        HeaderValues::One(value) => tokens.client(Credentials::Authorization(value)),
        HeaderValues::Several => None,
        HeaderValues::None => request.extensions().get().copied().and_then(|certificate| {
            // The server has verified it.
            tokens.client(Credentials::Certificate(certificate))
        }),
    };
    client.ok_or_else(unauthorized)
}

/// Returns the role that a method demands: [`Role::Read`] for GET and HEAD, `change` for others.
pub(crate) fn role_for(method: &Method, change: Role) -> Role {
    if matches!(*method, Method::GET | Method::HEAD) { Role::Read } else { change }
}

/// Checks the role of a client. The error is 403.
pub(crate) fn check_role(role: Role, client: &Authenticated) -> Result<(), Problem> {
    if client.role >= role {
        return Ok(());
    }
    let detail = format!("expected the role {role}, found {} of {:?}", client.role, client.name);
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Checks the role of the client of the present request. The error is 401 without a client, and 403 for a lesser role.
pub(crate) fn check_role_of_client(role: Role) -> Result<(), Problem> {
    check_role(role, &*RequestScope::client().ok_or_else(unauthorized)?)
}

/// Answers 401 to requests without a client of the tokens. Other requests have an [`Authenticated`] client.
pub(crate) async fn authenticate(State(tokens): State<Tokens>, request: Request, next: Next) -> Response {
    if let Some(check) = tokens.check() {
        check.await;
    }
    let authorization = EdgeHeaders::of(request.headers()).authorization;
    match identify(&tokens, authorization, &request) {
        Ok(client) => RequestScope { client: Some(client), context: None }.enter(next.run(request)).await,
        Err(problem) => problem.into_response(),
    }
}

/// Answers 403 to clients without this role, and 401 to requests that no [`Edge`](crate::Edge) with tokens has
/// admitted.
///
/// ```
/// use axum::{Router, middleware, routing::post};
/// use es_http::{Edge, Role, Tokens, require_role};
///
/// # let tokens: Tokens = "".parse()?;
/// let router: Router = Router::new()
///     .route("/reset", post(async || "reset"))
///     .route_layer(middleware::from_fn_with_state(Role::Operate, require_role))
///     .layer(Edge::new().tokens(tokens)); // the outer layer is added last
/// # Ok::<(), es_http::TokensError>(())
/// ```
pub async fn require_role(State(role): State<Role>, request: Request, next: Next) -> Response {
    match check_role_of_client(role) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "expected a valid token: Authorization: Bearer TOKEN")
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}
