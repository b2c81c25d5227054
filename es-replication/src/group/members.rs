//! [`Group`]: the fold of the events of the membership.

use std::collections::{BTreeMap, BTreeSet};

use es_core::RecordedEvent;
use es_core::model::{CanonicalKey, Dot, OriginId, RetiredOrigins, VectorClock};
use serde::{Deserialize, Serialize};

use crate::group::change::Change;

/// The state of a node in the membership. In JSON, its name in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemberState {
    /// The node is a member.
    Joined,
    /// The node leaves, and has not left yet: it or another member has not acknowledged that.
    Leaving,
    /// The node has left.
    Left,
    /// The node was declared dead, and is not retired yet: a remaining member has not acknowledged that.
    Retiring,
    /// The node was retired.
    Retired,
}

impl MemberState {
    pub(crate) const ALL: [Self; 5] = [Self::Joined, Self::Leaving, Self::Left, Self::Retiring, Self::Retired];

    /// Returns the name of the state, as in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }
}

/// A node that is refused because it is no longer a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Departed {
    /// The node has left or was retired. Join it again, and reopen its store.
    #[error(
        "the node {node:?} has left the group or was retired; join it again, and reopen its store, which then takes a \
         new origin"
    )]
    Node {
        /// The name of the node.
        node: String,
    },
    /// The node has joined again, and still uses the origin that was retired. Reopen its store.
    #[error(
        "the node {node:?} uses the origin {origin}, which was retired; reopen its store, which then takes a new origin"
    )]
    Origin {
        /// The name of the node.
        node: String,
        /// The origin.
        origin: OriginId,
    },
}

/// An event of the membership, with what orders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedChange {
    pub(crate) dot: Dot,
    pub(crate) key: CanonicalKey,
    /// The vector clock; `None` for an event that shares the one of the first event of its commit.
    pub(crate) seen: Option<VectorClock>,
    pub(crate) change: Change,
}

impl RecordedChange {
    /// Decodes a recorded event of the membership.
    ///
    /// # Errors
    /// A description of the invalid event.
    pub(crate) fn read(event: &RecordedEvent) -> Result<Self, String> {
        let stamp = event.data.stamp.as_deref().ok_or("an event of the membership without a stamp")?;
        let change = Change::decode(&event.data.event_type, &event.data.payload)?;
        Ok(Self { dot: stamp.dot, key: stamp.canonical_key(), seen: stamp.seen.clone(), change })
    }
}

/// What an operator has declared of a node. Of concurrent declarations, the greatest counts: a member that is gone and
/// counted only delays, and a dead node that is not retired blocks forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Declaration {
    Leaving,
    Joined,
    Retiring,
}

/// The members of a replicated log. It depends only on the set of the events, which are folded in canonical order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// All events, in canonical order.
    changes: Vec<RecordedChange>,
    founders: BTreeSet<String>,
    /// For each node, the declarations that no later one has seen.
    declared: BTreeMap<String, Vec<(Dot, Declaration)>>,
    /// For each completed departure, the origins that have no further event.
    completed: BTreeMap<Dot, BTreeSet<OriginId>>,
    retirements: Vec<(Dot, VectorClock)>,
    retired: RetiredOrigins,
}

/// Two groups with the same events are equal.
impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        self.changes == other.changes
    }
}

impl Eq for Group {}

impl Group {
    /// Returns the group with further events.
    pub(crate) fn with(&self, changes: impl IntoIterator<Item = RecordedChange>) -> Self {
        let mut all = self.changes.clone();
        all.extend(changes);
        all.sort_by_key(|change| change.key);
        let mut group = Self::default();
        let mut clocks = BTreeMap::<OriginId, VectorClock>::new();
        for RecordedChange { dot, seen, change, .. } in &all {
            let clock = clocks.entry(dot.origin).or_default();
            if let Some(seen) = seen {
                clock.clone_from(seen);
            }
            let clock = group.retired.expand(*dot, clock).into_owned();
            group.apply(*dot, &clock, change);
        }
        Self { changes: all, ..group }
    }

    fn apply(&mut self, dot: Dot, seen: &VectorClock, change: &Change) {
        match change {
            Change::GroupFounded { members } => self.founders.extend(members.iter().cloned()),
            Change::MemberJoined { member } => self.declare(member, dot, seen, Declaration::Joined),
            Change::MemberLeaving { member } => self.declare(member, dot, seen, Declaration::Leaving),
            Change::MemberRetiring { member } => self.declare(member, dot, seen, Declaration::Retiring),
            Change::DepartureCompleted { departure, origins, .. } => {
                self.completed.entry(*departure).or_default().extend(origins);
            }
            Change::OriginsRetired { origins } => {
                self.retirements.push((dot, origins.clone()));
                self.retired.set(self.retirements.iter().cloned());
            }
        }
    }

    fn declare(&mut self, member: &str, dot: Dot, seen: &VectorClock, declaration: Declaration) {
        let declared = self.declared.entry(member.to_owned()).or_default();
        let is_seen =
            |earlier: Dot| seen.includes(earlier) || earlier.origin == dot.origin && earlier.sequence < dot.sequence;
        declared.retain(|(earlier, _)| !is_seen(*earlier));
        declared.push((dot, declaration));
    }

    /// Returns `true` if there is an event of the membership. Otherwise the members are those that each node declares.
    pub(crate) fn is_founded(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Returns `true` if an event names the members before the first change.
    pub(crate) fn has_founders(&self) -> bool {
        !self.founders.is_empty()
    }

    /// Returns the state of a node; `None` if no event names it.
    pub(crate) fn state(&self, member: &str) -> Option<MemberState> {
        let Some(declared) = self.declared.get(member).filter(|declared| !declared.is_empty()) else {
            return self.founders.contains(member).then_some(MemberState::Joined);
        };
        let is_completed = self.departures(member).any(|departure| self.completed.contains_key(&departure));
        Some(match (declared.iter().map(|(_, declaration)| *declaration).max()?, is_completed) {
            (Declaration::Joined, _) => MemberState::Joined,
            (Declaration::Leaving, false) => MemberState::Leaving,
            (Declaration::Leaving, true) => MemberState::Left,
            (Declaration::Retiring, false) => MemberState::Retiring,
            (Declaration::Retiring, true) => MemberState::Retired,
        })
    }

    /// Returns the events that declare the departure of a node; none if it does not depart.
    pub(crate) fn departures(&self, member: &str) -> impl Iterator<Item = Dot> {
        let declared = self.declared.get(member).map(Vec::as_slice).unwrap_or_default();
        let last = declared.iter().map(|(_, declaration)| *declaration).max();
        let last = last.filter(|last| *last != Declaration::Joined);
        declared.iter().filter(move |(_, declaration)| Some(*declaration) == last).map(|(dot, _)| *dot)
    }

    /// Returns all nodes that an event names, with their states.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, MemberState)> {
        let names: BTreeSet<&String> = self.founders.iter().chain(self.declared.keys()).collect();
        names.into_iter().filter_map(|name| Some((name.as_str(), self.state(name)?)))
    }

    /// Returns the members that must acknowledge a departure: those that are expected to be up.
    pub(crate) fn remaining(&self) -> BTreeSet<&str> {
        let is_up = |state| matches!(state, MemberState::Joined | MemberState::Leaving);
        self.members().filter(|(_, state)| is_up(*state)).map(|(name, _)| name).collect()
    }

    /// Returns the members that count for stability: all whose departure is not completed.
    pub(crate) fn counted(&self) -> BTreeSet<&str> {
        let has_departed = |state| matches!(state, MemberState::Left | MemberState::Retired);
        self.members().filter(|(_, state)| !has_departed(*state)).map(|(name, _)| name).collect()
    }

    /// Checks that a node has not departed. `origin` is its present origin, if it is known.
    ///
    /// # Errors
    /// [`Departed`] if it has.
    pub(crate) fn check_node(&self, node: &str, origin: Option<OriginId>) -> Result<(), Departed> {
        if matches!(self.state(node), Some(MemberState::Left | MemberState::Retired)) {
            return Err(Departed::Node { node: node.to_owned() });
        }
        match origin.filter(|origin| self.has_departed(*origin)) {
            Some(origin) => Err(Departed::Origin { node: node.to_owned(), origin }),
            None => Ok(()),
        }
    }

    /// Returns `true` if the node of an origin has departed, or had taken another origin before another one departed.
    pub(crate) fn has_departed(&self, origin: OriginId) -> bool {
        self.completed.values().any(|origins| origins.contains(&origin))
    }

    /// Returns `true` if an origin must not be continued.
    pub(crate) fn is_retired(&self, origin: OriginId) -> bool {
        self.has_departed(origin) || self.retirements.iter().any(|(_, origins)| origins.get(origin).is_some())
    }

    /// Returns `true` if all events of an origin up to this one are implied by the clocks of new events.
    pub(crate) fn implies(&self, dot: Dot) -> bool {
        self.retirements.iter().any(|(_, origins)| origins.includes(dot))
    }

    pub(crate) fn retirements(&self) -> &[(Dot, VectorClock)] {
        &self.retirements
    }

    /// Returns the clock of a new event, without retired origins.
    pub(crate) fn compress(&self, clock: &VectorClock) -> VectorClock {
        self.retired.compress(clock)
    }
}
