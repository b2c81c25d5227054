//! Names that belong to the framework: the only place where they are listed.
//!
//! Categories and event types whose names begin with `es.` are reserved: a store refuses them in a commit unless the framework
//! writes them. Tables whose names begin with `es.` or `node.` are reserved: [`Table::new`] refuses them. The older tables of the
//! framework, whose names have no prefix, are listed here.

use bytes::Bytes;
use serde_json::Value;

use crate::model::{NewEvent, StreamId, Table};

/// The event type of a tombstone: it replaces an event that a scavenge removed.
pub const REMOVED: &str = "es.removed";

/// The category of the streams of [retention](crate::retention).
pub const RETENTION_CATEGORY: &str = "es.retention";

/// The prefix of the categories, event types and tables that belong to the framework.
pub(crate) const PREFIX: &str = "es.";

/// The prefix of the tables of the framework whose rows belong to one node.
pub(crate) const NODE_PREFIX: &str = "node.";

/// The table of snapshots.
pub(crate) const SNAPSHOTS: &str = "snapshots";
/// The table of the first results of commands.
pub(crate) const COMMANDS: &str = "commands";
/// The table of the checkpoints of projections.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// The table of the generations of projections.
pub(crate) const PROJECTIONS: &str = "projections";
/// The table of the rows of projection workers: claims, controls, parked events.
pub(crate) const PROJECTION_WORKERS: &str = "es.projections";
/// The table that names the tables of all views.
pub(crate) const VIEW_TABLES: &str = "view-tables";
/// The prefix of the tables of views; projection, generation and table of the view follow.
pub(crate) const VIEW_PREFIX: &str = "view:";
/// The table of consumer groups.
pub(crate) const CONSUMER_GROUPS: &str = "consumer-groups";
/// The table of reactors.
pub(crate) const REACTORS: &str = "reactors";
/// The table of a replica.
const REPLICA: &str = "es.replica";

/// The tables of the framework whose rows belong to one node. They are derived from the log or describe the node itself.
const NODE_TABLES: [&str; 6] = [SNAPSHOTS, CHECKPOINTS, PROJECTIONS, PROJECTION_WORKERS, VIEW_TABLES, REPLICA];

/// Where the rows of a table belong if several nodes hold one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Every node has the same rows: they are facts like events.
    Shared,
    /// Each node has rows of its own.
    Node,
}

/// Returns where the rows of a table belong. Tables of users are shared.
#[must_use]
pub fn placement(table: &Table) -> Placement {
    let name = table.as_str();
    let is_of_node = NODE_TABLES.contains(&name) || name.starts_with(VIEW_PREFIX) || name.starts_with(NODE_PREFIX);
    if is_of_node { Placement::Node } else { Placement::Shared }
}

/// Returns whether a category or an event type belongs to the framework.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Returns the reserved prefix with which the name of a table begins.
pub(crate) fn reserved_table_prefix(name: &str) -> Option<&'static str> {
    [PREFIX, NODE_PREFIX].into_iter().find(|prefix| name.starts_with(prefix))
}

/// Returns whether a stream belongs to [retention](crate::retention).
#[must_use]
pub fn is_retention_stream(stream: &StreamId) -> bool {
    // The length is compared first, because this runs for every written event and for many that are read.
    stream.as_str().len() >= RETENTION_CATEGORY.len() && stream.category_str() == RETENTION_CATEGORY
}

/// Returns the prefix of the keys of all rows that belong to one stream. A name has no control character, so a zero byte ends it.
pub(crate) fn stream_prefix(stream: &StreamId) -> Bytes {
    [stream.as_str().as_bytes(), &[0]].concat().into()
}

/// The prefix of the audit streams of projections; the name of the projection follows.
pub const AUDIT_STREAM_PREFIX: &str = "es.projections-";

/// The events of the audit streams. A store takes nothing else there; see [`check_audit`].
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

/// Checks an event that is to be written into an audit stream; other streams take what they want. The error is what was found.
pub(crate) fn check_audit(stream: &StreamId, event: &NewEvent) -> Result<(), String> {
    let Some(projection) = stream.as_str().strip_prefix(AUDIT_STREAM_PREFIX) else { return Ok(()) };
    if !AUDIT_EVENTS.contains(&event.data.event_type.as_str()) {
        return Err(format!("the event type {:?}", event.data.event_type));
    }
    let details: Option<Value> = serde_json::from_slice(&event.data.payload).ok();
    match details.as_ref().and_then(|details| details.get("projection")) {
        Some(Value::String(of)) if of == projection => Ok(()),
        _ => Err(format!("content that does not say that it is of projection {projection:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_rows_belong_to_a_node_and_all_others_are_shared() {
        for name in ["snapshots", "checkpoints", "projections", "es.projections", "es.replica", "view-tables", "node.x"]
        {
            assert_eq!(placement(&Table::well_known(name)), Placement::Node, "{name}");
        }
        assert_eq!(placement(&Table::well_known("view:orders:1:summaries")), Placement::Node);
        for name in ["commands", "consumer-groups", "reactors", "es.leases", "es.timers", "rates", "nodes", "viewers"] {
            assert_eq!(placement(&Table::well_known(name)), Placement::Shared, "{name}");
        }
    }

    #[test]
    fn a_user_cannot_name_a_table_of_the_framework() {
        for name in ["es.x", "node.x"] {
            let refused = Table::new(name).expect_err("it is reserved");
            assert!(refused.to_string().contains("belong to the framework"), "{refused}");
            assert!(serde_json::from_str::<Table>(&format!("{name:?}")).is_err());
            assert_eq!(crate::__private::table(name).expect("a name"), name);
        }
        assert!(crate::__private::table("").is_err());
        assert!(Table::new("es").is_ok() && Table::new("estimates").is_ok());
    }
}
