//! [`Network`]: which nodes reach each other, which answers are lost or late, and what the pages contained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use es_personal::KeyState;
use es_replication::{Claim, Confirmation, KeyRequest, LocalPeer, Page, Peer, PeerError, Pull, Source};
use tokio::sync::watch;

/// The network of all nodes.
#[derive(Debug)]
pub(crate) struct Network {
    random: SeededEntropy,
    state: Mutex<State>,
    /// Whether answers with keys are held back.
    holds_keys: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    sources: BTreeMap<&'static str, Source>,
    cut: BTreeSet<(&'static str, &'static str)>,
    /// Whether answers may be lost.
    is_lossy: bool,
    /// The pages that were transferred.
    pages: Vec<Page>,
    /// The keys that were sent, by the node that asked.
    sent: Vec<(String, KeyRequest)>,
    lost: u64,
    /// The number of requests for keys that were answered.
    answered: u64,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let (random, holds_keys) = (SeededEntropy::new(seed), watch::Sender::new(false));
        Arc::new(Self { random, state: Mutex::default(), holds_keys })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the lock")
    }

    pub(crate) fn start(&self, node: &'static str, source: Source) {
        self.state().sources.insert(node, source);
    }

    pub(crate) fn stop(&self, node: &'static str) {
        self.state().sources.remove(node);
    }

    pub(crate) fn cut(&self, one: &'static str, other: &'static str) {
        self.state().cut.insert((one.min(other), one.max(other)));
    }

    pub(crate) fn heal(&self, one: &'static str, other: &'static str) {
        self.state().cut.remove(&(one.min(other), one.max(other)));
    }

    pub(crate) fn heal_all(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.is_lossy = false;
    }

    /// Loses some of the answers from now on.
    pub(crate) fn lose_answers(&self) {
        self.state().is_lossy = true;
    }

    /// Holds back answers with keys, or delivers those that are held back and all later ones.
    pub(crate) fn hold_keys(&self, holds: bool) {
        self.holds_keys.send_replace(holds);
    }

    pub(crate) fn pages(&self) -> Vec<Page> {
        self.state().pages.clone()
    }

    /// Returns the requests to which a key was sent, in order.
    pub(crate) fn sent(&self) -> Vec<(String, KeyRequest)> {
        self.state().sent.clone()
    }

    /// Returns the number of requests for keys that were answered, also if the answer is under way.
    pub(crate) fn answered(&self) -> u64 {
        self.state().answered
    }

    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Draws a number less than `end`.
    pub(crate) fn draw(&self, end: u64) -> u64 {
        self.random.next_u64() % end
    }

    fn peer(&self, from: &'static str, to: &'static str) -> Result<LocalPeer, PeerError> {
        let state = self.state();
        let source = state.sources.get(to).filter(|_| !state.cut.contains(&(from.min(to), from.max(to))));
        let source = source.cloned().ok_or_else(|| PeerError::Unreachable("the link is cut".into()))?;
        Ok(LocalPeer::new(to, source))
    }

    /// Loses an answer, sometimes.
    fn lose(&self) -> Result<(), PeerError> {
        if self.state().is_lossy && self.draw(5) == 0 {
            self.state().lost += 1;
            return Err(PeerError::Unreachable("the answer was lost".into()));
        }
        Ok(())
    }
}

/// A node as another one reaches it.
#[derive(Debug)]
pub(crate) struct SimulatedPeer {
    pub(crate) network: Arc<Network>,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

#[async_trait]
impl Peer for SimulatedPeer {
    fn name(&self) -> &str {
        self.to
    }

    async fn pull(&self, pull: Pull) -> Result<Page, PeerError> {
        let page = self.network.peer(self.from, self.to)?.pull(pull).await?;
        self.network.lose()?;
        self.network.state().pages.push(page.clone());
        Ok(page)
    }

    async fn confirm(&self, claim: Claim) -> Result<Confirmation, PeerError> {
        self.network.peer(self.from, self.to)?.confirm(claim).await
    }

    async fn key(&self, request: KeyRequest) -> Result<KeyState, PeerError> {
        let state = self.network.peer(self.from, self.to)?.key(request.clone()).await?;
        self.network.lose()?;
        self.network.state().answered += 1;
        let mut holds_keys = self.network.holds_keys.subscribe();
        let _ = holds_keys.wait_for(|holds| !holds).await;
        if matches!(state, KeyState::Present(_)) {
            self.network.state().sent.push((self.from.to_owned(), request));
        }
        Ok(state)
    }
}
