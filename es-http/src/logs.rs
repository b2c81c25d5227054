//! [`install_logs`]: structured logs on standard error.

use tracing_subscriber::layer::{Identity, Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object on each line, for programs.
    Json,
    /// Text, for people.
    Text,
}

/// Logs could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallLogsError {
    /// The filter is invalid.
    #[error("expected a filter of logs such as info,es_core=debug, found {filter:?}")]
    Filter {
        /// The filter.
        filter: String,
        /// The failure.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process already has a subscriber of `tracing`. Install it once, at the start.
    #[error("could not install the subscriber of logs; install it once, at the start of the process")]
    Installed {
        /// The failure.
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Writes the events of `tracing` to standard error, as the filter selects them: `info`, or `info,es_core=debug`. Lines
/// are lost while standard error is closed.
///
/// # Errors
/// [`InstallLogsError`] if the filter is invalid or the process already has a subscriber.
pub fn install_logs(format: LogFormat, filter: &str) -> Result<(), InstallLogsError> {
    install(format, filter, Identity::new())
}

/// Installs logs and another layer, which receives what the filter selects.
pub(crate) fn install<L>(format: LogFormat, filter: &str, other: L) -> Result<(), InstallLogsError>
where
    L: Layer<Layered<EnvFilter, Registry>> + Send + Sync + 'static,
{
    let invalid = |source| InstallLogsError::Filter { filter: filter.to_owned(), source };
    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter).map_err(invalid)?).with(other);
    // A report of a failed write would go to standard error, too, and panic if it is closed.
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let installed = match format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer).try_init(),
    };
    installed.map_err(|source| InstallLogsError::Installed { source })
}
