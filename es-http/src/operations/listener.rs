//! [`OperationsListener`]: a socket for operators that no other client can reach without authentication.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::net::{TcpListener, lookup_host};

#[cfg(unix)]
use super::unix_socket::UnixSocket;
use crate::Tokens;
use crate::host::is_port;
use crate::server::Listener;

/// The address of a listener: `unix:PATH`, or `HOST:PORT`.
///
/// ```
/// use es_http::operations::OperationsAddress;
///
/// assert!("unix:/run/orders/operations.sock".parse::<OperationsAddress>().is_ok());
/// assert_eq!("127.0.0.1:9000".parse::<OperationsAddress>()?.to_string(), "127.0.0.1:9000");
/// # Ok::<(), es_http::operations::ParseAddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationsAddress {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// A host and a port. The port 0 selects a free port.
    Tcp(String),
}

/// A text is not an [`OperationsAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected unix:PATH or HOST:PORT, found {found:?}")]
pub struct ParseAddressError {
    found: String,
}

impl FromStr for OperationsAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let port = |text: &str| text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && is_port(port));
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            None if port(text) => Ok(Self::Tcp(text.to_owned())),
            _ => Err(ParseAddressError { found: text.chars().take(100).collect() }),
        }
    }
}

impl fmt::Display for OperationsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// An [`OperationsListener`] could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address can be reached from other machines, and no authentication is configured. Use a loopback address or a
    /// Unix socket, or give the listener tokens.
    #[error(
        "expected a loopback address or a Unix socket for operations without authentication, found {address}; \
         configure tokens to use another address"
    )]
    NotLocal {
        /// The refused address.
        address: String,
    },
    /// Another process uses the socket.
    #[error("another process uses {address}; stop it, or choose another address")]
    InUse {
        /// The address.
        address: String,
    },
    /// The platform has no Unix sockets.
    #[error("this platform has no Unix sockets; use a loopback address in place of {address}")]
    NoUnixSockets {
        /// The address.
        address: String,
    },
    /// The operating system refused the address.
    #[error("could not listen on {address}")]
    Io {
        /// The address.
        address: String,
        /// The failure.
        source: io::Error,
    },
}

/// A socket for operators, with the authentication of its clients.
///
/// Without authentication, only a loopback address or a Unix socket is accepted. The file of a Unix socket has mode
/// 0600, so that only the user of the process can connect; it is removed with the listener. Every user of the machine
/// can connect to a loopback address: prefer a Unix socket.
#[derive(Debug)]
pub struct OperationsListener {
    pub(super) socket: Socket,
    pub(super) tokens: Option<Tokens>,
}

/// A bound socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixSocket),
}

impl OperationsListener {
    /// Listens for clients of this machine, which need no token.
    ///
    /// # Errors
    /// [`BindError::NotLocal`] if the address is not a loopback address. The other variants of [`BindError`] if the
    /// socket cannot be created.
    pub async fn local(address: &OperationsAddress) -> Result<Self, BindError> {
        Ok(Self { socket: Socket::bind(address, Reach::Local).await?, tokens: None })
    }

    /// Listens on any address for clients that have a token or a certificate. Use TLS unless the address is local,
    /// because a token is readable otherwise.
    ///
    /// # Errors
    /// [`BindError`] if the socket cannot be created.
    pub async fn authenticated(address: &OperationsAddress, tokens: Tokens) -> Result<Self, BindError> {
        Ok(Self { socket: Socket::bind(address, Reach::Any).await?, tokens: Some(tokens) })
    }

    /// Returns the address, with the port that was chosen for the port 0.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn address(&self) -> io::Result<OperationsAddress> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => OperationsAddress::Tcp(listener.local_addr()?.to_string()),
            #[cfg(unix)]
            Socket::Unix(socket) => OperationsAddress::Unix(socket.path().to_owned()),
        })
    }
}

/// The clients that can reach a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Local,
    Any,
}

impl Socket {
    async fn bind(address: &OperationsAddress, reach: Reach) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { address: address.to_string(), source };
        match address {
            #[cfg(unix)]
            OperationsAddress::Unix(path) => match UnixSocket::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    Err(BindError::InUse { address: address.to_string() })
                }
                bound => bound.map(Self::Unix).map_err(failed),
            },
            #[cfg(not(unix))]
            OperationsAddress::Unix(_) => Err(BindError::NoUnixSockets { address: address.to_string() }),
            OperationsAddress::Tcp(host) => {
                let resolved: Vec<SocketAddr> = lookup_host(host).await.map_err(failed)?.collect();
                if reach == Reach::Local && !resolved.iter().all(|address| address.ip().is_loopback()) {
                    return Err(BindError::NotLocal { address: host.clone() });
                }
                // The addresses that were checked, not the name: a second lookup could have another result.
                match TcpListener::bind(resolved.as_slice()).await {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        Err(BindError::InUse { address: host.clone() })
                    }
                    bound => bound.map(Self::Tcp).map_err(failed),
                }
            }
        }
    }

    /// Returns the listener of the server, and what must live as long as the server.
    #[cfg(unix)]
    pub(super) fn into_listener(self) -> (Listener, Option<super::unix_socket::SocketFile>) {
        match self {
            Self::Tcp(listener) => (listener.into(), None),
            Self::Unix(socket) => {
                let (listener, file) = socket.into_parts();
                (listener.into(), Some(file))
            }
        }
    }

    /// Returns the listener of the server.
    #[cfg(not(unix))]
    pub(super) fn into_listener(self) -> (Listener, ()) {
        let Self::Tcp(listener) = self;
        (listener.into(), ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_host_with_a_port() {
        for text in ["", "unix:", "127.0.0.1", ":80", "a:b", "a:99999"] {
            assert!(text.parse::<OperationsAddress>().is_err(), "{text}");
        }
        assert_eq!("[::1]:0".parse(), Ok(OperationsAddress::Tcp("[::1]:0".into())));
    }
}
