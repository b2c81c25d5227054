//! The HTTP edge of a service: a server with deadlines and limits, and helpers for [axum] that map HTTP to es-core.
//!
//! # Example
//!
//! The router is yours: plain axum. These lines make it the edge of a service.
//!
//! ```
//! # use std::sync::Arc;
//! # use es_core::{EventStore, Service, store::memory::MemoryStore};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let orders = axum::Router::new();
//! # let mut service = Service::new(store.clone()).start().await?;
//! use es_http::{Edge, Health, ServeOptions, serve};
//!
//! let router = orders.layer(Edge::new()).merge(Health::new().store(store).router());
//! service.intake("http", |stop| async move {
//!     serve(listener, router, ServeOptions::new(), stop.requested()).await.complete()
//! });
//! # service.run_until(async {}).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! **The server** closes connections that are idle, send a head or a body too slowly, or read too slowly; bounds
//! connections, bodies and their memory; and drains with a deadline. See [`serve`], [`ServeOptions`], [`Draining`] and
//! [`PeerAddress`].
//!
//! **Errors** are problem details (RFC 9457), also those of the router and of the extractors of axum. Errors of es-core
//! become a [`Problem`] with `?`. The cause of a 500 is logged and not sent. See [`problem::kind`].
//!
//! **Bodies** that are not declared as JSON are refused, never ignored. See [`Json`], [`Path`], [`Query`] and
//! [`NoInput`].
//!
//! **Conditional requests** (RFC 9110): the version of an aggregate is its `ETag`; `If-Match` and `If-None-Match`
//! become the expected version of a command. See [`Preconditions`] and [`EntityTag`].
//!
//! **Commands that are sent twice** are executed once. See [`IdempotencyKey`].
//!
//! **Reading one's own writes**: the response to a command has its position, and a later read waits for it. See
//! [`EsPosition`].
//!
//! **Context**: the correlation id, the W3C trace and the tenant of a request become those of its events. See
//! [`RequestContext`].
//!
//! **Protection**: pages of other origins cannot send commands ([`AllowedOrigins`]); clients have tokens or
//! certificates ([`Tokens`]) and roles ([`Role`]), which can be revoked ([`Revocation`]). See [`Edge`].
//!
//! **Operations**: a listener and routes for operators, which `es --url` uses. See [`operations`].
//!
//! **Transactions**: a participant of a distributed transaction can be in another service. See the module
//! `transactions`.
//!
//! **Probes**: `/livez` reports that the process answers, `/readyz` that it accepts requests. See [`Health`].
//!
//! # Features
//!
//! | feature | items |
//! |---|---|
//! | `logs` | `install_logs`: structured logs |
//! | `metrics` | `Metrics`: `/metrics` in the text format of Prometheus, metrics of requests |
//! | `otel` | `install_logs_and_spans`: spans for OpenTelemetry, one for each request |
//! | `signal` | `serve_until_signal`, for a program without a `Service` |
//! | `tls` | `Tls`: TLS and client certificates, from files that are read again when they change |
//! | `transactions` | `transactions`: participants of distributed transactions in other services; includes `tls` |

mod auth;
mod client;
mod conditional;
mod context;
mod correlation_header;
mod edge;
mod edge_headers;
mod entity_tag;
mod extract;
mod header_value;
mod health;
mod host;
mod idempotency;
mod log_position;
#[cfg(feature = "logs")]
mod logs;
#[cfg(feature = "metrics")]
mod metrics;
pub mod operations;
mod origin;
pub mod problem;
mod reloaded;
mod scope;
mod server;
#[cfg(feature = "otel")]
mod spans;
mod tenant;
#[cfg(feature = "tls")]
mod tls;
mod trace_parent;
#[cfg(feature = "transactions")]
pub mod transactions;

pub use auth::{Revocation, Tokens, TokensError, require_role};
pub use client::{Authenticated, ClientCertificate, Role};
pub use conditional::{Preconditions, WriteCondition};
pub use context::{ContextOptions, RequestContext, TENANT_KEY, TRACEPARENT_KEY};
pub use edge::{Edge, EdgeFuture, EdgeService};
pub use entity_tag::EntityTag;
pub use extract::{Json, NoInput, NoParameters, Path, Query};
pub use health::Health;
pub use idempotency::IdempotencyKey;
pub use log_position::EsPosition;
#[cfg(feature = "logs")]
pub use logs::{InstallLogsError, LogFormat, install_logs};
#[cfg(feature = "metrics")]
pub use metrics::{DURATION, InstallMetricsError, Metrics, REQUESTS};
pub use origin::AllowedOrigins;
pub use problem::{Problem, uniform_problems};
#[cfg(feature = "signal")]
pub use server::serve_until_signal;
pub use server::{Drained, Draining, IncompleteDrain, Listener, PeerAddress, ServeOptions, UnixPeer, serve};
#[cfg(feature = "otel")]
pub use spans::{InstallSpansError, ShutdownSpansError, SpanExport, Spans, install_logs_and_spans};
pub use tenant::Tenant;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub use trace_parent::{ParseTraceParentError, TraceParent};
