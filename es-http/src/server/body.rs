//! [`LimitedBody`]: the body of a request with a maximum length, a deadline, and a share of the memory for bodies.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::connection::ConnectionScope;
use super::options::{ServeOptions, after};
use crate::problem::BodyRefused;

/// The memory of a frame besides its bytes: an allocation and an element of a list.
const FRAME_OVERHEAD: usize = 64;

/// The limits of all bodies of a server, and the number of their bytes in memory.
#[derive(Debug)]
pub(super) struct BodyLimits {
    max_bytes: usize,
    max_bytes_in_flight: usize,
    in_flight: AtomicUsize,
    deadline: Duration,
    period: Duration,
    minimum_progress: u64,
}

impl BodyLimits {
    pub(super) fn new(options: &ServeOptions) -> Self {
        Self {
            max_bytes: options.max_body_bytes,
            max_bytes_in_flight: options.max_body_bytes_in_flight,
            in_flight: AtomicUsize::new(0),
            deadline: options.body_deadline,
            period: options.stall_deadline,
            minimum_progress: options.minimum_progress(),
        }
    }

    pub(super) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Checks the length that a request declares.
    pub(super) fn check_length(&self, body: &impl Body) -> Result<(), BodyRefused> {
        let declared = body.size_hint().lower();
        if declared > self.max_bytes as u64 { Err(BodyRefused::Length { max: self.max_bytes }) } else { Ok(()) }
    }

    fn reserve(&self, bytes: usize) -> Result<(), BodyRefused> {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.max_bytes_in_flight);
        let reserved = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        reserved.map(drop).map_err(|_| BodyRefused::Memory)
    }
}

/// The memory of one body. It is returned to the limits when the body and the request are gone.
#[derive(Debug)]
pub(super) struct Reservation {
    limits: Arc<BodyLimits>,
    /// The bytes of the body.
    length: AtomicUsize,
    /// The bytes in memory, which are more.
    reserved: AtomicUsize,
    refused: OnceLock<BodyRefused>,
}

impl Reservation {
    pub(super) fn new(limits: Arc<BodyLimits>) -> Arc<Self> {
        Arc::new(Self { limits, length: AtomicUsize::new(0), reserved: AtomicUsize::new(0), refused: OnceLock::new() })
    }

    /// Returns the reason if the body was refused.
    pub(super) fn refused(&self) -> Option<BodyRefused> {
        self.refused.get().copied()
    }

    /// Counts the bytes of a frame.
    fn add(&self, length: usize) -> Result<(), BodyRefused> {
        if self.length.load(Ordering::Acquire).saturating_add(length) > self.limits.max_bytes {
            return Err(BodyRefused::Length { max: self.limits.max_bytes });
        }
        let memory = length.saturating_add(FRAME_OVERHEAD);
        self.limits.reserve(memory)?;
        self.length.fetch_add(length, Ordering::AcqRel);
        self.reserved.fetch_add(memory, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.limits.in_flight.fetch_sub(*self.reserved.get_mut(), Ordering::AcqRel);
    }
}

/// A body that fails with [`BodyRefused`].
#[derive(Debug)]
pub(super) struct LimitedBody<B> {
    /// The body; `None` if it is refused, so that its connection reads no more of it.
    body: Option<B>,
    reservation: Arc<Reservation>,
    activity: Arc<Activity>,
    /// The end of the present period, or of the whole deadline.
    timer: Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    /// The number of bytes that arrived in the present period.
    received: u64,
    /// Whether the body was polled, and had to wait.
    has_waited: bool,
}

impl<B> LimitedBody<B> {
    /// Limits a body. `None` is one that is declared too long.
    pub(super) fn new(body: Option<B>, reservation: Arc<Reservation>, activity: Arc<Activity>) -> Self {
        let deadline = after(Instant::now(), reservation.limits.deadline);
        Self { body, reservation, activity, timer: None, deadline, received: 0, has_waited: false }
    }

    /// Fails if the client is too slow. Called while the body waits for the client.
    fn check_progress(&mut self, context: &mut Context<'_>) -> Result<(), BodyRefused> {
        if !self.has_waited {
            // Bytes that the connection has already received arrive before the second poll. Most bodies then need no
            // timer, which is an allocation and a lock that all threads share.
            self.has_waited = true;
            context.waker().wake_by_ref();
            return Ok(());
        }
        let limits = &self.reservation.limits;
        let next = |now: Instant| self.deadline.min(after(now, limits.period));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next(Instant::now()))));
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if now >= self.deadline || self.received < limits.minimum_progress {
                return Err(BodyRefused::Deadline);
            }
            self.received = 0;
            timer.as_mut().reset(next(now));
        }
        Ok(())
    }

    fn refuse(&mut self, refused: BodyRefused) -> BodyRefused {
        self.body = None;
        ConnectionScope::set_refused_body(refused);
        *self.reservation.refused.get_or_init(|| refused)
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            if this.reservation.refused().is_some() {
                return Poll::Ready(None);
            }
            let max = this.reservation.limits.max_bytes;
            return Poll::Ready(Some(Err(this.refuse(BodyRefused::Length { max }).into())));
        };
        let polled = Pin::new(&mut *body).poll_frame(context);
        if body.is_end_stream() || matches!(polled, Poll::Ready(None)) {
            this.activity.end_body();
        }
        let checked = match polled {
            Poll::Pending => match this.check_progress(context) {
                Ok(()) => return Poll::Pending,
                Err(refused) => Err(refused),
            },
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                this.received = this.received.saturating_add(length as u64);
                // A frame is a part of the read buffer of the connection. A copy frees the buffer, which can be 10,000
                // times as long as the frame.
                this.reservation.add(length).map(|()| frame.map_data(|data| Bytes::copy_from_slice(&data)))
            }
            Poll::Ready(other) => return Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
        };
        Poll::Ready(Some(checked.map_err(|refused| this.refuse(refused).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
