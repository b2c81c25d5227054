//! The configuration of `serve`, from flags, the environment, a file and defaults.
//!
//! A flag takes precedence over its environment variable, this over the file, and this over the default. The file is
//! the usual place; the keys of the file are the names of the flags.

mod error;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::{Args, ValueEnum};
use es_core::model::CoordinatorEpoch;
use es_http::operations::OperationsAddress;
use es_http::transactions::ParticipantRouter;
use es_http::{AllowedOrigins, ContextOptions, Edge, LogFormat, ServeOptions, SpanExport, Spans, Tls, Tokens};
use es_transaction::StoreParticipant;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use error::ConfigError;

/// The name of the service in exported spans.
const SERVICE_NAME: &str = "order-service";
/// The longest deadline, in seconds: a year.
const MAX_DEADLINE: u64 = 365 * 24 * 60 * 60;

/// The settings of one source. Absent settings are those of another source.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PartialSettings {
    /// Directory of the store. The command line has it as a global flag.
    #[arg(skip)]
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on; port 0 selects a free port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", env = "ORDER_SERVICE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Address of the operations, for `es --url`: unix:PATH or HOST:PORT [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS", env = "ORDER_SERVICE_OPERATIONS")]
    operations: Option<String>,
    /// File of the clients, their tokens and roles; without it, every client may do everything
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_TOKENS")]
    tokens: Option<PathBuf>,
    /// File of the certificate in PEM with its chain; encrypts connections
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// File of the private key in PEM
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// File of the authorities in PEM of which each client must have a certificate
    #[arg(long, value_name = "FILE", env = "ORDER_SERVICE_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
    /// Names, besides loopback names, that the header Host of a request may have, separated by commas; by default any
    /// name, and none if the service has no tokens and listens on a loopback address
    #[arg(long, value_name = "NAME", env = "ORDER_SERVICE_ALLOW_HOST", value_delimiter = ',')]
    allow_host: Option<Vec<String>>,
    /// Other origins whose pages may send commands, separated by commas; a proxy must answer the CORS preflights
    #[arg(long, value_name = "ORIGIN", env = "ORDER_SERVICE_ALLOW_ORIGIN", value_delimiter = ',')]
    allow_origin: Option<Vec<String>>,
    /// Coordinators of transactions and the client of each, such as market=market-service; needs --tokens
    #[arg(long, value_name = "NAME=CLIENT", env = "ORDER_SERVICE_COORDINATORS", value_delimiter = ',')]
    coordinators: Option<Vec<String>>,
    /// Header that has the tenant of a request, set by a trusted proxy
    #[arg(long, value_name = "NAME", env = "ORDER_SERVICE_TENANT_HEADER")]
    tenant_header: Option<String>,
    /// Maximum number of connections [default: 4096]
    #[arg(long, value_name = "NUMBER", env = "ORDER_SERVICE_MAX_CONNECTIONS")]
    max_connections: Option<usize>,
    /// Maximum length of a body in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", env = "ORDER_SERVICE_MAX_BODY")]
    max_body: Option<usize>,
    /// Maximum memory of all bodies in bytes [default: 33554432]
    #[arg(long, value_name = "BYTES", env = "ORDER_SERVICE_MAX_BODIES")]
    max_bodies: Option<usize>,
    /// Time in which the head of a request must arrive, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS", env = "ORDER_SERVICE_HEADER_DEADLINE")]
    header_deadline: Option<u64>,
    /// Time in which the body of a request must arrive, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", env = "ORDER_SERVICE_BODY_DEADLINE")]
    body_deadline: Option<u64>,
    /// Time after which an idle connection is closed, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", env = "ORDER_SERVICE_IDLE_DEADLINE")]
    idle_deadline: Option<u64>,
    /// Time in which requests are answered after a signal to stop, in seconds [default: 20]
    #[arg(long, value_name = "SECONDS", env = "ORDER_SERVICE_DRAIN_DEADLINE")]
    drain_deadline: Option<u64>,
    /// Free bytes of the disk below which `/readyz` fails [default: 1073741824]
    #[arg(long, value_name = "BYTES", env = "ORDER_SERVICE_MIN_FREE")]
    min_free: Option<u64>,
    /// URL of the provider of payments and shipments, with which the service fulfils orders
    #[arg(long, value_name = "URL", env = "ORDER_SERVICE_PROVIDER")]
    provider: Option<String>,
    /// Time in which customers must pay, in seconds; after half of it, they are reminded [default: 900]
    #[arg(long, value_name = "SECONDS", env = "ORDER_SERVICE_PAYMENT_DEADLINE")]
    payment_deadline: Option<u64>,
    /// Form of the log on standard error [default: text]
    #[arg(long, value_name = "FORM", env = "ORDER_SERVICE_LOG_FORMAT")]
    log_format: Option<LogLines>,
    /// Filter of the log, such as info,es_core=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "ORDER_SERVICE_LOG")]
    log: Option<String>,
    /// URL of an OpenTelemetry collector for spans, such as http://127.0.0.1:4318/v1/traces (OTLP as JSON)
    #[arg(long, value_name = "URL", env = "ORDER_SERVICE_SPANS")]
    spans: Option<String>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LogLines {
    /// Text for people
    Text,
    /// One JSON object for each line
    Json,
}

impl PartialSettings {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    fn defaults() -> Self {
        Self {
            listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)),
            operations: Some("127.0.0.1:8081".to_owned()),
            allow_host: Some(Vec::new()),
            allow_origin: Some(Vec::new()),
            coordinators: Some(Vec::new()),
            max_connections: Some(4096),
            max_body: Some(1024 * 1024),
            max_bodies: Some(32 * 1024 * 1024),
            header_deadline: Some(10),
            body_deadline: Some(60),
            idle_deadline: Some(60),
            drain_deadline: Some(20),
            min_free: Some(1024 * 1024 * 1024),
            payment_deadline: Some(900),
            log_format: Some(LogLines::Text),
            log: Some("info".to_owned()),
            ..Self::default()
        }
    }

    /// Returns the settings that are present, by key.
    fn present(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut map = match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            Ok(_) => Map::new(),
            Err(source) => return Err(ConfigError::Merge { source }),
        };
        map.retain(|_, value| !value.is_null());
        Ok(map)
    }
}

/// The origin of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettingOrigin {
    Flag,
    Environment,
    File,
    Default,
}

impl SettingOrigin {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// The effective configuration of `serve`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Directory of the store.
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on.
    pub(crate) listen: SocketAddr,
    operations: String,
    tokens: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    allow_host: Vec<String>,
    allow_origin: Vec<String>,
    coordinators: Vec<String>,
    tenant_header: Option<String>,
    max_connections: usize,
    max_body: usize,
    max_bodies: usize,
    header_deadline: u64,
    body_deadline: u64,
    idle_deadline: u64,
    drain_deadline: u64,
    /// Free bytes of the disk below which the service is not ready.
    pub(crate) min_free: u64,
    /// URL of the provider of payments and shipments.
    pub(crate) provider: Option<String>,
    payment_deadline: u64,
    log_format: LogLines,
    log: String,
    spans: Option<String>,
}

/// The settings of all sources, each with its origin.
#[derive(Debug)]
pub(crate) struct MergedSettings(Vec<(String, Value, SettingOrigin)>);

impl MergedSettings {
    /// Merges the settings of the command line with those of a file and the defaults. `origin_of` returns the origin of
    /// a setting of the command line.
    pub(crate) fn new(
        command_line: &PartialSettings,
        origin_of: impl Fn(&str) -> SettingOrigin,
        file: Option<&PartialSettings>,
    ) -> Result<Self, ConfigError> {
        let command_line = command_line.present()?;
        let file = file.map(PartialSettings::present).transpose()?.unwrap_or_default();
        let mut merged = PartialSettings::defaults().present()?;
        merged.extend(file.clone());
        merged.extend(command_line.clone());
        let origin = |key: &str| {
            if command_line.contains_key(key) {
                origin_of(key)
            } else if file.contains_key(key) {
                SettingOrigin::File
            } else {
                SettingOrigin::Default
            }
        };
        let with_origin = |(key, value): (String, Value)| {
            let origin = origin(&key);
            (key, value, origin)
        };
        Ok(Self(merged.into_iter().map(with_origin).collect()))
    }

    /// Returns the settings.
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let map: Map<String, Value> = self.0.iter().map(|(key, value, _)| (key.clone(), value.clone())).collect();
        let settings: Settings =
            serde_json::from_value(Value::Object(map)).map_err(|source| ConfigError::Merge { source })?;
        settings.check_deadlines()?;
        Ok(settings)
    }

    /// Returns the settings as a file, with their origins as comments.
    pub(crate) fn to_toml(&self) -> String {
        let lines = self.0.iter().map(|(key, value, origin)| format!("{key} = {value} # {}\n", origin.as_str()));
        lines.collect()
    }

    /// Returns the settings and their origins.
    pub(crate) fn to_json(&self) -> Value {
        let entry = |(key, value, origin): &(String, Value, SettingOrigin)| {
            (key.clone(), serde_json::json!({ "value": value, "origin": origin.as_str() }))
        };
        Value::Object(self.0.iter().map(entry).collect())
    }
}

impl Settings {
    /// Checks that the ends of the deadlines of the server are in the range of the clock.
    fn check_deadlines(&self) -> Result<(), ConfigError> {
        for (key, found) in [
            ("header-deadline", self.header_deadline),
            ("body-deadline", self.body_deadline),
            ("idle-deadline", self.idle_deadline),
            ("drain-deadline", self.drain_deadline),
        ] {
            if found > MAX_DEADLINE {
                return Err(ConfigError::Deadline { key, found });
            }
        }
        Ok(())
    }

    /// Loads the files of clients and certificates, and returns the options of the server.
    pub(crate) fn serve_options(&self) -> Result<ServeOptions, ConfigError> {
        let options = self.limits();
        Ok(match self.tls()? {
            Some(tls) => options.tls(tls),
            None => options,
        })
    }

    /// Returns the options of a server without TLS.
    pub(crate) fn limits(&self) -> ServeOptions {
        ServeOptions::new()
            .max_connections(self.max_connections)
            .max_body_bytes(self.max_body)
            .max_body_bytes_in_flight(self.max_bodies)
            .header_deadline(Duration::from_secs(self.header_deadline))
            .body_deadline(Duration::from_secs(self.body_deadline))
            .idle_deadline(Duration::from_secs(self.idle_deadline))
            .drain_deadline(self.drain_deadline())
    }

    /// Returns the time in which requests are answered after a signal to stop.
    pub(crate) const fn drain_deadline(&self) -> Duration {
        Duration::from_secs(self.drain_deadline)
    }

    /// Returns the time in which customers must pay.
    pub(crate) const fn payment_deadline(&self) -> Duration {
        Duration::from_secs(self.payment_deadline)
    }

    fn tls(&self) -> Result<Option<Tls>, ConfigError> {
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) if self.tls_client_ca.is_none() => return Ok(None),
            _ => return Err(ConfigError::IncompleteTls),
        };
        let tls = match &self.tls_client_ca {
            Some(authorities) => Tls::load_mutual(certificate, key, authorities),
            None => Tls::load(certificate, key),
        };
        Ok(Some(tls?))
    }

    /// Returns the scheme of the URLs of the service.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }

    /// Loads the clients.
    pub(crate) fn tokens(&self) -> Result<Option<Tokens>, ConfigError> {
        Ok(self.tokens.as_ref().map(Tokens::load).transpose()?)
    }

    /// Returns the address of the operations.
    pub(crate) fn operations(&self) -> Result<OperationsAddress, ConfigError> {
        self.operations.parse().map_err(|source| ConfigError::Operations { source })
    }

    /// Returns the checks and the context of requests.
    pub(crate) fn edge(&self, tokens: Option<Tokens>) -> Result<Edge, ConfigError> {
        let origins = AllowedOrigins::new(self.allow_origin.iter().cloned());
        let edge = Edge::new().origins(origins).context(self.context()?);
        let edge = if self.checks_hosts() { edge.hosts(self.allow_host.iter().cloned()) } else { edge };
        Ok(match tokens {
            Some(tokens) => edge.tokens(tokens),
            None => edge,
        })
    }

    /// Returns the coordinators of transactions, each with its client.
    pub(crate) fn coordinators(&self) -> Result<Vec<(String, String)>, ConfigError> {
        if !self.coordinators.is_empty() && self.tokens.is_none() {
            return Err(ConfigError::CoordinatorsWithoutTokens);
        }
        let pair = |text: &String| {
            let pair = text.split_once('=').filter(|(_, client)| !client.is_empty());
            let (coordinator, client) = pair.ok_or_else(|| ConfigError::Coordinator { found: text.clone() })?;
            CoordinatorEpoch::new(coordinator, 0)?;
            Ok((coordinator.to_owned(), client.to_owned()))
        };
        self.coordinators.iter().map(pair).collect()
    }

    /// Returns the routes of the participant in transactions, or `None` without coordinators.
    pub(crate) fn participant_routes(
        coordinators: Vec<(String, String)>,
        participant: StoreParticipant,
        tokens: Option<Tokens>,
    ) -> Result<Option<Router>, ConfigError> {
        let Some(tokens) = tokens.filter(|_| !coordinators.is_empty()) else { return Ok(None) };
        let router = ParticipantRouter::new(Arc::new(participant)).tokens(tokens);
        let router = coordinators.into_iter().fold(router, |router, (name, client)| router.coordinator(name, client));
        Ok(Some(router.build()?))
    }

    /// Returns the source of the tenant.
    fn context(&self) -> Result<ContextOptions, ConfigError> {
        let Some(name) = &self.tenant_header else { return Ok(ContextOptions::new()) };
        let header = name.parse().map_err(|_| ConfigError::TenantHeader { found: name.clone() })?;
        Ok(ContextOptions::new().tenant_header(header))
    }

    /// Installs the log of the process, and the export of spans if there is a collector.
    pub(crate) fn install_logs(&self) -> Result<Option<Spans>, ConfigError> {
        let format = match self.log_format {
            LogLines::Text => LogFormat::Text,
            LogLines::Json => LogFormat::Json,
        };
        let Some(endpoint) = &self.spans else {
            es_http::install_logs(format, &self.log)?;
            return Ok(None);
        };
        let export = SpanExport::new(endpoint, SERVICE_NAME);
        Ok(Some(es_http::install_logs_and_spans(format, &self.log, &export)?))
    }

    /// Returns whether the `Host` of requests is checked. A page of another site can reach a loopback address, and
    /// needs no token then.
    const fn checks_hosts(&self) -> bool {
        !self.allow_host.is_empty() || (self.listen.ip().is_loopback() && self.tokens.is_none())
    }

    /// Returns whether clients of other machines can send commands without authentication.
    pub(crate) const fn is_open_to_all(&self) -> bool {
        !self.listen.ip().is_loopback() && self.tokens.is_none() && self.tls_client_ca.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> PartialSettings {
        toml::from_str(text).expect("a valid file")
    }

    #[test]
    fn a_setting_comes_from_the_command_line_then_the_file_then_the_defaults() {
        let command_line = PartialSettings { max_body: Some(7), log: Some("debug".into()), ..Default::default() };
        let file = file("listen = '0.0.0.0:1'\nlog = 'warn'\ntokens = 't'");
        let origin_of = |key: &str| if key == "log" { SettingOrigin::Environment } else { SettingOrigin::Flag };
        let merged = MergedSettings::new(&command_line, origin_of, Some(&file)).expect("they merge");
        let text = merged.to_toml();
        for line in [
            "listen = \"0.0.0.0:1\" # file\n",
            "log = \"debug\" # environment\n",
            "max-body = 7 # flag\n",
            "max-connections = 4096 # default\n",
            "tokens = \"t\" # file\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        toml::from_str::<PartialSettings>(&text).expect("the printed configuration is a file");
        let settings = merged.settings().expect("complete");
        assert_eq!((settings.listen.port(), settings.log.as_str(), settings.max_body), (1, "debug", 7));
        assert_eq!(settings.drain_deadline(), Duration::from_secs(20));
    }

    #[test]
    fn the_defaults_are_complete_and_those_of_the_server() {
        let merged = MergedSettings::new(&PartialSettings::default(), |_| SettingOrigin::Flag, None).expect("merged");
        let settings = merged.settings().expect("complete");
        assert!(!settings.is_open_to_all());
        let (ours, theirs) = (settings.serve_options().expect("valid"), ServeOptions::new());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<PartialSettings>("lisen = '0.0.0.0:1'").expect_err("a typo").to_string();
        assert!(error.contains("unknown field `lisen`, expected one of `data`, `listen`"), "{error}");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        for text in ["tls-cert = 'a'", "tls-key = 'a'", "tls-client-ca = 'a'", "tls-cert = 'a'\ntls-client-ca = 'a'"] {
            let merged = MergedSettings::new(&file(text), |_| SettingOrigin::Flag, None).expect("merged");
            let refused = merged.settings().expect("complete").serve_options();
            assert!(matches!(refused, Err(ConfigError::IncompleteTls)), "{text}: {refused:?}");
        }
    }
}
