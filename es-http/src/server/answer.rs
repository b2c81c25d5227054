//! [`Answerer`]: the answer to one request.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tower::{Layer, ServiceExt};

use super::Peer;
use super::activity::Activity;
use super::body::{BodyLimits, LimitedBody, Reservation};
use super::draining::Draining;
use super::listener::PeerAddress;
use super::options::ServeOptions;
use crate::Problem;
use crate::problem::{AnsweredRequest, uniform};

/// Answers the requests of all connections.
#[derive(Debug)]
pub(super) struct Answerer {
    routes: Routes,
    limits: Arc<BodyLimits>,
    draining: Draining,
}

/// A router without the default limit of axum for bodies, in place of which that of the server applies. A layer of the
/// router would be a layer, and a few allocations, for each route.
type Routes = <DefaultBodyLimit as Layer<Router>>::Service;

impl Answerer {
    pub(super) fn new(router: Router, options: &ServeOptions, draining: Draining) -> Self {
        let routes = DefaultBodyLimit::disable().layer(router);
        Self { routes, limits: Arc::new(BodyLimits::new(options)), draining }
    }

    /// Answers a request. The activity ends with the body of the response.
    pub(super) async fn answer(&self, request: Request<Incoming>, peer: Peer, activity: Arc<Activity>) -> Response {
        activity.begin();
        let end = EndOfResponse(activity);
        let answered = AnsweredRequest::of(&request);
        let response = match self.limits.check_length(request.body()) {
            Ok(()) => uniform(self.route(request, peer, &answered).await, &answered).await,
            Err(refused) => Problem::from(refused).into_response(),
        };
        response.map(|body| Body::new(TrackedBody { body, _end: end }))
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer, answered: &AnsweredRequest) -> Response {
        let mut reservation = None;
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                return Body::empty();
            }
            let reservation = reservation.insert(Reservation::new(Arc::clone(&self.limits)));
            Body::new(LimitedBody::new(body, Arc::clone(reservation)))
        });
        match peer.address {
            PeerAddress::Tcp(address) => drop(request.extensions_mut().insert(ConnectInfo(address))),
            #[cfg(unix)]
            PeerAddress::Unix(peer) => drop(request.extensions_mut().insert(peer)),
        }
        if let Some(certificate) = peer.certificate {
            request.extensions_mut().insert(certificate);
        }
        request.extensions_mut().insert(self.draining.clone());
        let result: Result<Result<Response, Infallible>, _> =
            AssertUnwindSafe(self.routes.clone().oneshot(request)).catch_unwind().await;
        let mut response = match result {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                // The hook of the process has printed the message of the panic.
                let AnsweredRequest { method, path } = answered;
                tracing::error!(%method, %path, "a handler panicked");
                Problem::unexplained().into_response()
            }
        };
        if let Some(refused) = reservation.and_then(|reservation| reservation.refused()) {
            let status = response.status();
            if status.is_client_error() || status.is_server_error() {
                return Problem::from(refused).into_response();
            }
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Ends the activity of a request when it is dropped.
#[derive(Debug)]
struct EndOfResponse(Arc<Activity>);

impl Drop for EndOfResponse {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of a response, which is dropped when the connection has taken all of it.
#[derive(Debug)]
struct TrackedBody {
    body: Body,
    _end: EndOfResponse,
}

impl http_body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
