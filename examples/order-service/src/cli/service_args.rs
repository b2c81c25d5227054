//! The arguments of commands that can be sent to a running service.

use std::path::PathBuf;

use clap::Args;

/// The service to send a command to.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// URL of the operations of a running service: see `serve --operations`
    #[arg(long, value_name = "URL", env = "ORDER_SERVICE_URL")]
    pub(super) url: Option<String>,
    /// File of the token of the client; or set ORDER_SERVICE_TOKEN to the token
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_TOKEN_FILE", requires = "url")]
    pub(super) token_file: Option<PathBuf>,
    /// File of the authorities in PEM that the service may have a certificate of [default: those of browsers]
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_CA", requires = "url")]
    pub(super) ca: Option<PathBuf>,
    /// File of the certificate of the client in PEM
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_CERT", requires = "url", requires = "key")]
    pub(super) cert: Option<PathBuf>,
    /// File of the private key of the client in PEM
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_KEY", requires = "url", requires = "cert")]
    pub(super) key: Option<PathBuf>,
}
