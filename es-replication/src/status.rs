//! [`ReplicationStatus`]: what a store says about its replica. [`Monitor`]: adds what the running node knows of its
//! links and of the other members.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use es_core::__private::home::{self, NodeHomes, StreamHome};
use es_core::model::{Category, Clock, Dot, HybridTime, OriginId, SystemClock, VectorClock};
use es_core::store::RowScan;
use es_core::{EventReader, StoreError, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::frontiers::Frontier;
use crate::group::{self, MemberState};
use crate::knowledge::Knowledge;
use crate::link::{Link, LinkStatus};
use crate::membership;
use crate::owner::start;
use crate::replica::Replica;
use crate::rows;

/// The status of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationStatus {
    /// The name of the node.
    pub node: String,
    /// The origin of the events that the node decides.
    pub origin: OriginId,
    /// Whether the store was restored from a backup since the node had it open, so that the next start takes a new
    /// origin.
    pub is_restored: bool,
    /// The categories whose streams are replicated.
    pub categories: Vec<Category>,
    /// What the node has of each origin.
    pub origins: Vec<OriginStatus>,
    /// The peers from which the store has stored a page.
    pub peers: Vec<String>,
    /// The nodes of the group with their states. Without events of the membership, those that the node has declared.
    #[serde(default)]
    pub members: BTreeMap<String, MemberState>,
    /// The homes of the streams whose aggregates declare `owner`. `None` if this node declares no such aggregate.
    #[serde(default)]
    pub homes: Option<HomesStatus>,
    /// What only the running node knows. `None` if the status was read from a store.
    pub running: Option<RunningStatus>,
}

/// What a node has of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginStatus {
    /// The origin.
    pub origin: OriginId,
    /// Whether it is the present origin of this node.
    pub is_own: bool,
    /// The sequence of the last event that is accounted for. The node has every event up to it, except those that were
    /// removed or are withheld.
    pub sequence: u64,
    /// The number of events that are withheld, at most: see [`Knowledge::MAX_RANGES`](crate::Knowledge::MAX_RANGES).
    #[serde(default)]
    pub withheld: u64,
    /// The physical part of the hybrid time of the last event.
    pub time: Timestamp,
    /// Whether the origin was removed from the vector clocks of new events. The origins that no member uses remain
    /// until every member has all of their events.
    #[serde(default)]
    pub is_retired: bool,
}

/// The homes of the streams whose aggregates declare `owner`, as this node knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomesStatus {
    /// The categories of the aggregates.
    pub categories: Vec<Category>,
    /// The origins for which this node decides: its present one first, then former ones.
    pub origins: Vec<OriginId>,
    /// The former origins whose streams this node does not decide, because it may have lost their events. It decides on
    /// them again once every member has [confirmed](Replica::confirm_homes) that it has all of them.
    pub unconfirmed: Vec<OriginId>,
    /// For each origin, the number of streams whose home is its node.
    pub streams: BTreeMap<OriginId, u64>,
    /// Whether [`streams`](Self::streams) is complete. At most [`MAX_STREAMS`](Self::MAX_STREAMS) are counted, the
    /// first ones by name; [`Replica::homes`] lists all.
    pub is_complete: bool,
}

impl HomesStatus {
    /// The maximum number of streams that a status counts.
    pub const MAX_STREAMS: usize = 10_000;

    async fn read(store: &dyn EventReader) -> Result<Option<Self>, StoreError> {
        let node = start::read_node(store).await?.filter(|node| !node.categories.is_empty());
        let Some(NodeHomes { origins, unconfirmed, categories, .. }) = node else { return Ok(None) };
        let after = Some(Bytes::from_static(NodeHomes::KEY));
        let scan = RowScan { after, ..RowScan::new(home::table(), Bytes::new(), Self::MAX_STREAMS) };
        let rows = store.rows(scan).await?;
        let mut streams = BTreeMap::new();
        for row in &rows {
            *streams.entry(StreamHome::decode(&row.value)?.origin).or_insert(0) += 1;
        }
        let is_complete = rows.len() < Self::MAX_STREAMS;
        Ok(Some(Self { categories: categories.into_iter().collect(), origins, unconfirmed, streams, is_complete }))
    }

    /// Returns the number of counted streams that the node of these origins decides.
    #[must_use]
    pub fn streams_of(&self, origins: &[OriginId]) -> u64 {
        origins.iter().filter_map(|origin| self.streams.get(origin)).sum()
    }
}

/// What a running node knows of its links and of the other members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStatus {
    /// The time of the status, by the clock of the node.
    pub time: Timestamp,
    /// The links to the peers.
    pub links: Vec<LinkStatus>,
    /// The members: this node first, then the others by name.
    pub members: Vec<MemberStatus>,
    /// The stable events: for each origin, the last event up to which every member has all events. A withheld event is
    /// not stable. `None` until every member has reported what it knows since the start of this node.
    pub stable: Option<VectorClock>,
    /// The member without which more events would be stable: one that has not reported yet, otherwise the one that
    /// lacks the most events, or else withholds the most. `None` if every member has every event.
    pub blocked_by: Option<String>,
    /// For each member that leaves or is being retired, the members that have not acknowledged that.
    #[serde(default)]
    pub unacknowledged: BTreeMap<String, BTreeSet<String>>,
    /// The settled time: the node has every event of all members up to this time. Views with the mode
    /// [`Settled`](es_core::projection::Settled) end there. `None` until every member that was declared with
    /// [`ReplicaOptions::member`](crate::ReplicaOptions::member) has made a promise since the start of this node.
    #[serde(default)]
    pub settled: Option<Timestamp>,
    /// The member that holds the settled time back: the one with the oldest promise, or without one. `None` if every
    /// stored event is settled.
    #[serde(default)]
    pub settled_held_back_by: Option<String>,
}

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The name.
    pub name: String,
    /// For each origin, the last event that the member has, as it reported last. `None` if it has not reported since
    /// the start of this node.
    pub knowledge: Option<VectorClock>,
    /// The present origin of the member, as it reported last.
    #[serde(default)]
    pub origin: Option<OriginId>,
    /// When the member reported. A member reports with each pull, and with each answer to a pull.
    pub reported_at: Option<Timestamp>,
    /// The number of events that another member has and this one lacks. Withheld events do not count. `None` if it has
    /// not reported.
    pub missing_events: Option<u64>,
    /// The number of events that the member withholds, at most. `None` if it has not reported.
    #[serde(default)]
    pub withheld_events: Option<u64>,
}

impl ReplicationStatus {
    /// Reads the status from a store, which may be open read-only. Returns `None` if the store is no replica.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails or the rows of the replica are damaged.
    pub async fn read(store: &dyn EventReader) -> Result<Option<Self>, StoreError> {
        let table = rows::table()?;
        let Some(identity) = rows::identity(store, &table).await? else { return Ok(None) };
        let group = group::read(store).await?;
        let members = match group.is_founded() {
            true => group.members().map(|(name, state)| (name.to_owned(), state)).collect(),
            false => {
                let declared = rows::declared_members(store, &table).await?.into_iter();
                declared.chain([identity.name.clone()]).map(|name| (name, MemberState::Joined)).collect()
            }
        };
        let origins = rows::origins(store, &table).await?.into_iter();
        let origins = origins.map(|(origin, known)| OriginStatus {
            origin,
            is_own: origin == identity.origin,
            sequence: known.through.get(),
            withheld: known.withheld.count(),
            time: known.time.physical(),
            is_retired: group.implies(Dot { origin, sequence: known.through }),
        });
        Ok(Some(Self {
            node: identity.name,
            origin: identity.origin,
            is_restored: identity.log_id != store.log_id(),
            categories: rows::categories(store, &table).await?.into_iter().collect(),
            origins: origins.collect(),
            peers: rows::peers(store, &table).await?,
            members,
            homes: HomesStatus::read(store).await?,
            running: None,
        }))
    }

    /// Returns for each origin the last event that is accounted for.
    #[must_use]
    pub fn knowledge(&self) -> VectorClock {
        let dot = |known: &OriginStatus| Some(Dot { origin: known.origin, sequence: known.sequence.try_into().ok()? });
        self.origins.iter().filter_map(dot).collect()
    }
}

/// Returns the status of a running node. Clones are cheap and can be moved to the server that shows the status.
#[derive(Debug, Clone)]
pub struct Monitor {
    replica: Replica,
    /// The peers of the links.
    peers: BTreeSet<String>,
    links: Vec<watch::Receiver<LinkStatus>>,
}

impl Monitor {
    /// Returns the monitor of a replica with these links. Without events of the membership, the members are this node,
    /// those that it declares, and the peers of the links.
    #[must_use]
    pub fn new<'a>(replica: &Replica, links: impl IntoIterator<Item = &'a Link>) -> Self {
        let links: Vec<_> = links.into_iter().map(Link::watch).collect();
        let peers = links.iter().map(|link| link.borrow().peer.clone()).collect();
        Self { replica: replica.clone(), peers, links }
    }

    /// Returns the status. Reads the rows of the replica.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn status(&self) -> Result<ReplicationStatus, StoreError> {
        let status = ReplicationStatus::read(&**self.replica.store()).await?;
        let mut status = status.ok_or_else(|| rows::damaged("s", &[]))?;
        let time = SystemClock::new().now();
        let links = self.links.iter().map(|link| link.borrow().clone()).collect();
        let members = self.replica.counted_reports(&self.peers).await?;
        let mut running = RunningStatus::new(time, links, members);
        running.unacknowledged = membership::stable::pending(&self.replica).await?;
        if let Some(replication) = self.replica.store().replication() {
            let settled = replication.settled(&**self.replica.store()).await?;
            running.settled = settled.time.map(HybridTime::physical);
            running.settled_held_back_by = settled.held_back_by;
        }
        status.running = Some(running);
        Ok(status)
    }
}

impl RunningStatus {
    fn new(time: Timestamp, links: Vec<LinkStatus>, members: Vec<(String, Option<Frontier>)>) -> Self {
        let reported = || members.iter().filter_map(|(_, frontier)| Some(&frontier.as_ref()?.knowledge));
        let mut all = Knowledge::new();
        reported().for_each(|knowledge| all.merge(knowledge));
        let stable = membership::stable::stable(&members);
        let members = members.into_iter().map(|(name, frontier)| MemberStatus {
            name,
            missing_events: frontier.as_ref().map(|frontier| frontier.knowledge.missing_events(&all)),
            withheld_events: frontier.as_ref().map(|frontier| frontier.knowledge.withheld_events()),
            origin: frontier.as_ref().map(|frontier| frontier.origin),
            reported_at: frontier.as_ref().map(|frontier| frontier.reported_at),
            knowledge: frontier.map(|frontier| frontier.knowledge.clock().clone()),
        });
        let members: Vec<_> = members.collect();
        // A member that has not reported comes last, as the one that lacks the most.
        let missing = |member: &MemberStatus| {
            (member.missing_events.unwrap_or(u64::MAX), member.withheld_events.unwrap_or(u64::MAX))
        };
        let blocking = members.iter().max_by_key(|member| missing(member)).filter(|member| missing(member) > (0, 0));
        let blocked_by = blocking.map(|member| member.name.clone());
        let (unacknowledged, settled, settled_held_back_by) = (BTreeMap::new(), None, None);
        Self { time, links, members, stable, blocked_by, unacknowledged, settled, settled_held_back_by }
    }
}
