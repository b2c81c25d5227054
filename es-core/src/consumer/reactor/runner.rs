//! [`ReactorRunner`]: describes and starts a reactor.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;

use crate::aggregate::repository::RetryPolicy;
use crate::aggregate::{EventOf, Source};
use crate::consumer::group::{self, Consumer, ConsumerGroup, DeliveryKey, Settlement, StartAt};
use crate::consumer::lifecycle::StartError;
use crate::consumer::reactor::{ReactError, Reactor, ReactorContext, RunningReactor};
use crate::model::ErrorChain;
use crate::model::panic::panic_message;
use crate::model::{Clock, Entropy};
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
    /// A reactor that, started for the first time, begins with the next event that is written.
    #[must_use]
    pub fn new(reactor: R) -> Self {
        let reactor = Arc::new(reactor);
        let key_of = Arc::clone(&reactor);
        let mut group = ConsumerGroup::new(R::NAME, reactor.query())
            .ordered_by(move |event| key_of.key(event))
            // NOTE: each delivery is answered by the worker that has it, which watches the time itself.
            .answer_within(None);
        group.table = group::TABLES[1];
        Self { reactor, group, concurrency: NonZeroUsize::MIN.saturating_add(7), timeout: Duration::from_secs(30) }
    }

    /// Where it begins when it is started for the first time. Without effect after that: a reactor never goes back.
    #[must_use]
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.group = self.group.start_at(start_at);
        self
    }

    /// How many events of different keys are delivered at the same time, at least 1; 8 without more said.
    #[must_use]
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.concurrency = NonZeroUsize::new(deliveries).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// How long one call of `react` may take; 30 s without more said. Beyond, it is dropped where it waits, which
    /// counts as a failure.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// How often an event is delivered before it is parked, and the pauses between; [`ConsumerGroup::RETRY`] without
    /// more said.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.group = self.group.retry(retry);
        self
    }

    /// How many events are taken from the log and not below the checkpoint: see [`ConsumerGroup::capacity`].
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.group = self.group.capacity(events);
        self
    }

    /// How many events can be parked: see [`ConsumerGroup::max_parked`].
    #[must_use]
    pub fn max_parked(mut self, events: usize) -> Self {
        self.group = self.group.max_parked(events);
        self
    }

    /// The same on another clock.
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

    /// Starts the reactor. Another process or task that runs the same reactor on this store is fenced off. It runs
    /// until it is shut down or dropped.
    ///
    /// # Errors
    /// [`StartError::Name`], [`StartError::NoRuntime`], [`StartError::Contended`], [`StartError::Refused`] or
    /// [`StartError::Store`].
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

/// Makes one effect after the other.
struct Worker<R> {
    reactor: Arc<R>,
    consumer: Consumer,
    timeout: Duration,
}

impl<R: Reactor> Worker<R> {
    async fn run(self) {
        // NOTE: an error says that the group has ended, which says why itself.
        while let Ok(Some(mut delivery)) = self.consumer.next().await {
            let settlement = match self.deliver(&delivery).await {
                Ok(()) => Settlement::Ack,
                Err(ReactError { reason, is_permanent }) => {
                    let (position, attempt) = (delivery.event().position, delivery.attempt());
                    tracing::warn!(reactor = R::NAME, %position, attempt, is_permanent, reason = %ErrorChain(&*reason), "a reaction failed");
                    if is_permanent {
                        Settlement::Park(ErrorChain(&*reason).to_string())
                    } else {
                        Settlement::Retry(ErrorChain(&*reason).to_string())
                    }
                }
            };
            // NOTE: too late it cannot be, since the group sets no time; and written it is soon enough.
            let _ = delivery.settle(settlement);
        }
    }

    async fn deliver(&self, delivery: &group::Delivery) -> Result<(), ReactError> {
        let record = delivery.shared_event();
        // Only other code can decode the event, so a retry by this process is useless.
        let events = R::Source::decode(&record).map_err(ReactError::park)?;
        for (index, event) in (0..).zip(events.as_slice()) {
            let key = DeliveryKey::of(R::NAME, record.data.id, index);
            self.react(event, ReactorContext { event: Arc::clone(&record), key, attempt: delivery.attempt() }).await?;
        }
        Ok(())
    }

    /// Calls the reactor. A panic and a timeout are failures of the delivery and do not end the worker.
    async fn react(&self, event: &EventOf<R::Source>, context: ReactorContext) -> Result<(), ReactError> {
        let call = context.caused_by_event().scope(self.reactor.react(event, &context));
        // A panic may leave the state of the reactor inconsistent only as far as its own code allows.
        let guarded = AssertUnwindSafe(call).catch_unwind();
        // ORDER: the call is dropped before another event of its key is delivered.
        match tokio::time::timeout(self.timeout, guarded).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => Err(ReactError::retry(format!("the reactor panicked: {}", panic_message(&*panic)))),
            Err(_) => Err(ReactError::retry(format!("the reactor did not answer within {:?}", self.timeout))),
        }
    }
}
