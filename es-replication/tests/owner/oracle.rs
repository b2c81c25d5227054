//! What must hold. Stamps are read only to compare the events of a stream.

use std::collections::{BTreeMap, BTreeSet};

use es_core::model::{Dot, OriginId, VectorClock};
use es_core::prelude::*;
use es_core::{RecordedEvent, StreamRead};

use crate::domain::{Paid, Vault, vault};
use crate::world::SimulatedNode;

/// The commands whose result a client knows.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// The amounts of the commands that a client was told to be executed, with their vaults.
    pub(crate) executed: BTreeMap<i64, u64>,
    /// The amounts of the commands that a client was told not to be executed.
    pub(crate) refused: BTreeMap<i64, u64>,
    /// The events whose streams were taken over from a node that may have been alive.
    pub(crate) taken_over: BTreeSet<u64>,
}

impl Oracle {
    /// Checks that at most one node decides on each vault.
    pub(crate) async fn check_homes(&self, nodes: &[Option<SimulatedNode>], vaults: u64) {
        for id in (0..vaults).filter(|id| !self.taken_over.contains(id)) {
            let mut deciding = Vec::new();
            for node in nodes.iter().flatten() {
                let home = node.replica.home(&vault(id)).await.expect("read");
                let origins = node.replica.home_origins().await.expect("read");
                if home.is_some_and(|home| origins.contains(&home)) {
                    deciding.push(node.number);
                }
            }
            assert!(deciding.len() <= 1, "the nodes {deciding:?} decide on vault {id}");
        }
    }

    /// Checks that every two events of an vault are ordered by their clocks, in the log of a node.
    pub(crate) async fn check_clocks(&self, node: &SimulatedNode, vaults: u64) {
        for id in (0..vaults).filter(|id| !self.taken_over.contains(id)) {
            let events = events(node, id).await;
            let mut seen_by_origin = BTreeMap::<OriginId, VectorClock>::new();
            let mut before: Vec<Dot> = Vec::new();
            for event in &events {
                let stamp = event.data.stamp.as_ref().expect("a stamp");
                if let Some(seen) = &stamp.seen {
                    seen_by_origin.insert(stamp.dot.origin, seen.clone());
                }
                let seen = &seen_by_origin[&stamp.dot.origin];
                let knows = |dot: &Dot| dot.origin == stamp.dot.origin || seen.includes(*dot);
                let unknown: Vec<&Dot> = before.iter().filter(|dot| !knows(dot)).collect();
                assert!(
                    unknown.is_empty(),
                    "node {}: {} of vault {id} has not seen {unknown:?}",
                    node.number,
                    stamp.dot
                );
                before.push(stamp.dot);
            }
        }
    }

    /// Checks that a healed group is equal, that every executed command has one effect, and that no other one has any.
    pub(crate) async fn check_end(&self, nodes: &[Option<SimulatedNode>], vaults: u64) {
        let mut first: Option<Vec<Vault>> = None;
        for node in nodes.iter().flatten() {
            let mut states = Vec::new();
            for id in 0..vaults {
                let cached = node.vaults.repository().load(&id).await.expect("loaded");
                node.vaults.repository().settle().await;
                let fresh = Repository::<Vault>::new(node.replica.store().clone()).without_cache();
                let folded = fresh.without_snapshots().load(&id).await.expect("loaded");
                assert_eq!(cached.state, folded.state);
                assert_eq!(cached.version(), folded.version());
                if !self.taken_over.contains(&id) {
                    assert_eq!(folded.state.concurrent, 0, "vault {id}");
                    let mut sum = 0;
                    for amount in &folded.state.payments {
                        sum += amount;
                        assert!(sum >= 0, "vault {id}: {:?}", folded.state.payments);
                    }
                }
                states.push(folded.state);
            }
            match &first {
                Some(first) => assert_eq!(&states, first, "node {} has another state", node.number),
                None => first = Some(states),
            }
        }
        let states = first.expect("a node");
        let effects =
            |amount: &i64, id: &u64| states[*id as usize].payments.iter().filter(|paid| *paid == amount).count();
        for (amount, id) in &self.executed {
            assert_eq!(effects(amount, id), 1, "the effects of the payment {amount} to vault {id}");
        }
        for (amount, id) in &self.refused {
            assert_eq!(effects(amount, id), 0, "the effects of the refused payment {amount} to vault {id}");
        }
        for (id, state) in states.iter().enumerate() {
            let distinct: BTreeSet<&i64> = state.payments.iter().collect();
            assert_eq!(distinct.len(), state.payments.len(), "vault {id} has a payment twice: {:?}", state.payments);
        }
    }
}

/// Returns the events of an vault in the order of the log of a node.
pub(crate) async fn events(node: &SimulatedNode, id: u64) -> Vec<RecordedEvent> {
    let read = node.replica.store().read_stream(StreamRead::new(vault(id))).await.expect("read");
    read.collect().await.expect("read")
}

/// Returns the number of hand-overs in the log of a node.
pub(crate) async fn hand_overs(node: &SimulatedNode, id: u64) -> u64 {
    let is_payment = |event: &RecordedEvent| Paid::decode(event.into()).is_ok();
    events(node, id).await.iter().filter(|event| !is_payment(event)).count() as u64
}
