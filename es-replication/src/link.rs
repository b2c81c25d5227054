//! [`Link`]: pulls from one peer in the background until it is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use es_core::Timestamp;
use es_core::model::{Clock, ErrorChain, SystemClock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{PullError, Refusal};
use crate::frontiers::Frontier;
use crate::group::MemberState;
use crate::knowledge::Knowledge;
use crate::peer::Peer;
use crate::replica::{Pulled, Replica};

const EVENTS: &str = "es_replication_events_total";
const BYTES: &str = "es_replication_bytes_total";
const LAG: &str = "es_replication_lag_events";
const CURRENT: &str = "es_replication_current_timestamp_seconds";
const FAILURES: &str = "es_replication_failures_total";
const MISSING: &str = "es_replication_member_missing_events";
const MEMBERS: &str = "es_replication_members";
const ORIGINS: &str = "es_replication_clock_origins";
const SETTLED: &str = "es_replication_settled_timestamp_seconds";

/// The time for which a peer without a new event waits for one before it answers.
const WAIT: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failure, before jitter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The state of a link. In JSON, its name in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// The peer has left the group or was retired; the message of the status says what to do.
    Departed,
    /// This node could not store a page: its store failed, or the page is invalid. The message of the status says
    /// which.
    Failed,
}

/// The status of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The name of the peer.
    pub peer: String,
    /// The state.
    pub state: LinkState,
    /// The number of events that the peer had when it answered last, and that this node has not. Withheld events do not
    /// count. `None` if the peer has not answered since the link was started.
    pub lag_events: Option<u64>,
    /// The estimated size of these events, in bytes: their number times the mean size of the events that the link has
    /// received. `None` if it has received none. Only the peer knows the size.
    pub lag_bytes: Option<u64>,
    /// The number of events that the link has stored.
    pub events: u64,
    /// The number of events that the link has received after another link.
    pub held: u64,
    /// The approximate size of all events that the link has received, in bytes.
    pub bytes: u64,
    /// When the peer answered last and the answer was stored. An idle peer answers every second.
    pub last_success: Option<Timestamp>,
    /// When this node requested the last page that brought it every event of the peer. Every event that it lacks
    /// reached the peer later than this, so the time since then is the greatest possible lag. `None` if that was never
    /// the case since the link was started.
    pub last_current: Option<Timestamp>,
    /// The last failure, until the next success.
    pub failure: Option<String>,
}

impl LinkStatus {
    fn new(peer: &str) -> Self {
        Self {
            peer: peer.to_owned(),
            state: LinkState::Disconnected,
            lag_events: None,
            lag_bytes: None,
            events: 0,
            held: 0,
            bytes: 0,
            last_success: None,
            last_current: None,
            failure: None,
        }
    }

    /// Adds a page that was requested at a time. `lag` is the number of events that the peer has and this node lacks.
    fn update(&mut self, pulled: &Pulled, lag: u64, requested_at: Timestamp) {
        // Withheld events are no lag. A link whose filter became wider still pulls them.
        let is_current = lag == 0 && pulled.is_last;
        self.state = if is_current { LinkState::Current } else { LinkState::CatchingUp };
        self.events += pulled.events as u64;
        self.held += pulled.held as u64;
        self.bytes += pulled.bytes as u64;
        self.set_lag(lag);
        self.last_success = Some(SystemClock::new().now());
        if is_current {
            // The peer has had time for further events since it answered.
            self.last_current = Some(requested_at);
        }
        self.failure = None;
    }

    fn set_lag(&mut self, events: u64) {
        // The product of two large numbers needs 128 bits.
        let bytes = u128::from(self.bytes) * u128::from(events);
        let bytes = bytes.checked_div(u128::from(self.events + self.held));
        self.lag_events = Some(events);
        self.lag_bytes = bytes.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Returns the time since this node last had every event of the peer: the greatest possible age of an event that
    /// the peer has and this node lacks, counted from its arrival at the peer. It grows up to 2 seconds while the link
    /// is current and idle. `None` if this node never had every event since the link was started.
    #[must_use]
    pub fn lag_time(&self, now: Timestamp) -> Option<Duration> {
        self.last_current.map(|current| (now - current).to_std().unwrap_or_default())
    }
}

/// Pulls from one peer until it is [stopped](Self::stop) or dropped.
#[derive(Debug)]
pub struct Link {
    status: watch::Receiver<LinkStatus>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts a link. It tries again after each failure, with growing pauses. It pulls the streams that the
    /// [filter](Replica::with_filter) of the replica selects.
    #[must_use]
    pub fn start(replica: Replica, peer: Arc<dyn Peer>) -> Self {
        let (sender, status) = watch::channel(LinkStatus::new(peer.name()));
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
        let requested_at = SystemClock::new().now();
        match replica.pull(peer, WAIT).await {
            Ok(pulled) => {
                pauses = self::pauses();
                succeeded(replica, pulled, requested_at, status).await;
            }
            // The page is requested again, after a short pause.
            Err(PullError::Outdated) => tokio::time::sleep(PAUSES.0).await,
            Err(error) => {
                failed(replica, &error, status).await;
                tokio::time::sleep(pauses.next().unwrap_or(PAUSES.1)).await;
            }
        }
    }
}

fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(PAUSES.0).with_max_delay(PAUSES.1);
    builder.without_max_times().with_jitter().build()
}

async fn succeeded(replica: &Replica, pulled: Pulled, requested_at: Timestamp, status: &watch::Sender<LinkStatus>) {
    // A store that fails to read fails the next pull.
    let own = replica.knowledge().await.unwrap_or_default();
    let lag = own.missing_events(&pulled.knowledge);
    status.send_modify(|status| status.update(&pulled, lag, requested_at));
    let peer = status.borrow().peer.clone();
    metrics::counter!(EVENTS, "peer" => peer.clone()).increment(pulled.events as u64);
    metrics::counter!(BYTES, "peer" => peer.clone()).increment(pulled.bytes as u64);
    if lag == 0 && pulled.is_last {
        metrics::gauge!(CURRENT, "peer" => peer).set(requested_at.timestamp_micros() as f64 / 1e6);
    }
    if let Some(settled) = replica.settled_time() {
        metrics::gauge!(SETTLED).set(settled.physical().timestamp_micros() as f64 / 1e6);
    }
    set_gauges(&replica.source().frontiers().all(), &own, &status.borrow());
    advance(replica, &own).await;
}

/// Completes departures and retires origins, and sets the gauges of the membership.
async fn advance(replica: &Replica, own: &Knowledge) {
    if let Err(error) = replica.membership().advance().await {
        tracing::warn!(error = %ErrorChain(&error), "could not advance the membership");
    }
    let Ok(group) = replica.group().await else { return };
    for counted in MemberState::ALL {
        let members = group.members().filter(|(_, state)| *state == counted).count();
        metrics::gauge!(MEMBERS, "state" => counted.name()).set(members as f64);
    }
    let in_clocks = own.clock().iter().filter(|dot| !group.implies(*dot)).count();
    metrics::gauge!(ORIGINS).set(in_clocks as f64);
}

/// Sets the gauges that change while the peer does not answer, too: this node decides on events meanwhile.
fn set_gauges(frontiers: &BTreeMap<String, Frontier>, own: &Knowledge, status: &LinkStatus) {
    if let Some(lag) = status.lag_events {
        metrics::gauge!(LAG, "peer" => status.peer.clone()).set(lag as f64);
    }
    for (member, frontier) in frontiers {
        metrics::gauge!(MISSING, "member" => member.clone()).set(frontier.knowledge.missing_events(own) as f64);
    }
}

async fn failed(replica: &Replica, error: &PullError, status: &watch::Sender<LinkStatus>) {
    let state = match error {
        PullError::Peer(_) => LinkState::Disconnected,
        PullError::Departed(_) => LinkState::Departed,
        PullError::Refused(Refusal::ClockAhead { .. }) => LinkState::ClockAhead,
        PullError::Refused(Refusal::Forked { .. } | Refusal::OwnOrigin { .. }) => LinkState::Forked,
        PullError::Commit(es_core::CommitError::IdConflict(_)) => LinkState::Forked,
        _ => LinkState::Failed,
    };
    // A store that fails to read is the failure that is reported.
    let own = replica.knowledge().await.unwrap_or_default();
    let frontiers = replica.source().frontiers().all();
    status.send_modify(|status| {
        if let Some(peer) = frontiers.get(&status.peer) {
            status.set_lag(own.missing_events(&peer.knowledge));
        }
        let failure = ErrorChain(error).to_string();
        if status.failure.as_ref() != Some(&failure) {
            tracing::warn!(peer = status.peer, ?state, error = failure, "a link does not make progress");
        }
        (status.state, status.failure) = (state, Some(failure));
        metrics::counter!(FAILURES, "peer" => status.peer.clone()).increment(1);
    });
    set_gauges(&frontiers, &own, &status.borrow());
}
