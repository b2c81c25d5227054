//! [`World`]: the nodes, and the random steps.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use es_core::aggregate::Outcome;
use es_core::model::{Clock, Entropy};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::testing::{ManualClock, SeededEntropy};
use es_core::{EventId, StreamId, UnitOfWork};
use es_replication::{PullError, Pulled, Refusal, StreamFilter, Token, WaitError};
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::coverage::Coverage;
use crate::domain::{Note, Trace};
use crate::network::Network;
use crate::node::{Node, Setup};
use crate::oracle::Oracle;
use crate::settled;

mod membership;

pub(crate) use membership::members;

/// The number of steps of a run.
const STEPS: u64 = 120;
/// The number of aggregates.
const AGGREGATES: u64 = 3;

/// Faults of a broken build.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) sends_by_origin: bool,
}

/// A client that uses several nodes.
#[derive(Debug, Default)]
struct Session {
    token: Token,
    /// The events that the client has read or written.
    seen: BTreeSet<EventId>,
}

/// A pull whose answer is under way.
type InFlight = Pin<Box<dyn Future<Output = Result<Pulled, PullError>>>>;

pub(crate) struct World {
    setup: Setup,
    faults: Faults,
    /// The pairs of nodes with a link.
    links: Vec<(usize, usize)>,
    /// `None` while a node restarts or is down.
    nodes: Vec<Option<Node>>,
    /// The nodes that are down.
    down: BTreeMap<usize, Node>,
    /// The nodes that were restored from an older copy.
    restored: BTreeSet<usize>,
    /// Whether the members change.
    has_membership: bool,
    /// Whether a member was retired. It may have events that others receive after they have settled without it.
    has_retired: bool,
    in_flight: Vec<(usize, InFlight)>,
    /// Whether the links have filters.
    has_filters: bool,
    /// The filters of links that do not select every stream, by target and source.
    filters: BTreeMap<(usize, usize), StreamFilter>,
    oracle: Oracle,
    sessions: [Session; 2],
    /// The commands with an id, for repeats: their number, and the aggregate.
    commands: Vec<(u64, u64)>,
    next_number: u64,
    coverage: Coverage,
}

impl World {
    pub(crate) async fn open(seed: u64, faults: Faults) -> Self {
        let random = Arc::new(SeededEntropy::new(seed));
        let network = Arc::new(Network::new(Arc::clone(&random), faults.sends_by_origin));
        let nodes = 3 + (random.next_u64() % 5) as usize;
        let has_filters = random.next_u64().is_multiple_of(2) && !faults.sends_by_origin;
        // A link with a filter relies on its cursor, which names other events in a copy of a directory.
        let copies_directories = random.next_u64().is_multiple_of(2) && !has_filters;
        let setup = Setup { network, random, nodes, copies_directories };
        let has_membership = setup.random.next_u64().is_multiple_of(2) && !faults.sends_by_origin;
        let links = topology(&setup.random, nodes);
        let mut world = Self {
            setup,
            faults,
            links,
            nodes: Vec::new(),
            down: BTreeMap::new(),
            restored: BTreeSet::new(),
            has_membership,
            has_retired: false,
            in_flight: Vec::new(),
            has_filters,
            filters: BTreeMap::new(),
            oracle: Oracle::new(has_filters),
            sessions: Default::default(),
            commands: Vec::new(),
            next_number: 1,
            coverage: Coverage::default(),
        };
        for number in 0..nodes {
            let skew = Duration::from_millis(world.random() % 20_000);
            let clock = Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")));
            clock.advance(skew);
            let store = MemoryStore::with_clock(clock.clone());
            world.nodes.push(Some(Node::start(&world.setup, number, store, clock, Vec::new()).await));
        }
        world
    }

    pub(crate) fn coverage(self) -> Coverage {
        let (lost, repeated, delayed) = self.setup.network.counts();
        Coverage { answers_lost: lost, answers_repeated: repeated, answers_delayed: delayed, ..self.coverage }
    }

    fn random(&self) -> u64 {
        self.setup.random.next_u64()
    }

    fn random_node(&self) -> usize {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|number| self.nodes[*number].is_some()).collect();
        running[self.random() as usize % running.len()]
    }

    fn node(&mut self, number: usize) -> &mut Node {
        self.nodes[number].as_mut().expect("the node runs")
    }

    pub(crate) async fn run(&mut self) {
        for _ in 0..STEPS {
            self.step().await;
            let number = self.random_node();
            self.advance(number).await;
            for node in self.nodes.iter_mut().flatten() {
                node.clock.advance(Duration::from_millis(7));
                self.oracle.check_order(node, &mut self.coverage).await;
            }
        }
    }

    async fn step(&mut self) {
        if self.has_membership && self.random().is_multiple_of(6) {
            return self.change_membership().await;
        }
        match self.random() % 121 {
            0..22 => self.write().await,
            22..25 => self.write_two().await,
            25..30 => self.repeat_command().await,
            30..66 => self.pull().await,
            66..72 => self.deliver().await,
            72..76 => self.cut_or_heal(),
            76..79 => self.restart(false).await,
            79..80 => self.restart_together().await,
            80..83 => self.restart(true).await,
            83..87 => self.back_up(),
            87..91 => self.jump_clock(),
            91..97 => self.read_in_session().await,
            97..102 => {
                let number = self.random_node();
                self.resolve(number).await;
            }
            105..115 => self.change_filter(),
            115..121 => {
                let number = self.random_node();
                self.settle(number).await;
            }
            _ => {
                let (number, id) = (self.random_node(), self.random() % AGGREGATES);
                let node = self.nodes[number].as_ref().expect("the node runs");
                self.oracle.check_load(node, id, &mut self.coverage).await;
            }
        }
    }

    /// Executes a command on a node; half of them with an id.
    async fn write(&mut self) {
        let (number, id) = (self.next_number, self.random() % AGGREGATES);
        self.next_number += 1;
        let node = self.random_node();
        if number.is_multiple_of(2) {
            self.commands.push((number, id));
        }
        self.execute(node, number, id).await;
    }

    /// Executes a command again under its id, usually on another node.
    async fn repeat_command(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        let (number, id) = self.commands[self.random() as usize % self.commands.len()];
        let node = self.random_node();
        self.execute(node, number, id).await;
    }

    /// Executes commands on two aggregates in one commit, which a filter may divide.
    async fn write_two(&mut self) {
        let (number, id, node) = (self.next_number, self.random() % AGGREGATES, self.random_node());
        self.next_number += 2;
        let commands = [(number, id), (number + 1, (id + 1) % AGGREGATES)];
        if !self.may_write(node, None).await {
            return;
        }
        let replicating = self.node(node);
        let unit = UnitOfWork::new(replicating.replica.store());
        let [(first, one), (second, other)] = commands;
        let unit = unit.execute(&*replicating.traces, one, Note(first));
        unit.execute(&*replicating.traces, other, Note(second)).await.expect("executed");
        let before = replicating.checked.clone();
        let Self { nodes, oracle, .. } = self;
        let node = nodes[node].as_mut().expect("the node runs");
        oracle.record_write(node).await;
        let new: BTreeSet<EventId> = node.checked.difference(&before).copied().collect();
        oracle.acknowledged.extend(new.iter().copied());
        for (number, id) in commands {
            let stream = Trace::stream(&id).expect("a name");
            let ids = new.iter().copied().filter(|id| oracle.is_of(*id, &stream)).collect();
            oracle.commands.insert(number, (id, ids));
        }
    }

    /// Returns `true` if a node may write a stream, or any stream.
    async fn may_write(&mut self, node: usize, stream: Option<&StreamId>) -> bool {
        if !self.is_member(node).await {
            self.coverage.writes_omitted += 1;
            return false;
        }
        let node = self.nodes[node].as_mut().expect("the node runs");
        self.oracle.check_order(node, &mut self.coverage).await;
        self.oracle.has_all(node, stream).await
    }

    fn filter(&self, target: usize, source: usize) -> StreamFilter {
        self.filters.get(&(target, source)).cloned().unwrap_or_default()
    }

    /// Changes the filter of a link. A third of the filters select every stream.
    fn change_filter(&mut self) {
        if !self.has_filters {
            return;
        }
        let (from, to) = self.links[self.random() as usize % self.links.len()];
        let link = if self.random().is_multiple_of(2) { (from, to) } else { (to, from) };
        if self.random().is_multiple_of(3) {
            self.filters.remove(&link);
        } else {
            let streams = (0..AGGREGATES).filter(|_| self.random().is_multiple_of(2));
            let streams = streams.map(|id| Trace::stream(&id).expect("a name"));
            let filter = streams.fold(StreamFilter::none(), StreamFilter::stream);
            self.filters.insert(link, filter);
        }
        self.coverage.filters_changed += 1;
    }

    async fn execute(&mut self, node: usize, number: u64, id: u64) {
        let stream = Trace::stream(&id).expect("a name");
        if !self.may_write(node, Some(&stream)).await {
            return;
        }
        let cut = (0..self.nodes.len()).any(|other| other != node && self.setup.network.is_cut(node, other));
        let traces = &self.node(node).traces;
        let mut execute = traces.execute(&id, Note(number));
        if number.is_multiple_of(2) {
            execute = execute.with_id(CommandId::new(format!("command-{number}")).expect("a name"));
        }
        let executed = execute.await.expect("executed");
        self.coverage.writes += 1;
        self.coverage.writes_while_cut += u64::from(cut);
        let Self { nodes, oracle, coverage, .. } = self;
        let node = nodes[node].as_mut().expect("the node runs");
        if executed.outcome == Outcome::Repeated {
            coverage.commands_repeated += 1;
            return;
        }
        let before = node.checked.clone();
        oracle.record_write(node).await;
        let new: BTreeSet<EventId> = node.checked.difference(&before).copied().collect();
        oracle.acknowledged.extend(new.iter().copied());
        let (_, ids) = oracle.commands.entry(number).or_insert_with(|| (id, BTreeSet::new()));
        coverage.commands_twice += u64::from(!ids.is_empty());
        ids.extend(&new);
        let session = &mut self.sessions[0];
        session.seen.extend(&node.checked);
        session.token.merge(&node.replica.token().await.expect("a token"));
    }

    /// Answers the conflicts of a node.
    async fn resolve(&mut self, number: usize) {
        if !self.is_member(number).await {
            return;
        }
        let Self { nodes, oracle, coverage, .. } = self;
        let node = nodes[number].as_mut().expect("the node runs");
        oracle.check_order(node, coverage).await;
        if !oracle.has_all(node, None).await {
            return;
        }
        let before = node.checked.len();
        node.resolve().await;
        oracle.record_write(node).await;
        coverage.answers_written += (node.checked.len() - before) as u64;
    }

    /// Runs the settled view of a node.
    async fn settle(&mut self, number: usize) -> settled::Run {
        let batch = 1 + (self.random() % 5) as u32;
        let node = self.nodes[number].as_ref().expect("the node runs");
        let run = settled::run(node, batch, &mut self.coverage).await;
        let may_be_late = self.coverage.rollbacks > 0 || self.has_filters || self.has_retired;
        assert!(run.settled.late_events == 0 || may_be_late, "node {number}: events arrived late: {:?}", run.settled);
        run
    }

    /// Pulls over all links as often as a promise needs to reach every node, and checks that every view has every
    /// event.
    async fn settle_all(&mut self) {
        for _ in 0..self.nodes.len() {
            self.exchange().await;
        }
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_none() {
                continue;
            }
            let run = self.settle(number).await;
            // An event that was lost on all nodes that had it stays withheld, and holds back what follows it.
            let is_complete = run.waiting == 0 || self.oracle.has_lost;
            assert!(is_complete, "node {number} does not settle {} events: {:?}", run.waiting, run.settled);
        }
    }

    async fn pull(&mut self) {
        let (from, to) = self.links[self.random() as usize % self.links.len()];
        let (target, source) = if self.random().is_multiple_of(2) { (from, to) } else { (to, from) };
        let Some(node) = self.nodes[target].as_ref() else { return };
        let replica = node.replica.clone().with_filter(self.filter(target, source));
        let peer = node.peer(&self.setup, source);
        let mut pull: InFlight = Box::pin(async move { replica.pull(&peer, Duration::ZERO).await });
        match (&mut pull).now_or_never() {
            Some(result) => self.pulled(target, result),
            None => self.in_flight.push((target, pull)),
        }
    }

    /// Delivers an answer that was delayed.
    async fn deliver(&mut self) {
        if self.setup.network.deliver() {
            let mut waiting = Vec::new();
            for (target, mut pull) in std::mem::take(&mut self.in_flight) {
                match (&mut pull).now_or_never() {
                    Some(result) => self.pulled(target, result),
                    None => waiting.push((target, pull)),
                }
            }
            self.in_flight = waiting;
        }
    }

    fn pulled(&mut self, target: usize, result: Result<Pulled, PullError>) {
        match result {
            Ok(pulled) => {
                self.coverage.pulls += 1;
                self.coverage.events_replicated += pulled.events as u64;
                self.coverage.held += pulled.held as u64;
            }
            Err(PullError::Outdated) => self.coverage.answers_outdated += 1,
            Err(PullError::Departed(_)) => self.coverage.departed_refused += 1,
            Err(error @ PullError::Peer(_)) => self.coverage.departed_answered += u64::from(is_departed(&error)),
            Err(PullError::Refused(Refusal::ClockAhead { .. })) => self.coverage.clock_ahead += 1,
            Err(PullError::Refused(Refusal::Dependency { .. })) if self.faults.sends_by_origin => {
                self.coverage.refused_order += 1;
            }
            Err(error) => panic!("node {target}: {:?}", es_core::model::ErrorChain(&error)),
        }
    }

    fn cut_or_heal(&mut self) {
        let (one, other) = (self.random_node(), self.random_node());
        if self.setup.network.is_cut(one, other) {
            self.setup.network.heal(one, other);
        } else {
            self.setup.network.cut(one, other);
        }
    }

    fn back_up(&mut self) {
        let number = self.random_node();
        let node = self.node(number);
        let backup = node.store.copy(node.store.log_id());
        node.backups.push(backup);
    }

    /// Restarts a node, with its store or with an old backup of it.
    async fn restart(&mut self, from_backup: bool) {
        let number = self.random_node();
        let backups = self.node(number).backups.len();
        if from_backup && backups == 0 {
            return;
        }
        let backup = from_backup.then(|| self.random() as usize % backups);
        let node = self.nodes[number].take().expect("the node runs");
        let (origin, had) = (node.origin, node.checked.clone());
        // The pulls of the old process end with it.
        self.in_flight.retain(|(target, _)| *target != number);
        let node = node.restart(&self.setup, backup).await;
        let minted = node.origin != origin;
        self.coverage.origins_minted += u64::from(minted);
        self.coverage.origins_continued += u64::from(!minted);
        self.nodes[number] = Some(node);
        if from_backup {
            self.coverage.rollbacks += 1;
            self.restored.insert(number);
            self.oracle.forget_lost(self.nodes.iter().flatten().chain(self.down.values())).await;
            self.sessions = Default::default();
            let has: BTreeSet<EventId> =
                self.node(number).events(None).await.iter().map(|event| event.data.id).collect();
            let returned = had.difference(&has).any(|id| self.oracle.acknowledged.contains(id));
            self.coverage.events_returned += u64::from(returned);
        } else {
            self.coverage.restarts += 1;
        }
    }

    /// Restarts several nodes at once, with their stores.
    async fn restart_together(&mut self) {
        let numbers: BTreeSet<usize> = (0..2 + self.random() % 3).map(|_| self.random_node()).collect();
        self.in_flight.retain(|(target, _)| !numbers.contains(target));
        numbers.iter().for_each(|number| self.setup.network.stop(*number));
        let nodes: Vec<Node> = numbers.iter().filter_map(|number| self.nodes[*number].take()).collect();
        let origins: Vec<_> = nodes.iter().map(|node| node.origin).collect();
        let restarted = join_all(nodes.into_iter().map(|node| node.restart(&self.setup, None))).await;
        for (node, origin) in restarted.into_iter().zip(origins) {
            let minted = node.origin != origin;
            self.coverage.origins_minted += u64::from(minted);
            self.coverage.origins_continued_together += u64::from(!minted && numbers.len() > 1);
            let number = node.number;
            self.nodes[number] = Some(node);
        }
        self.coverage.restarts_together += u64::from(numbers.len() > 1);
    }

    /// Moves the clock of a node: usually by seconds, sometimes so far ahead that other nodes refuse its events.
    fn jump_clock(&mut self) {
        let number = self.random_node();
        let amount = match self.random() % 8 {
            0 => 90_000,
            n => (n as i64 - 4) * 3_000,
        };
        let clock = &self.node(number).clock;
        clock.set(clock.now() + TimeDelta::milliseconds(amount));
        self.coverage.clock_jumps += 1;
    }

    /// Reads on any node in a session, if the node has everything that the session has seen.
    async fn read_in_session(&mut self) {
        let number = self.random_node();
        let node = self.nodes[number].as_mut().expect("the node runs");
        self.oracle.check_order(node, &mut self.coverage).await;
        let session = &mut self.sessions[0];
        match node.replica.wait_for(&session.token, Duration::ZERO).await {
            Ok(()) => {
                self.coverage.sessions_waited += 1;
                let missing: Vec<&EventId> = session.seen.difference(&node.checked).collect();
                assert!(missing.is_empty(), "node {number} lacks events of the session: {missing:?}");
                session.seen.extend(&node.checked);
                session.token.merge(&node.replica.token().await.expect("a token"));
            }
            Err(WaitError::Stale(_)) => self.coverage.sessions_stale += 1,
            Err(error) => panic!("node {number}: {error}"),
        }
    }

    /// Pulls over all links until no node receives anything new. Returns `false` if that does not happen.
    async fn exchange(&mut self) -> bool {
        let rounds = if self.faults.sends_by_origin { 20 } else { 400 };
        for _ in 0..rounds {
            let mut is_complete = true;
            for (one, other) in self.links.clone() {
                for (target, source) in [(one, other), (other, one)] {
                    let Some(node) = self.nodes[target].as_ref() else { continue };
                    let before = node.replica.knowledge().await.expect("read");
                    let result = node.replica.pull(&node.peer(&self.setup, source), Duration::ZERO).await;
                    let is_last = result.as_ref().map_or_else(is_departed, |pulled| pulled.is_last);
                    self.pulled(target, result);
                    self.advance(target).await;
                    let after = self.node(target).replica.knowledge().await.expect("read");
                    is_complete &= is_last && after == before;
                }
            }
            if is_complete {
                return true;
            }
        }
        false
    }

    /// Heals all links, pulls until no node receives anything new, and checks the result.
    pub(crate) async fn heal(&mut self) {
        self.setup.network.heal_all();
        self.filters.clear();
        while self.setup.network.deliver() {}
        for (target, pull) in std::mem::take(&mut self.in_flight) {
            let result = pull.await;
            self.pulled(target, result);
        }
        for node in self.nodes.iter().flatten().chain(self.down.values()) {
            node.clock.set("2026-01-31T14:00:00Z".parse().expect("a time"));
        }
        let mut is_complete = !self.has_membership || self.heal_membership().await;
        is_complete &= self.exchange().await;
        if is_complete {
            for number in 0..self.nodes.len() {
                if self.nodes[number].is_some() {
                    self.resolve(number).await;
                }
            }
            is_complete = self.exchange().await;
        }
        for node in self.nodes.iter_mut().flatten() {
            self.oracle.check_order(node, &mut self.coverage).await;
        }
        if self.faults.sends_by_origin && !is_complete {
            return;
        }
        assert!(is_complete, "the nodes do not become equal");
        self.check_members().await;
        self.oracle.check_convergence(&self.nodes, AGGREGATES, &mut self.coverage).await;
        self.settle_all().await;
    }
}

/// Returns `true` if the target or the source of a pull has departed.
fn is_departed(error: &PullError) -> bool {
    match error {
        PullError::Departed(_) => true,
        PullError::Peer(error) => error.to_string().contains("reopen its store"),
        _ => false,
    }
}

/// Returns the links of a mesh, a ring, a star or a chain.
fn topology(random: &SeededEntropy, nodes: usize) -> Vec<(usize, usize)> {
    let pairs = (0..nodes).flat_map(|one| (one + 1..nodes).map(move |other| (one, other)));
    match random.next_u64() % 4 {
        0 => pairs.collect(),
        1 => (0..nodes).map(|one| (one, (one + 1) % nodes)).collect(),
        2 => (1..nodes).map(|other| (0, other)).collect(),
        _ => (1..nodes).map(|other| (other - 1, other)).collect(),
    }
}
