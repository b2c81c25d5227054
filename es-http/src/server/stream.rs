//! [`TimedStream`]: a connection that fails if the client reads too slowly, or leaves.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::Activity;
use super::options::ServeOptions;

/// A connection that fails if the client takes too few bytes of the data that waits for it, or leaves before the
/// response. It records when bytes arrive.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    activity: Arc<Activity>,
    period: Duration,
    /// The minimum number of bytes that the client must take in each period.
    minimum: u64,
    timer: Pin<Box<Sleep>>,
    /// The number of bytes that the client took in the present period; `None` if no data waits for it.
    taken: Option<u64>,
    /// Whether the reader waits for bytes, and so notices itself that the client leaves.
    is_reading: bool,
    /// A byte that arrived while nobody read.
    read_ahead: Option<u8>,
}

impl<S> TimedStream<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, options: &ServeOptions) -> Self {
        let (period, minimum) = (options.stall_deadline, options.minimum_progress());
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { stream, activity, period, minimum, timer, taken: None, is_reading: false, read_ahead: None }
    }

    /// Passes the result of a write on. Fails if the write waits for a client that took too few bytes.
    fn check<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            return result;
        }
        let is_period_over = self.taken.is_some() && self.timer.as_mut().poll(context).is_ready();
        if is_period_over && self.taken < Some(self.minimum) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")));
        }
        if is_period_over || self.taken.is_none() {
            self.taken = Some(0);
            self.activity.set_blocked(true);
            self.timer.as_mut().reset(Instant::now() + self.period);
            // A timer wakes the task only after it was polled. It is not ready: its period has begun.
            let _ = self.timer.as_mut().poll(context);
        }
        Poll::Pending
    }

    fn took(&mut self, bytes: usize) -> usize {
        self.taken = self.taken.map(|taken| taken.saturating_add(bytes as u64));
        bytes
    }
}

impl<S: AsyncRead + Unpin> TimedStream<S> {
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

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(byte) = self.read_ahead.take() {
            buffer.put_slice(&[byte]);
            self.activity.received();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.is_reading = result.is_pending();
        let result = ready!(result);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
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
        if self.taken.take().is_some() {
            self.activity.set_blocked(false);
        }
        // hyper flushes whenever it waits for the service.
        Poll::Ready(self.check_open(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check(context, result)
    }
}
