//! The HTTP interface of the provider.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use es_http::{IdempotencyKey, Json, Path, Problem, ServeOptions, serve};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::faults::{Fault, FaultPlan};
use super::record::{EffectKind, EffectRequest, ProviderRecord, RecordedEffect, Refusal};

/// The delay of a late answer, which is longer than a client waits.
const LATE: Duration = Duration::from_secs(2);

/// The state of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaymentStatus {
    /// There is no payment with the key.
    None,
    /// The customer has not paid yet.
    Open,
    /// The money was taken.
    Paid,
    /// The payment was refunded, or refused before it arrived.
    Refunded,
}

/// The body of a request, without its key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EffectBody {
    saga: String,
    #[serde(default)]
    of: Option<String>,
    #[serde(default)]
    cents: u64,
}

#[derive(Debug)]
struct Provider {
    record: Mutex<ProviderRecord>,
    faults: FaultPlan,
    /// The number of requests with each key.
    calls: Mutex<BTreeMap<String, u64>>,
}

impl Provider {
    fn record(&self) -> MutexGuard<'_, ProviderRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of earlier requests with a key.
    fn count(&self, key: &str) -> u64 {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.entry(key.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    /// Makes an effect, or fails as planned.
    async fn handle(&self, request: EffectRequest) -> Result<Response, Problem> {
        let fault = self.faults.fault(request.kind, &request.key, self.count(&request.key));
        let is_known = self.record().effect(&request.key).is_some();
        let problem = |status, detail: &str| Err(Problem::new(status, detail));
        match fault {
            Some(Fault::Busy) => return problem(StatusCode::SERVICE_UNAVAILABLE, "the provider is busy; try again"),
            // What has happened is not declined any more.
            Some(Fault::Decline) if !is_known => {
                return problem(StatusCode::UNPROCESSABLE_ENTITY, "the provider declined the request");
            }
            _ => {}
        }
        let mut effect = self.perform(&request)?;
        if fault == Some(Fault::Repeat) {
            effect = self.perform(&request)?;
        }
        match fault {
            Some(Fault::LostAnswer) => {
                return problem(StatusCode::GATEWAY_TIMEOUT, "the outcome of the request is unknown");
            }
            Some(Fault::LateAnswer) => tokio::time::sleep(LATE).await,
            _ => {}
        }
        let status = if effect.kind == EffectKind::Invoice { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok((status, Json(effect)).into_response())
    }

    fn perform(&self, request: &EffectRequest) -> Result<RecordedEffect, Problem> {
        match self.record().perform(request.clone()) {
            Ok(Ok(effect)) => Ok(effect),
            Ok(Err(refusal)) => {
                let status = match refusal {
                    Refusal::OtherRequest { .. } => StatusCode::UNPROCESSABLE_ENTITY,
                    Refusal::Undone { .. } => StatusCode::GONE,
                    Refusal::NoInvoice { .. } => StatusCode::NOT_FOUND,
                };
                Err(Problem::new(status, refusal.to_string()))
            }
            Err(error) => Err(Problem::internal(&error)),
        }
    }
}

type Shared = State<Arc<Provider>>;

async fn pay(provider: Shared, key: IdempotencyKey, Json(body): Json<EffectBody>) -> Result<Response, Problem> {
    let key = key.0.as_str();
    let kind = match provider.record().effect(key) {
        Some(known) => known.kind,
        None if provider.faults.pays_at_once(key) => EffectKind::Payment,
        None => EffectKind::Invoice,
    };
    provider.handle(request(kind, key, body)).await
}

fn request(kind: EffectKind, key: &str, body: EffectBody) -> EffectRequest {
    let EffectBody { saga, of, cents } = body;
    EffectRequest { kind, key: key.to_owned(), of, saga, cents }
}

/// Makes an effect of a kind.
async fn act(
    kind: EffectKind,
    provider: Shared,
    key: IdempotencyKey,
    Json(body): Json<EffectBody>,
) -> Result<Response, Problem> {
    provider.handle(request(kind, key.0.as_str(), body)).await
}

async fn payment(provider: Shared, Path(key): Path<String>) -> Json<PaymentStatus> {
    let record = provider.record();
    Json(match record.effect(&key) {
        _ if record.is_undone(&key) => PaymentStatus::Refunded,
        _ if record.is_paid(&key) => PaymentStatus::Paid,
        Some(_) => PaymentStatus::Open,
        None => PaymentStatus::None,
    })
}

/// The customer pays an invoice. The request has no faults: it does not come from a saga.
async fn customer_pays(provider: Shared, Path(key): Path<String>) -> Result<Json<RecordedEffect>, Problem> {
    let saga = provider.record().effect(&key).map(|invoice| invoice.saga.clone()).unwrap_or_default();
    let (kind, own_key) = (EffectKind::Payment, format!("customer-{key}"));
    provider.perform(&EffectRequest { kind, key: own_key, of: Some(key), saga, cents: 0 }).map(Json)
}

async fn effects(provider: Shared) -> Json<Vec<RecordedEffect>> {
    Json(provider.record().effects().to_vec())
}

fn router(provider: Arc<Provider>) -> Router {
    let of_kind = |kind: EffectKind| {
        post(move |provider: Shared, key: IdempotencyKey, body: Json<EffectBody>| act(kind, provider, key, body))
    };
    Router::new()
        .route("/payments", post(pay))
        .route("/payments/{key}", get(payment))
        .route("/payments/{key}/pay", post(customer_pays))
        .route("/refunds", of_kind(EffectKind::Refund))
        .route("/shipments", of_kind(EffectKind::Shipment))
        .route("/cancellations", of_kind(EffectKind::Cancellation))
        .route("/reminders", of_kind(EffectKind::Reminder))
        .route("/effects", get(effects))
        .with_state(provider)
}

/// Serves requests until `stop` completes.
pub async fn serve_provider(
    record: ProviderRecord,
    faults: FaultPlan,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send,
) {
    let provider = Provider { record: Mutex::new(record), faults, calls: Mutex::default() };
    let options = ServeOptions::new().drain_deadline(Duration::from_secs(1));
    // A client that is too slow for the drain repeats its request.
    let _ = serve(listener, router(Arc::new(provider)), options, stop).await;
}
