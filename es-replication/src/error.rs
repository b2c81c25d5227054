//! The errors of a replica.

use es_core::model::{Dot, VectorClock};
use es_core::store::NotOwner;
use es_core::{CommitError, EventId, Position, StoreError, StreamId, Timestamp};
use es_personal::KeyStoreError;

use crate::group::Departed;

/// A replica rejected a commit. The hook returns it as [`CommitError::Rejected`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A foreign event depends on an event that is not stored. Pull the page again from the start of the log.
    #[error("event {dot} depends on event {missing}, which is not stored; pull it first")]
    Dependency {
        /// The event.
        dot: Dot,
        /// The first missing event.
        missing: Dot,
    },
    /// Two events have the same dot. The origin of one of them was used by two nodes, for example by a copy of a
    /// directory, and the streams no longer converge. Stop one of the nodes, and start it on an empty store.
    #[error(
        "event {dot} has the id {found}, but event {expected} with the same dot is stored; two nodes use one origin; \
         stop one of them, and start it on an empty store"
    )]
    Forked {
        /// The dot of both events.
        dot: Dot,
        /// The id of the stored event.
        expected: EventId,
        /// The id of the foreign event.
        found: EventId,
    },
    /// A peer has an event of this node's origin that this node does not have. Reopen the store, which then takes a new
    /// origin.
    #[error("event {dot} has the origin of this node, which has written {through} events; reopen the store")]
    OwnOrigin {
        /// The event.
        dot: Dot,
        /// The last sequence that this node has written.
        through: u64,
    },
    /// The hybrid time of an event does not follow that of the preceding event of its origin, or is not before that of
    /// the following one.
    #[error("the hybrid time of event {dot} is not between those of the events before and after it")]
    TimeOrder {
        /// The event.
        dot: Dot,
    },
    /// The hybrid time of an event is too far ahead of the clock of this node. The link waits until the clock has
    /// reached it, and loses nothing. Set the clock of this node if it is wrong. If that of the other node was wrong,
    /// its events keep their times: raise [the limit](crate::ReplicaOptions::with_max_clock_ahead) until they have
    /// passed.
    #[error(
        "event {dot} has the time {time}, which is ahead of the clock of this node ({now}); set the clocks, or raise \
         the limit"
    )]
    ClockAhead {
        /// The event.
        dot: Dot,
        /// The physical part of its hybrid time.
        time: Timestamp,
        /// The time of this node.
        now: Timestamp,
    },
    /// A local commit contains an event with a stamp. Only the replica stamps events.
    #[error("event {id} has a stamp; only the replica stamps local events, and a copy belongs in a foreign commit")]
    Stamped {
        /// The id of the event.
        id: EventId,
    },
    /// A local event of a replicated category claims or releases a unique key. Keys are checked on one node only.
    #[error("event {id} changes a unique key in a replicated stream; use a stream that is not replicated")]
    UniqueKey {
        /// The id of the event.
        id: EventId,
    },
    /// A rule or a deletion names a replicated stream or category. It would hide events on one node only. Delete a
    /// stream on all nodes with [`Replica::delete`](crate::Replica::delete), or with `es delete` in the operations of a
    /// node.
    #[error(
        "a rule or a deletion of {scope} would hide events on this node only, because it is replicated; delete a \
         stream on all nodes: with `es --url URL delete STREAM` for the operations of a node, or with \
         `Replica::delete`"
    )]
    Retention {
        /// The stream or the category.
        scope: String,
    },
    /// A rule of this node would hide a copy of an event of another node. The rule is from before this node received
    /// the category. Clear it.
    #[error("stream {stream:?} has a retention rule, which would hide event {dot} on this node only; clear the rule")]
    Rule {
        /// The stream.
        stream: StreamId,
        /// The dot of the event.
        dot: Dot,
    },
    /// A local event is in a stream that was erased on all nodes, which closes it. Use another id.
    #[error("stream {stream:?} was erased on all nodes and is closed; use another id")]
    Erased {
        /// The stream.
        stream: StreamId,
    },
    /// An event of the membership is not valid. Use [`Replica::membership`](crate::Replica::membership); if a peer has
    /// sent the event, update this node to the version of the peer.
    #[error("event {id} of the membership is not valid: {found}; update this node to the version of its peers")]
    Membership {
        /// The id of the event.
        id: EventId,
        /// What is not valid.
        found: String,
    },
    /// This node departs or has departed, and no longer decides on replicated events. Join it again on another member;
    /// if its departure was completed, reopen its store, too.
    #[error("the node {node:?} leaves the group or has left it; join it again, and reopen its store")]
    Departed {
        /// The name of this node.
        node: String,
    },
    /// A local event hands a stream over that has no owner or no event, a second time, or for another node.
    #[error(
        "stream {stream:?} cannot be handed over so: its aggregate does not declare `owner`, it has no events, or it \
         was handed over in the meantime; read its home again"
    )]
    HandOver {
        /// The stream.
        stream: StreamId,
    },
    /// A gap does not begin at the first event that is missing, or concerns the origin of this node.
    #[error("the gap up to event {through} does not begin at the first missing event; pull the events before it")]
    Gap {
        /// The last event of the gap.
        through: Dot,
    },
}

impl Refusal {
    /// Returns `true` if the event may be stored after a pull from the start of the peer's log.
    pub(crate) const fn is_of_order(&self) -> bool {
        matches!(self, Self::Dependency { .. } | Self::Gap { .. })
    }
}

/// A page was not pulled or not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The peer did not answer. The link tries again.
    #[error("could not pull from the peer")]
    Peer(#[from] PeerError),
    /// The peer has departed. Join it again, and reopen its store; or stop the link.
    #[error("could not pull from the peer")]
    Departed(#[from] Departed),
    /// After the request, a member reopened its store and asked for its last event, so the page may have an event that
    /// the member has lost; or another pull from the same peer has stored the page. Pull again.
    #[error(
        "the page is outdated: a member reopened its store after the request, or another pull stored it; pull again"
    )]
    Outdated,
    /// The page was rejected.
    #[error("could not store a page of the peer")]
    Refused(#[from] Refusal),
    /// The store rejected the page for another reason.
    #[error("could not store a page of the peer")]
    Commit(#[source] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CommitError> for PullError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Rejected(error) => match error.downcast::<Refusal>() {
                Ok(refusal) => Self::Refused(*refusal),
                Err(error) => Self::Commit(CommitError::Rejected(error)),
            },
            CommitError::Store(error) => Self::Store(error),
            // A foreign commit has one condition.
            CommitError::Conflict(_) => Self::Outdated,
            error => Self::Commit(error),
        }
    }
}

/// Why a commit was not written, with the errors of this crate apart.
pub(crate) enum CommitFailure {
    /// Another node decides on the stream.
    NotOwner(NotOwner),
    /// The hook of the replica refused it.
    Refused(Refusal),
    /// The store rejected it for another reason.
    Commit(CommitError),
    /// The store failed.
    Store(StoreError),
}

impl From<CommitError> for CommitFailure {
    fn from(error: CommitError) -> Self {
        let error = match error {
            CommitError::Rejected(error) => error,
            CommitError::Store(error) => return Self::Store(error),
            error => return Self::Commit(error),
        };
        let error = match error.downcast::<NotOwner>() {
            Ok(error) => return Self::NotOwner(*error),
            Err(error) => error,
        };
        match error.downcast::<Refusal>() {
            Ok(refusal) => Self::Refused(*refusal),
            Err(error) => Self::Commit(CommitError::Rejected(error)),
        }
    }
}

/// A request of another node was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The other node has departed.
    #[error(transparent)]
    Departed(#[from] Departed),
    /// The node that asks for a key is not a member, or was declared dead. Declare it, or join it.
    #[error("the node {node:?} is not a member of the group, which only gives keys to members; join it")]
    NotAMember {
        /// The name of the node.
        node: String,
    },
    /// This node does not share its keys. Call [`Replica::share_keys`](crate::Replica::share_keys).
    #[error("this node does not share its keys; call `Replica::share_keys` on it")]
    NoKeys,
    /// The key store failed.
    #[error("could not read a key")]
    Keys(#[from] KeyStoreError),
    /// The store rejected the row that counts the confirmations.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store failed, or is not open yet.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A peer did not answer a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The peer could not be reached, or the connection broke.
    #[error("the peer is unreachable")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer answered with an error.
    #[error("the peer failed: {0}")]
    Failed(String),
    /// The answer is not one that a peer sends.
    #[error("the answer of the peer is invalid: {0}")]
    Invalid(String),
}

/// A peer did not answer a forwarded command.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The command was not sent, so it was not executed.
    #[error("could not send the command")]
    NotSent(#[source] PeerError),
    /// The command was sent, and no answer arrived. It may have been executed.
    #[error("the peer did not answer the command")]
    NoAnswer(#[source] PeerError),
}

/// The replica could not start. An aggregate that is replicated for the first time may have events already: see
/// [`ReplicaOptions::aggregate`](crate::ReplicaOptions::aggregate).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store was opened without the hook of a replica. Open it with
    /// [`ReplicaOptions::hook`](crate::ReplicaOptions::hook).
    #[error("the store was opened without the hook of a replica; open it with `ReplicaOptions::hook`")]
    NoHook,
    /// The store belongs to a node with another name.
    #[error("the store belongs to the node {found:?}, expected {expected:?}; open it under its name")]
    OtherNode {
        /// The name that was given.
        expected: String,
        /// The name in the store.
        found: String,
    },
    /// The rows of the replica have the format of another version.
    #[error("expected format {expected} of the replica's rows, found {found}; open the store with its version")]
    Format {
        /// The format of this version.
        expected: u32,
        /// The format in the store.
        found: u32,
    },
    /// The store has events from before the replication, and such events were already received from another node. Only
    /// one store of a group may begin with events. Export one of them, and import it through commands.
    #[error(
        "stream {stream:?} has events from before the replication (position {position}), and another node has \
         replicated such events, too; only one store of a group may begin with events"
    )]
    TwoGeneses {
        /// The first stream with such events.
        stream: StreamId,
        /// The position of the event.
        position: Position,
    },
    /// An event has no stamp, and follows none of the events from before the replication: its aggregate was declared
    /// later than another one, or another node has written to it. Its number would not be in the order of the log.
    /// Declare all aggregates that have events when the replication begins.
    #[error(
        "stream {stream:?} has an event without a stamp at position {position}, before events that are replicated; \
         declare all aggregates that have events when the replication begins"
    )]
    LateAdoption {
        /// The stream.
        stream: StreamId,
        /// The position of the event.
        position: Position,
    },
    /// An aggregate has a rule, or a stream of it was deleted, before it is replicated. The rule or the deletion would
    /// hide events on this node only.
    #[error("{scope} has a rule or was deleted; an aggregate that is replicated must have neither")]
    Retention {
        /// The category or the stream.
        scope: String,
    },
    /// The store has lost replicated events at its end, by a repair with loss, and its rows still have them. The node
    /// would not pull these events again, and would give their positions to other events. Start the node on an empty
    /// store; it pulls the events from its peers.
    #[error(
        "the rows of the replica have events up to position {position}, and the log ends at {head:?}: a repair lost \
         replicated events; start the node on an empty store, which pulls the events from its peers"
    )]
    LostEvents {
        /// The position of the last event that the node has replicated.
        position: Position,
        /// The position of the last event in the log.
        head: Option<Position>,
    },
    /// The store has copies of replicated events that were imported, so the replica has no rows for them. Start the
    /// node on an empty store; it pulls the events from its peers.
    #[error(
        "stream {stream:?} has an imported event with a stamp at position {position}; start the node on an empty \
         store, which pulls the events from its peers"
    )]
    Imported {
        /// The stream.
        stream: StreamId,
        /// The position of the event.
        position: Position,
    },
    /// The rows of the replica could not be written.
    #[error("could not write the rows of the replica")]
    Commit(#[from] CommitError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A node does not yet have the events that a token names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node has not received all events of the session yet: it lacks {}", Dots(.missing))]
pub struct StaleReplica {
    /// What the node has.
    pub have: VectorClock,
    /// What the session needs.
    pub need: VectorClock,
    /// The events of the session up to which the node must still receive, one for each origin.
    pub missing: Vec<Dot>,
}

/// Formats dots, separated by commas.
pub(crate) struct Dots<'a>(pub(crate) &'a [Dot]);

impl std::fmt::Display for Dots<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, dot) in self.0.iter().enumerate() {
            write!(f, "{}{dot}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
