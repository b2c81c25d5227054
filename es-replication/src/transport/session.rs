//! [`Answerer`]: answers the requests of one connection after the other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::ErrorChain;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer::Source;

use crate::command::ForwardedCommand;
use crate::error::AnswerError;
use crate::page::Pull;
use crate::transport::connection::{Connection, ConnectionError};
use crate::transport::options::ServerOptions;
use crate::transport::tls::{TlsConfig, node_name};
use crate::transport::{HEARTBEAT, refusal};
use crate::wire::{EncodeError, Kind, Message};

/// The maximum length of the payload of a request and of a short answer, in bytes. The longest are the knowledge of a
/// pull, with 16 bytes for each origin and about 10 for each range of withheld events, and a command of 1 MiB.
const MAX_REQUEST_BYTES: u32 = 2 * 1024 * 1024;
/// The maximum size of a page that a pull gets, in bytes. A page with one commit may be larger.
const MAX_PAGE_BYTES: u32 = 8 * 1024 * 1024;

/// What a server expects as the first message of a client.
const FIRST: &str = "the name of the client";
/// What a server expects afterwards.
const REQUEST: &str = "a request";

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Answerer {
    pub(super) source: Source,
    pub(super) tls: TlsConfig,
    /// The names of the nodes that may connect.
    pub(super) peers: BTreeSet<String>,
    pub(super) options: ServerOptions,
    pub(super) stopped: watch::Receiver<bool>,
}

/// A request that was not answered.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("could not encode the answer")]
    Encode(#[from] EncodeError),
    #[error("the encoding of the answer failed")]
    Task(#[from] tokio::task::JoinError),
}

impl Answerer {
    /// Answers the requests of a connection until it ends.
    pub(super) async fn serve(&self, stream: TcpStream, address: SocketAddr) {
        // Requests and short answers are sent at once.
        let _ = stream.set_nodelay(true);
        let certificates = self.tls.current().await;
        let handshake = TlsAcceptor::from(Arc::clone(&certificates.server)).accept(stream);
        let mut stopped = self.stopped.clone();
        let accepted = tokio::select! {
            () = until_stopped(&mut stopped) => return,
            accepted = timeout(self.options.timeout, handshake) => accepted,
        };
        let stream = match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return refusal::record(refusal::HANDSHAKE, address, &error),
            Err(_) => return refusal::record(refusal::TIMEOUT, address, &ConnectionError::Timeout),
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let client = certificate.and_then(node_name).unwrap_or_default();
        let mut connection = Connection::new(stream, self.options.timeout);
        let Err(error) = self.converse(&mut connection, &client, &certificates.node).await else {
            return connection.close().await;
        };
        match refusal::reason(&error) {
            None => tracing::debug!(%address, client, error = %ErrorChain(&error), "a connection ended"),
            Some(reason) => {
                refusal::record(reason, address, &error);
                // The client may be unable to read this. The connection is closed in any case.
                let message = Message::Error(ErrorChain(&error).to_string());
                if let Ok(frame) = message.encode(MAX_REQUEST_BYTES)
                    && connection.send(&frame).await.is_ok()
                {
                    connection.close_refused().await;
                }
            }
        }
    }

    /// Answers the requests of a connection until the server stops.
    async fn converse(
        &self,
        connection: &mut Connection<TlsStream<TcpStream>>,
        client: &str,
        node: &str,
    ) -> Result<(), ConnectionError> {
        let mut stopped = self.stopped.clone();
        let hello = tokio::select! {
            () = until_stopped(&mut stopped) => return Ok(()),
            // Nothing else is decoded for a client that is not authorized yet.
            hello = connection.receive(MAX_REQUEST_BYTES, Kind::FIRST, FIRST) => hello?,
        };
        match hello {
            Message::Hello { .. } if !self.peers.contains(client) => {
                return Err(ConnectionError::UnknownPeer { found: client.to_owned() });
            }
            Message::Hello { node } if node != client => {
                return Err(ConnectionError::OtherNode { expected: client.to_owned(), found: node });
            }
            Message::Hello { .. } => {}
            _ => return Err(ConnectionError::Unexpected { expected: FIRST }),
        }
        let answer = Message::HelloAnswer { node: node.to_owned() };
        connection.send(&answer.encode(MAX_REQUEST_BYTES)?).await?;
        tracing::debug!(client, "a peer connected");
        loop {
            let request = tokio::select! {
                () = until_stopped(&mut stopped) => return Ok(()),
                request = self.next_request(connection) => request?,
            };
            let Some(request) = request else { return Ok(()) };
            let sender = match &request {
                Message::Pull(pull) => Some(&pull.sender.node),
                Message::Confirm(claim) => Some(&claim.node),
                Message::AskKey(request) => Some(&request.node),
                _ => None,
            };
            if let Some(found) = sender.filter(|sender| *sender != client) {
                return Err(ConnectionError::OtherNode { expected: client.to_owned(), found: found.clone() });
            }
            let frame = self.work(connection, request, &mut stopped).await?;
            connection.send(&frame).await?;
        }
    }

    /// Receives the next request. Returns `None` if none begins within the idle timeout.
    async fn next_request(
        &self,
        connection: &mut Connection<TlsStream<TcpStream>>,
    ) -> Result<Option<Message>, ConnectionError> {
        if !connection.begins_within(self.options.idle_timeout).await? {
            return Ok(None);
        }
        connection.receive(MAX_REQUEST_BYTES, Kind::REQUESTS, REQUEST).await.map(Some)
    }

    /// Returns the frame that answers a request. Meanwhile sends heartbeats, and detects that the client closes the
    /// connection.
    async fn work(
        &self,
        connection: &mut Connection<TlsStream<TcpStream>>,
        request: Message,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<Vec<u8>, ConnectionError> {
        let mut answer = pin!(self.answer(request));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = until_stopped(stopped) => {
                    return Ok(Message::Error("the node is stopping".to_owned()).encode(MAX_REQUEST_BYTES)?);
                }
                error = connection.interrupted() => return Err(error),
                () = sleep(HEARTBEAT) => {}
            }
            connection.send(&Message::Heartbeat.encode(MAX_REQUEST_BYTES)?).await?;
        }
    }

    /// Returns the frame that answers a request: an error if the request fails.
    async fn answer(&self, request: Message) -> Result<Vec<u8>, ConnectionError> {
        let answer = match request {
            Message::Pull(pull) => self.page(pull).await,
            Message::Confirm(claim) => match self.source.confirm(claim).await {
                Ok(confirmation) => Ok(Message::Confirmation(confirmation).encode(MAX_REQUEST_BYTES)?),
                Err(error) => Err(error.into()),
            },
            Message::AskHomes => match self.source.homes().await {
                Ok(origins) => Ok(Message::Homes(origins).encode(MAX_REQUEST_BYTES)?),
                Err(error) => Err(AnswerError::from(error).into()),
            },
            Message::AskKey(request) => match self.source.key(&request).await {
                Ok(state) => Ok(Message::Key(state).encode(MAX_REQUEST_BYTES)?),
                Err(error) => Err(error.into()),
            },
            Message::Command(command) => {
                let command = ForwardedCommand { wait: command.wait.min(self.options.max_wait), ..command };
                Ok(Message::CommandAnswer(self.source.execute(&command).await).encode(MAX_REQUEST_BYTES)?)
            }
            _ => return Err(ConnectionError::Unexpected { expected: REQUEST }),
        };
        answer.or_else(|error| {
            let error = ErrorChain(&error).to_string();
            tracing::error!(error, "did not answer the request of a peer");
            Ok(Message::Error(error).encode(MAX_REQUEST_BYTES)?)
        })
    }

    /// Returns the frame with the page that answers a pull.
    async fn page(&self, pull: Pull) -> Result<Vec<u8>, RequestError> {
        let max_bytes = pull.max_bytes.min(MAX_PAGE_BYTES);
        let pull = Pull { max_bytes, wait: pull.wait.min(self.options.max_wait), ..pull };
        match self.encoded_page(&pull).await {
            // The size of a page does not count everything that is sent. One commit may fit.
            Err(RequestError::Encode(EncodeError::TooLong { .. })) if max_bytes > 1 => {
                self.encoded_page(&Pull { max_bytes: 1, wait: Duration::ZERO, ..pull }).await
            }
            result => result,
        }
    }

    async fn encoded_page(&self, pull: &Pull) -> Result<Vec<u8>, RequestError> {
        let page = self.source.page(pull).await?;
        let max_bytes = self.options.max_frame_bytes;
        if page.items.is_empty() {
            return Ok(Message::Page(page).encode(max_bytes)?);
        }
        // The compression of a page takes long enough to delay other tasks.
        Ok(tokio::task::spawn_blocking(move || Message::Page(page).encode(max_bytes)).await??)
    }
}

/// Completes when the server stops or is dropped.
pub(super) async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error means that the server was dropped.
    let _ = stopped.wait_for(|is_stopped| *is_stopped).await;
}
