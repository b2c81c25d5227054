//! [`TlsPeer`]: another node, reached over TCP with mutual TLS.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{ErrorChain, OriginId};
use es_personal::KeyState;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::command::{CommandAnswer, ForwardedCommand};
use crate::error::{PeerError, SendError};
use crate::keys::KeyRequest;
use crate::page::{Claim, Confirmation, Page, Pull};
use crate::peer::Peer;
use crate::transport::connection::{Connection, ConnectionError};
use crate::transport::tls::{TlsConfig, TlsError, node_name};
use crate::transport::{MAX_FRAME_BYTES, TIMEOUT};
use crate::wire::{Kind, Message};

/// The longest wait that a deadline counts.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// The time that a peer has for an answer, after the time for which a pull waits.
const ANSWER_MARGIN: Duration = Duration::from_secs(60);

/// What a client expects as the first message of a peer.
const NAME: &str = "the name of the peer";

/// Another node that is reached over TCP with mutual TLS.
///
/// It connects with the first request, and again with the first request after a failure. A request whose future is
/// dropped closes its connection. Requests that run at the same time use a connection each.
pub struct TlsPeer {
    name: String,
    server_name: ServerName<'static>,
    address: String,
    tls: TlsConfig,
    timeout: Duration,
    max_frame_bytes: u32,
    /// The connection of the last request.
    idle: Mutex<Option<Connection<TlsStream<TcpStream>>>>,
}

impl TlsPeer {
    /// Returns the node with a name, which is the first DNS name in its certificate. The address is a host and a port,
    /// such as `node-b.example:7400`; the host is resolved with each connection.
    ///
    /// # Errors
    /// [`TlsError::PeerName`] if the name is not a DNS name.
    pub fn new(name: impl Into<String>, address: impl Into<String>, tls: TlsConfig) -> Result<Self, TlsError> {
        let name = name.into();
        match ServerName::try_from(name.clone()) {
            Ok(server_name @ ServerName::DnsName(_)) => Ok(Self {
                name,
                server_name,
                address: address.into(),
                tls,
                timeout: TIMEOUT,
                max_frame_bytes: MAX_FRAME_BYTES,
                idle: Mutex::new(None),
            }),
            _ => Err(TlsError::PeerName(name)),
        }
    }

    /// Sets the time for each step: the connection with its handshake, and the next frame of the peer. A peer that
    /// works on an answer sends a heartbeat every 3 seconds, so a shorter time interrupts pulls that wait. The transfer
    /// of an answer has one second more for each 64 KiB. The default is 10 seconds.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the maximum length of a frame, in bytes. The default is 96 MiB.
    #[must_use]
    pub const fn with_max_frame_bytes(mut self, bytes: u32) -> Self {
        self.max_frame_bytes = bytes;
        self
    }

    /// Sends a request, and returns its answer. The peer may wait for `wait` before it works on the answer.
    async fn request(&self, request: Message, wait: Duration) -> Result<Message, PeerError> {
        let frame = request.encode(self.max_frame_bytes).map_err(unreachable)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = idle {
            match self.exchange(connection, &frame, wait).await {
                // The peer has closed the idle connection, or has restarted. Requests change nothing, so they can be
                // repeated.
                Err(ConnectionError::Closed | ConnectionError::Io(_)) => {}
                result => return result.map_err(peer_error),
            }
        }
        let connection = self.connect().await?;
        self.exchange(connection, &frame, wait).await.map_err(peer_error)
    }

    /// Sends a request on a connection, which is kept if it remains usable.
    async fn exchange(
        &self,
        mut connection: Connection<TlsStream<TcpStream>>,
        frame: &[u8],
        wait: Duration,
    ) -> Result<Message, ConnectionError> {
        let deadline = Instant::now() + wait.min(MAX_WAIT) + ANSWER_MARGIN;
        connection.send(frame).await?;
        loop {
            let answer = connection.receive(self.max_frame_bytes, Kind::ANSWERS, "an answer").await?;
            if answer != Message::Heartbeat {
                *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
                return Ok(answer);
            }
            if Instant::now() > deadline {
                return Err(ConnectionError::Timeout);
            }
        }
    }

    /// Returns the connection of the last request, unless the peer has closed it.
    async fn open_idle(&self) -> Option<Connection<TlsStream<TcpStream>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        // A peer sends nothing without a request.
        matches!(idle.begins_within(Duration::ZERO).await, Ok(false)).then_some(idle)
    }

    async fn connect(&self) -> Result<Connection<TlsStream<TcpStream>>, PeerError> {
        let certificates = self.tls.current().await;
        let connect = async {
            let stream = TcpStream::connect(&self.address).await?;
            // Requests are sent at once.
            let _ = stream.set_nodelay(true);
            TlsConnector::from(Arc::clone(&certificates.client)).connect(self.server_name.clone(), stream).await
        };
        let stream = timeout(self.timeout, connect).await.map_err(|_| unreachable(ConnectionError::Timeout))?;
        let stream = stream.map_err(unreachable::<io::Error>)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        self.check_name(certificate.and_then(node_name).unwrap_or_default())?;

        let mut connection = Connection::new(stream, self.timeout);
        let hello = Message::Hello { node: certificates.node.clone() };
        let hello = hello.encode(self.max_frame_bytes).map_err(unreachable)?;
        connection.send(&hello).await.map_err(peer_error)?;
        let answer = connection.receive(self.max_frame_bytes, Kind::FIRST_ANSWER, NAME).await;
        match answer.map_err(peer_error)? {
            Message::HelloAnswer { node } => self.check_name(node)?,
            answer => return Err(unexpected(answer, NAME)),
        }
        Ok(connection)
    }

    fn check_name(&self, found: String) -> Result<(), PeerError> {
        if found == self.name {
            return Ok(());
        }
        Err(peer_error(ConnectionError::OtherNode { expected: self.name.clone(), found }))
    }
}

#[async_trait]
impl Peer for TlsPeer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
        let wait = pull.wait;
        match self.request(Message::Pull(pull), wait).await? {
            Message::Page(page) => Ok(page),
            answer => Err(unexpected(answer, "a page")),
        }
    }

    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        match self.request(Message::Confirm(claim), Duration::ZERO).await? {
            Message::Confirmation(confirmation) => Ok(confirmation),
            answer => Err(unexpected(answer, "a confirmation")),
        }
    }

    async fn homes(&self) -> Result<Vec<OriginId>, PeerError> {
        match self.request(Message::AskHomes, Duration::ZERO).await? {
            Message::Homes(origins) => Ok(origins),
            answer => Err(unexpected(answer, "the origins for which the peer decides")),
        }
    }

    async fn key(&self, request: KeyRequest) -> Result<KeyState, PeerError> {
        match self.request(Message::AskKey(request), Duration::ZERO).await? {
            Message::Key(state) => Ok(state),
            answer => Err(unexpected(answer, "a key")),
        }
    }

    /// Sends the command once: a repeat could be rejected while the first one is being executed.
    async fn execute(&self, command: ForwardedCommand) -> Result<CommandAnswer, SendError> {
        let wait = command.wait;
        let frame = Message::Command(command).encode(self.max_frame_bytes);
        let frame = frame.map_err(|error| SendError::NotSent(unreachable(error)))?;
        let connection = match self.open_idle().await {
            Some(connection) => connection,
            None => self.connect().await.map_err(SendError::NotSent)?,
        };
        match self.exchange(connection, &frame, wait).await {
            Ok(Message::CommandAnswer(answer)) => Ok(answer),
            Ok(answer) => Err(SendError::NoAnswer(unexpected(answer, "the answer to a command"))),
            Err(error) => Err(SendError::NoAnswer(peer_error(error))),
        }
    }
}

impl fmt::Debug for TlsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPeer").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

fn unreachable<E: std::error::Error + Send + Sync + 'static>(error: E) -> PeerError {
    PeerError::Unreachable(Box::new(error))
}

fn peer_error(error: ConnectionError) -> PeerError {
    match error {
        ConnectionError::Decode(_) | ConnectionError::Unexpected { .. } | ConnectionError::OtherNode { .. } => {
            PeerError::Invalid(ErrorChain(&error).to_string())
        }
        error => unreachable(error),
    }
}

/// Returns the error of an answer that is not the expected one.
fn unexpected(answer: Message, expected: &str) -> PeerError {
    /// The maximum length of the message of a peer, in characters.
    const MAX_CHARS: usize = 1_000;
    match answer {
        Message::Error(message) => PeerError::Failed(message.chars().take(MAX_CHARS).collect()),
        _ => PeerError::Invalid(format!("expected {expected}, found another message")),
    }
}
