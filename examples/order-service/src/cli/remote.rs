//! [`Remote`]: an HTTP client of a running service.

use std::path::Path;
use std::time::Duration;

use es_core::model::TransactionId;
use es_http::operations::{ParkedKeyReport, ProjectionAction, ProjectionReport};
use es_saga::SagaId;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Response, header};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, RequestBuilder};

use super::service_args::ServiceArgs;
use crate::config::ConfigError;
use crate::failure::Failure;
use crate::fulfilment::StockAndMoney;
use crate::processes::{ParkedEventAction, ProcessAction, ProcessReport, ProcessSummary, SetAsideEvent, SetAsideKind};
use crate::sagas::{SagaAction, SagaReport, SagaSummary};
use crate::transactions::{TransactionAction, TransactionSummary};

/// The variable with the token, if no file is given.
const TOKEN: &str = "ORDER_SERVICE_TOKEN";

/// An HTTP client of a running service.
#[derive(Clone)]
pub(super) struct Remote {
    url: String,
    agent: Agent,
    token: Option<String>,
}

impl Remote {
    /// Reads the files of the token and the certificates, and creates the client of a service.
    pub(super) fn new(url: &str, args: &ServiceArgs) -> Result<Self, Failure> {
        let token = match &args.token_file {
            Some(path) => Some(read(path)?.trim().to_owned()),
            None => std::env::var(TOKEN).ok(),
        };
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
        let config = config.tls_config(tls(args)?).build();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), agent: config.into(), token })
    }

    pub(super) async fn status(&self) -> Result<Vec<ProjectionReport>, Failure> {
        self.get("/projections".into()).await
    }

    pub(super) async fn parked(&self, name: &str) -> Result<Vec<ParkedKeyReport>, Failure> {
        self.get(format!("/projections/{name}/parked")).await
    }

    pub(super) async fn act(&self, name: &str, action: &ProjectionAction) -> Result<Vec<ProjectionReport>, Failure> {
        let (action, url) = (action.clone(), format!("{}/projections/{name}", self.url));
        let request = self.authorized(self.agent.post(url));
        self.send(move || request.send_json(&action)).await
    }

    pub(super) async fn sagas(&self, all: bool, limit: usize) -> Result<Vec<SagaSummary>, Failure> {
        self.get(format!("/sagas?all={all}&limit={limit}")).await
    }

    pub(super) async fn saga(&self, id: &SagaId) -> Result<SagaReport, Failure> {
        self.get(format!("/sagas/{}", path_segment(&id.to_string()))).await
    }

    pub(super) async fn stock_and_money(&self) -> Result<StockAndMoney, Failure> {
        self.get("/sagas/report".into()).await
    }

    pub(super) async fn act_on_saga(&self, id: &SagaId, action: SagaAction) -> Result<SagaSummary, Failure> {
        let url = format!("{}/sagas/{}", self.url, path_segment(&id.to_string()));
        let request = self.authorized(self.agent.post(url));
        self.send(move || request.send_json(&action)).await
    }

    pub(super) async fn processes(
        &self,
        process: Option<&str>,
        quarantined: bool,
        limit: usize,
    ) -> Result<Vec<ProcessSummary>, Failure> {
        let query = list_query(process, limit);
        self.get(format!("/processes?quarantined={quarantined}&{query}")).await
    }

    pub(super) async fn process(&self, id: &str) -> Result<ProcessReport, Failure> {
        self.get(format!("/processes/{}", path_segment(id))).await
    }

    pub(super) async fn set_aside_events(
        &self,
        kind: SetAsideKind,
        process: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SetAsideEvent>, Failure> {
        let list = match kind {
            SetAsideKind::Parked => "parked",
            SetAsideKind::Skipped => "skipped",
        };
        self.get(format!("/processes/{list}?{}", list_query(process, limit))).await
    }

    pub(super) async fn act_on_process(&self, id: &str, action: ProcessAction) -> Result<ProcessSummary, Failure> {
        let url = format!("{}/processes/{}", self.url, path_segment(id));
        let request = self.authorized(self.agent.post(url));
        self.send(move || request.send_json(&action)).await
    }

    pub(super) async fn act_on_parked_event(
        &self,
        process: &str,
        position: u64,
        action: ParkedEventAction,
    ) -> Result<SetAsideEvent, Failure> {
        let url = format!("{}/processes/parked/{}/{position}", self.url, path_segment(process));
        let request = self.authorized(self.agent.post(url));
        self.send(move || request.send_json(&action)).await
    }

    pub(super) async fn transactions(&self, limit: usize) -> Result<Vec<TransactionSummary>, Failure> {
        self.get(format!("/transactions?limit={limit}")).await
    }

    pub(super) async fn act_on_transaction(
        &self,
        id: &TransactionId,
        action: TransactionAction,
    ) -> Result<TransactionSummary, Failure> {
        let url = format!("{}/transactions/{}", self.url, path_segment(&id.to_string()));
        let request = self.authorized(self.agent.post(url));
        self.send(move || request.send_json(&action)).await
    }

    async fn get<T: DeserializeOwned + Send + 'static>(&self, path: String) -> Result<T, Failure> {
        let request = self.authorized(self.agent.get(format!("{}{path}", self.url)));
        self.send(move || request.call()).await
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request on a blocking thread and decodes the JSON response.
    async fn send<T: DeserializeOwned + Send + 'static>(
        &self,
        request: impl FnOnce() -> Result<Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let sent = tokio::task::spawn_blocking(move || {
            let mut response = request().map_err(|error| format!("did not respond: {error}"))?;
            let body = response.body_mut().read_to_string();
            let body = body.map_err(|error| format!("sent an incomplete response: {error}"))?;
            if !response.status().is_success() {
                let problem = serde_json::from_str::<Value>(&body).ok();
                let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str()).unwrap_or(&body);
                return Err(format!("rejected the request: {detail}"));
            }
            serde_json::from_str(&body).map_err(|error| format!("sent an unexpected response: {error}"))
        });
        let result = sent.await.unwrap_or_else(|error| Err(format!("could not be called: {error}")));
        result.map_err(|detail| Failure::Remote { url: self.url.clone(), detail })
    }
}

/// Returns the query of a list of one process or of all.
fn list_query(process: Option<&str>, limit: usize) -> String {
    let process = process.map(|process| format!("&process={}", path_segment(process)));
    format!("limit={limit}{}", process.unwrap_or_default())
}

/// Percent-encodes a segment of a path, or a value of a query.
fn path_segment(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Returns the authorities of services and the certificate of the client.
fn tls(args: &ServiceArgs) -> Result<TlsConfig, Failure> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &args.ca {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
    }
    if let (Some(certificate), Some(key)) = (&args.cert, &args.key) {
        let private_key = PrivateKey::from_pem(read(key)?.as_bytes()).map_err(|_| not_pem(key, "a private key"))?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&certificates(certificate)?, private_key)));
    }
    Ok(tls.build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let text = read(path)?;
    let items = parse_pem(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|_| not_pem(path, "certificates"))?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(not_pem(path, "certificates")) } else { Ok(certificates) }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::io("read", path, source))
}

fn not_pem(path: &Path, expected: &'static str) -> Failure {
    ConfigError::Pem { path: path.to_owned(), expected }.into()
}
