//! Participants of distributed transactions in other services: the routes of a participant, and the client with which
//! a coordinator calls it.
//!
//! # Example
//!
//! The service of the participant lets the client `shop` of its [`Tokens`](crate::Tokens) act for the coordinator
//! `orders`. The service of the coordinator uses [`HttpParticipant`] as any other [`Participant`].
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use es_core::model::{CoordinatorEpoch, TransactionId};
//! # use es_transaction::{Finished, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Vote};
//! # #[derive(Default)]
//! # struct Seats(Mutex<u32>);
//! # impl Participant for Seats {
//! #     type Request = u32;
//! #     type Prepared = u32;
//! #     fn name(&self) -> &str {
//! #         "seats"
//! #     }
//! #     async fn prepare(&self, _: &Prepare, request: &u32) -> Result<Vote<u32>, ParticipantError> {
//! #         Ok(Vote::Prepared(*request))
//! #     }
//! #     async fn commit(&self, _: &TransactionId, prepared: &u32) -> Result<Finished, ParticipantError> {
//! #         *self.0.lock().unwrap() += prepared;
//! #         Ok(Finished::Done)
//! #     }
//! #     async fn abort(&self, _: &TransactionId, _: Option<&u32>) -> Result<Finished, ParticipantError> {
//! #         Ok(Finished::Done)
//! #     }
//! #     async fn status(&self, _: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
//! #         let state = ParticipantState::Unknown;
//! #         Ok(ParticipantStatus { state, is_heuristic: false, has_restarted: false, prepared_at: None })
//! #     }
//! #     async fn in_doubt(&self, _: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
//! #         Ok(Vec::new())
//! #     }
//! # }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let seats = Arc::new(Seats::default());
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}/transactions", listener.local_addr()?);
//! # let transaction: TransactionId = "orders.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11".parse()?;
//! use axum::Router;
//! use es_http::transactions::{HttpParticipant, HttpParticipantOptions, ParticipantRouter};
//! use es_http::{ServeOptions, Tokens};
//!
//! // The service of the participant. A line has the hash of the token "test".
//! let tokens: Tokens =
//!     "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 write shop".parse()?;
//! let routes = ParticipantRouter::new(seats).tokens(tokens).coordinator("orders", "shop").build()?;
//! let router = Router::new().nest("/transactions", routes);
//! let served = tokio::spawn(es_http::serve(listener, router, ServeOptions::new(), std::future::pending()));
//!
//! // The service of the coordinator.
//! let options = HttpParticipantOptions::new().token("test");
//! let seats: HttpParticipant<u32, u32> = HttpParticipant::new("seats", &url, options)?;
//! assert_eq!(seats.commit(&transaction, &2).await?, Finished::Done);
//! # served.abort();
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Routes
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /prepare` | `prepare`: [`Prepare`], `request` | [`Vote`] |
//! | `POST /pre-commit` | `transaction`, `prepared` | [`Finished`] |
//! | `POST /commit` | `transaction`, `prepared` | [`Finished`] |
//! | `POST /abort` | `transaction`, and `prepared` if the vote was received | [`Finished`] |
//! | `POST /forget` | `transaction` | 204 |
//! | `GET /status/{transaction}` | | [`ParticipantStatus`] |
//! | `POST /in-doubt` | `epoch` | `transactions`: a list of ids; refuses earlier epochs from then on |
//!
//! The OpenAPI document is `openapi/participant.json`. Bodies are JSON of at most [`MAX_BODY_BYTES`], votes of at most
//! [`MAX_VOTE_BYTES`]. Each `POST` has the header `Idempotency-Key` with the transaction (or the epoch) and the
//! operation, such as `"orders.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11:commit"`. Every call may be repeated, because the
//! calls of a [`Participant`] are idempotent; the key is for proxies and logs.
//!
//! # Errors
//!
//! | [`ParticipantError`] | status | [`type`](crate::problem::kind) |
//! |---|---|---|
//! | `Unavailable` | 503 | `unavailable` |
//! | `Fenced` | 409 | `transaction-fenced`, with the members `known` and `found` |
//! | `Refused` | 403 | `transaction-refused`; the client maps every other problem with a 4xx status to it, too |
//! | `Unreadable` | 500 | `transaction-unreadable` |
//! | `Unsupported` | 501 | `transaction-unsupported` |
//!
//! Every other answer is `Unavailable` at the client: nothing is concluded from it, and the coordinator repeats the
//! call.
//!
//! # Security
//!
//! A call can commit, abort and fence, so that each client proves its identity by a bearer token or a certificate, and
//! acts only for the coordinators that [`ParticipantRouter::coordinator`] binds to it. Use TLS between machines:
//! [`Tls::load_mutual`](crate::Tls::load_mutual) at the participant, and
//! [`authorities`](HttpParticipantOptions::authorities) and
//! [`client_certificate`](HttpParticipantOptions::client_certificate) at the coordinator.
//!
//! # Metrics
//!
//! With the feature `metrics`, both sides count calls by `operation` and `outcome`: `answered`, `unavailable`,
//! `unreadable`, `fenced`, `refused`, `unsupported`, and at the participant `forbidden`: a client called for a
//! coordinator that is not bound to it.
//!
//! [`Participant`]: es_transaction::Participant
//! [`ParticipantError`]: es_transaction::ParticipantError
//! [`ParticipantStatus`]: es_transaction::ParticipantStatus
//! [`Prepare`]: es_transaction::Prepare
//! [`Vote`]: es_transaction::Vote
//! [`Finished`]: es_transaction::Finished

mod client;
mod metrics;
mod refusal;
mod router;
mod wire;

pub use client::{HttpParticipant, HttpParticipantError, HttpParticipantOptions};
#[cfg(feature = "metrics")]
pub use metrics::{PARTICIPANT_CALLS, REMOTE_CALLS};
pub use router::{ParticipantRouter, ParticipantRouterError};
pub use wire::{MAX_BODY_BYTES, MAX_VOTE_BYTES};
