//! The messages of the protocol: [`Pull`], [`Page`], [`Claim`] and [`Confirmation`].

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use es_core::__private::to_stored_precision;
use es_core::model::{Clock, Dot, LogPosition, OriginId, SystemClock};
use es_core::{EventData, EventId, StreamId, Timestamp};

use crate::filter::StreamFilter;
use crate::knowledge::Knowledge;
use crate::promise::Promise;

/// The node that sends a message, and its present origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The name of the node.
    pub node: String,
    /// The origin of the events that the node decides.
    pub origin: OriginId,
    /// When the node sent the message, by its own clock.
    pub time: Timestamp,
}

impl Sender {
    /// Returns the sender of a message that is sent now.
    #[must_use]
    pub fn now(node: impl Into<String>, origin: OriginId) -> Self {
        Self { node: node.into(), origin, time: to_stored_precision(SystemClock::new().now()) }
    }
}

/// What a member knew when it sent its last message, as another node passes it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberReport {
    /// The member.
    pub sender: Sender,
    /// What the member knew. Most members know what the source knows, so their reports share it.
    pub knowledge: Arc<Knowledge>,
}

/// A request for the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// The target.
    pub sender: Sender,
    /// What the target knows. The source omits events that the target has.
    pub knowledge: Knowledge,
    /// The streams that the target wants. The source declares the other events as withheld.
    pub filter: StreamFilter,
    /// The position of the source's log up to which the target has read; `None` to read from the start. It only saves
    /// work: the source ignores a position of another log.
    pub cursor: Option<LogPosition>,
    /// The approximate size of the page in bytes. A page has at least one commit, even if that is larger.
    pub max_bytes: u32,
    /// The time for which the source waits if it has no new event.
    pub wait: Duration,
}

/// The answer to a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The source.
    pub sender: Sender,
    /// What the other members knew.
    pub reports: Vec<MemberReport>,
    /// Commits and gaps in the order of the source's log.
    pub items: Vec<Item>,
    /// The cursor of the next pull.
    pub cursor: LogPosition,
    /// What the source knew when it began the page, and what the page declares.
    pub knowledge: Knowledge,
    /// Whether the source had no further event when it wrote the page.
    pub is_last: bool,
    /// For each origin, the id of the last event that both nodes have. If the target has another event under the dot,
    /// two nodes use one origin.
    pub ids: Vec<(Dot, EventId)>,
    /// The promise of the source, and those of other members that count on it.
    pub promises: Vec<Promise>,
}

impl Page {
    /// Returns the number of events of the page.
    #[must_use]
    pub fn events(&self) -> usize {
        let events = |item: &Item| match item {
            Item::Commit(events) => events.len(),
            Item::Gap { .. } => 0,
        };
        self.items.iter().map(events).sum()
    }

    /// Returns the approximate size of the events of the page, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |item: &Item| match item {
            Item::Commit(events) => events.iter().map(ForeignEvent::bytes).sum(),
            Item::Gap { .. } => 0,
        };
        self.items.iter().map(bytes).sum()
    }
}

/// One entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The replicated events of one commit.
    Commit(Vec<ForeignEvent>),
    /// Sequences of an origin whose events the source does not send.
    Gap {
        /// The origin.
        origin: OriginId,
        /// The first sequence.
        from: NonZeroU64,
        /// The last sequence.
        through: NonZeroU64,
        /// Why the source does not send the events.
        reason: GapReason,
    },
}

/// Why a source does not send events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The events were removed. They do not exist any more.
    Removed,
    /// The filter of the pull excludes the events, or they are withheld from the source itself. They may arrive later.
    Withheld,
}

/// A copy of an event that another node decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignEvent {
    /// The stream.
    pub stream: StreamId,
    /// The content, with a stamp.
    pub data: EventData,
    /// When the event happened in the domain.
    pub occurred_at: Timestamp,
}

impl ForeignEvent {
    /// Returns the approximate size of the event in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// The size of ids, times and lengths.
        const FIXED: usize = 150;
        let EventData { payload, event_type, tags, metadata, stamp, .. } = &self.data;
        let names = self.stream.as_str().len() + event_type.as_str().len();
        let tags: usize = tags.iter().map(|tag| tag.as_str().len()).sum();
        let clock = stamp.as_ref().and_then(|stamp| stamp.seen.as_ref()).map_or(0, |seen| seen.iter().len() * 16);
        // Metadata that the store has accepted can be serialized.
        let metadata = if metadata.is_empty() { 0 } else { serde_json::to_vec(metadata).map_or(0, |json| json.len()) };
        payload.len() + names + tags + clock + metadata + FIXED
    }
}

/// A question to a member: the last event that it has of an origin that a node wants to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The name of the node.
    pub node: String,
    /// The origin.
    pub origin: OriginId,
}

/// The answer to a [`Claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// The last event of the origin that the member has, with its id; `None` if it has none. The id is `None` if the
    /// event was removed.
    pub last: Option<(Dot, Option<EventId>)>,
    /// Whether the origin was retired, so that the node must take a new one.
    pub is_retired: bool,
}
