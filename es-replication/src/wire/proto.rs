//! The structs that are encoded. A field keeps its tag forever; a new field gets a new tag.

use bytes::Bytes;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireHello {
    #[prost(string, tag = "1")]
    pub(super) node: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireFailure {
    #[prost(string, tag = "1")]
    pub(super) message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct WireHeartbeat {}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct WireDot {
    #[prost(fixed64, tag = "1")]
    pub(super) origin: u64,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
}

/// A vector clock: origin, sequence, origin, sequence, and so on, in the order of the origins.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireClock {
    #[prost(fixed64, repeated, tag = "1")]
    pub(super) pairs: Vec<u64>,
}

/// A vector clock with exceptions.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireKnowledge {
    #[prost(message, optional, tag = "1")]
    pub(super) clock: Option<WireClock>,
    /// In the order of the origins.
    #[prost(message, repeated, tag = "2")]
    pub(super) withheld: Vec<WireWithheld>,
}

/// The withheld events of an origin.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireWithheld {
    #[prost(fixed64, tag = "1")]
    pub(super) origin: u64,
    /// For each range, the distance of its first sequence from the last one of the range before it, or from 0, and its
    /// length less one.
    #[prost(uint64, repeated, tag = "2")]
    pub(super) deltas: Vec<u64>,
    /// Whether the node has none of these events.
    #[prost(bool, tag = "3")]
    pub(super) is_exact: bool,
}

/// A filter that does not select every stream. The names ascend.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireFilter {
    #[prost(string, repeated, tag = "1")]
    pub(super) categories: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) streams: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireLogPosition {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) log_id: Option<Bytes>,
    /// 0 for the position before the first event.
    #[prost(uint64, tag = "2")]
    pub(super) position: u64,
}

/// The node that sends a message.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireSender {
    #[prost(string, tag = "1")]
    pub(super) node: String,
    #[prost(fixed64, tag = "2")]
    pub(super) origin: u64,
    /// In microseconds since 1970.
    #[prost(sint64, tag = "3")]
    pub(super) time: i64,
}

/// What another member knew.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireReport {
    #[prost(message, optional, tag = "1")]
    pub(super) sender: Option<WireSender>,
    /// Nothing if it is the knowledge of the page.
    #[prost(message, optional, tag = "2")]
    pub(super) knowledge: Option<WireKnowledge>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WirePull {
    #[prost(message, optional, tag = "1")]
    pub(super) knowledge: Option<WireKnowledge>,
    #[prost(message, optional, tag = "2")]
    pub(super) cursor: Option<WireLogPosition>,
    #[prost(uint32, tag = "3")]
    pub(super) max_bytes: u32,
    #[prost(uint64, tag = "4")]
    pub(super) wait_seconds: u64,
    #[prost(uint32, tag = "5")]
    pub(super) wait_nanos: u32,
    /// Nothing selects every stream.
    #[prost(message, optional, tag = "6")]
    pub(super) filter: Option<WireFilter>,
    #[prost(message, optional, tag = "7")]
    pub(super) sender: Option<WireSender>,
}

/// The first message of a page. The entries follow it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WirePageStart {
    #[prost(message, optional, tag = "1")]
    pub(super) cursor: Option<WireLogPosition>,
    #[prost(message, optional, tag = "2")]
    pub(super) knowledge: Option<WireKnowledge>,
    #[prost(bool, tag = "3")]
    pub(super) is_last: bool,
    #[prost(message, repeated, tag = "4")]
    pub(super) ids: Vec<WireEventId>,
    #[prost(message, repeated, tag = "5")]
    pub(super) promises: Vec<WirePromise>,
    #[prost(message, optional, tag = "6")]
    pub(super) sender: Option<WireSender>,
    #[prost(message, repeated, tag = "7")]
    pub(super) reports: Vec<WireReport>,
}

/// A promise of a member: its later events are later than the time.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WirePromise {
    #[prost(string, tag = "1")]
    pub(super) member: String,
    #[prost(message, optional, tag = "2")]
    pub(super) clock: Option<WireClock>,
    #[prost(fixed64, tag = "3")]
    pub(super) time: u64,
}

/// The id of the event with a dot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireEventId {
    #[prost(message, optional, tag = "1")]
    pub(super) dot: Option<WireDot>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) id: Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireEntry {
    #[prost(oneof = "WireEntryKind", tags = "1, 2")]
    pub(super) kind: Option<WireEntryKind>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
#[expect(clippy::large_enum_variant, reason = "almost all entries are events, and one is decoded at a time")]
pub(super) enum WireEntryKind {
    #[prost(message, tag = "1")]
    Event(WireEvent),
    #[prost(message, tag = "2")]
    Gap(WireGap),
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct WireGap {
    #[prost(fixed64, tag = "1")]
    pub(super) origin: u64,
    #[prost(uint64, tag = "2")]
    pub(super) from: u64,
    #[prost(uint64, tag = "3")]
    pub(super) through: u64,
    /// Whether the events are withheld. Otherwise they were removed.
    #[prost(bool, tag = "4")]
    pub(super) is_withheld: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireEvent {
    /// Whether the event is the first one of its commit.
    #[prost(bool, tag = "1")]
    pub(super) starts_commit: bool,
    #[prost(string, tag = "2")]
    pub(super) stream: String,
    /// In microseconds since 1970.
    #[prost(sint64, tag = "3")]
    pub(super) occurred_at: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) id: Bytes,
    #[prost(string, tag = "5")]
    pub(super) event_type: String,
    #[prost(uint32, tag = "6")]
    pub(super) version: u32,
    #[prost(string, tag = "7")]
    pub(super) content_type: String,
    #[prost(bytes = "bytes", tag = "8")]
    pub(super) payload: Bytes,
    #[prost(string, repeated, tag = "9")]
    pub(super) tags: Vec<String>,
    /// A JSON object; empty if there is no metadata.
    #[prost(string, tag = "10")]
    pub(super) metadata: String,
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub(super) correlation_id: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub(super) causation_id: Option<Bytes>,
    #[prost(message, optional, tag = "13")]
    pub(super) stamp: Option<WireStamp>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireStamp {
    #[prost(message, optional, tag = "1")]
    pub(super) dot: Option<WireDot>,
    #[prost(fixed64, tag = "2")]
    pub(super) time: u64,
    #[prost(message, optional, tag = "3")]
    pub(super) seen: Option<WireClock>,
    #[prost(message, optional, tag = "4")]
    pub(super) command: Option<WireCommand>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireCommand {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(fixed64, tag = "2")]
    pub(super) digest: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireClaim {
    #[prost(fixed64, tag = "1")]
    pub(super) origin: u64,
    #[prost(string, tag = "2")]
    pub(super) node: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireConfirmation {
    #[prost(message, optional, tag = "1")]
    pub(super) last: Option<WireDot>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) id: Option<Bytes>,
    #[prost(bool, tag = "3")]
    pub(super) is_retired: bool,
}

/// A command that a node forwards.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireForward {
    #[prost(string, tag = "1")]
    pub(super) category: String,
    #[prost(string, tag = "2")]
    pub(super) id: String,
    #[prost(string, tag = "3")]
    pub(super) command_type: String,
    /// JSON.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) command: Bytes,
    #[prost(string, tag = "5")]
    pub(super) command_id: String,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(super) correlation_id: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(super) causation_id: Option<Bytes>,
    #[prost(uint64, tag = "8")]
    pub(super) wait_seconds: u64,
    #[prost(uint32, tag = "9")]
    pub(super) wait_nanos: u32,
}

/// The answer to a command.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireAnswer {
    /// A token as JSON.
    #[prost(string, tag = "1")]
    pub(super) token: String,
    #[prost(oneof = "WireOutcome", tags = "2, 3, 4, 5, 6, 7")]
    pub(super) outcome: Option<WireOutcome>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(super) enum WireOutcome {
    #[prost(message, tag = "2")]
    Executed(WireExecuted),
    /// JSON.
    #[prost(bytes = "bytes", tag = "3")]
    Rejected(Bytes),
    /// The origin of the home.
    #[prost(fixed64, tag = "4")]
    HomeOrigin(u64),
    /// The name of the home.
    #[prost(string, tag = "5")]
    HomeNode(String),
    #[prost(string, tag = "6")]
    Refused(String),
    #[prost(string, tag = "7")]
    Failed(String),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireExecuted {
    /// 1 if the command was executed, 2 if it changed nothing, 3 if it was executed before.
    #[prost(uint32, tag = "1")]
    pub(super) outcome: u32,
    #[prost(string, optional, tag = "2")]
    pub(super) version: Option<String>,
}

/// A request for a key of personal data.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireKeyRequest {
    #[prost(string, tag = "1")]
    pub(super) node: String,
    #[prost(string, tag = "2")]
    pub(super) subject: String,
    /// The id of the key.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) key: Bytes,
}

/// The answer to a request for a key. Never log it: it contains the key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireKeyAnswer {
    #[prost(oneof = "WireKeyState", tags = "1, 2, 3")]
    pub(super) state: Option<WireKeyState>,
}

#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub(super) enum WireKeyState {
    #[prost(bytes = "bytes", tag = "1")]
    Key(Bytes),
    #[prost(message, tag = "2")]
    Destroyed(WireHeartbeat),
    #[prost(message, tag = "3")]
    Missing(WireHeartbeat),
}

/// The origins for which a node decides.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WireHomes {
    #[prost(fixed64, repeated, tag = "1")]
    pub(super) origins: Vec<u64>,
}
