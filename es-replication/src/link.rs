//! [`Link`]: pulls from one peer in the background until it is stopped.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use es_core::model::{ErrorChain, VectorClock};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{PullError, Refusal};
use crate::peer::Peer;
use crate::replica::{Pulled, Replica};

const EVENTS: &str = "es_replication_events_total";
const LAG: &str = "es_replication_lag_events";
const FAILURES: &str = "es_replication_failures_total";

/// The time for which a peer without a new event waits for one before it answers.
const WAIT: Duration = Duration::from_secs(10);
/// The first and the longest pause after a failure, before jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// The peer has not answered yet, or no longer answers.
    Disconnected,
    /// The peer has events that this node has not stored.
    CatchingUp,
    /// This node has everything that the peer had when it answered last.
    Current,
    /// The peer has an event whose time is too far ahead of this node's clock; see
    /// [`Refusal::ClockAhead`](crate::Refusal::ClockAhead). The link continues when the clock has reached it.
    ClockAhead,
    /// Two nodes use one origin, or a peer has events that this node has lost. An operator must act; the message of the
    /// status says what to do.
    Forked,
    /// This node could not store a page: its store failed, or the page is invalid. The message of the status says
    /// which.
    Failed,
}

/// The status of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The name of the peer.
    pub peer: String,
    /// The state.
    pub state: LinkState,
    /// The number of events that the peer had and this node had not, when the peer answered last.
    pub lag_events: u64,
    /// The number of events that the link has stored.
    pub events: u64,
    /// The last failure, until the next success.
    pub failure: Option<String>,
}

/// Pulls from one peer until it is [stopped](Self::stop) or dropped.
#[derive(Debug)]
pub struct Link {
    status: watch::Receiver<LinkStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts a link. It tries again after each failure, with growing pauses.
    #[must_use]
    pub fn start(replica: Replica, peer: Arc<dyn Peer>) -> Self {
        let status = LinkStatus {
            peer: peer.name().to_owned(),
            state: LinkState::Disconnected,
            lag_events: 0,
            events: 0,
            failure: None,
        };
        let (sender, status) = watch::channel(status);
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            // A dropped sender stops the link, too.
            let stopped = async move { drop(stopped.wait_for(|stop| *stop).await) };
            tokio::select! {
                () = stopped => {}
                () = run(&replica, &*peer, &sender) => {}
            }
        });
        Self { status, stop, task }
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    /// Returns a watch on the status.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Stops the link. A page that is being stored is stored whole, or up to a commit; the next link continues there.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a link ended with a panic");
        }
    }
}

async fn run(replica: &Replica, peer: &dyn Peer, status: &watch::Sender<LinkStatus>) {
    let mut pauses = pauses();
    loop {
        match replica.pull(peer, WAIT).await {
            Ok(pulled) => {
                pauses = self::pauses();
                succeeded(replica, pulled, status).await;
            }
            // The page is requested again, after a short pause.
            Err(PullError::Outdated) => tokio::time::sleep(PAUSES.0).await,
            Err(error) => {
                failed(&error, status);
                tokio::time::sleep(pauses.next().unwrap_or(PAUSES.1)).await;
            }
        }
    }
}

fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(PAUSES.0).with_max_delay(PAUSES.1);
    builder.without_max_times().with_jitter().build()
}

async fn succeeded(replica: &Replica, pulled: Pulled, status: &watch::Sender<LinkStatus>) {
    // A store that fails to read fails the next pull.
    let own = replica.knowledge().await.unwrap_or_default();
    let lag = lag(&own, &pulled.knowledge);
    status.send_modify(|status| {
        status.state = if lag == 0 { LinkState::Current } else { LinkState::CatchingUp };
        status.lag_events = lag;
        status.events += pulled.events as u64;
        status.failure = None;
        metrics::counter!(EVENTS, "peer" => status.peer.clone()).increment(pulled.events as u64);
        metrics::gauge!(LAG, "peer" => status.peer.clone()).set(lag as f64);
    });
}

/// Returns the number of events that a peer has and this node has not.
fn lag(own: &VectorClock, peer: &VectorClock) -> u64 {
    let missing = peer.iter().map(|dot| {
        let known = own.get(dot.origin).map_or(0, std::num::NonZeroU64::get);
        dot.sequence.get().saturating_sub(known)
    });
    missing.sum()
}

fn failed(error: &PullError, status: &watch::Sender<LinkStatus>) {
    let state = match error {
        PullError::Peer(_) => LinkState::Disconnected,
        PullError::Refused(Refusal::ClockAhead { .. }) => LinkState::ClockAhead,
        PullError::Refused(Refusal::Forked { .. } | Refusal::OwnOrigin { .. }) => LinkState::Forked,
        PullError::Commit(es_core::CommitError::IdConflict(_)) => LinkState::Forked,
        _ => LinkState::Failed,
    };
    status.send_modify(|status| {
        let failure = ErrorChain(error).to_string();
        if status.failure.as_ref() != Some(&failure) {
            tracing::warn!(peer = status.peer, ?state, error = failure, "a link does not make progress");
        }
        (status.state, status.failure) = (state, Some(failure));
        metrics::counter!(FAILURES, "peer" => status.peer.clone()).increment(1);
    });
}
