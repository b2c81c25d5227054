//! A seeded simulation: nodes that are cut off, lose answers and restart register, open and erase persons at random.
//!
//! At the end of a run all links are healed. Then every node opens every value of a person who was not erased, no node
//! has a key of an erased person, and neither a log nor a page contains a key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use es_personal::{DataKey, KeyState, KeyStore, MemoryKeyStore, Opened, Personal};
use es_replication::StreamFilter;

use crate::network::Network;
use crate::nodes::{Node, contains_key, content, subject};

const GROUP: [&str; 3] = ["a", "b", "c"];
const PERSONS: u64 = 4;
const STEPS: u64 = 60;
const SEEDS: u64 = 40;

/// What happened in all runs. No number may stay at 0.
#[derive(Debug, Default)]
struct Coverage {
    received: u64,
    lost: u64,
    unavailable: u64,
    erased_while_away: u64,
    several_keys: u64,
    refused_seals: u64,
    restarts: u64,
}

struct World {
    network: Arc<Network>,
    nodes: Vec<Node>,
    /// The key stores, which survive a restart.
    keys: Vec<Arc<dyn KeyStore>>,
    values: Vec<(u64, Personal<String>, String)>,
    erased: BTreeSet<u64>,
    /// The keys that a node had of a person.
    known: BTreeMap<u64, Vec<DataKey>>,
    cut: BTreeSet<(usize, usize)>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let network = Network::new(seed);
        network.lose_answers();
        let keys: Vec<Arc<dyn KeyStore>> = GROUP.iter().map(|_| Arc::new(MemoryKeyStore::new()) as _).collect();
        let mut nodes = Vec::new();
        for (name, keys) in GROUP.iter().zip(&keys) {
            let parts = (es_core::store::memory::MemoryStore::new(), Arc::clone(keys));
            nodes.push(Node::open_with(&network, name, &GROUP, parts, StreamFilter::all()).await);
        }
        let (values, erased, known, cut) = (Vec::new(), BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        Self { network, nodes, keys, values, erased, known, cut }
    }

    fn draw(&self, end: usize) -> usize {
        self.network.draw(end as u64) as usize
    }

    async fn step(&mut self, number: u64, coverage: &mut Coverage) {
        let (node, person) = (self.draw(GROUP.len()), self.network.draw(PERSONS));
        let other = (node + 1 + self.draw(GROUP.len() - 1)) % GROUP.len();
        match self.draw(20) {
            0..5 => self.register(node, person, number, coverage).await,
            // A lost answer fails a pull, which is repeated later.
            5..11 => drop(self.nodes[node].pull(GROUP[other]).await),
            11..15 => self.open(node, coverage).await,
            15 => {
                self.network.cut(GROUP[node], GROUP[other]);
                self.cut.insert((node.min(other), node.max(other)));
            }
            16 | 17 => {
                self.network.heal(GROUP[node], GROUP[other]);
                self.cut.remove(&(node.min(other), node.max(other)));
            }
            18 => self.restart(node, coverage).await,
            // Few persons are erased, so that there is something to erase.
            _ if number.is_multiple_of(3) => {
                self.nodes[node].erase(person).await;
                coverage.erased_while_away += u64::from(!self.cut.is_empty());
                self.erased.insert(person);
            }
            _ => {}
        }
        tokio::task::yield_now().await;
    }

    async fn register(&mut self, node: usize, person: u64, number: u64, coverage: &mut Coverage) {
        let KeyState::Present(key) = self.keys[node].get_or_create(&subject(person)).await.expect("read") else {
            coverage.refused_seals += 1;
            return;
        };
        let text = format!("{person}-{number}@example.org");
        let sealed = self.nodes[node].register(person, &text).await;
        self.values.push((person, sealed, text));
        let known = self.known.entry(person).or_default();
        if !known.contains(&key) {
            known.push(key);
            coverage.several_keys += u64::from(known.len() > 1);
        }
    }

    async fn open(&self, node: usize, coverage: &mut Coverage) {
        if self.values.is_empty() {
            return;
        }
        let (person, sealed, text) = &self.values[self.draw(self.values.len())];
        match self.nodes[node].open_value(sealed).await {
            Ok(Opened::Value(found)) => assert_eq!(found, *text),
            Ok(Opened::Erased) => assert!(self.erased.contains(person), "nobody has erased {person}"),
            // The node with the key is cut off.
            Err(_) => coverage.unavailable += 1,
        }
    }

    async fn restart(&mut self, node: usize, coverage: &mut Coverage) {
        let stopped = self.nodes.remove(node);
        let started = stopped.restart(&GROUP, Arc::clone(&self.keys[node])).await;
        self.nodes.insert(node, started);
        coverage.restarts += 1;
    }

    async fn check(&self, seed: u64) {
        self.network.heal_all();
        for _ in 0..2 {
            for node in &self.nodes {
                for peer in GROUP.iter().filter(|name| **name != node.name) {
                    node.pull(peer).await.expect("pulled");
                }
            }
        }
        for node in &self.nodes {
            for person in &self.erased {
                node.wait_until_destroyed(*person).await;
            }
        }
        let all: Vec<&DataKey> = self.known.values().flatten().collect();
        for node in &self.nodes {
            for (person, sealed, text) in &self.values {
                let expected = match self.erased.contains(person) {
                    true => Opened::Erased,
                    false => Opened::Value(text.clone()),
                };
                let opened = node.open_value(sealed).await;
                let opened = opened.unwrap_or_else(|error| panic!("seed {seed}, {}: {error}", node.name));
                assert_eq!(opened, expected, "seed {seed}, {}", node.name);
            }
            for (person, keys) in self.known.iter().filter(|(person, _)| self.erased.contains(person)) {
                for key in keys {
                    assert_eq!(node.local_state(*person, key).await, KeyState::Destroyed, "seed {seed}, {}", node.name);
                }
            }
            let log = node.log().await;
            assert!(!all.iter().any(|key| contains_key(&log, key)), "seed {seed}, the log of {}", node.name);
        }
        let pages = content(&self.network.pages());
        assert!(!all.iter().any(|key| contains_key(&pages, key)), "seed {seed}, a page");
    }
}

#[tokio::test(start_paused = true)]
async fn every_node_opens_what_is_not_erased_and_no_node_keeps_what_is() {
    let mut coverage = Coverage::default();
    for seed in 0..SEEDS {
        let mut world = World::new(seed).await;
        for number in 0..STEPS {
            world.step(number, &mut coverage).await;
        }
        world.check(seed).await;
        coverage.received += world.network.sent().len() as u64;
        coverage.lost += world.network.lost();
    }
    let Coverage { received, lost, unavailable, erased_while_away, several_keys, refused_seals, restarts } = coverage;
    let counts = [received, lost, unavailable, erased_while_away, several_keys, refused_seals, restarts];
    assert!(counts.iter().all(|count| *count > 0), "not covered: {counts:?}");
}
