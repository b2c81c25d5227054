//! [`Resolver`]: answers the conflicts of a replicated aggregate in the background.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::aggregate::{Aggregate, RawEvents, Repository, Resolve};
use crate::consumer::group::StartAt;
use crate::consumer::lifecycle::StartError;
use crate::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, RunningReactor};
use crate::consumer::scope::DeliveryScope;
use crate::model::{ConflictAnswer, RecordedEvent};
use crate::store::{Query, QueryItem};

/// Answers the conflicts of an aggregate: calls [`Resolve::resolve`] for each pair of events that two nodes appended
/// without knowing of each other, and appends the events that it returns. Run one on every node.
///
/// - **Each pair once.** The answer is a command whose id consists of the dots of both events (`resolve:<dot>,<dot>`).
///   Every node may answer; the answer that is first in canonical order counts. A node that has received an answer does
///   not write its own.
/// - **No pair is lost.** Each event is examined against all events that the node stored before it, also across
///   restarts. A late event is examined like any other.
/// - **Answers end.** An answer takes part in no conflict. If it is concurrent with an event, canonical order decides.
/// - **Skipped events do not count.** If two nodes executed one command, the events that the fold skips take part in no
///   conflict.
///
/// It runs as a [reactor](crate::consumer::reactor) with the name `es.resolve.{category}`, from the beginning of the
/// log. An event that fails too often is parked, with the later events of its stream: for example if this program
/// cannot decode an event of a newer one. Deliver it again with [`RunningReactor::retry_parked`].
///
/// **Cost.** For each event of the aggregate, a load from the cache of the repository. An event that is concurrent with
/// an event of its stream also reads the stream up to it. If n events and m events of two nodes are concurrent, there
/// are n * m conflicts.
pub struct Resolver<A> {
    repository: Arc<Repository<A>>,
}

impl<A: Aggregate> fmt::Debug for Resolver<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("repository", &self.repository).finish()
    }
}

impl<A: Resolve> Resolver<A> {
    /// Creates a resolver. It shares the cache and the turns of the repository with the other commands. The aggregate
    /// must declare `conflict = "resolve"`:
    ///
    /// ```compile_fail,E0080
    /// # use es_core::{ConcurrentEvents, Resolve, Resolver, prelude::*};
    /// # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
    /// # #[event(name = "order-placed")]
    /// # struct OrderPlaced;
    /// #[derive(Clone, Aggregate)]
    /// #[aggregate(category = "order", id = u64, event = OrderPlaced, consistency = "causal", conflict = "canonical")]
    /// struct Order;
    /// # impl Evolve for Order {
    /// #     fn initial(_: &u64) -> Self { Self }
    /// #     fn evolve(&mut self, _: &OrderPlaced, _: &EventContext<'_>) {}
    /// # }
    ///
    /// impl Resolve for Order {
    ///     fn resolve(&self, _: &ConcurrentEvents<'_, Self>) -> Decision<Self> {
    ///         Decision::none()
    ///     }
    /// }
    ///
    /// # let store: std::sync::Arc<dyn EventStore> = std::sync::Arc::new(es_core::store::memory::MemoryStore::new());
    /// let resolver = Resolver::new(std::sync::Arc::new(Repository::<Order>::new(store)));
    /// ```
    #[must_use]
    pub fn new(repository: Arc<Repository<A>>) -> Self {
        const {
            assert!(
                matches!(A::CONFLICT, Some(ConflictAnswer::Resolve)),
                "a resolver needs an aggregate with `conflict = \"resolve\"`"
            );
        }
        Self { repository }
    }

    /// Starts the resolver on the store of the repository, and fences off another process or task that runs it. It runs
    /// until it is shut down or dropped.
    ///
    /// # Errors
    /// - [`StartError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`StartError::Store`] if the store failed.
    /// - [`StartError::Contended`] if other processes repeatedly start the same resolver.
    /// - [`StartError::Name`] and [`StartError::Refused`] if the store rejected the name or the rows of the resolver.
    pub async fn start(self) -> Result<RunningReactor, StartError> {
        let store = Arc::clone(self.repository.store());
        self.runner().start(store).await
    }

    /// Returns the reactor. Every node examines every event, whichever node it originated on: the two events of a
    /// conflict have different origins, and a node may be gone before it has received the event of the other.
    fn runner(self) -> ReactorRunner<Examine<A>> {
        ReactorRunner::new(Examine(self.repository))
            .named(Self::name())
            .scope(DeliveryScope::EveryNode)
            .start_at(StartAt::Beginning)
    }

    /// Returns the name under which the progress is stored.
    pub(crate) fn name() -> String {
        format!("es.resolve.{}", A::CATEGORY)
    }
}

/// Examines each event of an aggregate.
struct Examine<A>(Arc<Repository<A>>);

#[async_trait]
impl<A: Resolve> Reactor for Examine<A> {
    /// Not the events of the aggregate: an event of a type that this program does not know must not be passed over.
    type Source = RawEvents;
    const NAME: &'static str = "es.resolve";

    fn query(&self) -> Query {
        Query::any_of(A::category().ok().map(|category| QueryItem::new().category(category)))
    }

    async fn react(&self, event: &RecordedEvent, _: &ReactorContext) -> Result<(), ReactError> {
        Ok(self.0.answer_conflicts_of(event).await?)
    }
}
