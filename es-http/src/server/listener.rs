//! [`Listener`]: the socket of a server.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

/// The socket at which a server accepts connections.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A Unix socket. TLS is not available.
    #[cfg(unix)]
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

#[cfg(unix)]
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// Returns the next connection.
    pub(super) async fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), PeerAddress::Tcp(address)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = UnixPeer { uid: stream.peer_cred()?.uid() };
                Ok((Stream::Unix(stream), PeerAddress::Unix(peer)))
            }
        }
    }
}

/// The client of a connection over a Unix socket, as the operating system reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixPeer {
    /// The user id of the process that connected.
    pub uid: u32,
}

/// An accepted connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// The address of the client of a connection, which may be a proxy. It is an extractor under [`serve`](crate::serve);
/// under another server, the response is 500, and `Option<PeerAddress>` is `None`.
///
/// Requests have no extension `ConnectInfo`, which would allocate memory at each request. A layer that needs it gets it
/// from a layer around it:
///
/// ```
/// use axum::extract::{ConnectInfo, Request};
/// use axum::middleware::{Next, from_fn};
/// use es_http::PeerAddress;
///
/// let add_connect_info = from_fn(async |peer: PeerAddress, mut request: Request, next: Next| {
///     if let PeerAddress::Tcp(address) = peer {
///         request.extensions_mut().insert(ConnectInfo(address));
///     }
///     next.run(request).await
/// });
/// # let _: axum::Router = axum::Router::new().layer(add_connect_info);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddress {
    /// A TCP connection.
    Tcp(SocketAddr),
    /// A connection over a Unix socket.
    #[cfg(unix)]
    Unix(UnixPeer),
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(UnixPeer { uid }) => write!(f, "uid {uid}"),
        }
    }
}
