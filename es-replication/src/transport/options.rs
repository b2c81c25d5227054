//! [`ServerOptions`]: the limits of a server.

use std::time::Duration;

use crate::transport::{MAX_FRAME_BYTES, TIMEOUT};

/// The limits of a [`Server`](crate::Server).
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub(super) max_connections: usize,
    pub(super) max_frame_bytes: u32,
    pub(super) max_wait: Duration,
    pub(super) timeout: Duration,
    pub(super) idle_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 64,
            max_frame_bytes: MAX_FRAME_BYTES,
            max_wait: Duration::from_secs(30),
            timeout: TIMEOUT,
            idle_timeout: Duration::from_secs(120),
        }
    }
}

impl ServerOptions {
    /// Returns the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the maximum number of connections, including those that are not authenticated yet. Further connections are
    /// closed. The default is 64.
    #[must_use]
    pub const fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets the maximum length of a frame, in bytes. The default is 96 MiB. A commit that does not fit is not
    /// replicated until the limit is raised, here and in the [peers](crate::TlsPeer::with_max_frame_bytes).
    #[must_use]
    pub const fn with_max_frame_bytes(mut self, bytes: u32) -> Self {
        self.max_frame_bytes = bytes;
        self
    }

    /// Sets the longest time for which a pull waits for an event, and for which a forwarded command is decided. The
    /// default is 30 seconds.
    #[must_use]
    pub const fn with_max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Sets the time for each step of a connection: the TLS handshake, the first message, the transfer of a request. An
    /// answer has one second more for each 64 KiB. The default is 10 seconds.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time after which a connection without a request is closed. The default is 2 minutes.
    #[must_use]
    pub const fn with_idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }
}
