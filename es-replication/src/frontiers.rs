//! [`Frontiers`]: what the other members know, as they reported it last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use es_core::model::OriginId;
use es_core::{EventReader, StoreError, Timestamp};
use tokio::sync::watch;

use crate::group::{Group, GroupCache};
use crate::knowledge::Knowledge;
use crate::page::{MemberReport, Page, Pull, Sender};
use crate::state::latest;

/// How far the time of another node may be ahead of the clock of this one by default.
pub(crate) const DEFAULT_MAX_CLOCK_AHEAD: Duration = Duration::from_secs(60);

/// What a member knew when it reported last. A member that has lost its disk knows less than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontier {
    pub(crate) knowledge: Arc<Knowledge>,
    /// The origin of the events that the member decides.
    pub(crate) origin: OriginId,
    /// By the clock of the member. If that is far ahead, by the clock of the peer that has received the report.
    pub(crate) reported_at: Timestamp,
}

/// When a node receives a report, by its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) now: Timestamp,
    /// The latest time that the report may name.
    latest: Timestamp,
}

impl Arrival {
    pub(crate) fn new(now: Timestamp, max_ahead: Duration) -> Self {
        Self { now, latest: latest(now, max_ahead) }
    }
}

impl Frontier {
    fn new(sender: &Sender, knowledge: Arc<Knowledge>) -> Self {
        Self { knowledge, origin: sender.origin, reported_at: sender.time }
    }

    /// Returns a report that came from the member itself. If its time is far ahead, the time of its arrival counts:
    /// later reports of the member have lower times once its clock is right.
    fn arrived(self, arrival: Arrival) -> Self {
        if self.reported_at > arrival.latest { Self { reported_at: arrival.now, ..self } } else { self }
    }
}

/// What the other members know, by name. A member reports it with each pull, and with each answer to a pull; its peers
/// pass it on.
#[derive(Debug)]
pub(crate) struct Frontiers {
    known: Mutex<BTreeMap<String, Frontier>>,
    group: GroupCache,
    /// The number of reports.
    reports: watch::Sender<u64>,
}

impl Default for Frontiers {
    fn default() -> Self {
        Self { known: Mutex::default(), group: GroupCache::default(), reports: watch::Sender::new(0) }
    }
}

impl Frontiers {
    /// Returns when the last report of a member was sent, if it has reported.
    pub(crate) fn last_report(&self, member: &str) -> Option<Timestamp> {
        self.lock().get(member).map(|known| known.reported_at)
    }

    /// Stores what a pull reports, unless something newer is known. A delayed pull can be older than a later one.
    pub(crate) fn report_pull(&self, pull: &Pull, arrival: Arrival) {
        let frontier = Frontier::new(&pull.sender, Arc::new(pull.knowledge.clone()));
        self.report(&pull.sender.node, frontier.arrived(arrival), None, arrival);
    }

    /// Stores what a page reports of its member, unless something newer is known. The page is newer than the report
    /// that was sent at `before`, which was the last one when the page was requested: so a member whose clock was set
    /// back is known, too.
    pub(crate) fn report_page(&self, member: &str, before: Option<Timestamp>, page: &Page, arrival: Arrival) {
        let frontier = Frontier::new(&page.sender, Arc::new(page.knowledge.clone()));
        self.report(member, frontier.arrived(arrival), before, arrival);
    }

    /// Stores what a member has reported to a peer, unless something newer is known. A report from the future is
    /// discarded: it would hide all later ones.
    pub(crate) fn report_relayed(&self, report: &MemberReport, arrival: Arrival) {
        if report.sender.time <= arrival.latest {
            let frontier = Frontier::new(&report.sender, Arc::clone(&report.knowledge));
            self.report(&report.sender.node, frontier, None, arrival);
        }
    }

    /// Stores a report, unless something newer is known. It is newer than the one that was sent at `before`.
    fn report(&self, member: &str, frontier: Frontier, before: Option<Timestamp>, arrival: Arrival) {
        let mut known = self.lock();
        // The clock of this node may have been set back since the last report.
        let is_newer = known.get(member).is_none_or(|last| {
            let last = last.reported_at;
            last <= frontier.reported_at || last > arrival.latest || Some(last) == before
        });
        if is_newer {
            known.insert(member.to_owned(), frontier);
        }
        drop(known);
        self.reports.send_modify(|count| *count += 1);
    }

    /// Returns what the members have reported, for a peer.
    pub(crate) fn reports_for(&self, peer: &str) -> Vec<MemberReport> {
        let report = |(node, Frontier { knowledge, origin, reported_at }): (String, Frontier)| MemberReport {
            sender: Sender { node, origin, time: reported_at },
            knowledge,
        };
        self.all().into_iter().filter(|(node, _)| node != peer).map(report).collect()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Frontier> {
        self.lock().clone()
    }

    /// Returns a watch on the number of reports.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.reports.subscribe()
    }

    /// Returns the members of the group.
    pub(crate) async fn group(&self, store: &dyn EventReader) -> Result<Arc<Group>, StoreError> {
        self.group.read(store).await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Frontier>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
