//! Consumer groups: several consumers share the events of one durable group and settle each of them.
//!
//! ```text
//!                        +-- consumer -- ack | nack(Retry | Park | Skip) --+
//!   log --> the group ---+-- consumer                                      +--> one Commit: checkpoint, what is
//!           (one task)   +-- consumer   (no answer in time: like Retry)    |    finished ahead of it, parked events
//!                ^                                                         |
//!                +---------------------- again, after a pause -------------+
//! ```
//!
//! The group reads a bounded number of events from the log and delivers each to one consumer. An acked event is not
//! delivered again. Every other event is delivered again, also after a crash: **at least once**, with the same
//! [`DeliveryKey`] each time. An event that fails too often is **parked** with its reason, until an operator replays or
//! skips it.
//!
//! - The checkpoint is the position before the first unfinished event. The positions of events that are finished after
//!   it are stored with it. Their number is bounded: if a slow event holds the checkpoint, the group reads no more
//!   events ([`ConsumerGroup::capacity`]).
//! - The checkpoint passes events that do not match the query, and positions that a scavenge has removed.
//! - One handle drives a group. Starting it again raises its epoch; the store refuses later writes of the former handle
//!   ([`GroupError::Fenced`]).
//! - A synchronous state machine decides; the task around it reads, writes and waits.
//!
//! The model and its terms are those of KurrentDB's persistent subscriptions. Parking the later events of a key is that
//! of Axon's sequenced dead-letter queue.
//!
//! Not in this module: typed views, exactly-once effects, and any decision that depends on the content of an event.
//!
//! ```
//! # use std::sync::Arc;
//! # use es_core::store::Query;
//! # use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
//! # use es_core::store::memory::MemoryStore;
//! use es_core::consumer::group::{ConsumerGroup, Nack, StartAt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! # let placed = NewEvent::json(EventType::new("order-placed")?, "{}");
//! # store.commit(Commit::to(&StreamId::new("order-1")?, ExpectedRevision::NoStream, [placed])).await?;
//! let group = ConsumerGroup::new("printers", Query::all()).ordered_by_stream().start_at(StartAt::Beginning);
//! let group = group.start(store).await?;
//!
//! let consumer = group.consumer(); // one per task
//! if let Some(delivery) = consumer.next().await? {
//!     match delivery.event().data.payload.is_empty() {
//!         false => delivery.ack().await?, // durable: it is not delivered again
//!         true => delivery.nack(Nack::Park("it has no content".to_owned())).await?,
//!     }
//! }
//! group.shutdown(std::time::Duration::from_secs(10)).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod consumer;
mod delivery_key;
mod driver;
mod error;
mod in_flight;
mod metrics;
#[cfg(test)]
pub(crate) mod random;
mod rows;
mod running;
mod settlement;
mod shared;
mod start;
mod state;
mod store_retry;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

pub use crate::consumer::lifecycle::GroupError;
pub use consumer::{Consumer, Delivery, Nack};
pub use delivery_key::DeliveryKey;
pub use error::SettleError;
pub use rows::{Parked, Skipped};
pub(crate) use rows::{TABLES, set_back};
pub use running::{GroupStatus, RunningGroup};

pub(crate) use settlement::{Settlement, shorten};

use crate::aggregate::Source;
use crate::aggregate::repository::RetryPolicy;
use crate::consumer::lifecycle::StartError;
use crate::consumer::scope::DeliveryScope;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::model::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::store::{EventStore, Query};

/// The first event of a group at its first start. Later starts continue at the stored checkpoint and ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// The next event that is committed.
    Now,
    /// The first event of the log.
    Beginning,
    /// The first event after this position, which must not be ahead of the log.
    After(Position),
}

/// Returns the ordering key of an event.
pub(crate) type KeyOf = Arc<dyn Fn(&RecordedEvent) -> String + Send + Sync>;

/// Returns whether a group delivers an event that its query matches.
pub(crate) type Includes = Arc<dyn Fn(&RecordedEvent) -> bool + Send + Sync>;

/// Describes a consumer group: its name, its events, its bounds. [`start`](Self::start) starts it.
#[derive(Clone)]
pub struct ConsumerGroup {
    pub(crate) table: &'static str,
    pub(crate) name: String,
    pub(crate) query: Query,
    pub(crate) includes: Includes,
    pub(crate) key: KeyOf,
    pub(crate) is_ordered: bool,
    pub(crate) start_at: StartAt,
    pub(crate) scope: DeliveryScope,
    pub(crate) capacity: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) max_parked: usize,
    pub(crate) answer_within: Option<Duration>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerGroup")
            .field("name", &self.name)
            .field("query", &self.query)
            .field("is_ordered", &self.is_ordered)
            .field("scope", &self.scope)
            .field("capacity", &self.capacity)
            .field("retry", &self.retry)
            .field("answer_within", &self.answer_within)
            .finish_non_exhaustive()
    }
}

impl ConsumerGroup {
    /// The default retry policy: an event is delivered up to ten times before it is parked, with pauses from 100 ms to
    /// 30 s.
    pub const RETRY: RetryPolicy =
        RetryPolicy { attempts: 10, first_pause: Duration::from_millis(100), longest_pause: Duration::from_secs(30) };

    /// Creates the group `name` over the events that match `query`.
    ///
    /// Each event is delivered to the consumer that has waited longest. The order of deliveries is not defined; see
    /// [`ordered_by`](Self::ordered_by). By default the group starts with the next event that is committed.
    ///
    /// A query with [`QueryItem::erasures`](crate::store::QueryItem::erasures) also selects erasures, which
    /// [`Erasure::of`](crate::retention::Erasure::of) decodes.
    ///
    /// The name identifies the checkpoint in the store: under another name, the group starts as a new group. The query
    /// may differ from that of an earlier run; it then selects the events after the checkpoint.
    #[must_use]
    pub fn new(name: impl Into<String>, query: impl Into<Query>) -> Self {
        Self {
            table: rows::TABLES[0],
            name: name.into(),
            query: query.into(),
            includes: Arc::new(|_| true),
            key: Arc::new(|event| event.stream.as_str().to_owned()),
            is_ordered: false,
            start_at: StartAt::Now,
            scope: DeliveryScope::Origin,
            capacity: 256,
            retry: Self::RETRY,
            max_parked: 10_000,
            answer_within: Some(Duration::from_secs(30)),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// Creates the group `name` over the events of a source: an aggregate or a tuple of aggregates. See
    /// [`new`](Self::new), and [`Delivery::decode`].
    #[must_use]
    pub fn of<S: Source>(name: impl Into<String>) -> Self {
        Self::new(name, S::query())
    }

    /// Returns the name of the group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Delivers the events of each stream in order. See [`ordered_by`](Self::ordered_by).
    #[must_use]
    pub fn ordered_by_stream(mut self) -> Self {
        self.is_ordered = true;
        self
    }

    /// Delivers the events of each key in order: an event is delivered once the previous event of its key is finished.
    /// If an event is parked, the later events of its key are parked too. `key` must return the same key for the same
    /// event.
    #[must_use]
    pub fn ordered_by(mut self, key: impl Fn(&RecordedEvent) -> String + Send + Sync + 'static) -> Self {
        self.key = Arc::new(key);
        self.is_ordered = true;
        self
    }

    /// Sets the first event at the first start.
    #[must_use]
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }

    /// Sets on which nodes the group receives the events of replicated streams; [`DeliveryScope::Origin`] by default.
    /// The checkpoint passes the events of other nodes. An event that was parked is replayed in any case.
    #[must_use]
    pub fn scope(mut self, scope: DeliveryScope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the largest number of events after the checkpoint that the group has read, at least 1; 256 by default. It
    /// bounds the memory of the group, and the size of the row that each commit writes. A replay has at most as many
    /// parked events in memory, in addition to these.
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = NonZeroUsize::new(events).map_or(1, NonZeroUsize::get);
        self
    }

    /// Sets the number of deliveries before an event is parked, and the pauses between them; [`RETRY`](Self::RETRY) by
    /// default.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the largest number of parked events; 10,000 by default. Once it is reached, failing events are retried
    /// without limit and hold the checkpoint, until an operator replays or skips parked events. Parked events are held
    /// in memory, without their content.
    #[must_use]
    pub fn max_parked(mut self, events: usize) -> Self {
        self.max_parked = events;
        self
    }

    /// Sets the time after which a delivery that is not settled counts as failed and the event is delivered again; 30 s
    /// by default. `None` waits without limit. A delivery that is dropped counts as failed in any case.
    #[must_use]
    pub fn answer_within(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.answer_within = time.into();
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random numbers, from which the jitter of retries comes.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Starts the group and fences off another process or task that runs it. It runs until it is shut down or dropped.
    ///
    /// # Errors
    /// - [`StartError::NoRuntime`] if the caller is outside of a tokio runtime.
    /// - [`StartError::Name`] if the name is invalid.
    /// - [`StartError::Store`] if the store failed.
    /// - [`StartError::Contended`] if other processes repeatedly start the same group.
    /// - [`StartError::Refused`] if the store rejected the rows of the group.
    pub async fn start(self, store: Arc<dyn EventStore>) -> Result<RunningGroup, StartError> {
        start::start(self, store).await
    }
}
