//! [`Network`]: which nodes reach each other, and what happens to answers. [`SimulatedPeer`]: a node as another one
//! reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use es_replication::{Claim, Confirmation, Item, Page, Peer, PeerError, Pull, Source, StreamFilter};
use tokio::sync::oneshot;

/// The network of all nodes.
#[derive(Debug)]
pub(crate) struct Network {
    random: Arc<SeededEntropy>,
    state: Mutex<State>,
    /// Whether sources send the events of each origin together.
    pub(crate) sends_by_origin: bool,
}

#[derive(Debug, Default)]
struct State {
    /// The sources of the nodes that are running.
    sources: BTreeMap<usize, Source>,
    cut: BTreeSet<(usize, usize)>,
    /// Whether answers may be lost, repeated or delayed.
    is_reliable: bool,
    /// The last page that each pair exchanged, with the filter of its request. No transport confuses requests, so the
    /// page is not repeated for another filter.
    last: BTreeMap<(usize, usize), (StreamFilter, Page)>,
    /// The answers that are under way.
    delayed: Vec<oneshot::Sender<()>>,
    lost: u64,
    repeated: u64,
    late: u64,
}

impl Network {
    pub(crate) fn new(random: Arc<SeededEntropy>, sends_by_origin: bool) -> Self {
        Self { random, state: Mutex::default(), sends_by_origin }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    pub(crate) fn start(&self, node: usize, source: Source) {
        self.state().sources.insert(node, source);
    }

    /// Stops a node. A new process neither receives answers to requests of the old one nor repeats answers that the old
    /// one gave. An answer of the old one that is under way still arrives.
    pub(crate) fn stop(&self, node: usize) {
        let mut state = self.state();
        state.sources.remove(&node);
        state.last.retain(|(from, to), _| *from != node && *to != node);
    }

    pub(crate) fn cut(&self, one: usize, other: usize) {
        self.state().cut.insert((one.min(other), one.max(other)));
    }

    pub(crate) fn heal(&self, one: usize, other: usize) {
        self.state().cut.remove(&(one.min(other), one.max(other)));
    }

    pub(crate) fn is_cut(&self, one: usize, other: usize) -> bool {
        self.state().cut.contains(&(one.min(other), one.max(other)))
    }

    /// Heals all links, and makes them reliable.
    pub(crate) fn heal_all(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.is_reliable = true;
    }

    /// Delivers one delayed answer. Returns `false` if there is none.
    pub(crate) fn deliver(&self) -> bool {
        let mut state = self.state();
        if state.delayed.is_empty() {
            return false;
        }
        let index = self.random.next_u64() as usize % state.delayed.len();
        let _ = state.delayed.swap_remove(index).send(());
        true
    }

    /// Returns the numbers of answers that were lost, repeated and delayed.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let state = self.state();
        (state.lost, state.repeated, state.late)
    }

    fn source(&self, from: usize, to: usize) -> Result<Source, PeerError> {
        let state = self.state();
        let source = state.sources.get(&to).filter(|_| !state.cut.contains(&(from.min(to), from.max(to))));
        source.cloned().ok_or_else(|| PeerError::Unreachable("the link is cut".into()))
    }

    fn happens(&self, one_in: u64) -> bool {
        !self.state().is_reliable && self.random.next_u64().is_multiple_of(one_in)
    }
}

/// A node as another one reaches it.
#[derive(Debug)]
pub(crate) struct SimulatedPeer {
    pub(crate) network: Arc<Network>,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) name: String,
}

#[async_trait]
impl Peer for SimulatedPeer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
        let (network, pair) = (&self.network, (self.from, self.to));
        let source = network.source(self.from, self.to)?;
        let filter = pull.filter.clone();
        let page = source.page(&pull).await.map_err(|error| PeerError::Failed(error.to_string()))?;
        let page = if network.sends_by_origin { by_origin(page) } else { page };
        if network.happens(12) {
            network.state().lost += 1;
            return Err(PeerError::Unreachable("the answer was lost".into()));
        }
        let before = network.state().last.insert(pair, (filter.clone(), page.clone()));
        let before = before.filter(|(of, _)| *of == filter && network.happens(10));
        if let Some((_, before)) = before {
            network.state().repeated += 1;
            return Ok(before);
        }
        if network.happens(8) {
            let (send, delivered) = oneshot::channel();
            {
                let mut state = network.state();
                state.delayed.push(send);
                state.late += 1;
            }
            let _ = delivered.await;
        }
        Ok(page)
    }

    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        let source = self.network.source(self.from, self.to)?;
        source.confirm(claim).await.map_err(|error| PeerError::Failed(error.to_string()))
    }
}

/// Returns a page with the commits of each origin together.
fn by_origin(mut page: Page) -> Page {
    page.items.sort_by_key(|item| match item {
        Item::Commit(events) => events.first().and_then(|event| Some(event.data.stamp.as_ref()?.dot.origin)),
        Item::Gap { origin, .. } => Some(*origin),
    });
    page
}
