//! Authentication by bearer tokens and client certificates, and roles.

mod tokens;

use std::fmt;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

pub use tokens::{Tokens, TokensError};

use crate::{Problem, Tenant};

/// The permissions of a client. Each role includes the roles before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Queries.
    Read,
    /// Commands.
    Write,
    /// The administration of the service, such as the reset of a projection.
    Operate,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
        })
    }
}

/// The client of a request. An extractor: the response is 401 if the route has no layer [`authenticate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The name of the owner of the token.
    pub name: String,
    /// The role of the token.
    pub role: Role,
    /// The tenant of the token. [`request_context`](crate::request_context) uses it in place of a header.
    pub tenant: Option<Tenant>,
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthorized)
    }
}

/// The certificate by which a client proved its identity in TLS. The server has verified it. It is an extension of each
/// request of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The SHA-256 hash of the certificate in DER.
    pub sha256: [u8; 32],
}

/// Answers 401 to requests without a bearer token or a client certificate of [`Tokens`]. Requests with one have the
/// extension [`Authenticated`]. If a request has both, the token counts.
///
/// Add the routes of probes, which have no token, after this layer.
///
/// ```
/// use axum::{Router, middleware, routing::get};
/// use es_http::{Authenticated, Role, Tokens, authenticate, require_role};
///
/// # let tokens: Tokens = "".parse()?;
/// let router: Router = Router::new()
///     .route("/projections", get(async |client: Authenticated| client.name))
///     .route_layer(middleware::from_fn_with_state(Role::Operate, require_role))
///     .layer(middleware::from_fn_with_state(tokens, authenticate)); // the outer layer is added last
/// # Ok::<(), es_http::TokensError>(())
/// ```
pub async fn authenticate(State(tokens): State<Tokens>, mut request: Request, next: Next) -> Response {
    let client = match bearer(request.headers()) {
        Some(token) => tokens.owner(token).await,
        None if request.headers().contains_key(header::AUTHORIZATION) => None,
        None => match request.extensions().get::<ClientCertificate>().copied() {
            Some(certificate) => tokens.owner_of_certificate(&certificate).await,
            None => None,
        },
    };
    let Some(client) = client else { return unauthorized().into_response() };
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// Answers 403 to clients without this role, and 401 to requests that [`authenticate`] has not seen.
pub async fn require_role(State(role): State<Role>, request: Request, next: Next) -> Response {
    demand(role, request, next).await
}

/// Demands [`Role::Read`] for GET and HEAD, and [`Role::Write`] for all other methods, as [`require_role`] does.
pub async fn require_role_of_method(request: Request, next: Next) -> Response {
    let role = if matches!(*request.method(), Method::GET | Method::HEAD) { Role::Read } else { Role::Write };
    demand(role, request, next).await
}

/// Runs a request of a client with a role.
pub(crate) async fn demand(role: Role, request: Request, next: Next) -> Response {
    match request.extensions().get::<Authenticated>() {
        None => unauthorized().into_response(),
        Some(client) if client.role < role => {
            let detail = format!("expected the role {role}, found {} of {:?}", client.role, client.name);
            Problem::new(StatusCode::FORBIDDEN, detail).into_response()
        }
        Some(_) => next.run(request).await,
    }
}

/// Returns the token of a request with exactly one header `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "expected a valid token: Authorization: Bearer TOKEN")
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}
