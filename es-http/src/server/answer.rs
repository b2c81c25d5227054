//! [`Answerer`]: the answers to the requests of one connection.

use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tower::Service;
use tracing::field::display;

use super::activity::Activity;
use super::body::{BodyLimits, LimitedBody, Reservation};
use super::connection::ConnectionScope;
use crate::correlation_header::{CORRELATION_ID, mark};
use crate::problem::{AnsweredRequest, is_uniform, uniform};
use crate::{ClientCertificate, Problem};

/// The longest body that the extractors of axum accept from a request without a [`DefaultBodyLimit`], in bytes.
const DEFAULT_LIMIT_OF_AXUM: usize = 2 * 1024 * 1024;

/// Answers the requests of one connection: the service of hyper.
///
/// What all connections share is in one `Arc` for each connection and not for each request, because threads that change
/// the same counter wait for each other.
#[derive(Debug)]
pub(super) struct Answerer {
    /// A call changes nothing, but demands an exclusive reference.
    pub(super) routes: RefCell<Router>,
    pub(super) limits: Arc<BodyLimits>,
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Answerer {
    type Response = Response<TrackedBody>;
    type Error = Infallible;
    type Future = Answer;

    /// Answers a request. The activity ends with the body of the response.
    fn call(&self, request: Request<Incoming>) -> Answer {
        self.activity.begin(request.body().size_hint().exact());
        let end = Some(EndOfResponse(Arc::clone(&self.activity)));
        let answered = AnsweredRequest::of(&request);
        ConnectionScope::begin_request();
        let (request, reservation) = self.prepare(request);
        // The router clones a service, whose `clone` may panic.
        let route = catch_panic(|| self.routes.borrow_mut().call(request));
        let state = route.map_or_else(|panic| AnswerState::ready(panic.respond(&answered)), AnswerState::Route);
        Answer { state, answered, reservation, end }
    }
}

impl Answerer {
    /// Limits the body of a request, and adds the extensions of the server.
    fn prepare(&self, request: Request<Incoming>) -> (Request<Body>, Option<Arc<Reservation>>) {
        let (parts, body) = request.into_parts();
        let reservation = (!body.is_end_stream()).then(|| Reservation::new(Arc::clone(&self.limits)));
        let refused = self.limits.check_length(&body).err();
        let body = match &reservation {
            Some(reservation) => {
                let body = refused.is_none().then_some(body);
                Body::new(LimitedBody::new(body, Arc::clone(reservation), Arc::clone(&self.activity)))
            }
            None => Body::empty(),
        };
        let mut request = Request::from_parts(parts, body);
        if let Some(refused) = refused {
            // The layers that count, trace and record requests refuse it.
            request.extensions_mut().insert(refused);
        }
        if reservation.is_some() && self.limits.max_bytes() > DEFAULT_LIMIT_OF_AXUM {
            // The limit of the server applies in place of the default limit of axum.
            DefaultBodyLimit::disable().apply(&mut request);
        }
        if let Some(certificate) = self.certificate {
            request.extensions_mut().insert(certificate);
        }
        (request, reservation)
    }
}

/// The answer to one request.
pub(super) struct Answer {
    state: AnswerState,
    answered: AnsweredRequest,
    /// The memory of the body, if the request has one.
    reservation: Option<Arc<Reservation>>,
    /// Taken by the response.
    end: Option<EndOfResponse>,
}

enum AnswerState {
    /// The router answers.
    Route(RouteFuture<Infallible>),
    /// A response that is not a problem becomes one.
    Conversion(Pin<Box<dyn Future<Output = Response> + Send>>),
    /// The response; `None` after it was returned.
    Ready(Option<Response>),
}

impl AnswerState {
    fn ready(response: Response) -> Self {
        Self::Ready(Some(response))
    }
}

impl Future for Answer {
    type Output = Result<Response<TrackedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                AnswerState::Route(route) => {
                    let response = match catch_panic(|| Pin::new(route).poll(context)) {
                        Ok(routed) => ready!(routed).unwrap_or_else(|never| match never {}),
                        Err(panic) => panic.respond(&this.answered),
                    };
                    let response = this.check_body(response);
                    this.state = if is_uniform(&response) {
                        AnswerState::ready(response)
                    } else {
                        AnswerState::Conversion(Box::pin(uniform(response, this.answered.clone())))
                    };
                }
                AnswerState::Conversion(conversion) => {
                    let response = ready!(conversion.as_mut().poll(context));
                    this.state = AnswerState::ready(response);
                }
                AnswerState::Ready(response) => {
                    // hyper polls no future that has returned its response.
                    let Some(response) = response.take() else { return Poll::Pending };
                    let end = this.end.take();
                    return Poll::Ready(Ok(response.map(|body| TrackedBody { body, _end: end })));
                }
            }
        }
    }
}

impl Answer {
    /// Replaces an error by the reason why the body was refused. Another response closes the connection then, because
    /// the rest of the body is not read.
    fn check_body(&self, mut response: Response) -> Response {
        if let Some(refused) = self.reservation.as_ref().and_then(|reservation| reservation.refused()) {
            let status = response.status();
            if status.is_client_error() || status.is_server_error() {
                let correlation_id = response.headers_mut().remove(CORRELATION_ID);
                let mut response = Problem::from(refused).into_response();
                response.headers_mut().extend(correlation_id.map(|id| (CORRELATION_ID, id)));
                return response;
            }
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A handler or a layer panicked. The hook of the process has printed the message.
struct Panicked;

impl Panicked {
    fn respond(self, answered: &AnsweredRequest) -> Response {
        let id = ConnectionScope::request_id();
        let (method, correlation_id) = (&answered.method, id.map(display));
        tracing::error!(%method, path = answered.path(), correlation_id, "a handler panicked");
        let mut response = Problem::unexplained().into_response();
        if let Some(id) = id {
            mark(id, &mut response);
        }
        response
    }
}

/// Runs code of the service. What panicked is not used again.
fn catch_panic<T>(code: impl FnOnce() -> T) -> Result<T, Panicked> {
    std::panic::catch_unwind(AssertUnwindSafe(code)).map_err(|_| Panicked)
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
pub(super) struct TrackedBody {
    body: Body,
    _end: Option<EndOfResponse>,
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
