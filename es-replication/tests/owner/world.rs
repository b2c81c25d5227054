//! [`World`]: the nodes, and the random steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::Outcome;
use es_core::model::{Entropy, LogId, OriginId};
use es_core::prelude::*;
use es_core::store::NotOwner;
use es_core::store::memory::MemoryStore;
use es_core::testing::{ManualClock, SeededEntropy};
use es_core::{Commit, CommitError, ExecuteError};
use es_replication::{
    ForwardError, ForwardingRepository, HandOverError, Peer, PullError, Refusal, Replica, ReplicaOptions,
};

use crate::domain::{Pay, Vault, paid, vault};
use crate::network::{Network, SimulatedPeer};
use crate::oracle::{Oracle, hand_overs};

/// The number of steps of a run.
const STEPS: u64 = 150;
/// The number of vaults.
const VAULTS: u64 = 3;

/// Defines [`Coverage`] with these counters.
macro_rules! counters {
    ($($name:ident,)*) => {
        /// Counts the cases that the simulation must reach.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct Coverage {
            $(pub(crate) $name: u64,)*
        }

        impl Coverage {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Asserts that every case occurred. Without it, a change of the simulation could hide a fault.
            pub(crate) fn check(&self) {
                let counters = [$((stringify!($name), self.$name),)*];
                let missing: Vec<_> = counters.into_iter().filter(|(_, count)| *count == 0).collect();
                assert!(missing.is_empty(), "cases did not occur: {missing:?}");
            }
        }
    };
}

counters! {
    executed_here,
    executed_elsewhere,
    repeated,
    rejected,
    unanswered,
    unreachable,
    not_owner,
    refused_here,
    raw_commits,
    raw_commits_refused,
    hand_overs,
    hand_overs_refused,
    take_overs,
    restarts,
    origins_minted,
    homes_confirmed,
    homes_unconfirmed,
    restored,
    clock_ahead,
    late_hand_overs,
}

/// A running node.
pub(crate) struct SimulatedNode {
    pub(crate) number: usize,
    store: MemoryStore,
    pub(crate) replica: Replica,
    pub(crate) vaults: ForwardingRepository<Vault>,
    clock: Arc<ManualClock>,
    origin: OriginId,
}

pub(crate) struct World {
    random: Arc<SeededEntropy>,
    network: Arc<Network>,
    /// `None` only while a node restarts.
    nodes: Vec<Option<SimulatedNode>>,
    oracle: Oracle,
    /// The commands without a result: the amount, and the vault.
    pending: BTreeMap<i64, u64>,
    /// The commands with an id: the amount, and the vault.
    commands: Vec<(i64, u64)>,
    next_amount: i64,
    /// Whether operators take streams over. Their nodes may be alive.
    has_operators: bool,
    coverage: Coverage,
}

impl World {
    pub(crate) async fn open(seed: u64) -> Self {
        let random = Arc::new(SeededEntropy::new(seed));
        let network = Arc::new(Network::new(Arc::clone(&random)));
        let count = 3 + (random.next_u64() % 3) as usize;
        let has_operators = random.next_u64().is_multiple_of(4);
        let mut world = Self {
            random,
            network,
            nodes: (0..count).map(|_| None).collect(),
            oracle: Oracle::default(),
            pending: BTreeMap::new(),
            commands: Vec::new(),
            next_amount: 1,
            has_operators,
            coverage: Coverage::default(),
        };
        for number in 0..count {
            let clock = Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")));
            clock.advance(Duration::from_millis(world.random() % 20_000));
            let store = MemoryStore::with_clock(clock.clone());
            world.nodes[number] = Some(world.start(number, store, clock).await);
        }
        // The node that the id names creates each vault.
        for id in 0..VAULTS {
            let node = id as usize % 3;
            let amount = world.next_amount();
            world.node(node).vaults.repository().execute(&id, Pay(amount)).await.expect("created");
            world.oracle.executed.insert(amount, id);
        }
        world
    }

    fn random(&self) -> u64 {
        self.random.next_u64()
    }

    fn random_node(&self) -> usize {
        self.random() as usize % self.nodes.len()
    }

    fn node(&self, number: usize) -> &SimulatedNode {
        self.nodes[number].as_ref().expect("the node runs")
    }

    /// Returns an amount that no other payment has, so that it identifies the command.
    fn next_amount(&mut self) -> i64 {
        self.next_amount += 1;
        // The first payments fill the vaults.
        let is_withdrawal = self.next_amount > 20 && self.random().is_multiple_of(3);
        if is_withdrawal { -self.next_amount } else { self.next_amount }
    }

    fn peer(&self, from: usize, to: usize) -> Arc<dyn Peer> {
        Arc::new(SimulatedPeer { network: Arc::clone(&self.network), from, to, name: format!("n{to}") })
    }

    fn peers(&self, from: usize) -> Vec<Arc<dyn Peer>> {
        (0..self.nodes.len()).filter(|to| *to != from).map(|to| self.peer(from, to)).collect()
    }

    async fn start(&self, number: usize, store: MemoryStore, clock: Arc<ManualClock>) -> SimulatedNode {
        let options = ReplicaOptions::new(format!("n{number}")).aggregate::<Vault>().expect("a category");
        let options = options.with_clock(clock.clone()).with_entropy(self.random.clone());
        let options = self.peers(number).into_iter().fold(options, ReplicaOptions::member);
        self.network.start(number, options.source());
        let store = store.with_hook(options.hook()).await.expect("started");
        let shared: Arc<dyn EventStore> = Arc::new(store.clone());
        let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook").with_page_bytes(600);
        let replica = replica.with_source(options.source());
        let repository = Repository::new(shared).with_clock(clock.clone()).with_entropy(self.random.clone());
        let vaults = ForwardingRepository::new(&replica, Arc::new(repository), self.peers(number));
        let vaults = vaults.with_timeout(Duration::from_millis(300)).accept::<Pay>();
        let origin = replica.origin().await.expect("an origin");
        SimulatedNode { number, store, replica, vaults, clock, origin }
    }

    pub(crate) async fn run(&mut self) {
        for _ in 0..STEPS {
            self.step().await;
            for node in self.nodes.iter().flatten() {
                node.clock.advance(Duration::from_millis(7));
            }
            self.oracle.check_homes(&self.nodes, VAULTS).await;
        }
    }

    async fn step(&mut self) {
        match self.random() % 110 {
            0..25 => self.forward().await,
            25..32 => self.repeat().await,
            32..37 => self.execute_here().await,
            37..42 => self.commit_raw().await,
            42..50 => self.hand_over().await,
            50..85 => self.pull().await,
            85..92 => {
                let (one, other) = (self.random_node(), self.random_node());
                self.network.toggle(one, other);
            }
            92..96 => self.restart(false).await,
            96..104 => self.confirm_homes().await,
            104..107 => self.take_over().await,
            107 if self.has_operators => self.restart(true).await,
            _ => {
                let number = self.random_node();
                self.node(number).clock.advance(Duration::from_secs(self.random() % 90));
            }
        }
    }

    /// Executes a new command through any node.
    async fn forward(&mut self) {
        let (amount, id, node) = (self.next_amount(), self.random() % VAULTS, self.random_node());
        self.commands.push((amount, id));
        self.execute(node, id, amount).await;
    }

    /// Repeats a command whose result is not known, or one that was executed.
    async fn repeat(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        let (amount, id) = self.commands[self.random() as usize % self.commands.len()];
        if !self.oracle.refused.contains_key(&amount) {
            let node = self.random_node();
            self.execute(node, id, amount).await;
        }
    }

    async fn execute(&mut self, number: usize, id: u64, amount: i64) {
        let command_id = CommandId::new(format!("pay-{amount}")).expect("a name");
        let result = self.node(number).vaults.execute(&id, Pay(amount), command_id).await;
        // A node that takes a stream over may not know of a command that the home has executed.
        let was_executed = self.oracle.executed.contains_key(&amount) && !self.oracle.taken_over.contains(&id);
        if let Err(error) = &result {
            let is_known = was_executed && matches!(error, ForwardError::Rejected(_));
            assert!(!is_known, "the repeat of the executed payment {amount} is rejected");
        }
        let coverage = &mut self.coverage;
        match result {
            Ok(forwarded) => {
                coverage.executed_here += u64::from(forwarded.node.is_none());
                coverage.executed_elsewhere += u64::from(forwarded.node.is_some());
                coverage.repeated += u64::from(forwarded.outcome == Outcome::Repeated);
                assert!(!was_executed || forwarded.outcome == Outcome::Repeated, "payment {amount} was executed twice");
                self.pending.remove(&amount);
                self.oracle.executed.insert(amount, id);
            }
            Err(error) if error.may_be_executed() => {
                coverage.unanswered += 1;
                if !self.oracle.executed.contains_key(&amount) {
                    self.pending.insert(amount, id);
                }
            }
            Err(error) => {
                match error {
                    ForwardError::Rejected(_) => coverage.rejected += 1,
                    ForwardError::Unreachable { .. } => coverage.unreachable += 1,
                    ForwardError::NotOwner(_) => coverage.not_owner += 1,
                    error => panic!("node {number}: {error:?}"),
                }
                if !self.oracle.executed.contains_key(&amount) && !self.pending.contains_key(&amount) {
                    self.oracle.refused.insert(amount, id);
                }
            }
        }
    }

    /// Executes a command on a node that must be the home.
    async fn execute_here(&mut self) {
        let (amount, id, node) = (self.next_amount(), self.random() % VAULTS, self.random_node());
        match self.node(node).vaults.repository().execute(&id, Pay(amount)).await {
            Ok(_) => drop(self.oracle.executed.insert(amount, id)),
            Err(ExecuteError::NotOwner(_)) => {
                self.coverage.refused_here += 1;
                self.oracle.refused.insert(amount, id);
            }
            Err(ExecuteError::Rejected(_)) => drop(self.oracle.refused.insert(amount, id)),
            Err(error) => panic!("node {node}: {error}"),
        }
    }

    /// Writes an event without a repository.
    async fn commit_raw(&mut self) {
        let (amount, id, node) = (self.next_amount().abs(), self.random() % VAULTS, self.random_node());
        let commit = Commit::new().append(vault(id), paid(amount));
        match self.node(node).store.commit(commit).await {
            Ok(_) => {
                self.coverage.raw_commits += 1;
                self.oracle.executed.insert(amount, id);
            }
            Err(CommitError::Rejected(error)) if error.is::<NotOwner>() => {
                self.coverage.raw_commits_refused += 1;
                self.oracle.refused.insert(amount, id);
            }
            Err(error) => panic!("node {node}: {error}"),
        }
    }

    async fn hand_over(&mut self) {
        let (node, to, id) = (self.random_node(), self.random_node(), self.random() % VAULTS);
        if node == to {
            return;
        }
        let peer = self.peer(node, to);
        match self.node(node).replica.hand_over(&vault(id), &*peer).await {
            Ok(()) => self.coverage.hand_overs += 1,
            Err(HandOverError::NotOwner(_)) => self.coverage.hand_overs_refused += 1,
            Err(HandOverError::Peer(_) | HandOverError::NoEvents { .. }) => {}
            Err(error) => panic!("node {node}: {error}"),
        }
    }

    /// An operator takes a stream over, although its home may be alive.
    async fn take_over(&mut self) {
        let (node, id) = (self.random_node(), self.random() % VAULTS);
        if !self.has_operators {
            return;
        }
        match self.node(node).replica.take_over(&vault(id)).await {
            Ok(()) => {
                self.coverage.take_overs += 1;
                self.oracle.taken_over.insert(id);
            }
            Err(HandOverError::NoEvents { .. }) => {}
            Err(error) => panic!("node {node}: {error}"),
        }
    }

    async fn confirm_homes(&mut self) {
        let number = self.random_node();
        let before = self.node(number).replica.home_origins().await.expect("read");
        let confirmed = self.node(number).replica.confirm_homes(&self.peers(number)).await;
        let after = self.node(number).replica.home_origins().await.expect("read");
        self.coverage.homes_confirmed += u64::from(before != after);
        self.coverage.homes_unconfirmed += u64::from(!matches!(confirmed, Ok(true)));
    }

    async fn pull(&mut self) {
        let (target, source) = (self.random_node(), self.random_node());
        if target != source {
            self.pull_from(target, source).await;
        }
    }

    /// Pulls one page. Returns `true` if nothing is left.
    async fn pull_from(&mut self, target: usize, source: usize) -> bool {
        let node = self.node(target);
        match node.replica.pull(&*self.peer(target, source), Duration::ZERO).await {
            Ok(pulled) => return pulled.is_last && pulled.events == 0,
            Err(PullError::Outdated | PullError::Peer(_)) => {}
            Err(PullError::Refused(Refusal::ClockAhead { .. })) => self.coverage.clock_ahead += 1,
            Err(error) => panic!("node {target}: {:?}", es_core::model::ErrorChain(&error)),
        }
        false
    }

    /// Restarts a node, with its directory or with a restored backup of it.
    async fn restart(&mut self, is_restored: bool) {
        let number = self.random_node();
        let node = self.nodes[number].take().expect("the node runs");
        self.network.stop(number);
        node.vaults.repository().settle().await;
        let log_id = if is_restored { LogId::new() } else { node.store.log_id() };
        let started = self.start(number, node.store.copy(log_id), node.clock).await;
        self.coverage.restarts += 1;
        self.coverage.restored += u64::from(is_restored);
        self.coverage.origins_minted += u64::from(started.origin != node.origin);
        self.nodes[number] = Some(started);
    }

    /// Heals all links, pulls until no node receives anything new, repeats the commands without a result, and checks
    /// the end.
    pub(crate) async fn heal(&mut self) -> Coverage {
        self.network.heal();
        for node in self.nodes.iter().flatten() {
            node.clock.set("2026-01-31T18:00:00Z".parse().expect("a time"));
        }
        self.exchange().await;
        for number in 0..self.nodes.len() {
            let confirmed = self.node(number).replica.confirm_homes(&self.peers(number)).await;
            assert!(confirmed.expect("all members answer"), "node {number} has everything");
        }
        for (amount, id) in self.pending.clone() {
            let node = self.random_node();
            self.execute(node, id, amount).await;
        }
        // A vault whose home was restored has none, and its commands have no result.
        self.exchange().await;
        for node in self.nodes.iter().flatten() {
            self.oracle.check_clocks(node, VAULTS).await;
        }
        self.oracle.check_homes(&self.nodes, VAULTS).await;
        self.oracle.check_end(&self.nodes, VAULTS).await;
        for id in 0..VAULTS {
            self.coverage.late_hand_overs += u64::from(hand_overs(self.node(0), id).await > 2);
        }
        self.coverage.clone()
    }

    async fn exchange(&mut self) {
        for _ in 0..400 {
            let mut is_complete = true;
            for target in 0..self.nodes.len() {
                for source in (0..self.nodes.len()).filter(|source| *source != target) {
                    is_complete &= self.pull_from(target, source).await;
                }
            }
            if is_complete {
                return;
            }
        }
        panic!("the nodes do not become equal");
    }
}
