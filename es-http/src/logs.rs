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
/// are lost while standard error is closed. The lines of the [audit](crate::operations#audit) are written with every
/// filter that does not name their target, such as `warn`; `warn,audit=off` excludes them.
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
    let filter = EnvFilter::try_new(with_audit(filter)).map_err(invalid)?;
    let registry = tracing_subscriber::registry().with(filter).with(other);
    // A report of a failed write would go to standard error, too, and panic if it is closed.
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let installed = match format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer).try_init(),
    };
    installed.map_err(|source| InstallLogsError::Installed { source })
}

/// Adds the audit to a filter. A directive replaces an earlier one of the same target.
fn with_audit(filter: &str) -> String {
    // The default of an empty filter.
    let filter = if filter.trim().is_empty() { "error" } else { filter };
    format!("audit=info,{filter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with `log = "warn"` recorded no change of an operator.
    #[test]
    fn a_filter_excludes_the_audit_only_by_its_name() {
        for (filter, directives) in
            [("warn", ["audit=info", "warn"]), ("", ["audit=info", "error"]), ("warn,audit=off", ["audit=off", "warn"])]
        {
            let filter = EnvFilter::try_new(with_audit(filter)).unwrap().to_string();
            let mut found: Vec<&str> = filter.split(',').collect();
            found.sort_unstable();
            assert_eq!(found, directives);
        }
    }
}
