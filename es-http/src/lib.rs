//! The HTTP edge of a service: a server with deadlines and limits, and helpers for [axum] that map HTTP to es-core.

mod auth;
mod conditional;
mod context;
mod entity_tag;
mod extract;
mod header_value;
mod health;
mod idempotency;
mod log_position;
#[cfg(feature = "logs")]
mod logs;
#[cfg(feature = "metrics")]
mod metrics;
mod origin;
pub mod problem;
mod reloaded;
mod server;

pub use auth::{
    Authenticated, ClientCertificate, Role, Tokens, TokensError, authenticate, require_role, require_role_of_method,
};
pub use conditional::{Preconditions, WriteCondition};
pub use context::{
    ContextOptions, ParseTraceParentError, RequestContext, TENANT_KEY, TRACEPARENT_KEY, Tenant, TraceParent,
    request_context,
};
pub use entity_tag::EntityTag;
pub use extract::{Json, Path, Query};
pub use health::Health;
pub use idempotency::IdempotencyKey;
pub use log_position::EsPosition;
#[cfg(feature = "logs")]
pub use logs::{InstallLogsError, LogFormat, install_logs};
#[cfg(feature = "metrics")]
pub use metrics::{DURATION, InstallMetricsError, Metrics, REQUESTS, request_metrics};
pub use origin::{AllowedOrigins, same_origin};
pub use problem::{Problem, uniform_problems};
#[cfg(feature = "signal")]
pub use server::serve_until_signal;
pub use server::{Drained, Draining, ServeOptions, serve};
