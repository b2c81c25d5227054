//! [`StableEvents`]: the events that every member has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use es_core::StoreError;
use es_core::model::{Dot, VectorClock};
use tokio::sync::watch;

use crate::error::Dots;
use crate::frontiers::Frontier;
use crate::knowledge::Knowledge;
use crate::replica::Replica;

/// The period in which a wait checks the reports even if none arrives.
const POLL: Duration = Duration::from_millis(100);

/// The stable events: those that every member has. See [`Replica::stable`].
#[derive(Debug, Clone)]
pub struct StableEvents {
    replica: Replica,
    reports: watch::Receiver<u64>,
    /// The last clock that was returned.
    last: Option<VectorClock>,
}

/// Events did not become stable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StabilityError {
    /// The timeout expired. Start the member or heal its links, and retry; or retire it if it does not come back.
    #[error("the events are not stable: the member {member:?} {}", Lacks(.missing))]
    Blocked {
        /// The member that lacks the most events, or has not reported since the start of this node.
        member: String,
        /// For each origin, the last event that the member lacks; all of them if it has not reported.
        missing: Vec<Dot>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Formats the events that a member lacks.
struct Lacks<'a>(&'a [Dot]);

impl std::fmt::Display for Lacks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "does not have {}, as far as this node knows", Dots(self.0))
    }
}

impl Replica {
    /// Returns the events that every member has, and a watch on them. A withheld event is not stable.
    ///
    /// Members report what they have with each pull and each page, and peers pass it on, so no link to each member is
    /// needed. A node that has just started knows of no stable event until each member has reported.
    #[must_use]
    pub fn stable(&self) -> StableEvents {
        StableEvents { replica: self.clone(), reports: self.source.frontiers().watch(), last: None }
    }

    /// Returns what the members that count for stability have reported, by name. `links` are members, too, while there
    /// is no event of the membership.
    pub(crate) async fn counted_reports(
        &self,
        links: &BTreeSet<String>,
    ) -> Result<Vec<(String, Option<Frontier>)>, StoreError> {
        let group = self.group().await?;
        let (node, mut reports) = self.reports().await?;
        let names: BTreeSet<String> = match group.is_founded() {
            true => group.counted().into_iter().map(ToOwned::to_owned).collect(),
            false => self.membership().members().await?.into_keys().chain(links.iter().cloned()).collect(),
        };
        // This node first, also if it has departed.
        let others = names.into_iter().filter(|name| *name != node).collect::<Vec<_>>();
        let all = std::iter::once(node).chain(others);
        Ok(all.map(|name| (name.clone(), reports.remove(&name))).collect())
    }
}

impl StableEvents {
    /// Returns for each origin the last stable event. `None` until every member has reported.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn clock(&self) -> Result<Option<VectorClock>, StoreError> {
        Ok(stable(&self.replica.counted_reports(&BTreeSet::new()).await?))
    }

    /// Waits until other events are stable than those that this returned last, and returns the last one of each origin.
    /// If the future is dropped, no change is lost.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn next(&mut self) -> Result<VectorClock, StoreError> {
        loop {
            // ORDER: the count before the reports, so that a later report ends the wait.
            self.reports.mark_unchanged();
            if let Some(clock) = self.clock().await?.filter(|clock| self.last.as_ref() != Some(clock)) {
                return Ok(self.last.insert(clock).clone());
            }
            self.wait_for_report().await;
        }
    }

    /// Waits until events are stable, and with them everything before them of their origins. Take them from
    /// [`Token::clock`](crate::Token::clock), or collect dots.
    ///
    /// # Errors
    /// - [`StabilityError::Blocked`] if they are not stable within `timeout`. It names the member that lacks the most.
    /// - [`StabilityError::Store`] if the store fails.
    pub async fn wait_for(&self, events: &VectorClock, timeout: Duration) -> Result<(), StabilityError> {
        let mut waiting = self.clone();
        let wait = async {
            loop {
                waiting.reports.mark_unchanged();
                if waiting.blocking(events).await?.is_none() {
                    return Ok(());
                }
                waiting.wait_for_report().await;
            }
        };
        match tokio::time::timeout(timeout, wait).await {
            Ok(result) => result,
            Err(_) => match self.blocking(events).await? {
                Some((member, missing)) => Err(StabilityError::Blocked { member, missing }),
                None => Ok(()),
            },
        }
    }

    async fn wait_for_report(&mut self) {
        // A gap or a change of the members brings no report.
        let _ = tokio::time::timeout(POLL, self.reports.changed()).await;
    }

    /// Returns the member that lacks the most of these events, and the last one of each origin that it lacks.
    async fn blocking(&self, events: &VectorClock) -> Result<Option<(String, Vec<Dot>)>, StoreError> {
        let reports = self.replica.counted_reports(&BTreeSet::new()).await?;
        let needed = Knowledge::from(events.clone());
        let lacking = reports.into_iter().filter_map(|(name, frontier)| {
            let has = frontier.as_ref().map(|frontier| frontier.knowledge.prefix()).unwrap_or_default();
            let missing: Vec<Dot> = events.iter().filter(|dot| !has.includes(*dot)).collect();
            // A member that has not reported comes last, as the one that lacks the most.
            let count = frontier.map_or(u64::MAX, |_| Knowledge::from(has).missing_events(&needed));
            (!missing.is_empty()).then_some((count, name, missing))
        });
        Ok(lacking.max_by_key(|(count, ..)| *count).map(|(_, name, missing)| (name, missing)))
    }
}

/// Returns for each origin the last event up to which every member has all events; `None` if a member has not reported.
pub(crate) fn stable(members: &[(String, Option<Frontier>)]) -> Option<VectorClock> {
    let prefixes: Option<Vec<VectorClock>> =
        members.iter().map(|(_, frontier)| Some(frontier.as_ref()?.knowledge.prefix())).collect();
    let (first, others) = prefixes.as_ref()?.split_first()?;
    let least = |dot: Dot| others.iter().map(|prefix| prefix.get(dot.origin)).fold(Some(dot.sequence), Ord::min);
    Some(first.iter().filter_map(|dot| Some(Dot { sequence: least(dot)?, ..dot })).collect())
}

/// Returns for each member whose departure is not completed the members that have not acknowledged it.
pub(crate) async fn pending(replica: &Replica) -> Result<BTreeMap<String, BTreeSet<String>>, StoreError> {
    let (group, (_, reports)) = (replica.group().await?, replica.reports().await?);
    let waiting = |member: &str| super::waiting(&group, member, &reports).into_iter().map(ToOwned::to_owned).collect();
    let pending: BTreeMap<String, BTreeSet<String>> =
        group.members().map(|(member, _)| (member.to_owned(), waiting(member))).collect();
    Ok(pending.into_iter().filter(|(_, waiting)| !waiting.is_empty()).collect())
}
