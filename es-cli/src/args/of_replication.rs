//! The commands of `replication`.

use clap::{Args, Subcommand};

/// A command of `replication`.
#[derive(Debug, Subcommand)]
pub enum ReplicationCommand {
    /// Show the node, its origins and what it has of each; of a service also links, lags and members
    ///
    /// A store has the events up to the number of each origin. `pulled from` lists the peers from which the store has
    /// events; the members that a node was given are not stored. Exits with code 1 if the store is no replica.
    ///
    /// For aggregates that declare `owner`, `home of` is the number of streams that this node decides, and `home` lists
    /// those of each node. At most 10,000 streams are counted.
    ///
    /// `member` lists the nodes of the group with their states: joined, leaving, left, retiring or retired. A departure
    /// that is not completed names the members that have not acknowledged it.
    ///
    /// A running service also knows its links, what each member has, the stable events, which every member has, and
    /// the member that blocks more of them. The lag in bytes is an estimate from the mean size of received events.
    /// `was current` is the time since the node last had every event of the peer, and so the greatest possible age of
    /// an event that it lacks; up to 2 seconds on an idle link.
    #[command(
        after_help = "Examples:\n  es --store data replication status\n  es --store data replication status --json"
    )]
    Status,
    /// Add a member before its node is started, or cancel its departure; needs --url
    ///
    /// Has no effect if the node is a member. A node that has left or was retired joins again with a new origin:
    /// restart it. Its events that the group does not have arrive then. Declare the node as a peer where a node pulls
    /// from it, too.
    #[command(after_help = "Example:\n  es --url unix:/run/orders/operations.sock replication join n4")]
    Join(MemberArgs),
    /// Remove a member that is up; needs --url
    ///
    /// The member has left once it and every other member have acknowledged that, and every other member has all of
    /// its events: see `replication status`. From its acknowledgment on, it refuses commands to replicated aggregates.
    /// Has no effect if the member departs already.
    #[command(after_help = "Example:\n  es --url unix:/run/orders/operations.sock replication leave n2")]
    Leave(MemberArgs),
    /// Remove a member that is down and does not come back; needs --url
    ///
    /// The member is retired once every remaining member has acknowledged that: see `replication status`. It then no
    /// longer holds back the stable events and the settled time, and is refused. Events that only it has are not in the
    /// group until it joins again. Run this on another node. Has no effect if the member is retired or has left.
    #[command(after_help = "Example:\n  es --url unix:/run/orders/operations.sock replication retire n3")]
    Retire(MemberArgs),
}

/// A member.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// The name of the node, as `replication status` shows it
    pub name: String,
}
