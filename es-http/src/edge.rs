//! [`Edge`]: what happens to each request before the routes of a service.

mod future;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use es_core::model::CorrelationId;
use tower::{Layer, Service};

pub use self::future::EdgeFuture;
use self::future::{Admission, RequestMeter};
use crate::edge_headers::EdgeHeaders;
use crate::extract::{check_body_has_type, check_body_length};
use crate::host::AllowedHosts;
use crate::scope::RequestScope;
use crate::server::ConnectionScope;
use crate::{AllowedOrigins, ContextOptions, Problem, RequestContext, Role, Tokens, auth, context};

/// A layer with what each request of a service needs, in this order:
///
/// 1. a span `METHOD ROUTE` whose parent is the span of the caller (feature `otel`), and the metrics of the request
///    (feature `metrics`);
/// 2. 421 to requests for another host, see [`hosts`](Self::hosts);
/// 3. 403 to pages of other origins, see [`origins`](Self::origins);
/// 4. 401 and 403 to clients without the permission, see [`tokens`](Self::tokens);
/// 5. 413 to bodies that are declared too long for [`serve`](crate::serve), and 415 to bodies without a content type,
///    also where no handler reads the body, and to bodies of GET and HEAD;
/// 6. the [context](RequestContext) of commands: correlation id, trace and tenant, see [`context`](Self::context).
///
/// Routes that are added to the router after the layer, such as those of [`Health`](crate::Health), have none of it.
///
/// ```
/// use axum::{Router, routing::get};
/// use es_http::{Edge, RequestContext, Tokens};
///
/// # let tokens: Tokens = "".parse()?;
/// let router: Router = Router::new()
///     .route("/", get(async |context: RequestContext| context.correlation_id.to_string()))
///     .layer(Edge::new().tokens(tokens));
/// # Ok::<(), es_http::TokensError>(())
/// ```
///
/// It is one layer, because axum allocates memory at each request for each layer around a route. The checks are
/// synchronous. Once a second, one request waits until a file of tokens was checked for changes.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    hosts: Option<AllowedHosts>,
    origins: AllowedOrigins,
    tokens: Option<Tokens>,
    context: ContextOptions,
}

impl Edge {
    /// Returns the edge without authentication, for pages of the own origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands that the header `Host` of each request is one of these names, `localhost`, or a loopback address;
    /// otherwise 421. A name has no port. Every host is accepted by default.
    ///
    /// Use it for a service without tokens that listens on a loopback address: the page of another site can give its
    /// own name the address 127.0.0.1 (DNS rebinding), and then has the origin of the service. If a proxy on the same
    /// machine forwards requests, give the names that its clients use.
    #[must_use]
    pub fn hosts<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.hosts = Some(AllowedHosts::new(names));
        self
    }

    /// Lets pages of other origins send requests that change state. Pages of the own origin always can; those of other
    /// origins are refused with 403. Browsers send the header `Origin` with such requests; other clients do not, and
    /// are not affected. Without this check, any page that a user opens could send commands to a service in the user's
    /// network.
    ///
    /// The edge does not answer CORS preflights, and sets no `Access-Control` headers. A browser lets a page of another
    /// origin send only requests without a preflight (a `POST` without a body and without headers of its own), and does
    /// not show it the response. To serve other pages, let a proxy add CORS.
    #[must_use]
    pub fn origins(mut self, origins: AllowedOrigins) -> Self {
        self.origins = origins;
        self
    }

    /// Demands a bearer token or a client certificate of `tokens`, otherwise 401; if a request has both, the token
    /// counts. The client must have the role [`Read`](Role::Read) for GET and HEAD, and
    /// [`Write`](Role::Write) for other methods, otherwise 403. A route can demand more:
    /// [`require_role`](crate::require_role). Handlers can extract [`Authenticated`](crate::Authenticated).
    #[must_use]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Sets the source of the tenant.
    #[must_use]
    pub fn context(mut self, context: ContextOptions) -> Self {
        self.context = context;
        self
    }

    /// Returns the response of the routes, or that of a refusal.
    fn answer<S>(&self, routes: &mut S, request: Request) -> Admission<S::Future>
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let headers = EdgeHeaders::of(request.headers());
        let requested = context::correlation_id(&headers);
        // The response to a request with an invalid id has another one.
        let correlation_id = requested.as_ref().copied().unwrap_or_else(|_| context::new_correlation_id());
        ConnectionScope::set_request_id(correlation_id);
        match self.admit(&request, &headers, requested) {
            Ok(scope) => Admission::Admitted { correlation_id, response: scope.enter(routes.call(request)) },
            Err(problem) => Admission::Refused { correlation_id, problem: Some(problem) },
        }
    }

    /// Checks a request, and returns its client and its context. The error is the response.
    fn admit(
        &self,
        request: &Request,
        headers: &EdgeHeaders<'_>,
        correlation_id: Result<CorrelationId, Problem>,
    ) -> Result<RequestScope, Problem> {
        if let Some(hosts) = &self.hosts {
            hosts.check(request.headers())?;
        }
        self.origins.check(request.method(), request.headers())?;
        let client = match &self.tokens {
            Some(tokens) => {
                let client = auth::identify(tokens, headers.authorization, request)?;
                auth::check_role(auth::role_for(request.method(), Role::Write), &client)?;
                Some(client)
            }
            None => RequestScope::client(),
        };
        check_body_length(request)?;
        check_body_has_type(request)?;
        let (client_of_request, options) = (client.as_deref(), &self.context);
        let context =
            RequestContext::of_request(request.headers(), headers, client_of_request, options, correlation_id?)?;
        Ok(RequestScope { client, context: Some(context) })
    }
}

impl<S> Layer<S> for Edge {
    type Service = EdgeService<S>;

    fn layer(&self, routes: S) -> EdgeService<S> {
        let edge = self.clone();
        #[cfg(feature = "metrics")]
        let shared = Shared { edge, requests: Arc::default() };
        #[cfg(not(feature = "metrics"))]
        let shared = Shared { edge };
        EdgeService { routes, shared: Arc::new(shared) }
    }
}

/// A service inside an [`Edge`].
#[derive(Debug, Clone)]
pub struct EdgeService<S> {
    routes: S,
    /// One `Arc`, because axum clones a service at each request.
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    edge: Edge,
    #[cfg(feature = "metrics")]
    requests: Arc<crate::metrics::RecordedRequests>,
}

impl<S> Service<Request> for EdgeService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = EdgeFuture<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.routes.poll_ready(task)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { routes, shared } = self;
        let meter = RequestMeter::start(
            &request,
            #[cfg(feature = "metrics")]
            &shared.requests,
        );
        #[cfg(feature = "otel")]
        let span = crate::spans::of_request(&request);
        let answer = match shared.edge.tokens.as_ref().and_then(Tokens::check) {
            None => shared.edge.answer(routes, request),
            Some(check) => {
                let shared = Arc::clone(shared);
                // The service that is ready is used, and not its clone.
                let clone = routes.clone();
                let mut routes = std::mem::replace(routes, clone);
                let response = Box::pin(async move {
                    check.await;
                    shared.edge.answer(&mut routes, request).await
                });
                Admission::Deferred { response }
            }
        };
        #[cfg(feature = "otel")]
        let answer = tracing::Instrument::instrument(answer, span);
        EdgeFuture::new(answer, meter)
    }
}
