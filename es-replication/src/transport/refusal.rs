//! Why a server refused a connection, as it is counted and logged.

use std::net::SocketAddr;

use es_core::model::ErrorChain;

use crate::transport::connection::ConnectionError;
use crate::wire::DecodeError;

/// Counts connections that were refused, by reason.
const REFUSED: &str = "es_replication_refused_total";

/// The server has the maximum number of connections.
pub(super) const CONNECTIONS: &str = "connections";
/// The TLS handshake failed.
pub(super) const HANDSHAKE: &str = "handshake";
/// A handshake or a frame was not transferred in time.
pub(super) const TIMEOUT: &str = "timeout";

/// Returns the reason for which an error refuses a connection, or `None` if the connection only ended.
pub(super) const fn reason(error: &ConnectionError) -> Option<&'static str> {
    match error {
        ConnectionError::Closed | ConnectionError::Io(_) | ConnectionError::Encode(_) => None,
        ConnectionError::Truncated | ConnectionError::Decode(DecodeError::Truncated { .. }) => Some("truncated"),
        ConnectionError::Timeout => Some(TIMEOUT),
        ConnectionError::Decode(DecodeError::Version { .. }) => Some("version"),
        ConnectionError::Decode(DecodeError::TooLong { .. }) => Some("too_long"),
        ConnectionError::Decode(_) => Some("invalid"),
        ConnectionError::Unexpected { .. } => Some("unexpected"),
        ConnectionError::UnknownPeer { .. } => Some("unknown_peer"),
        ConnectionError::OtherNode { .. } => Some("other_node"),
    }
}

/// Counts and logs a refused connection.
pub(super) fn record(reason: &'static str, address: SocketAddr, error: &(dyn std::error::Error + 'static)) {
    metrics::counter!(REFUSED, "reason" => reason).increment(1);
    tracing::warn!(reason, %address, error = %ErrorChain(error), "refused a connection");
}
