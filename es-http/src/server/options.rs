//! [`ServeOptions`]: the deadlines and limits of a server.

use std::time::Duration;

use tokio::time::Instant;

/// The most bytes that a client reads before the operating systems of both sides report it. A loopback connection has
/// steps of 128 KiB, a send buffer those of [`MAX_UNSENT`].
const LARGEST_STEP: u64 = 192 * 1024;
/// The most bytes that wait in the send buffer of a connection besides those that are on their way. Without a limit,
/// the buffer has megabytes, and the system reports only each third of it as read.
pub(super) const MAX_UNSENT: u32 = 64 * 1024;
/// A time that no process reaches, and that is in the range of the clock.
const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// The deadlines and limits of a server.
///
/// The defaults suit a service with JSON bodies: with 1,000 connections that each send half a body, the server uses
/// less than 100 MB.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    pub(crate) header_deadline: Duration,
    pub(crate) idle_deadline: Duration,
    pub(crate) body_deadline: Duration,
    pub(crate) stall_deadline: Duration,
    pub(crate) minimum_rate: u64,
    pub(crate) drain_deadline: Duration,
    pub(crate) max_connections: usize,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_body_bytes_in_flight: usize,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::Tls>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(60),
            body_deadline: Duration::from_secs(60),
            stall_deadline: Duration::from_secs(10),
            minimum_rate: 1024,
            drain_deadline: Duration::from_secs(20),
            max_connections: 4096,
            max_body_bytes: 1024 * 1024,
            max_body_bytes_in_flight: 32 * 1024 * 1024,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ServeOptions {
    /// Returns the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the time in which the head of a request must arrive, from its first byte; 10 seconds by default. For a
    /// request that began before the response to the former one, the time begins with the end of this response. It is
    /// also the time in which a new connection must send its first byte. Afterwards the connection is closed.
    #[must_use]
    pub fn header_deadline(mut self, deadline: Duration) -> Self {
        self.header_deadline = deadline;
        self
    }

    /// Sets the time after which a connection without a request is closed; 60 seconds by default.
    #[must_use]
    pub fn idle_deadline(mut self, deadline: Duration) -> Self {
        self.idle_deadline = deadline;
        self
    }

    /// Sets the time in which the body of a request must arrive; 60 seconds by default. The response is 408 otherwise.
    #[must_use]
    pub fn body_deadline(mut self, deadline: Duration) -> Self {
        self.body_deadline = deadline;
        self
    }

    /// Sets the period in which a client must make progress; 10 seconds by default. See
    /// [`minimum_rate`](Self::minimum_rate).
    #[must_use]
    pub fn stall_deadline(mut self, deadline: Duration) -> Self {
        self.stall_deadline = deadline;
        self
    }

    /// Sets the minimum rate in bytes per second; 1,024 by default. A client that sends a body more slowly over a
    /// [`stall_deadline`](Self::stall_deadline) receives 408. A client that reads a response more slowly while data is
    /// waiting for it is disconnected. Operating systems report in large steps what a client has read, so a client that
    /// stops to read is disconnected after the time in which 192 KiB arrive at this rate, at the earliest after the
    /// stall deadline.
    #[must_use]
    pub fn minimum_rate(mut self, bytes_per_second: u64) -> Self {
        self.minimum_rate = bytes_per_second;
        self
    }

    /// Sets the time in which requests in progress must be answered after a request to stop; 20 seconds by default.
    /// Afterwards their connections are closed. Choose less than the shutdown deadline of the
    /// [`Service`](es_core::Service).
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain_deadline = deadline;
        self
    }

    /// Sets the maximum number of connections; 4,096 by default, at least 1. Further connections wait in the queue of
    /// the operating system; connections that have waited for a request for a second are closed for them. Choose less
    /// than the limit of open files of the process: when no descriptor is free, the connections that have waited for a
    /// request for a second are closed.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// Sets the maximum length of the body of a request in bytes; 1 MiB by default. The response to a longer body is
    /// 413 if the handler reads the body. An [`Edge`](crate::Edge) and the [operations](crate::operations) refuse a
    /// length that is declared also if no handler reads the body.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// Sets the maximum memory of all bodies in bytes; 32 MiB by default. A body counts until its request is answered;
    /// each of its frames counts 64 bytes besides its length. The response to a request that exceeds the maximum is 503
    /// with `Retry-After`.
    #[must_use]
    pub fn max_body_bytes_in_flight(mut self, bytes: usize) -> Self {
        self.max_body_bytes_in_flight = bytes;
        self
    }

    /// Encrypts connections. The handshake must end in the [`header_deadline`](Self::header_deadline).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Returns the time in which a client must take a step of a response.
    pub(crate) fn patience_with_readers(&self) -> Duration {
        Duration::from_millis(LARGEST_STEP * 1000 / self.minimum_rate.max(1)).max(self.stall_deadline)
    }

    /// Returns the number of bytes that a client must send in each period of the stall deadline.
    pub(crate) fn minimum_progress(&self) -> u64 {
        let millis = u64::try_from(self.stall_deadline.as_millis()).unwrap_or(u64::MAX);
        (self.minimum_rate.saturating_mul(millis) / 1000).max(1)
    }
}

/// Returns the end of a time that begins at `start`. A deadline such as [`Duration::MAX`] is none.
pub(super) fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).or_else(|| start.checked_add(FAR)).unwrap_or(start)
}
