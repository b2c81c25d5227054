//! The reserved names of the framework. They are listed only here.
//!
//! Categories and event types that begin with `es.` are reserved: a store rejects them in a commit unless the framework
//! writes them. Tables that begin with `es.` or `node.` are reserved: [`Table::new`] rejects them. The older tables of
//! the framework, whose names have no prefix, are listed here.

use bytes::Bytes;
use serde_json::Value;

use crate::model::{NewEvent, StreamId, Table, TransactionId};

/// The event type of a tombstone, which replaces an event that a scavenge removed.
pub const REMOVED: &str = "es.removed";

/// The category of the streams of [retention](crate::retention).
pub const RETENTION_CATEGORY: &str = "es.retention";

/// The event type of a deletion of a stream.
pub(crate) const STREAM_DELETED: &str = "es.stream-deleted";

/// The event type of the erasure of a subject of personal data.
pub(crate) const SUBJECT_ERASED: &str = "es.subject-erased";

/// The event type of a prepared transaction in the stream of a participating aggregate.
pub(crate) const TX_PREPARED: &str = "es.tx-prepared";
/// The event type of a transaction whose participants are all prepared.
pub(crate) const TX_PRE_COMMITTED: &str = "es.tx-pre-committed";
/// The event type of a committed transaction. The decided events follow.
pub(crate) const TX_COMMITTED: &str = "es.tx-committed";
/// The event type of an aborted transaction.
pub(crate) const TX_ABORTED: &str = "es.tx-aborted";

/// The event type of the hand-over of a stream to another node.
pub(crate) const HANDED_OVER: &str = "es.handed-over";

/// The event type of the deletion of a replicated stream, in the stream itself.
pub(crate) const DELETED: &str = "es.deleted";

/// The event type of the erasure of a replicated stream, in the stream itself.
pub(crate) const ERASED: &str = "es.erased";

/// The prefix of the reserved categories, event types and tables.
pub(crate) const PREFIX: &str = "es.";

/// The prefix of the tables of the framework whose rows belong to one node.
pub(crate) const NODE_PREFIX: &str = "node.";

/// The table of snapshots.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// The table of command results.
pub(crate) const COMMANDS: &str = "commands";
/// The table of the checkpoints of projections.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// The table of the generations of projections.
pub(crate) const PROJECTIONS: &str = "projections";
/// The table of the rows of projection workers: claims, controls, parked events.
pub(crate) const PROJECTION_WORKERS: &str = "es.projections";
/// The table that lists the tables of all views.
pub(crate) const VIEW_TABLES: &str = "view-tables";
/// The prefix of the tables of views. The projection, the generation and the table of the view follow.
pub(crate) const VIEW_PREFIX: &str = "view:";
/// The table of consumer groups.
pub(crate) const CONSUMER_GROUPS: &str = "consumer-groups";
/// The table of reactors.
pub(crate) const REACTORS: &str = "reactors";
/// The table of the positions up to which the tags of events were checked.
pub(crate) const TAGS: &str = "es.tags";
/// The table of leases that have a name.
pub(crate) const LEASES: &str = "es.leases";
/// The table of durable timers.
pub(crate) const TIMERS: &str = "es.timers";
/// The table of the streams that prepared transactions lock.
pub(crate) const LOCKS: &str = "es.locks";
/// The table of the coordinators and the participants of es-transaction.
pub const TRANSACTIONS: &str = "es.transactions";
/// The table of the process managers of es-saga.
pub const PROCESSES: &str = "es.processes";
/// The table of a replica.
pub const REPLICA: &str = "es.replica";
/// The table of the nodes that decide on the streams of aggregates with an owner.
pub(crate) const HOMES: &str = "es.homes";

/// The tables of the framework whose rows belong to one node: they are derived from the log or describe the node
/// itself.
const NODE_TABLES: [&str; 8] =
    [SNAPSHOTS, CHECKPOINTS, PROJECTIONS, PROJECTION_WORKERS, VIEW_TABLES, TAGS, REPLICA, HOMES];

/// The owner of the rows of a table if several nodes hold one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// All nodes have the same rows, which are facts like events.
    Shared,
    /// Each node has its own rows.
    Node,
}

/// Returns the placement of a table. Tables of the application are shared.
#[must_use]
pub fn placement(table: &Table) -> Placement {
    let name = table.as_str();
    let is_of_node = NODE_TABLES.contains(&name) || name.starts_with(VIEW_PREFIX) || name.starts_with(NODE_PREFIX);
    if is_of_node { Placement::Node } else { Placement::Shared }
}

/// Returns `true` if a category, an event type or a subject is reserved.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Returns the reserved prefix of a table name, if it has one.
pub(crate) fn reserved_table_prefix(name: &str) -> Option<&'static str> {
    [PREFIX, NODE_PREFIX].into_iter().find(|prefix| name.starts_with(prefix))
}

/// Returns `true` if a stream is one of the reserved streams of [retention](crate::retention).
#[must_use]
pub fn is_retention_stream(stream: &StreamId) -> bool {
    // Compare the prefix first, because this runs for every written event and for most events that are read.
    stream.as_str().starts_with(RETENTION_CATEGORY) && stream.category_str() == RETENTION_CATEGORY
}

/// Returns the key prefix of all rows that belong to one stream. Names have no control characters, so a zero byte ends
/// it.
pub(crate) fn stream_prefix(stream: &StreamId) -> Bytes {
    [stream.as_str().as_bytes(), &[0]].concat().into()
}

/// The prefix of the audit streams of projections. The name of the projection follows.
pub const AUDIT_STREAM_PREFIX: &str = "es.projections-";

/// The event types of audit streams. A store rejects all others; see [`check_audit`].
const AUDIT_EVENTS: [&str; 9] = [
    "projection-claim-taken",
    "projection-event-skipped",
    "projection-key-retried",
    "projection-paused",
    "projection-rebuild-cancelled",
    "projection-rebuild-started",
    "projection-rebuilt",
    "projection-reset",
    "projection-resumed",
];

/// The stream of the erasures of subjects of personal data, one of the [retention](crate::retention).
pub(crate) const ERASURES_STREAM: &str = "es.retention-erasures";

/// The stream of the membership of a replicated log.
pub const MEMBERSHIP_STREAM: &str = "es.membership";

/// The event types of the membership. A store rejects all others; see [`check_membership`].
const MEMBERSHIP_EVENTS: [&str; 6] =
    ["departure-completed", "group-founded", "member-joined", "member-leaving", "member-retiring", "origins-retired"];

/// Returns `true` if a stream is the one of the membership of a replicated log.
#[must_use]
pub fn is_membership_stream(stream: &StreamId) -> bool {
    stream.as_str() == MEMBERSHIP_STREAM
}

/// Returns `true` if a reserved stream is replicated, to every member and whatever a filter selects: the one of the
/// membership, and the one of the erasures of subjects. No other reserved stream is.
#[must_use]
pub fn is_replicated_stream(stream: &StreamId) -> bool {
    is_membership_stream(stream) || stream.as_str() == ERASURES_STREAM
}

/// Checks the type of an event of the membership; the replica checks its content. Returns `None` if the stream is
/// another one.
pub(crate) fn check_membership(stream: &StreamId, event: &NewEvent) -> Option<Result<(), String>> {
    let event_type = event.data.event_type.as_str();
    let is_known = || MEMBERSHIP_EVENTS.contains(&event_type);
    is_membership_stream(stream).then(|| is_known().then_some(()).ok_or(format!("the event type {event_type:?}")))
}

/// The prefix of the streams that are the log of a coordinator of transactions. The id of the transaction follows.
pub const TRANSACTION_STREAM_PREFIX: &str = "es.tx-";

/// The event types of the log of a coordinator. A store rejects all others; see [`check_transaction_log`].
const TRANSACTION_LOG_EVENTS: [&str; 5] = [
    "transaction-decided",
    "transaction-ended",
    "transaction-finished",
    "transaction-forgotten",
    "transaction-pre-committing",
];

/// Checks an event of the log of a coordinator of transactions. Returns `None` if the stream is not such a log.
pub(crate) fn check_transaction_log(stream: &StreamId, event: &NewEvent) -> Option<Result<(), String>> {
    let id = stream.as_str().strip_prefix(TRANSACTION_STREAM_PREFIX)?;
    let event_type = event.data.event_type.as_str();
    Some(if id.parse::<TransactionId>().is_err() {
        Err(format!("the invalid transaction id {id:?}"))
    } else if !TRANSACTION_LOG_EVENTS.contains(&event_type) {
        Err(format!("the event type {event_type:?}"))
    } else {
        Ok(())
    })
}

/// Checks an event if its stream is an audit stream.
///
/// # Errors
/// A description of the invalid event.
pub(crate) fn check_audit(stream: &StreamId, event: &NewEvent) -> Result<(), String> {
    let Some(projection) = stream.as_str().strip_prefix(AUDIT_STREAM_PREFIX) else { return Ok(()) };
    if !AUDIT_EVENTS.contains(&event.data.event_type.as_str()) {
        return Err(format!("the event type {:?}", event.data.event_type));
    }
    let details: Option<Value> = serde_json::from_slice(&event.data.payload).ok();
    match details.as_ref().and_then(|details| details.get("projection")) {
        Some(Value::String(of)) if of == projection => Ok(()),
        _ => Err(format!("a payload that does not name the projection {projection:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_rows_belong_to_a_node_and_all_others_are_shared() {
        for name in [
            "snapshots",
            "checkpoints",
            "projections",
            "es.projections",
            "es.tags",
            "es.replica",
            "es.homes",
            "view-tables",
            "node.x",
        ] {
            assert_eq!(placement(&Table::well_known(name)), Placement::Node, "{name}");
        }
        assert_eq!(placement(&Table::well_known("view:orders:1:summaries")), Placement::Node);
        for name in [
            "commands",
            "consumer-groups",
            "reactors",
            "es.leases",
            "es.timers",
            "es.processes",
            "rates",
            "nodes",
            "viewers",
        ] {
            assert_eq!(placement(&Table::well_known(name)), Placement::Shared, "{name}");
        }
    }

    #[test]
    fn an_application_cannot_use_a_reserved_table_name() {
        for name in ["es.x", "node.x"] {
            let error = Table::new(name).expect_err("it is reserved");
            assert!(error.to_string().contains("belong to the framework"), "{error}");
            assert!(serde_json::from_str::<Table>(&format!("{name:?}")).is_err());
            assert_eq!(crate::__private::table(name).expect("a name"), name);
        }
        assert!(crate::__private::table("").is_err());
        assert!(Table::new("es").is_ok() && Table::new("estimates").is_ok());
    }
}
