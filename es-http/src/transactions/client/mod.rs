//! [`HttpParticipant`]: a participant in another service.

mod answer;
mod base_url;
mod exchange;
mod options;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use es_core::model::{CoordinatorEpoch, TransactionId};
use es_transaction::{Finished, Participant, ParticipantError, ParticipantStatus, Prepare, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::metrics::{count_called, outcome};
use super::wire::{
    AbortBody, CommitBody, ForgetBody, InDoubtAnswer, InDoubtBody, MAX_BODY_BYTES, ParticipantCall, PrepareBody,
};
use crate::reloaded::Reloaded;
use answer::AttemptError;
use base_url::Encryption;
use exchange::{CallFailure, CallRequest, Post, Reply};
use options::Sender;
pub use options::{HttpParticipantError, HttpParticipantOptions};

/// The maximum number of attempts that run at the same time. Each uses a thread until it ends: without a limit, a
/// participant that does not answer could use all threads for blocking work of the process.
const MAX_ATTEMPTS_IN_FLIGHT: usize = 32;
/// The longest time of a call: a `Prepare` can have any number of milliseconds.
const MAX_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// The first and the longest pause between two attempts, before jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A participant in another service, which answers with a [`ParticipantRouter`](super::ParticipantRouter). The
/// [module](super) has an example.
///
/// `Request` and `Prepared` must have the same JSON as the types of the remote participant.
///
/// A call is repeated with growing pauses and jitter while there is no connection or the answer is 503, 429 or 408. It
/// ends with [`ParticipantError::Unavailable`] after [`HttpParticipantOptions::timeout`], a prepare after
/// [`Prepare::timeout`]. An answer that is not that of a participant, such as a redirect or the page of a proxy, is
/// `Unavailable` at once; the source of the error names the URL. Proxies in the variables of the environment are not
/// used.
pub struct HttpParticipant<Request, Prepared> {
    name: String,
    url: String,
    timeout: Duration,
    sender: Reloaded<Sender, HttpParticipantError>,
    attempts: Arc<Semaphore>,
    types: PhantomData<fn(Request) -> Prepared>,
}

impl<Request, Prepared> fmt::Debug for HttpParticipant<Request, Prepared> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpParticipant").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

impl<Request, Prepared> HttpParticipant<Request, Prepared> {
    /// Creates the client of a participant. `name` is the one that the coordinator knows it by. `url` is the base URL
    /// of its routes, such as `https://bank.example/transactions`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`HttpParticipantError`] if the URL is invalid, `http://` is used for another machine without
    /// [`allow_clear_text`](HttpParticipantOptions::allow_clear_text), `https://` is used without
    /// [`authorities`](HttpParticipantOptions::authorities), or a file cannot be read or used.
    pub fn new(
        name: impl Into<String>,
        url: &str,
        options: HttpParticipantOptions,
    ) -> Result<Self, HttpParticipantError> {
        let name = name.into();
        let (participant, found) = (name.clone(), base_url::without_user(url));
        let (url, encryption) = match base_url::parse(url) {
            Ok(parsed) => parsed,
            Err(expected) => return Err(HttpParticipantError::Url { participant, url: found, expected }),
        };
        match encryption {
            Encryption::Tls if !options.has_authorities() => {
                return Err(HttpParticipantError::NoAuthorities { participant, url: found });
            }
            Encryption::ClearText { is_loopback: false } if !options.allows_clear_text => {
                return Err(HttpParticipantError::ClearText { participant, url: found });
            }
            Encryption::Tls | Encryption::ClearText { .. } => {}
        }
        let timeout = options.timeout;
        let sender = Reloaded::load(options.files(), move || options.load())?;
        let attempts = Arc::new(Semaphore::new(MAX_ATTEMPTS_IN_FLIGHT));
        Ok(Self { name, url, timeout, sender, attempts, types: PhantomData })
    }

    fn unavailable(&self, failure: CallFailure) -> ParticipantError {
        ParticipantError::Unavailable { participant: self.name.clone(), source: Box::new(failure) }
    }

    /// Sends the body of a call to its route, and decodes the answer.
    async fn post<T: DeserializeOwned>(
        &self,
        call: ParticipantCall,
        (epoch, key): (&CoordinatorEpoch, impl fmt::Display + Send),
        body: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<T, ParticipantError> {
        let refused = |detail| ParticipantError::Refused { participant: self.name.clone(), detail };
        let (name, url) = (call.name(), format!("{}{}", self.url, call.route()));
        let body = serde_json::to_vec(body);
        let body = body.map_err(|error| refused(format!("the body of {name} cannot be encoded: {error}")))?;
        if body.len() > MAX_BODY_BYTES {
            let length = body.len();
            return Err(refused(format!(
                "POST {url}: expected a body of at most {MAX_BODY_BYTES} bytes, found {length}"
            )));
        }
        let post = Post { key: format!("{key}:{name}").into(), body: Bytes::from(body) };
        self.call(CallRequest { call, epoch: epoch.clone(), url: url.into(), limit, post: Some(post) }).await
    }

    /// Makes a call with its repetitions, and counts it.
    async fn call<T: DeserializeOwned>(&self, request: CallRequest) -> Result<T, ParticipantError> {
        let deadline = Instant::now() + request.limit.min(MAX_LIMIT);
        let answered = match timeout_at(deadline, self.attempts(&request, deadline)).await {
            Ok(answered) => answered,
            Err(_) => Err(self.unavailable(request.overdue())),
        };
        let decoded = answered.and_then(|json| {
            serde_json::from_slice(&json).map_err(|error| self.unavailable(answer::undecodable(&request, &error)))
        });
        count_called(&self.name, request.call, outcome(&decoded));
        decoded
    }

    /// Repeats attempts until one is answered, or the deadline is near. Returns the JSON of the answer.
    async fn attempts(&self, request: &CallRequest, deadline: Instant) -> Result<Vec<u8>, ParticipantError> {
        let pauses = ExponentialBuilder::default().with_min_delay(PAUSES.0).with_max_delay(PAUSES.1);
        let mut pauses = pauses.without_max_times().with_jitter().build();
        loop {
            let attempt = self.attempt(request, deadline).await.map_err(AttemptError::Unanswered);
            let failure = match attempt.and_then(|reply| answer::read(&self.name, request, reply)) {
                Ok(json) => return Ok(json),
                Err(AttemptError::Answered(error)) => return Err(error),
                Err(AttemptError::Unanswered(failure)) => failure,
            };
            let pause = pauses.next().filter(|pause| failure.is_transient() && Instant::now() + *pause < deadline);
            // The last failure is more useful than a timeout error.
            let Some(pause) = pause else { return Err(self.unavailable(failure)) };
            tracing::debug!(participant = self.name, %request, %failure, "repeats a call");
            sleep(pause).await;
        }
    }

    /// Sends a request on a thread for blocking work. The thread ends at the deadline, even if the caller has dropped
    /// the call.
    async fn attempt(&self, request: &CallRequest, deadline: Instant) -> Result<Reply, CallFailure> {
        let permit = Arc::clone(&self.attempts).acquire_owned().await.ok();
        let sender = self.sender.current().await;
        let sent = request.clone();
        let attempt = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let remaining = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            exchange::exchange(&sender, &sent, remaining)
        });
        attempt.await.unwrap_or_else(|source| Err(CallFailure::Task { request: request.to_string(), source }))
    }
}

impl<Request, Prepared> Participant for HttpParticipant<Request, Prepared>
where
    Request: Serialize + DeserializeOwned + Send + Sync + 'static,
    Prepared: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    type Request = Request;
    type Prepared = Prepared;

    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self, prepare: &Prepare, request: &Request) -> Result<Vote<Prepared>, ParticipantError> {
        let (of, limit) = ((prepare.transaction.epoch(), &prepare.transaction), prepare.timeout());
        self.post(ParticipantCall::Prepare, of, &PrepareBody { prepare, request }, limit).await
    }

    async fn pre_commit(&self, transaction: &TransactionId, prepared: &Prepared) -> Result<Finished, ParticipantError> {
        let body = CommitBody { transaction, prepared };
        self.post(ParticipantCall::PreCommit, (transaction.epoch(), transaction), &body, self.timeout).await
    }

    async fn commit(&self, transaction: &TransactionId, prepared: &Prepared) -> Result<Finished, ParticipantError> {
        let body = CommitBody { transaction, prepared };
        self.post(ParticipantCall::Commit, (transaction.epoch(), transaction), &body, self.timeout).await
    }

    async fn abort(
        &self,
        transaction: &TransactionId,
        prepared: Option<&Prepared>,
    ) -> Result<Finished, ParticipantError> {
        let body = AbortBody { transaction, prepared };
        self.post(ParticipantCall::Abort, (transaction.epoch(), transaction), &body, self.timeout).await
    }

    async fn status(&self, transaction: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        let call = ParticipantCall::Status;
        let url = format!("{}{}", self.url, call.route().replace("{transaction}", &transaction.to_string()));
        let (epoch, limit) = (transaction.epoch().clone(), self.timeout);
        self.call(CallRequest { call, epoch, url: url.into(), limit, post: None }).await
    }

    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        let body = InDoubtBody { epoch };
        let answer = self.post(ParticipantCall::InDoubt, (epoch, epoch), &body, self.timeout);
        let InDoubtAnswer { transactions } = answer.await?;
        Ok(transactions)
    }

    async fn forget(&self, transaction: &TransactionId) -> Result<(), ParticipantError> {
        let of = (transaction.epoch(), transaction);
        self.post(ParticipantCall::Forget, of, &ForgetBody { transaction }, self.timeout).await
    }
}
