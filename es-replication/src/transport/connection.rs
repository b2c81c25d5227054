//! [`Connection`]: sends and receives messages, each within a deadline.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::wire::{DecodeError, EncodeError, HEADER_BYTES, Header, Kind, Message};

/// The least number of bytes per second that a connection must transfer. A slower one is closed, so that it does not
/// keep a page in memory for long.
const MIN_BYTES_PER_SECOND: u32 = 64 * 1024;
/// The length from which a payload is decoded on a thread for blocking work, in bytes.
const LONG_PAYLOAD_BYTES: u32 = 64 * 1024;
/// The longest time for which a side that closes a connection waits for the other one.
const MAX_LINGER: Duration = Duration::from_secs(1);

/// A connection that transfers messages.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    /// The first byte of the next frame, if it has arrived.
    first: Option<u8>,
    /// The time within which a short frame must be transferred.
    timeout: Duration,
}

/// A message was not transferred. The connection must be closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("the connection was closed within a frame")]
    Truncated,
    #[error("a frame was not transferred in time")]
    Timeout,
    #[error("received an invalid frame")]
    Decode(#[from] DecodeError),
    #[error("could not send a message")]
    Encode(#[from] EncodeError),
    #[error("expected {expected}, found another message")]
    Unexpected { expected: &'static str },
    #[error("the node {found:?} is not a peer of this node")]
    UnknownPeer { found: String },
    #[error("expected the node {expected:?}, found {found:?}")]
    OtherNode { expected: String, found: String },
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) const fn new(stream: S, timeout: Duration) -> Self {
        Self { stream, first: None, timeout }
    }

    /// Waits until a frame begins. Returns `false` if none begins within a time.
    pub(super) async fn begins_within(&mut self, wait: Duration) -> Result<bool, ConnectionError> {
        if self.first.is_none() {
            match timeout(wait, self.stream.read_u8()).await {
                Err(_) => return Ok(false),
                Ok(Ok(first)) => self.first = Some(first),
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ConnectionError::Closed),
                Ok(Err(error)) => return Err(ConnectionError::Io(error)),
            }
        }
        Ok(true)
    }

    /// Receives a message of one of these kinds, which must begin within the timeout. Its payload has at most
    /// `max_bytes`. Of another kind, only the header is read, and the error says that `expected` was expected.
    pub(super) async fn receive(
        &mut self,
        max_bytes: u32,
        kinds: &[Kind],
        expected: &'static str,
    ) -> Result<Message, ConnectionError> {
        if !self.begins_within(self.timeout).await? {
            return Err(ConnectionError::Timeout);
        }
        let mut header = [0; HEADER_BYTES];
        header[0] = self.first.take().unwrap_or_default();
        let read = timeout(self.timeout, self.stream.read_exact(&mut header[1..])).await;
        read.map_err(|_| ConnectionError::Timeout)?.map_err(within_frame)?;
        let header = Header::decode(header, max_bytes)?;
        if !kinds.contains(&header.kind) {
            return Err(ConnectionError::Unexpected { expected });
        }
        // The buffer grows as the bytes arrive, so a claimed length allocates nothing.
        let mut payload = Vec::new();
        let mut source = (&mut self.stream).take(header.length().into());
        let read = timeout(transfer_time(self.timeout, header.length()), source.read_to_end(&mut payload)).await;
        read.map_err(|_| ConnectionError::Timeout)?.map_err(within_frame)?;
        if payload.len() < header.length() as usize {
            return Err(ConnectionError::Truncated);
        }
        if header.length() < LONG_PAYLOAD_BYTES {
            return Ok(Message::decode(&header, payload, max_bytes)?);
        }
        let decode = tokio::task::spawn_blocking(move || Message::decode(&header, payload, max_bytes));
        Ok(decode.await.map_err(|error| ConnectionError::Io(error.into()))??)
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, frame: &[u8]) -> Result<(), ConnectionError> {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let send = async {
            self.stream.write_all(frame).await?;
            self.stream.flush().await
        };
        let sent = timeout(transfer_time(self.timeout, length), send).await;
        sent.map_err(|_| ConnectionError::Timeout)?.map_err(ConnectionError::Io)
    }

    /// Returns when the other side closes the connection, or sends something although it must wait.
    pub(super) async fn interrupted(&mut self) -> ConnectionError {
        match self.stream.read_u8().await {
            Ok(_) => ConnectionError::Unexpected { expected: "no request before the answer to the last one" },
            Err(_) => ConnectionError::Closed,
        }
    }

    /// Closes the connection.
    pub(super) async fn close(mut self) {
        // The connection is dropped in any case.
        let _ = timeout(self.timeout.min(MAX_LINGER), self.stream.shutdown()).await;
    }

    /// Closes the connection after a message that refuses it. The other side gets the time to read the message, which
    /// would be lost if unread bytes of the other side reset the connection.
    pub(super) async fn close_refused(mut self) {
        let close = async {
            self.stream.shutdown().await?;
            tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await
        };
        // The connection is dropped in any case.
        let _ = timeout(self.timeout.min(MAX_LINGER), close).await;
    }
}

fn within_frame(error: io::Error) -> ConnectionError {
    if error.kind() == io::ErrorKind::UnexpectedEof { ConnectionError::Truncated } else { ConnectionError::Io(error) }
}

/// Returns the time within which a number of bytes must be transferred.
fn transfer_time(timeout: Duration, bytes: u32) -> Duration {
    timeout.saturating_add(Duration::from_secs((bytes / MIN_BYTES_PER_SECOND).into()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    const MAX_BYTES: u32 = 4 * 1024 * 1024;
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Returns a connection, and the other end of its stream with a small buffer.
    fn pair() -> (Connection<DuplexStream>, DuplexStream) {
        let (stream, other) = duplex(1024);
        (Connection::new(stream, TIMEOUT), other)
    }

    fn long_frame() -> Vec<u8> {
        Message::Error("x".repeat(2 * 1024 * 1024)).encode(MAX_BYTES).expect("a frame")
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_nobody_reads_is_not_kept_for_long() {
        let (mut connection, _other) = pair();
        let start = Instant::now();
        let error = connection.send(&long_frame()).await.expect_err("nobody reads");
        assert!(matches!(error, ConnectionError::Timeout), "{error}");
        assert_eq!(start.elapsed().as_secs(), TIMEOUT.as_secs() + 32);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_arrives_too_slowly_is_refused() {
        let (mut connection, mut other) = pair();
        let drip = async {
            for byte in long_frame() {
                other.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok::<_, io::Error>(())
        };
        let received = tokio::select! {
            received = connection.receive(MAX_BYTES, &[Kind::Error], "an error") => received,
            sent = drip => panic!("the receiver waits for {sent:?}"),
        };
        assert!(matches!(received, Err(ConnectionError::Timeout)), "{received:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_on_a_slow_link_is_received() {
        let (mut connection, mut other) = pair();
        let frame = long_frame();
        let send = async {
            // Twice the least number of bytes per second.
            for part in frame.chunks(128 * 1024) {
                other.write_all(part).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok::<_, io::Error>(())
        };
        let (received, sent) = tokio::join!(connection.receive(MAX_BYTES, &[Kind::Error], "an error"), send);
        sent.expect("sends");
        assert!(matches!(received.expect("receives"), Message::Error(text) if text.len() == 2 * 1024 * 1024));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_stream_is_distinguished_from_the_end_within_a_frame() {
        let frame = Message::Heartbeat.encode(MAX_BYTES).expect("a frame");
        for length in 0..frame.len() {
            let (mut connection, mut other) = pair();
            other.write_all(&frame[..length]).await.expect("writes");
            drop(other);
            let error = connection.receive(MAX_BYTES, &[Kind::Error], "an error").await.expect_err("no frame");
            let is_closed = matches!(error, ConnectionError::Closed);
            assert!(
                is_closed == (length == 0) && (is_closed || matches!(error, ConnectionError::Truncated)),
                "{error}"
            );
        }
    }
}
