//! Replication over TCP with mutual TLS.
//!
//! - [`TlsConfig`]: the certificates of a node, and the name of the node in a certificate.
//! - [`Server`]: answers the requests of other nodes. `session`: one connection of it. `refusal`: why it was refused.
//! - [`TlsPeer`]: another node, reached over a connection.
//! - `connection`: sends and receives messages with deadlines.

mod connection;
mod options;
mod peer;
mod refusal;
mod server;
mod session;
mod tls;

pub use options::ServerOptions;
pub use peer::TlsPeer;
pub use server::Server;
pub use tls::{TlsConfig, TlsError};

/// The default maximum length of a frame, in bytes: the payloads of one commit, and their names and metadata.
const MAX_FRAME_BYTES: u32 = 96 * 1024 * 1024;
/// The default time within which a handshake or a short frame must be transferred.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// The period of the heartbeats of a server that works on an answer. It is shorter than [`TIMEOUT`], so that a client
/// can distinguish a long answer from a broken connection.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(3);
