//! Steps that change the members, and nodes that are down.

use std::collections::{BTreeMap, BTreeSet};

use es_replication::MemberState;

use super::World;
use crate::node::Node;

impl World {
    /// Takes a node down, starts one, or calls an operation of the membership on a random node.
    pub(super) async fn change_membership(&mut self) {
        match self.random() % 8 {
            0..2 => self.take_down().await,
            2 => self.start_one().await,
            3..5 => self.depart(true).await,
            5 => self.depart(false).await,
            6 => self.join_one().await,
            _ => self.check_stable().await,
        }
    }

    /// Takes a node down, unless too few remain.
    async fn take_down(&mut self) {
        let number = self.random_node();
        if self.nodes.iter().flatten().count() < 3 {
            return;
        }
        self.setup.network.stop(number);
        // The pulls of the process end with it.
        self.in_flight.retain(|(target, _)| *target != number);
        let node = self.nodes[number].take().expect("the node runs");
        node.traces.settle().await;
        self.down.insert(number, node);
        self.coverage.nodes_taken_down += 1;
    }

    async fn start_one(&mut self) {
        let numbers: Vec<usize> = self.down.keys().copied().collect();
        if let Some(number) = numbers.get(self.random() as usize % numbers.len().max(1)) {
            self.start(*number).await;
        }
    }

    /// Starts a node that is down.
    pub(super) async fn start(&mut self, number: usize) {
        if let Some(node) = self.down.remove(&number) {
            let origin = node.origin;
            let node = node.restart(&self.setup, None).await;
            self.coverage.origins_minted += u64::from(node.origin != origin);
            self.nodes[number] = Some(node);
        }
    }

    /// Retires a member, usually one that is down, or lets one leave. A group keeps at least two members.
    async fn depart(&mut self, retires: bool) {
        let on = self.random_node();
        if !self.is_member(on).await {
            return;
        }
        let members = self.members(on).await;
        let joined: Vec<usize> =
            members.iter().filter(|(_, state)| **state == MemberState::Joined).map(number).collect();
        let is_chosen = |number: &usize| !retires || *number != on;
        let mut candidates: Vec<usize> = joined.iter().copied().filter(is_chosen).collect();
        if retires && !self.random().is_multiple_of(4) {
            candidates.retain(|number| self.down.contains_key(number));
        }
        let Some(chosen) = candidates.get(self.random() as usize % candidates.len().max(1)).copied() else { return };
        if joined.len() < 3 {
            return;
        }
        let membership = self.node(on).replica.membership();
        let name = format!("n{chosen}");
        self.check_order(on).await;
        if retires {
            membership.retire(&name).await.expect("a member");
            self.has_retired = true;
            self.coverage.retired_down += u64::from(self.down.contains_key(&chosen));
        } else {
            membership.leave(&name).await.expect("a member");
        }
        self.record_operation(on).await;
    }

    /// Joins a node that has departed or departs, on a member.
    async fn join_one(&mut self) {
        let on = self.random_node();
        let members = self.members(on).await;
        let departing: Vec<usize> =
            members.iter().filter(|(_, state)| **state != MemberState::Joined).map(number).collect();
        if let Some(chosen) = departing.get(self.random() as usize % departing.len().max(1)).copied()
            && chosen != on
            && self.is_member(on).await
        {
            self.join(on, chosen).await;
        }
    }

    async fn join(&mut self, on: usize, number: usize) {
        self.check_order(on).await;
        self.node(on).replica.membership().join(&format!("n{number}")).await.expect("a name");
        self.coverage.joined += 1;
        self.record_operation(on).await;
    }

    /// Records the events that an operator has written, which count as acknowledged.
    async fn record_operation(&mut self, on: usize) {
        let before = self.node(on).checked.clone();
        self.record_write(on).await;
        let new: Vec<_> = self.node(on).checked.difference(&before).copied().collect();
        self.oracle.acknowledged.extend(new);
    }

    /// Completes departures and retires origins on a node, as a link does.
    pub(super) async fn advance(&mut self, number: usize) {
        if !self.has_membership || self.nodes[number].is_none() {
            return;
        }
        self.check_order(number).await;
        self.node(number).replica.membership().advance().await.expect("advanced");
        self.record_write(number).await;
    }

    async fn check_order(&mut self, number: usize) {
        let Self { nodes, oracle, coverage, .. } = self;
        oracle.check_order(nodes[number].as_mut().expect("the node runs"), coverage).await;
    }

    async fn record_write(&mut self, number: usize) {
        let Self { nodes, oracle, coverage, .. } = self;
        oracle.record_membership(nodes[number].as_mut().expect("the node runs"), coverage).await;
    }

    async fn members(&self, number: usize) -> BTreeMap<String, MemberState> {
        members(self.nodes[number].as_ref().expect("the node runs")).await
    }

    /// Returns `true` if a node may decide on events, as far as it knows.
    pub(super) async fn is_member(&self, number: usize) -> bool {
        let node = self.nodes[number].as_ref().expect("the node runs");
        let is_joined = self.members(number).await.get(&format!("n{number}")) == Some(&MemberState::Joined);
        // A node that was replaced by an old copy of its directory uses a former origin, which may have departed since.
        is_joined && !node.departed_origins().await.contains(&node.origin)
    }

    /// Checks that what a node takes for stable is on every member.
    async fn check_stable(&mut self) {
        let number = self.random_node();
        let node = self.nodes[number].as_ref().expect("the node runs");
        let Some(stable) = node.replica.stable().clock().await.expect("read") else { return };
        self.coverage.stable_checked += 1;
        let has_departed = |state: &MemberState| matches!(state, MemberState::Left | MemberState::Retired);
        let counted: Vec<usize> =
            self.members(number).await.iter().filter(|(_, state)| !has_departed(state)).map(self::number).collect();
        self.oracle.check_stable(number, &stable, &counted);
    }

    /// Starts every node, lets all departures complete, and either joins the departed nodes again or leaves them out.
    /// Returns `false` if the nodes do not become equal.
    pub(super) async fn heal_membership(&mut self) -> bool {
        // A node that has joined again while it was running takes a new origin when it is reopened.
        for number in 0..self.nodes.len() {
            self.take_down_for_good(number).await;
            self.start(number).await;
        }
        // A node that has departed does not connect others.
        let pairs = (0..self.nodes.len()).flat_map(|one| (0..one).map(move |other| (other, one)));
        self.links = pairs.collect();
        if !self.exchange().await {
            return false;
        }
        let joins_again = self.random().is_multiple_of(2);
        let mut group = self.group_member().await;
        // A node that joins again can bring an earlier change of the members with it. If all members have departed,
        // nobody completes that.
        for _ in 0..20 {
            let on = match group {
                Some(on) => on,
                None => self.any_member().await,
            };
            let outdated = self.outdated().await;
            if !outdated.is_empty() {
                for number in outdated {
                    self.take_down_for_good(number).await;
                    self.start(number).await;
                }
                if !self.exchange().await {
                    return false;
                }
                group = self.group_member().await;
                continue;
            }
            let mut departed = self.departed(on).await;
            if departed.is_empty() {
                return true;
            }
            // A node that departs can cancel its departure only while the group has no member.
            departed.sort_by_key(|number| *number != on);
            if group.is_some() && !joins_again {
                break;
            }
            for number in departed.iter().copied() {
                self.join(on, number).await;
            }
            if !self.exchange().await {
                return false;
            }
            for number in departed {
                self.take_down_for_good(number).await;
                self.start(number).await;
                self.coverage.joined_again += 1;
            }
            if !self.exchange().await {
                return false;
            }
            group = self.group_member().await;
        }
        let Some(on) = group else { return false };
        let departed = self.departed(on).await;
        let members = self.members(on).await;
        let is_pending = members.values().any(|state| matches!(state, MemberState::Leaving | MemberState::Retiring));
        assert!(!is_pending, "a departure is not completed: {members:?}");
        for number in departed {
            let has_left = members[&format!("n{number}")] == MemberState::Left;
            if has_left && !self.restored.contains(&number) {
                self.coverage.left += 1;
                let (node, other) = (self.nodes[number].as_ref().expect("it runs"), &self.nodes[on]);
                self.oracle.check_left(node, other.as_ref().expect("it runs")).await;
            }
            self.take_down_for_good(number).await;
            self.coverage.left_out += 1;
        }
        let nodes = self.nodes.iter().flatten();
        if !self.down.is_empty() {
            self.oracle.forget_lost(nodes).await;
        }
        true
    }

    /// Returns the members that another node refuses until they are reopened, because their present origin has
    /// departed. They may not know that themselves.
    async fn outdated(&self) -> BTreeSet<usize> {
        let mut outdated = BTreeSet::new();
        for node in self.nodes.iter().flatten() {
            let (members, departed) = (members(node).await, node.departed_origins().await);
            let joined = members.iter().filter(|(_, state)| **state == MemberState::Joined).map(number);
            let uses_departed =
                |number: &usize| self.nodes[*number].as_ref().is_some_and(|node| departed.contains(&node.origin));
            outdated.extend(joined.filter(uses_departed));
        }
        outdated
    }

    /// Returns the nodes that have departed or depart, for a node.
    async fn departed(&self, on: usize) -> Vec<usize> {
        let members = self.members(on).await;
        members.iter().filter(|(_, state)| **state != MemberState::Joined).map(number).collect()
    }

    /// Returns a node that takes itself for a member, or any node if none does. A node that knows of a departure is
    /// preferred: one that has departed may not know of any, because the others refuse it.
    async fn any_member(&self) -> usize {
        let (mut member, mut informed) = (None, None);
        for number in 0..self.nodes.len() {
            let (is_member, is_informed) = (self.is_member(number).await, !self.departed(number).await.is_empty());
            if is_member && is_informed {
                return number;
            }
            member = member.or(is_member.then_some(number));
            informed = informed.or(is_informed.then_some(number));
        }
        informed.or(member).unwrap_or(0)
    }

    async fn take_down_for_good(&mut self, number: usize) {
        self.setup.network.stop(number);
        if let Some(node) = self.nodes[number].take() {
            node.traces.settle().await;
            self.down.insert(number, node);
        }
    }

    /// Returns a member of the group: one for which all members have the same members as itself. A node that was
    /// retired may not know that, and takes itself for a member.
    async fn group_member(&self) -> Option<usize> {
        for on in 0..self.nodes.len() {
            let view = self.members(on).await;
            let mut is_member = view.get(&format!("n{on}")) == Some(&MemberState::Joined);
            for other in view.iter().filter(|(_, state)| **state == MemberState::Joined).map(number) {
                is_member &= self.members(other).await == view;
            }
            if is_member {
                return Some(on);
            }
        }
        None
    }

    /// Checks that all nodes have the same members.
    pub(super) async fn check_members(&self) {
        let mut all = BTreeSet::new();
        for node in self.nodes.iter().flatten() {
            all.insert(members(node).await);
        }
        assert!(all.len() <= 1, "the nodes have different members: {all:?}");
    }
}

pub(crate) async fn members(node: &Node) -> BTreeMap<String, MemberState> {
    node.replica.membership().members().await.expect("read")
}

/// Returns the number of a member.
fn number((name, _): (&String, &MemberState)) -> usize {
    name[1..].parse().expect("a number")
}
