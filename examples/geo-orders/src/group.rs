//! [`Group`]: three nodes, the network between them, and what clients know.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use es_replication::TestCa;
use serde::Serialize;

use crate::loan::{CaseId, Loan, LoanLog};
use crate::message::{Answer, Request, Start};
use crate::order::{LineId, Order, OrderId};
use crate::process::NodeProcess;
use crate::proxy::Proxy;

/// The number of nodes.
pub(crate) const NODES: usize = 3;
/// The number of orders to which lines are added.
const ORDERS: u64 = 40;
/// How long the nodes may take to become equal after all links are healed.
const CONVERGENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after a node was stale, before the request is sent to another one.
const STALE_PAUSE: Duration = Duration::from_millis(1);
/// The number of requests of the loan log after which a fault is due.
const REQUESTS_PER_LOAN_FAULT: u32 = 60;

/// Three nodes in three processes.
pub(crate) struct Group {
    directory: PathBuf,
    /// `None` while a node is down.
    nodes: Vec<Option<NodeProcess>>,
    /// The origins of all nodes so far.
    origins: BTreeSet<String>,
    /// The link of each pair of nodes, by the node that connects and the node that answers.
    proxies: BTreeMap<(usize, usize), Proxy>,
    cut: BTreeSet<(usize, usize)>,
    random: SeededEntropy,
    next_line: LineId,
    /// The loan log whose steps replace random lines.
    loans: Option<LoanLog>,
    /// The lines that a node confirmed, with their orders; or the rows of the loan log, with their cases.
    acknowledged: BTreeMap<u64, u64>,
    /// The requests of which no client knows whether they were executed.
    unknown: Vec<Request>,
    /// The number of faults so far.
    faults: u32,
    counts: Counts,
}

/// What happened.
#[derive(Debug, Clone, Default, Serialize)]
struct Counts {
    cuts: u64,
    kills: u64,
    /// Requests that were sent again to another node, because the first one did not answer or was stale.
    repeated: u64,
    /// Steps that a node did not take, because it did not have the step before.
    stale: u64,
    /// Lines that were added while at least one link was cut.
    added_while_cut: u64,
    /// The number of origins that the nodes took.
    origins_taken: u64,
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    seed: u64,
    seconds: f64,
    /// The number of lines that a node confirmed.
    acknowledged: usize,
    /// The number of confirmed lines that a node does not have.
    lost: usize,
    /// The number of lines that a node has more than once.
    doubled: usize,
    /// The number of events that a node has before the one that their client had seen.
    order_violations: usize,
    /// Whether all nodes have equal orders; and equal to the fold of the loan log, if it was replayed.
    converged: bool,
    /// The number of lines that two nodes added without knowing of each other.
    concurrent: u64,
    /// The number of events on each node.
    events: usize,
    #[serde(flatten)]
    counts: Counts,
}

impl Report {
    /// Returns whether the nodes kept every promise.
    #[must_use]
    pub(crate) const fn is_correct(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.order_violations == 0 && self.converged
    }
}

fn name(node: usize) -> String {
    format!("node-{}.example", node + 1)
}

impl Group {
    /// Starts the nodes on stores in a directory.
    ///
    /// # Errors
    /// If a node does not start.
    pub(crate) async fn start(directory: &Path, seed: u64, loans: Option<LoanLog>) -> Result<Self, Box<dyn Error>> {
        let authority = TestCa::create(directory)?;
        let mut proxies = BTreeMap::new();
        for from in 0..NODES {
            authority.issue(&name(from))?;
            for to in (0..NODES).filter(|to| *to != from) {
                proxies.insert((from, to), Proxy::start().await?);
            }
        }
        let mut group = Self {
            directory: directory.to_owned(),
            nodes: Vec::new(),
            origins: BTreeSet::new(),
            proxies,
            cut: BTreeSet::new(),
            random: SeededEntropy::new(seed),
            next_line: 1,
            loans,
            acknowledged: BTreeMap::new(),
            unknown: Vec::new(),
            faults: 0,
            counts: Counts::default(),
        };
        for number in 0..NODES {
            group.nodes.push(None);
            group.start_node(number).await?;
        }
        Ok(group)
    }

    async fn start_node(&mut self, number: usize) -> Result<(), Box<dyn Error>> {
        let others = (0..NODES).filter(|to| *to != number);
        let peers = others.filter_map(|to| Some((name(to), self.proxies.get(&(number, to))?.address().to_string())));
        let start = Start {
            name: name(number),
            directory: self.directory.join(name(number)),
            certificates: self.directory.clone(),
            peers: peers.collect(),
        };
        let node = NodeProcess::start(&start).await?;
        for ((_, _), proxy) in self.proxies.iter().filter(|((_, to), _)| *to == number) {
            proxy.set(|route| route.port = node.port);
        }
        self.counts.origins_taken += u64::from(self.origins.insert(node.origin.clone()));
        if let Some(slot) = self.nodes.get_mut(number) {
            *slot = Some(node);
        }
        Ok(())
    }

    fn below(&self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    fn random_node(&self) -> usize {
        usize::try_from(self.below(NODES as u64)).unwrap_or_default()
    }

    /// Adds lines, cuts and heals links, and kills nodes, until the time is over or the loan log ends.
    ///
    /// # Errors
    /// If a node fails otherwise than by being killed.
    pub(crate) async fn run(&mut self, time: Duration, mut progress: impl FnMut(String)) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let (mut next_fault, mut next_line, mut requests) = (Duration::from_millis(500), Duration::ZERO, 0_u32);
        while self.loans.is_some() || start.elapsed() < time {
            let Some(request) = self.unknown.pop().or_else(|| self.next_request()) else { return Ok(()) };
            self.send(request).await?;
            requests += 1;
            // The loan log has an end, which a fast machine reaches before many faults are due by their times.
            let is_loan_fault = self.loans.is_some() && requests.is_multiple_of(REQUESTS_PER_LOAN_FAULT);
            if is_loan_fault || start.elapsed() >= next_fault {
                self.fault().await?;
                next_fault = start.elapsed() + Duration::from_millis(200 + self.below(800));
            }
            if start.elapsed() >= next_line {
                progress(self.status_line().await);
                next_line += Duration::from_secs(1);
            }
        }
        Ok(())
    }

    /// Returns a line for a random order, or the next step of the loan log; `None` at its end.
    fn next_request(&mut self) -> Option<Request> {
        if let Some(loans) = &mut self.loans {
            return loans.next().map(|(case, step)| Request::Take { case, step });
        }
        let (line, order) = (self.next_line, self.below(ORDERS));
        self.next_line += 1;
        Some(Request::Add { order, line, quantity: u32::try_from(line % 9).unwrap_or_default() + 1 })
    }

    /// Sends a request to a random node. If the node does not answer, the client repeats it on another one.
    async fn send(&mut self, request: Request) -> Result<(), Box<dyn Error>> {
        let number = self.random_node();
        // A run has at least one such kill, however few requests a slow machine sends.
        let kills = self.below(400) == 0 || (self.counts.repeated == 0 && self.next_line > 50);
        let Some(Some(node)) = self.nodes.get_mut(number) else {
            // The client cannot connect, and tries another node.
            self.unknown.push(request);
            return if self.nodes.iter().all(Option::is_none) { self.restart_one().await } else { Ok(()) };
        };
        if kills {
            // The node is killed while it executes the command, so its outcome is unknown.
            let _ = tokio::time::timeout(Duration::from_micros(300), node.request(request.clone())).await;
            self.repeat(request);
            return self.kill(number).await;
        }
        if let Answer::Stale = node.request(request.clone()).await? {
            self.counts.stale += 1;
            self.repeat(request);
            tokio::time::sleep(STALE_PAUSE).await;
            return Ok(());
        }
        match request {
            Request::Add { line, order, .. } => drop(self.acknowledged.insert(line, order)),
            Request::Take { case, step } => drop(self.acknowledged.insert(step.row, case)),
            _ => {}
        }
        self.counts.added_while_cut += u64::from(!self.cut.is_empty());
        Ok(())
    }

    fn repeat(&mut self, request: Request) {
        self.counts.repeated += 1;
        self.unknown.push(request);
    }

    /// Cuts or heals a link, or kills or restarts a node. The first fault is a cut, and the second one a kill, so that
    /// each run has both.
    async fn fault(&mut self) -> Result<(), Box<dyn Error>> {
        self.faults += 1;
        match self.below(10) {
            _ if self.faults == 1 => {
                self.set_cut((0, 1));
                Ok(())
            }
            _ if self.faults == 2 => self.kill(self.random_node()).await,
            _ if self.nodes.iter().any(Option::is_none) && self.below(2) == 0 => self.restart_one().await,
            0..=5 => {
                let (one, other) = (self.random_node(), self.random_node());
                if one != other {
                    self.set_cut((one.min(other), one.max(other)));
                }
                Ok(())
            }
            _ => self.kill(self.random_node()).await,
        }
    }

    /// Cuts a link in both directions, or heals it if it is cut.
    fn set_cut(&mut self, (one, other): (usize, usize)) {
        let is_cut = !self.cut.remove(&(one, other));
        if is_cut {
            self.cut.insert((one, other));
            self.counts.cuts += 1;
        }
        for pair in [(one, other), (other, one)] {
            if let Some(proxy) = self.proxies.get(&pair) {
                proxy.set(|route| route.is_cut = is_cut);
            }
        }
    }

    async fn kill(&mut self, number: usize) -> Result<(), Box<dyn Error>> {
        if let Some(node) = self.nodes.get_mut(number).and_then(Option::take) {
            node.kill().await?;
            self.counts.kills += 1;
        }
        Ok(())
    }

    /// Starts a node that is down.
    async fn restart_one(&mut self) -> Result<(), Box<dyn Error>> {
        match self.nodes.iter().position(Option::is_none) {
            Some(number) => self.start_node(number).await,
            None => Ok(()),
        }
    }

    async fn knowledge(&mut self) -> Result<Vec<BTreeMap<String, u64>>, Box<dyn Error>> {
        let mut all = Vec::new();
        for node in self.nodes.iter_mut().flatten() {
            if let Answer::Status { knowledge } = node.request(Request::Status).await? {
                all.push(knowledge);
            }
        }
        Ok(all)
    }

    async fn status_line(&mut self) -> String {
        let knowledge = self.knowledge().await.unwrap_or_default();
        let events = |known: &BTreeMap<String, u64>| known.values().sum::<u64>().to_string();
        let mut known = knowledge.iter();
        let events: Vec<String> = self
            .nodes
            .iter()
            .map(|node| node.as_ref().and_then(|_| known.next()).map_or_else(|| "down".to_owned(), events))
            .collect();
        let cut: Vec<String> = self.cut.iter().map(|(one, other)| format!("{}-{}", one + 1, other + 1)).collect();
        let cut = if cut.is_empty() { "none".to_owned() } else { cut.join(", ") };
        format!("events on the nodes: {:<24} links cut: {cut:<14} kills: {}", events.join(", "), self.counts.kills)
    }

    /// Heals all links, waits until the nodes are equal, and checks what they have. `expected` has the cases of the
    /// loan log, if it was replayed.
    ///
    /// # Errors
    /// If a node fails.
    pub(crate) async fn finish(
        mut self,
        seed: u64,
        started: Instant,
        expected: Option<BTreeMap<CaseId, Loan>>,
    ) -> Result<Report, Box<dyn Error>> {
        for pair in self.cut.clone() {
            self.set_cut(pair);
        }
        while self.nodes.iter().any(Option::is_none) {
            self.restart_one().await?;
        }
        while let Some(request) = self.unknown.pop() {
            self.send(request).await?;
            self.restart_one().await?;
        }
        let healed = Instant::now();
        let mut is_equal = false;
        while !is_equal && healed.elapsed() < CONVERGENCE_TIMEOUT {
            let knowledge = self.knowledge().await?;
            is_equal = knowledge.windows(2).all(|pair| matches!(pair, [one, other] if one == other));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut report = Report {
            seed,
            seconds: started.elapsed().as_secs_f64(),
            acknowledged: self.acknowledged.len(),
            lost: 0,
            doubled: 0,
            order_violations: 0,
            converged: is_equal,
            concurrent: 0,
            events: 0,
            counts: self.counts.clone(),
        };
        self.check_logs(&mut report).await?;
        match &expected {
            Some(expected) => self.check_loans(&mut report, expected).await?,
            None => self.check_orders(&mut report).await?,
        }
        Ok(report)
    }

    /// Checks that no node has an event before the one that its client had seen.
    async fn check_logs(&mut self, report: &mut Report) -> Result<(), Box<dyn Error>> {
        for node in self.nodes.iter_mut().flatten() {
            if let Answer::Checked { events, violations } = node.request(Request::Check).await? {
                report.order_violations += violations.len();
                report.events = events;
            }
        }
        Ok(())
    }

    /// Checks that all nodes have equal orders with every confirmed line once.
    async fn check_orders(&mut self, report: &mut Report) -> Result<(), Box<dyn Error>> {
        let mut first: Option<BTreeMap<OrderId, Order>> = None;
        for node in self.nodes.iter_mut().flatten() {
            let Answer::Orders(orders) = node.request(Request::Orders).await? else { continue };
            for (line, order) in &self.acknowledged {
                let lines = orders.get(order).map(|order| order.lines.iter());
                count(report, lines.into_iter().flatten().filter(|(found, _)| found == line).count());
            }
            report.converged &= first.as_ref().is_none_or(|first| *first == orders);
            report.concurrent = orders.values().map(|order| u64::from(order.concurrent)).sum();
            first.get_or_insert(orders);
        }
        Ok(())
    }

    /// Checks that all nodes have the cases that a fold of the log without a store has, with every row once.
    async fn check_loans(
        &mut self,
        report: &mut Report,
        expected: &BTreeMap<CaseId, Loan>,
    ) -> Result<(), Box<dyn Error>> {
        for node in self.nodes.iter_mut().flatten() {
            let Answer::Loans(loans) = node.request(Request::Loans).await? else { continue };
            for (row, case) in &self.acknowledged {
                let rows = loans.get(case).map(|loan| loan.rows.iter());
                count(report, rows.into_iter().flatten().filter(|found| *found == row).count());
            }
            report.converged &= loans == *expected;
        }
        Ok(())
    }
}

/// Counts a confirmed line or row that a node does not have, or has more than once.
const fn count(report: &mut Report, times: usize) {
    match times {
        0 => report.lost += 1,
        1 => {}
        _ => report.doubled += 1,
    }
}
