//! [`ConfigError`]: why the configuration of `serve` is refused.

use std::path::PathBuf;

use es_core::model::ParseTransactionIdError;
use es_http::operations::ParseAddressError;
use es_http::transactions::ParticipantRouterError;
use es_http::{InstallLogsError, InstallMetricsError, InstallSpansError, TlsError, TokensError};

use super::MAX_DEADLINE;

/// The configuration is invalid. Correct it and start again.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("could not read the configuration in {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// The file is not TOML, or has an unknown key or an invalid value.
    #[error("invalid configuration in {}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        source: Box<toml::de::Error>,
    },
    /// The settings could not be merged.
    #[error("could not merge the settings of the flags, the environment and the file")]
    Merge {
        /// The failure.
        source: serde_json::Error,
    },
    /// TLS needs a certificate and its key.
    #[error("expected tls-cert and tls-key together; tls-client-ca needs both")]
    IncompleteTls,
    /// A deadline is too long.
    #[error("{key}: expected at most {MAX_DEADLINE} seconds, found {found}")]
    Deadline {
        /// The key of the setting.
        key: &'static str,
        /// The value.
        found: u64,
    },
    /// The tenant header is no name of a header.
    #[error("tenant-header: expected the name of a header, found {found:?}")]
    TenantHeader {
        /// The name.
        found: String,
    },
    /// A coordinator has no client.
    #[error("coordinators: expected NAME=CLIENT, found {found:?}")]
    Coordinator {
        /// The value.
        found: String,
    },
    /// The name of a coordinator is invalid.
    #[error("coordinators")]
    CoordinatorName(#[from] ParseTransactionIdError),
    /// Coordinators are clients, which have tokens.
    #[error("coordinators need tokens, because each is a client of the service; give --tokens FILE")]
    CoordinatorsWithoutTokens,
    /// The routes for coordinators cannot be served.
    #[error(transparent)]
    Participant(#[from] ParticipantRouterError),
    /// A file has no certificate or key in PEM.
    #[error("expected {expected} in PEM in {}, found none", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the file should have.
        expected: &'static str,
    },
    /// The address of the operations is invalid.
    #[error("invalid address of the operations")]
    Operations {
        /// The expected form.
        source: ParseAddressError,
    },
    /// The clients could not be loaded.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The certificates could not be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log could not be installed.
    #[error(transparent)]
    Logs(#[from] InstallLogsError),
    /// The log, or the export of spans, could not be installed.
    #[error(transparent)]
    Spans(#[from] InstallSpansError),
    /// The metrics could not be installed.
    #[error(transparent)]
    Metrics(#[from] InstallMetricsError),
}
