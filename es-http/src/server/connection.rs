//! [`ConnectionScope`]: what handlers and layers can find out about the connection of their request.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use es_core::model::CorrelationId;
use uuid::Uuid;

use super::draining::Draining;
use super::listener::PeerAddress;
use crate::Problem;
use crate::client::KnownClient;
use crate::problem::BodyRefused;

tokio::task_local! {
    /// The connection whose requests the present task answers. An extension of each request would allocate memory.
    static OF_CONNECTION: ConnectionScope;
}

/// A connection.
pub(crate) struct ConnectionScope {
    draining: Draining,
    address: PeerAddress,
    /// The client of the last request.
    client: RefCell<Option<KnownClient>>,
    /// The correlation id that was generated last.
    generated_id: Cell<Option<CorrelationId>>,
    /// The correlation id of the present request, if an edge has determined it.
    request_id: Cell<Option<CorrelationId>>,
    /// Why the body of the present request was refused.
    refused_body: Cell<Option<BodyRefused>>,
}

impl ConnectionScope {
    pub(super) fn new(draining: Draining, address: PeerAddress) -> Self {
        let (client, generated_id) = (RefCell::new(None), Cell::new(None));
        Self { draining, address, client, generated_id, request_id: Cell::new(None), refused_body: Cell::new(None) }
    }

    /// Runs the task of the connection.
    pub(super) async fn enter(self, connection: impl Future<Output = ()>) {
        OF_CONNECTION.scope(self, connection).await;
    }

    /// Returns the signal of the present connection; one that never comes under another server.
    pub(super) fn draining() -> Draining {
        OF_CONNECTION.try_with(|connection| connection.draining.clone()).unwrap_or_default()
    }

    /// Returns the address of the client of the present connection; `None` under another server.
    pub(crate) fn address() -> Option<PeerAddress> {
        OF_CONNECTION.try_with(|connection| connection.address).ok()
    }

    /// Gives access to the client of the last request of the present connection; `None` under another server.
    pub(crate) fn with_client<T>(access: impl FnOnce(&mut Option<KnownClient>) -> T) -> Option<T> {
        let access = |connection: &Self| connection.client.try_borrow_mut().ok().map(|mut client| access(&mut client));
        OF_CONNECTION.try_with(access).ok().flatten()
    }

    /// Returns a correlation id for a request of the present connection; `None` under another server.
    ///
    /// The first one is random, and each further one is its successor, which needs neither the clock nor random bits.
    /// Ids of two connections differ in their time or in 74 random bits.
    pub(crate) fn correlation_id() -> Option<CorrelationId> {
        let next = |connection: &Self| {
            let id = connection.generated_id.get().map_or_else(CorrelationId::new, successor);
            connection.generated_id.set(Some(id));
            id
        };
        OF_CONNECTION.try_with(next).ok()
    }

    /// Forgets the former request.
    pub(super) fn begin_request() {
        let begin = |connection: &Self| {
            connection.request_id.set(None);
            connection.refused_body.set(None);
        };
        // An error means that another server runs the task.
        let _ = OF_CONNECTION.try_with(begin);
    }

    /// Records the correlation id of the present request, for a response that is created outside of its edge.
    pub(crate) fn set_request_id(id: CorrelationId) {
        // An error means that another server runs the task.
        let _ = OF_CONNECTION.try_with(|connection| connection.request_id.set(Some(id)));
    }

    /// Records why the body of the present request was refused.
    pub(super) fn set_refused_body(refused: BodyRefused) {
        // An error means that another task reads the body.
        let _ = OF_CONNECTION.try_with(|connection| connection.refused_body.set(Some(refused)));
    }

    /// Returns why the body of the present request was refused. The server answers with this reason in place of the
    /// error of the handler.
    pub(crate) fn refused_body() -> Option<BodyRefused> {
        OF_CONNECTION.try_with(|connection| connection.refused_body.get()).ok().flatten()
    }

    /// Returns the correlation id of the present request.
    pub(super) fn request_id() -> Option<CorrelationId> {
        OF_CONNECTION.try_with(|connection| connection.request_id.get()).ok().flatten()
    }
}

/// The random bits of a UUIDv7 after its variant.
const LAST_RANDOM_BITS: u128 = (1 << 62) - 1;

/// Returns the id with the next number in its last random bits. The version and the variant remain.
fn successor(id: CorrelationId) -> CorrelationId {
    let bits = id.as_uuid().as_u128();
    let next = (bits & LAST_RANDOM_BITS).wrapping_add(1) & LAST_RANDOM_BITS;
    CorrelationId::from_uuid(Uuid::from_u128(bits & !LAST_RANDOM_BITS | next))
}

impl<S: Send + Sync> FromRequestParts<S> for Draining {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(ConnectionScope::draining())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PeerAddress {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Problem> {
        ConnectionScope::address().ok_or_else(|| {
            tracing::error!("a handler extracts PeerAddress, but `serve` of es-http does not run its task");
            Problem::unexplained()
        })
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for PeerAddress {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(ConnectionScope::address())
    }
}
