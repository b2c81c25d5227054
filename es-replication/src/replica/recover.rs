//! [`Replica::recover`]: waits until a node has everything that the other members had.

use std::sync::Arc;
use std::time::{Duration, Instant};

use es_core::StoreError;
use es_core::model::{ErrorChain, VectorClock};
use futures_util::future::join_all;

use crate::error::{PullError, StaleReplica};
use crate::knowledge::Knowledge;
use crate::page::Pull;
use crate::peer::Peer;
use crate::replica::Replica;
use crate::replica::wait::WaitError;
use crate::rows;
use crate::source::sender;

/// The longest time for which a peer is asked what it has.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A node has every event that the peers which answered had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The peers that answered.
    pub reached: Vec<String>,
    /// The peers that did not answer. They may have events that this node lacks.
    pub unreachable: Vec<String>,
    /// For each origin, the last event that a peer had when it answered.
    pub target: VectorClock,
}

/// A node could not be brought up to date.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// No peer answered, so this node does not know what it lacks. Start a peer or heal the network, and retry.
    #[error("none of the peers answered ({}); start one of them, and retry", .unreachable.join(", "))]
    NoPeer {
        /// The peers, each with the reason.
        unreachable: Vec<String>,
    },
    /// The timeout expired. The links continue to pull: see their status, and retry.
    #[error(transparent)]
    Stale(#[from] StaleReplica),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replica {
    /// Waits until this node has every event that its reachable peers had when this was called: after a loss of the
    /// disk, after a restore, or before the node takes requests. The [links](crate::Link) to the peers must run, since
    /// they pull the events. A peer that does not answer within 5 seconds, or half of `timeout`, is unreachable.
    ///
    /// Events that every peer which answered withholds are not waited for. If this handle has a
    /// [filter](Self::with_filter), this waits until every other event of the peers is accounted for. Without peers, it
    /// returns at once.
    ///
    /// # Errors
    /// - [`RecoverError::NoPeer`] if no peer answers.
    /// - [`RecoverError::Stale`] if the events do not arrive within `timeout`.
    /// - [`RecoverError::Store`] if the store fails.
    pub async fn recover(&self, peers: &[Arc<dyn Peer>], timeout: Duration) -> Result<Recovered, RecoverError> {
        let start = Instant::now();
        let ask_timeout = ASK_TIMEOUT.min(timeout / 2);
        let answers = peers.iter().map(|peer| tokio::time::timeout(ask_timeout, self.knowledge_of(&**peer)));
        let mut recovered = Recovered { reached: Vec::new(), unreachable: Vec::new(), target: VectorClock::new() };
        let mut needed = Knowledge::new();
        let mut reasons = Vec::new();
        for (peer, answer) in peers.iter().zip(join_all(answers).await) {
            let reason = match answer {
                Ok(Ok(knowledge)) => {
                    needed.merge(&knowledge);
                    recovered.reached.push(peer.name().to_owned());
                    continue;
                }
                Ok(Err(PullError::Store(error))) => return Err(error.into()),
                Ok(Err(error)) => ErrorChain(&error).to_string(),
                Err(_) => format!("no answer within {ask_timeout:?}"),
            };
            recovered.unreachable.push(peer.name().to_owned());
            reasons.push(format!("{}: {reason}", peer.name()));
        }
        if recovered.reached.is_empty() && !peers.is_empty() {
            return Err(RecoverError::NoPeer { unreachable: reasons });
        }
        recovered.target.merge(needed.clock());
        match self.wait_until_has(&needed, timeout.saturating_sub(start.elapsed())).await {
            Ok(()) => Ok(recovered),
            Err(WaitError::Stale(stale)) => Err(stale.into()),
            Err(WaitError::Store(error)) => Err(error.into()),
        }
    }

    /// Asks a peer what it knows, with a pull of the smallest page, which is not stored.
    async fn knowledge_of(&self, peer: &dyn Peer) -> Result<Knowledge, PullError> {
        let progress = self.store.row(&self.table, &rows::link_key(peer.name())).await?;
        let cursor = self.cursor(progress.as_deref())?;
        let (knowledge, filter) = (self.knowledge().await?, self.filter.clone());
        let sender = sender(&*self.store, &self.table).await?;
        let pull = Pull { sender, knowledge, filter, cursor, max_bytes: 1, wait: Duration::ZERO };
        Ok(self.request(peer, pull).await?.knowledge)
    }
}
