//! [`ReactorRunner`]: describes and starts a reactor.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::aggregate::Source;
use crate::aggregate::repository::RetryPolicy;
use crate::consumer::group::{self, Consumer, ConsumerGroup, DeliveryKey, Settlement, StartAt};
use crate::consumer::lifecycle::StartError;
use crate::consumer::reactor::{ReactError, Reactor, ReactorContext, RunningReactor};
use crate::consumer::scope::DeliveryScope;
use crate::consumer::selection::{Selection, ordering_key};
use crate::model::ErrorChain;
use crate::model::panic::panic_message;
use crate::model::{Clock, Entropy};
use crate::retention::Erasure;
use crate::store::EventStore;

/// Describes a reactor and how it runs. [`start`](Self::start) starts it.
pub struct ReactorRunner<R> {
    reactor: Arc<R>,
    group: ConsumerGroup,
    concurrency: NonZeroUsize,
    timeout: Duration,
}

impl<R: Reactor> fmt::Debug for ReactorRunner<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReactorRunner")
            .field("group", &self.group)
            .field("concurrency", &self.concurrency)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<R: Reactor> ReactorRunner<R> {
    /// Creates a runner. By default the reactor starts with the next event that is committed.
    #[must_use]
    pub fn new(reactor: R) -> Self {
        let reactor = Arc::new(reactor);
        let key_of = Arc::clone(&reactor);
        let selection = Selection::new(reactor.query());
        let mut group = ConsumerGroup::new(R::NAME, selection.log_query().clone())
            .ordered_by(move |event| ordering_key(event, |event| key_of.key(event)))
            // The workers settle every delivery and have their own timeout.
            .answer_within(None);
        group.table = group::TABLES[1];
        group.includes = Arc::new(move |event| selection.includes(event));
        Self { reactor, group, concurrency: NonZeroUsize::MIN.saturating_add(7), timeout: Duration::from_secs(30) }
    }

    /// Sets the name under which the progress is stored.
    pub(crate) fn named(mut self, name: String) -> Self {
        self.group.name = name;
        self
    }

    /// Sets the first event at the first start. Later starts ignore it, because a reactor never moves backward.
    #[must_use]
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.group = self.group.start_at(start_at);
        self
    }

    /// Sets on which nodes the reactor receives the events of replicated streams; [`DeliveryScope::Origin`] by default.
    /// See [`ConsumerGroup::scope`].
    #[must_use]
    pub fn scope(mut self, scope: DeliveryScope) -> Self {
        self.group = self.group.scope(scope);
        self
    }

    /// Sets the largest number of concurrent calls, at least 1; 8 by default. Events of one key are never processed
    /// concurrently.
    #[must_use]
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.concurrency = NonZeroUsize::new(deliveries).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets the timeout of one call of `react`; 30 s by default. A call that exceeds it is dropped and counts as
    /// failed.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Sets the number of deliveries before an event is parked, and the pauses between them; [`ConsumerGroup::RETRY`]
    /// by default.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.group = self.group.retry(retry);
        self
    }

    /// Sets the largest number of events after the checkpoint. See [`ConsumerGroup::capacity`].
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.group = self.group.capacity(events);
        self
    }

    /// Sets the largest number of parked events. See [`ConsumerGroup::max_parked`].
    #[must_use]
    pub fn max_parked(mut self, events: usize) -> Self {
        self.group = self.group.max_parked(events);
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.group = self.group.clock(clock);
        self
    }

    /// Sets the source of random numbers, from which the jitter of retries comes.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.group = self.group.entropy(entropy);
        self
    }

    /// Starts the reactor and fences off another process or task that runs it. It runs until it is shut down or
    /// dropped.
    ///
    /// # Errors
    /// - [`StartError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`StartError::Name`] if the name is invalid.
    /// - [`StartError::Store`] if the store failed.
    /// - [`StartError::Contended`] if other processes repeatedly start the same reactor.
    /// - [`StartError::Refused`] if the store rejected the rows of the reactor.
    pub async fn start(self, store: Arc<dyn EventStore>) -> Result<RunningReactor, StartError> {
        let group = self.group.start(store).await?;
        let mut workers = JoinSet::new();
        for _ in 0..self.concurrency.get() {
            let worker =
                Worker { reactor: Arc::clone(&self.reactor), consumer: group.consumer(), timeout: self.timeout };
            workers.spawn(worker.run());
        }
        Ok(RunningReactor::new(group, workers))
    }
}

/// Processes one event after the other.
struct Worker<R> {
    reactor: Arc<R>,
    consumer: Consumer,
    timeout: Duration,
}

impl<R: Reactor> Worker<R> {
    async fn run(self) {
        // An error means that the group has stopped. Its handle reports the reason.
        while let Ok(Some(mut delivery)) = self.consumer.next().await {
            let settlement = match self.deliver(&delivery).await {
                Ok(()) => Settlement::Ack,
                Err(ReactError { reason, is_permanent }) => {
                    let (position, attempt) = (delivery.event().position, delivery.attempt());
                    let reason = ErrorChain(&*reason).to_string();
                    tracing::warn!(reactor = R::NAME, %position, attempt, is_permanent, reason, "reaction failed");
                    if is_permanent { Settlement::Park(reason) } else { Settlement::Retry(reason) }
                }
            };
            // Cannot be too late, because the deliveries have no timeout.
            let _ = delivery.settle(settlement);
        }
    }

    async fn deliver(&self, delivery: &group::Delivery) -> Result<(), ReactError> {
        let record = delivery.shared_event();
        if let Some(erasure) = Erasure::of(&record) {
            let key = DeliveryKey::of(R::NAME, record.data.id, 0);
            let context = ReactorContext { event: Arc::clone(&record), key, attempt: delivery.attempt() };
            return self.call(&context, self.reactor.erased(&erasure, &context)).await;
        }
        // This process cannot decode the event, so a retry cannot succeed.
        let events = R::Source::decode(&record).map_err(ReactError::park)?;
        for (index, event) in (0..).zip(events.as_slice()) {
            let key = DeliveryKey::of(R::NAME, record.data.id, index);
            let context = ReactorContext { event: Arc::clone(&record), key, attempt: delivery.attempt() };
            self.call(&context, self.reactor.react(event, &context)).await?;
        }
        Ok(())
    }

    /// Returns the span of a call. Its field `traceparent` is the trace context of the event.
    fn span(context: &ReactorContext) -> tracing::Span {
        let (event, key, attempt) = (&context.event, context.key, context.attempt);
        let (event_type, stream) = (event.data.event_type.as_str(), &event.stream);
        let traceparent = event.data.metadata.get_str("traceparent").unwrap_or_default();
        tracing::info_span!("reaction", reactor = R::NAME, %stream, event_type, attempt, %key, traceparent)
    }

    /// Runs a call of the reactor. Converts a panic or a timeout into an error.
    async fn call(
        &self,
        context: &ReactorContext,
        call: impl Future<Output = Result<(), ReactError>>,
    ) -> Result<(), ReactError> {
        let call = context.caused_by_event().scope(call).instrument(Self::span(context));
        // The worker has no state that a panic could leave inconsistent. The state of the reactor is its own.
        let guarded = AssertUnwindSafe(call).catch_unwind();
        // ORDER: the call is dropped before another event of its key is delivered.
        match tokio::time::timeout(self.timeout, guarded).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(ReactError::retry(format!("the reactor panicked: {}", panic_message(&*panic)))),
            Err(_) => Err(ReactError::retry(format!("the reactor did not return within {:?}", self.timeout))),
        }
    }
}
