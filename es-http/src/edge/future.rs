//! [`EdgeFuture`]: the response of an [`EdgeService`](super::EdgeService).
//!
//! The futures are written by hand: the state of an `async` block would have several copies of the request, and glibc
//! allocates more than 1,032 bytes much more slowly than less.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use es_core::model::{Context as CausalContext, CorrelationId};
use pin_project_lite::pin_project;
#[cfg(feature = "otel")]
use tracing::instrument::Instrumented as Traced;

use crate::Problem;
use crate::correlation_header::mark;
use crate::problem::BodyRefused;
use crate::scope::InScope;
use crate::server::ConnectionScope;

/// An answer: in the span of its request, with the feature `otel`.
#[cfg(not(feature = "otel"))]
type Traced<F> = F;

pin_project! {
    /// The response of an [`EdgeService`](crate::EdgeService), where `F` is that of the routes.
    #[must_use = "futures do nothing unless polled"]
    pub struct EdgeFuture<F> {
        #[pin]
        answer: Traced<Admission<F>>,
        meter: RequestMeter,
    }
}

impl<F> EdgeFuture<F> {
    pub(super) fn new(answer: Traced<Admission<F>>, meter: RequestMeter) -> Self {
        Self { answer, meter }
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for EdgeFuture<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        #[allow(unused_mut, reason = "used by the feature `otel`")]
        let mut this = self.project();
        let panicking = CountedPanic {
            meter: this.meter,
            #[cfg(feature = "otel")]
            span: this.answer.span().clone(),
        };
        let response = ready!(this.answer.as_mut().poll(task));
        let status = sent_status(&response);
        #[cfg(feature = "otel")]
        crate::spans::end(&panicking.span, status);
        panicking.meter.end(status);
        Poll::Ready(Ok(response))
    }
}

/// Returns the status that the server sends: an extractor of axum answers with another one if the body was refused.
fn sent_status(response: &Response) -> StatusCode {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return status;
    }
    ConnectionScope::refused_body().map_or(status, BodyRefused::status)
}

/// Counts a request whose handler panics: its future returns no response, and the server answers 500.
struct CountedPanic<'a> {
    meter: &'a RequestMeter,
    #[cfg(feature = "otel")]
    span: tracing::Span,
}

impl Drop for CountedPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            #[cfg(feature = "otel")]
            crate::spans::end(&self.span, StatusCode::INTERNAL_SERVER_ERROR);
            self.meter.end(StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}

pin_project! {
    /// Whether the edge admits a request, and the response.
    #[project = AdmissionProjection]
    pub(super) enum Admission<F> {
        /// The routes answer.
        Admitted { correlation_id: CorrelationId, #[pin] response: InScope<F> },
        /// The edge answers; `None` after it has.
        Refused { correlation_id: CorrelationId, problem: Option<Problem> },
        /// It is decided after a file was checked.
        Deferred { response: Pin<Box<dyn Future<Output = Response> + Send>> },
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for Admission<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Response> {
        match self.project() {
            AdmissionProjection::Admitted { correlation_id, response } => {
                let context = CausalContext::with_correlation(*correlation_id);
                let Ok(mut response) = ready!(context.sync_scope(|| response.poll(task)));
                mark(*correlation_id, &mut response);
                Poll::Ready(response)
            }
            AdmissionProjection::Refused { correlation_id, problem } => {
                let Some(problem) = problem.take() else { return Poll::Pending };
                let mut response = problem.into_response();
                mark(*correlation_id, &mut response);
                Poll::Ready(response)
            }
            AdmissionProjection::Deferred { response } => response.as_mut().poll(task),
        }
    }
}

/// Counts a request and its duration, with the feature `metrics`.
pub(super) struct RequestMeter {
    #[cfg(feature = "metrics")]
    request: crate::metrics::RequestMetrics,
    #[cfg(feature = "metrics")]
    recorded: std::sync::Arc<crate::metrics::RecordedRequests>,
}

#[cfg(feature = "metrics")]
impl RequestMeter {
    pub(super) fn start(request: &Request, recorded: &std::sync::Arc<crate::metrics::RecordedRequests>) -> Self {
        Self { request: crate::metrics::RequestMetrics::start(recorded, request), recorded: recorded.clone() }
    }

    fn end(&self, status: StatusCode) {
        self.request.end(&self.recorded, status);
    }
}

#[cfg(not(feature = "metrics"))]
impl RequestMeter {
    pub(super) fn start(_: &Request) -> Self {
        Self {}
    }

    #[expect(clippy::unused_self, reason = "with the feature `metrics` it is used")]
    fn end(&self, _: StatusCode) {}
}
