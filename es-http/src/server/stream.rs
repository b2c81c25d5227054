//! [`PacedStream`] and [`ObservedStream`]: a connection that fails if the client reads too slowly, or leaves.
//!
//! With TLS, the encryption is between the two: what a client takes is counted below it, because its buffer accepts
//! bytes that the client has not taken. That a client leaves is a message of TLS, which is read above it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::options::{ServeOptions, after};

/// A connection that fails if the client takes the data that waits for it more slowly than at the minimum rate.
///
/// The operating systems of both sides report what a client takes in steps, so a client may lag the minimum rate
/// by the largest step.
#[derive(Debug)]
pub(super) struct PacedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    /// The minimum number of bytes that the client must take in a second.
    rate: u64,
    /// The time in which the client must take a step.
    patience: Duration,
    /// The time until which the client must take bytes; `None` if no data waits for it. Each byte extends it.
    deadline: Option<Instant>,
    /// The timer of the deadline, which may have been extended since.
    timer: Pin<Box<Sleep>>,
}

impl<S> PacedStream<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, options: &ServeOptions) -> Self {
        let (rate, patience) = (options.minimum_rate.max(1), options.patience_with_readers());
        Self { stream, activity, rate, patience, deadline: None, timer: Box::pin(sleep_until(Instant::now())) }
    }

    /// Passes the result of a write on. Fails if the write waits for a client that took too few bytes.
    fn check<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        let deadline = self.deadline.unwrap_or_else(|| {
            self.activity.set_blocked(true);
            let deadline = after(Instant::now(), self.patience);
            self.timer.as_mut().reset(deadline);
            deadline
        });
        self.deadline = Some(deadline);
        // A timer wakes the task only after it was polled.
        while self.timer.as_mut().poll(context).is_ready() {
            if deadline <= Instant::now() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")));
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Records that the client took bytes, if data waited for it.
    fn took(&mut self, bytes: usize) -> usize {
        if let Some(deadline) = self.deadline {
            let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate);
            let earned = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.deadline = Some(after(deadline, earned).min(after(Instant::now(), self.patience)));
        }
        bytes
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        let written = ready!(self.check(context, result))?;
        Poll::Ready(Ok(self.took(written)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        let written = ready!(self.check(context, result))?;
        Poll::Ready(Ok(self.took(written)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.check(context, result))?;
        // hyper flushes after it has written all bytes: no data waits for the client any more.
        if self.deadline.take().is_some() {
            self.activity.set_blocked(false);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check(context, result)
    }
}

/// A connection that fails if the client leaves before the response. It records when bytes arrive.
#[derive(Debug)]
pub(super) struct ObservedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Whether the reader waits for bytes, and so notices itself that the client leaves.
    is_reading: bool,
    /// A byte that arrived while nobody read.
    read_ahead: Option<u8>,
}

impl<S> ObservedStream<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, is_reading: false, read_ahead: None }
    }
}

impl<S: AsyncRead + Unpin> ObservedStream<S> {
    /// Fails if the client has left before the response. The task is woken when it leaves.
    fn check_open(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.is_reading || self.read_ahead.is_some() || !self.activity.awaits_response() {
            return Ok(());
        }
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        if Pin::new(&mut self.stream).poll_read(context, &mut buffer)?.is_ready() {
            // The byte of a further request is for the next read.
            self.read_ahead = Some(*buffer.filled().first().ok_or(io::ErrorKind::UnexpectedEof)?);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(byte) = self.read_ahead.take() {
            buffer.put_slice(&[byte]);
            self.activity.received(&[byte]);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.is_reading = result.is_pending();
        let result = ready!(result);
        if let Some(received @ [_, ..]) = buffer.filled().get(before..) {
            self.activity.received(received);
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // hyper flushes whenever it waits for the service.
        Poll::Ready(self.check_open(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
