//! [`Frontiers`]: what the other members know, as they reported it last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use es_core::model::OriginId;
use es_core::{EventReader, StoreError, Timestamp};
use tokio::sync::watch;

use crate::group::{Group, GroupCache};
use crate::knowledge::Knowledge;
use crate::page::{MemberReport, Sender};

/// What a member knew when it reported last. A member that has lost its disk knows less than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontier {
    pub(crate) knowledge: Knowledge,
    /// The origin of the events that the member decides.
    pub(crate) origin: OriginId,
    /// By the clock of the member.
    pub(crate) reported_at: Timestamp,
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
    /// Stores what a member has reported, itself or over its peers, unless something newer is known. A delayed answer
    /// can be older than a later one.
    pub(crate) fn report(&self, member: &str, sender: &Sender, knowledge: &Knowledge) {
        let (origin, reported_at) = (sender.origin, sender.time);
        let mut known = self.lock();
        if known.get(member).is_none_or(|known| known.reported_at <= reported_at) {
            let frontier = Frontier { knowledge: knowledge.clone(), origin, reported_at };
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
