//! [`serve`]: a server that slow, idle and numerous clients cannot exhaust.
//!
//! ```text
//!   accept --> PacedStream --> TLS --> ObservedStream --> hyper --> Answerer --> LimitedBody --> Router
//!     |            |                       |                           |             |
//!     |            |                       |                           |             +-- 413, 408, 503
//!     |            |                       |                           +-- every error is a problem; a panic is 500
//!     |            |                       +-- closed: head too slow, idle, the client leaves
//!     |            +-- closed: reads too slowly
//!     +-- pauses: too many connections, too few descriptors; idle connections are closed for new ones
//! ```

mod activity;
mod answer;
mod body;
mod connection;
mod draining;
mod listener;
mod on_wake;
mod options;
mod received;
#[cfg(feature = "signal")]
mod signals;
mod stream;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use activity::Activity;
use answer::Answerer;
use body::BodyLimits;
pub(crate) use connection::ConnectionScope;
pub use draining::Draining;
use listener::Stream;
pub use listener::{Listener, PeerAddress, UnixPeer};
use on_wake::OnWake;
pub use options::ServeOptions;
use options::after;
#[cfg(feature = "signal")]
pub use signals::serve_until_signal;
use stream::{ObservedStream, PacedStream};

use crate::ClientCertificate;

/// The longest head of a request, and the size of the largest read buffer of a connection, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The pauses after a failed accept, for example without a free descriptor: from the first to the longest.
const ACCEPT_PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// The interval at which idle connections are closed while a new one waits for a slot.
const SLOT_PAUSE: Duration = Duration::from_secs(1);

/// The result of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// The number of connections that were closed at the drain deadline, before their request was answered.
    pub aborted: usize,
}

/// Connections were closed at the drain deadline, before their request was answered. Give the drain more time, or end
/// long responses with [`Draining`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("closed {aborted} connections at the drain deadline, before their request was answered")]
pub struct IncompleteDrain {
    /// The number of connections.
    pub aborted: usize,
}

impl Drained {
    /// Returns an error if requests were not answered, for the intake of a [`Service`](es_core::Service).
    ///
    /// # Errors
    /// [`IncompleteDrain`] if connections were closed at the drain deadline.
    pub const fn complete(self) -> Result<(), IncompleteDrain> {
        match self.aborted {
            0 => Ok(()),
            aborted => Err(IncompleteDrain { aborted }),
        }
    }
}

/// The client of a connection.
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: PeerAddress,
    certificate: Option<ClientCertificate>,
}

/// Serves requests until `stop` completes. Then accepts no more connections, answers the requests in progress, and
/// closes all connections, at the latest after the drain deadline of the options.
///
/// The server speaks HTTP/1.1; a proxy in front of it may speak other versions. Each limit is described at
/// [`ServeOptions`]. Error responses are converted into [problems](crate::Problem), as
/// [`uniform_problems`](crate::uniform_problems) does, except those to bytes that are not a request. Handlers can
/// extract [`Draining`] and [`PeerAddress`]. Requests on a Unix socket are not encrypted.
///
/// If the returned future is dropped, all connections are closed at once. A [`Service`](es_core::Service) does this at
/// a second signal.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use axum::{Router, routing::get};
/// use es_http::ServeOptions;
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let router = Router::new().route("/", get(async || "hello"));
/// let stop = async {}; // for example `StopSignal::requested` of es-core
/// let drained = es_http::serve(listener, router, ServeOptions::new(), stop).await;
/// assert_eq!(drained.aborted, 0);
/// # Ok::<(), std::io::Error>(()) })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    options: ServeOptions,
    stop: impl Future<Output = ()> + Send,
) -> Drained {
    let requested = watch::Sender::new(false);
    // The handlers become routes here, and not at each request.
    let routes = router.with_state(());
    let limits = Arc::new(BodyLimits::new(&options));
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let failures = watch::Sender::new(());
    let failed = failures.subscribe();
    let mut acceptor = Acceptor { listener: listener.into(), pause: ACCEPT_PAUSES[0], waiting: None, failures };
    loop {
        tokio::select! {
            () = &mut stop => break,
            (stream, peer, slot) = acceptor.accept(&slots) => {
                let peer = Peer { address: peer, certificate: None };
                let draining = Draining::new(requested.subscribe());
                let (routes, limits, options) = (routes.clone(), Arc::clone(&limits), options.clone());
                let failed = failed.clone();
                let scope = ConnectionScope::new(draining.clone(), peer.address);
                let connection = Connection { routes, limits, options, peer, draining, failed, slot };
                connections.spawn(scope.enter(connection.run(stream)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    // A closed listener refuses connections, so that clients choose another instance at once.
    drop(acceptor);
    requested.send_replace(true);
    drain(connections, options.drain_deadline).await
}

async fn drain(mut connections: JoinSet<()>, deadline: Duration) -> Drained {
    let deadline = after(Instant::now(), deadline);
    while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
    let aborted = connections.len();
    if aborted > 0 {
        tracing::warn!(aborted, "closed connections whose requests were not answered before the drain deadline");
    }
    connections.shutdown().await;
    Drained { aborted }
}

/// Accepts connections.
struct Acceptor {
    listener: Listener,
    /// The pause after the next failure.
    pause: Duration,
    /// The accepted connection that waits for a slot. It is here, because the future that accepts is dropped whenever
    /// another connection ends.
    waiting: Option<(Stream, PeerAddress)>,
    /// Tells the connections that a new one lacks a descriptor or a slot.
    failures: watch::Sender<()>,
}

impl Acceptor {
    /// Returns the next connection, after a slot for it is free.
    async fn accept(&mut self, slots: &Arc<Semaphore>) -> (Stream, PeerAddress, OwnedSemaphorePermit) {
        loop {
            if self.waiting.is_some() {
                let slot = self.slot(slots).await;
                if let Some((stream, peer)) = self.waiting.take() {
                    return (stream, peer, slot);
                }
            }
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.pause = ACCEPT_PAUSES[0];
                    self.waiting = Some(accepted);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Without a free descriptor, the connection stays in the queue, and the next accept fails at once.
                    tracing::error!(%error, pause = ?self.pause, "could not accept a connection");
                    self.failures.send_replace(());
                    sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(ACCEPT_PAUSES[1]);
                }
            }
        }
    }

    /// Waits for a free slot. Idle connections are closed meanwhile, so that they do not keep others from being
    /// answered.
    async fn slot(&self, slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        loop {
            match timeout(SLOT_PAUSE, Arc::clone(slots).acquire_owned()).await {
                Ok(Ok(slot)) => return slot,
                // The semaphore is never closed.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => self.failures.send_replace(()),
            }
        }
    }
}

/// Returns whether an error of an accept concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Limits the bytes in the send buffer, so that the system reports in small steps what the client reads. A failure is
/// no reason to refuse a connection.
fn limit_unsent(stream: &tokio::net::TcpStream) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(options::MAX_UNSENT);
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = stream;
}

/// An event besides requests and responses that a connection must react to.
enum Interruption {
    /// The client did not send this in time.
    Overdue(&'static str),
    /// A new connection lacks a descriptor or a slot, and this one is idle.
    ReplacementNeeded,
    /// The server stops.
    Drain,
}

/// One connection.
struct Connection {
    routes: Router,
    limits: Arc<BodyLimits>,
    options: ServeOptions,
    peer: Peer,
    draining: Draining,
    /// Changes when a new connection lacks a descriptor or a slot.
    failed: watch::Receiver<()>,
    /// The share of the maximum number of connections.
    slot: OwnedSemaphorePermit,
}

impl Connection {
    /// Answers requests until the client or the server closes the connection.
    async fn run(self, stream: Stream) {
        let activity = Arc::new(Activity::new());
        let stream = match stream {
            Stream::Tcp(stream) => stream,
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let stream = PacedStream::new(stream, Arc::clone(&activity), &self.options);
                return self.serve(stream, activity).await;
            }
        };
        // Small responses and events are sent at once.
        let _ = stream.set_nodelay(true);
        limit_unsent(&stream);
        let stream = PacedStream::new(stream, Arc::clone(&activity), &self.options);
        #[cfg(feature = "tls")]
        if let Some(tls) = self.options.tls.clone() {
            return self.serve_encrypted(stream, activity, &tls).await;
        }
        self.serve(stream, activity).await;
    }

    #[cfg(feature = "tls")]
    async fn serve_encrypted<S>(mut self, stream: S, activity: Arc<Activity>, tls: &crate::Tls)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let client = self.peer.address;
        let handshake = tokio::select! {
            handshake = timeout(self.options.header_deadline, tls.accept(stream)) => handshake,
            () = activity.idle_at_failure(self.failed.clone()) => {
                return tracing::debug!(%client, "closed a connection without a handshake for a new one");
            }
            () = self.draining.clone().requested() => return,
        };
        match handshake {
            Ok(Ok((stream, certificate))) => {
                self.peer.certificate = certificate;
                activity.end_handshake();
                self.serve(stream, activity).await;
            }
            Ok(Err(error)) => tracing::debug!(%client, %error, "the handshake of a connection failed"),
            Err(_) => tracing::debug!(%client, "the handshake of a connection did not end in time"),
        }
    }

    async fn serve<S>(self, stream: S, activity: Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { routes, limits, options, peer, draining, failed, slot: _slot } = self;
        let io = TokioIo::new(ObservedStream::new(stream, Arc::clone(&activity)));
        let certificate = peer.certificate;
        let answerer = Answerer { routes: RefCell::new(routes), limits, certificate, activity: Arc::clone(&activity) };
        let mut http = http1::Builder::new();
        // `Activity` has the deadline of the head; that of hyper would also close idle connections. `ObservedStream`
        // notices clients that leave; hyper would allocate another read buffer for each request to do so.
        http.header_read_timeout(None).half_close(true).max_buf_size(MAX_HEAD_BYTES);
        let mut connection = pin!(http.serve_connection(io, answerer));
        let mut overdue = pin!(activity.overdue(&options));
        let mut replacement_needed = pin!(activity.idle_at_failure(failed));
        let mut requested = pin!(draining.requested());
        let mut is_draining = false;
        let mut interruption = OnWake::new(poll_fn(move |context| {
            if let Poll::Ready(missing) = overdue.as_mut().poll(context) {
                return Poll::Ready(Interruption::Overdue(missing));
            }
            if replacement_needed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Interruption::ReplacementNeeded);
            }
            if !is_draining && requested.as_mut().poll(context).is_ready() {
                is_draining = true;
                return Poll::Ready(Interruption::Drain);
            }
            Poll::Pending
        }));
        let ended = loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                interruption = &mut interruption => match interruption {
                    Interruption::Overdue(missing) => {
                        tracing::debug!(client = %peer.address, missing, "closed a connection");
                        return;
                    }
                    Interruption::ReplacementNeeded => {
                        tracing::debug!(client = %peer.address, "closed an idle connection for a new one");
                        return;
                    }
                    Interruption::Drain => connection.as_mut().graceful_shutdown(),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(client = %peer.address, error = %es_core::model::ErrorChain(&error), "a connection ended");
        }
    }
}
