//! [`Network`]: which nodes reach each other, and which messages are lost. [`SimulatedPeer`]: a node as another one
//! reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use es_core::model::{Entropy, OriginId};
use es_core::testing::SeededEntropy;
use es_replication::{
    Claim, CommandAnswer, Confirmation, ForwardedCommand, Page, Peer, PeerError, Pull, SendError, Source,
};

/// The network of all nodes.
#[derive(Debug)]
pub(crate) struct Network {
    random: Arc<SeededEntropy>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The sources of the nodes that are running.
    sources: BTreeMap<usize, Source>,
    cut: BTreeSet<(usize, usize)>,
    /// Whether no message is lost.
    is_reliable: bool,
}

impl Network {
    pub(crate) fn new(random: Arc<SeededEntropy>) -> Self {
        Self { random, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    pub(crate) fn start(&self, node: usize, source: Source) {
        self.state().sources.insert(node, source);
    }

    pub(crate) fn stop(&self, node: usize) {
        self.state().sources.remove(&node);
    }

    /// Cuts a link, or heals it.
    pub(crate) fn toggle(&self, one: usize, other: usize) {
        let link = (one.min(other), one.max(other));
        let mut state = self.state();
        if !state.cut.remove(&link) {
            state.cut.insert(link);
        }
    }

    /// Heals all links, and makes them reliable.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.is_reliable = true;
    }

    fn source(&self, from: usize, to: usize) -> Result<Source, PeerError> {
        let state = self.state();
        let source = state.sources.get(&to).filter(|_| !state.cut.contains(&(from.min(to), from.max(to))));
        source.cloned().ok_or_else(lost)
    }

    fn loses(&self, one_in: u64) -> bool {
        !self.state().is_reliable && self.random.next_u64().is_multiple_of(one_in)
    }
}

fn lost() -> PeerError {
    PeerError::Unreachable("the message was lost".into())
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
        let source = self.network.source(self.from, self.to)?;
        let page = source.page(&pull).await.map_err(|error| PeerError::Failed(error.to_string()))?;
        if self.network.loses(12) { Err(lost()) } else { Ok(page) }
    }

    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        let source = self.network.source(self.from, self.to)?;
        source.confirm(claim).await.map_err(|error| PeerError::Failed(error.to_string()))
    }

    async fn homes(&self) -> Result<Vec<OriginId>, PeerError> {
        let source = self.network.source(self.from, self.to)?;
        source.homes().await.map_err(|error| PeerError::Failed(error.to_string()))
    }

    async fn execute(&self, command: ForwardedCommand) -> Result<CommandAnswer, SendError> {
        let source = self.network.source(self.from, self.to).map_err(SendError::NotSent)?;
        if self.network.loses(12) {
            return Err(SendError::NoAnswer(lost()));
        }
        let answer = source.execute(&command).await;
        if self.network.loses(4) {
            // The caller waits until its time has expired, or finds out that the connection broke.
            if self.network.loses(2) {
                std::future::pending::<()>().await;
            }
            return Err(SendError::NoAnswer(lost()));
        }
        Ok(answer)
    }
}
