//! [`Session`]: the requests of a client, on any node.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::model::AheadOfLog;
use es_core::projection::ProjectionHandle;
use es_core::{Position, StoreError};
use tokio::time::Instant;

use crate::error::StaleReplica;
use crate::replica::Replica;
use crate::replica::wait::WaitError;
use crate::token::Token;

/// The requests of a client, which may reach another node each time.
///
/// Everything that runs in the session has four guarantees of Terry et al. 1994 ("Session Guarantees for Weakly
/// Consistent Replicated Data"):
///
/// - **read your writes**: a read includes the earlier writes of the session;
/// - **monotonic reads**: a read includes what earlier reads of the session included;
/// - **monotonic writes**: every node stores a write after the earlier writes of the session;
/// - **writes follow reads**: every node stores a write after the events that the session had read before.
///
/// One call of [`run`](Self::run) around the handler of a request is enough for loads and commands. A view is read with
/// [`view`](Self::view). The client sends the [token](Self::token) with its next request.
///
/// The guarantees hold for replicated aggregates on every node. The level `eventual` does not promise them; the present
/// protocol delivers it like `causal`. Events of other levels are stored on one node, and the guarantees hold there. If
/// the log of that node is replaced by a backup, they no longer cover what its log had before.
///
/// # Cost
/// The token names everything that the node has, not only what the session has read. A node that continues the session
/// may therefore wait for events of other clients. A write of the session depends on all of them in any case.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use es_core::prelude::*;
/// # use es_core::store::memory::MemoryStore;
/// # use es_replication::{LocalPeer, Replica, ReplicaOptions};
/// # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
/// # #[event(name = "counted")]
/// # struct Counted(u64);
/// # #[derive(Clone, Debug, Aggregate)]
/// # #[aggregate(category = "counter", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
/// # struct Counter(u64);
/// # impl Evolve for Counter {
/// #     fn initial(_: &u64) -> Self { Self(0) }
/// #     fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) { self.0 += event.0; }
/// # }
/// # #[derive(Clone)] struct Count(u64);
/// # impl Decide<Count> for Counter {
/// #     type Rejection = std::convert::Infallible;
/// #     fn decide(&self, count: Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
/// #         Ok(Counted(count.0).into())
/// #     }
/// # }
/// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
/// # let open = async |name: &str| {
/// #     let options = ReplicaOptions::new(name).aggregate::<Counter>()?;
/// #     let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new().with_hook(options.hook()).await?);
/// #     Ok::<_, Box<dyn std::error::Error>>((Replica::new(store.clone())?, Repository::<Counter>::new(store)))
/// # };
/// # let (paris, counters_of_paris) = open("paris").await?;
/// # let (oslo, counters_of_oslo) = open("oslo").await?;
/// use es_replication::{SessionError, Token};
///
/// // The first request reaches Paris, and the second one Oslo.
/// let session = paris.session(Token::default());
/// session.run(counters_of_paris.execute(&7, Count(1))).await??;
/// let token: String = serde_json::to_string(&session.token().await?)?;
///
/// let session = oslo.session(serde_json::from_str(&token)?).with_timeout(Duration::from_millis(20));
/// let stale = session.run(counters_of_oslo.load(&7)).await;
/// assert!(matches!(stale, Err(SessionError::Stale(_))), "Oslo has not received the event yet");
///
/// oslo.pull(&LocalPeer::new("paris", paris.source()), Duration::ZERO).await?;
/// assert_eq!(session.run(counters_of_oslo.load(&7)).await??.state.0, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    replica: Replica,
    token: Token,
    timeout: Duration,
    /// Whether something has run, so that the session may have read or written anything that the node has.
    has_run: AtomicBool,
}

/// A session cannot continue on this node now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The node did not receive the events of the session in time. Nothing has run. Retry, or use another node.
    #[error(transparent)]
    Stale(#[from] StaleReplica),
    /// The token names a position that the log of this node does not have. Nothing has run. Start a new session.
    #[error(transparent)]
    AheadOfLog(#[from] AheadOfLog),
    /// A view did not reach the events of the session. The view was not read. Retry, or load the aggregates instead.
    #[error(transparent)]
    View(#[from] es_core::consumer::WaitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<WaitError> for SessionError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Stale(stale) => Self::Stale(stale),
            WaitError::Store(error) => Self::Store(error),
        }
    }
}

impl Replica {
    /// Continues the session of a client on this node. A new session begins with [`Token::default`].
    #[must_use]
    pub fn session(&self, token: Token) -> Session {
        Session { replica: self.clone(), token, timeout: Session::TIMEOUT, has_run: AtomicBool::new(false) }
    }
}

impl Session {
    /// How long a session waits by default.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// Sets how long [`run`](Self::run) and [`view`](Self::view) wait for the events of the session. The default is
    /// [`TIMEOUT`](Self::TIMEOUT).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits until the node has every event of the session, and then runs `work`: a load, a command, a unit of work, or
    /// the whole handler of a request. An inline view is read in it, too.
    ///
    /// The session includes the reads and writes of `work`, even if `work` fails or is dropped.
    ///
    /// # Errors
    /// - [`SessionError::Stale`] if the events do not arrive in time.
    /// - [`SessionError::AheadOfLog`] if the token is not one of this log.
    /// - [`SessionError::Store`] if the store fails.
    ///
    /// `work` has not begun then.
    pub async fn run<W: IntoFuture>(&self, work: W) -> Result<W::Output, SessionError> {
        self.wait().await?;
        self.has_run.store(true, Ordering::Release);
        Ok(work.await)
    }

    /// Waits until a projection has applied every event of the session, and then runs `read`, which reads its views.
    /// The projection must run in this process. A command and a later `view` may be part of one [`run`](Self::run).
    ///
    /// Once something has run in the session, the projection must reach the head that the log has at the time of the
    /// call.
    ///
    /// # Errors
    /// - [`SessionError::View`] if the projection does not apply the events in time, or has stopped.
    /// - The errors of [`run`](Self::run).
    ///
    /// `read` has not begun then.
    pub async fn view<W: IntoFuture>(&self, projection: &ProjectionHandle, read: W) -> Result<W::Output, SessionError> {
        let start = Instant::now();
        self.wait().await?;
        projection.wait_for(self.position().await?, self.timeout.saturating_sub(start.elapsed())).await?;
        self.has_run.store(true, Ordering::Release);
        Ok(read.await)
    }

    /// Returns the token with which the client continues the session, on this node or on another one. Take it after the
    /// last read or write of a request.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn token(&self) -> Result<Token, StoreError> {
        let mut token = self.token.clone();
        if self.has_run.load(Ordering::Acquire) {
            token.merge(&self.replica.token().await?);
        }
        Ok(token)
    }

    /// Waits until the node has every event of the token.
    async fn wait(&self) -> Result<(), SessionError> {
        let store = self.replica.store();
        store.watch_head().check(self.token.position_in(store.log_id()))?;
        // A node loses no event, so it has what it had when something ran before.
        Ok(self.replica.wait_for(&self.token, self.timeout).await?)
    }

    /// Returns the position that a view must have reached.
    async fn position(&self) -> Result<Option<Position>, StoreError> {
        match self.has_run.load(Ordering::Acquire) {
            true => Ok(self.replica.store().watch_head().current()),
            false => self.replica.stored_position(&self.token).await,
        }
    }
}
