//! [`Server`]: answers the requests of other nodes.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::Source;
use crate::transport::options::ServerOptions;
use crate::transport::refusal;
use crate::transport::session::{Answerer, until_stopped};
use crate::transport::tls::TlsConfig;

/// The pause after a failed accept, for example because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The time after which a stopping server closes the connections to which it still sends an answer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Answers the pulls of other nodes over TCP with mutual TLS.
///
/// Only nodes with a certificate of a known authority and one of the allowed names are answered. A connection that is
/// refused is logged and counted in `es_replication_refused_total`, by `reason`; others do not notice it. Each
/// connection has one request at a time, and each page is bounded, so a slow peer uses the memory of one page.
///
/// If the server is dropped, it closes all connections at once.
///
/// ```no_run
/// # use std::time::Duration;
/// use es_replication::{Replica, Server, ServerOptions, TlsConfig, TlsPeer};
///
/// # async fn example(replica: Replica) -> Result<(), Box<dyn std::error::Error>> {
/// let tls = TlsConfig::load("a.pem", "a.key", "ca.pem")?;
/// let server = Server::bind("0.0.0.0:7400", replica.source(), tls.clone(), ["b"], ServerOptions::new()).await?;
/// let peer = TlsPeer::new("b", "b.example:7400", tls)?;
/// replica.pull(&peer, Duration::from_secs(30)).await?;
/// server.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Begins to listen on an address. `peers` are the names of the nodes that may connect.
    ///
    /// # Errors
    /// [`io::Error`] if the address is invalid or in use.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub async fn bind(
        address: impl ToSocketAddrs,
        source: Source,
        tls: TlsConfig,
        peers: impl IntoIterator<Item = impl Into<String>>,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let peers: BTreeSet<String> = peers.into_iter().map(Into::into).collect();
        let answerer = Arc::new(Answerer { source, tls, peers, options, stopped: stopped.clone() });
        let task = tokio::spawn(run(listener, answerer, stopped));
        Ok(Self { local_addr, stop, task })
    }

    /// Returns the address on which the server listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops the server: accepts no more connections, interrupts the pulls that wait, and completes the answers that
    /// are being sent, for at most 5 seconds.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the server of the replication failed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections until the server stops.
async fn run(listener: TcpListener, answerer: Arc<Answerer>, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(answerer.options.max_connections));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = until_stopped(&mut stopped) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection of the replication failed");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => accept(&mut connections, &answerer, &slots, stream, address),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "could not accept a connection of the replication");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // A closed listener refuses connections.
    drop(listener);
    let deadline = Instant::now() + DRAIN_DEADLINE;
    while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
    connections.shutdown().await;
}

/// Starts to answer a connection, or closes it if there are too many.
fn accept(
    connections: &mut JoinSet<()>,
    answerer: &Arc<Answerer>,
    slots: &Arc<Semaphore>,
    stream: TcpStream,
    address: SocketAddr,
) {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        let error = io::Error::other("the server has the maximum number of connections");
        return refusal::record(refusal::CONNECTIONS, address, &error);
    };
    let answerer = Arc::clone(answerer);
    connections.spawn(async move {
        answerer.serve(stream, address).await;
        drop(slot);
    });
}

/// Returns whether an error of an accept concerns only the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
