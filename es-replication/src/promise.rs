//! [`Promise`] and [`Promises`]: up to which time a node has the events of all members.
//!
//! The members are those of the [`Group`] whose departure is not completed: a node that has the event of a completed
//! departure has every event of the member that any other one has. Without an event of the membership, they are the
//! members that this node declares.
//!
//! ```text
//!   member: last events of its origins, time  -- with each page, also of relays -->  pending
//!   pending -- this node has these events --> counted -- the least of all members --> settled time
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use es_core::model::{HybridTime, VectorClock};
use tokio::sync::watch;

use crate::group::Group;

/// What a member promises about its later events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The name of the member.
    pub member: String,
    /// The last event of each origin that the member has ever had. The promise counts on a node that has these events.
    pub clock: VectorClock,
    /// Every later event of the member has a later hybrid time than this.
    pub time: HybridTime,
}

/// The promises of all members, as this node knows them.
#[derive(Debug)]
pub(crate) struct Promises {
    /// The name of this node.
    own: String,
    /// The names of the other members that this node declares.
    declared: Vec<String>,
    known: Mutex<KnownPromises>,
    /// Changes when another promise counts.
    changed: watch::Sender<()>,
}

/// The promises of each member.
#[derive(Debug, Clone, Default)]
struct KnownPromises {
    /// The latest promise whose events this node has.
    counted: BTreeMap<String, Promise>,
    /// The first later promise whose events this node does not have yet. A newer one does not replace it, because a
    /// member that writes continually would otherwise never have one that counts.
    pending: BTreeMap<String, Promise>,
    /// The settled time.
    settled: Option<HybridTime>,
}

/// The settled time, and the member that holds it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settling {
    pub(crate) time: Option<HybridTime>,
    pub(crate) oldest: String,
}

impl Promises {
    pub(crate) fn new(own: &str, declared: impl IntoIterator<Item = String>) -> Self {
        let declared = declared.into_iter().filter(|member| member != own).collect();
        Self { own: own.to_owned(), declared, known: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Returns the name of this node.
    pub(crate) fn node(&self) -> &str {
        &self.own
    }

    fn known(&self) -> MutexGuard<'_, KnownPromises> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns the members whose promises count, this node included.
    fn members<'a>(&'a self, group: &'a Group) -> BTreeSet<&'a str> {
        let mut members = match group.is_founded() {
            true => group.counted(),
            false => self.declared.iter().map(String::as_str).collect(),
        };
        members.insert(&self.own);
        members
    }

    /// Adds promises that another node sent, and removes those of departed members. `has` returns whether this node has
    /// the events of a clock. Promises of nodes that are no members, and of this one, are ignored.
    pub(crate) fn receive(&self, group: &Group, promises: Vec<Promise>, has: impl Fn(&VectorClock) -> bool) {
        let members = self.members(group);
        let is_changed = {
            let mut known = self.known();
            known.retain(&members);
            let is_other = |name: &str| name != self.own && members.contains(name);
            let of_members = promises.into_iter().filter(|promise| is_other(&promise.member));
            // No short circuit: every promise is added.
            let is_added = of_members.fold(false, |changed, promise| changed | known.add(promise, &has));
            is_added | known.count_pending(&has)
        };
        if is_changed {
            self.changed.send_replace(());
        }
    }

    /// Adds a promise that this node made. It counts once its events are visible here.
    pub(crate) fn make(&self, time: HybridTime, clock: VectorClock) -> Promise {
        let promise = Promise { member: self.own.clone(), clock, time };
        self.known().pending.entry(self.own.clone()).or_insert_with(|| promise.clone());
        promise
    }

    /// Returns the promises of the other members that count on this node, for its peers.
    pub(crate) fn of_others(&self) -> Vec<Promise> {
        self.known().counted.values().filter(|promise| promise.member != self.own).cloned().collect()
    }

    /// Returns a copy of the present promises. What this node has must be read after this call, and given to
    /// [`settle`](Self::settle): otherwise a promise could count whose events are not part of it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot(self.known().clone())
    }

    /// Returns the settled time of a node with these promises, a promise of its own, and the events that `has` names.
    pub(crate) fn settle(
        &self,
        group: &Group,
        Snapshot(mut known): Snapshot,
        own: Option<Promise>,
        has: impl Fn(&VectorClock) -> bool,
    ) -> Settling {
        known.count_pending(&has);
        if let Some(own) = own {
            known.add(own, &has);
        }
        let time_of = |member: &str| known.counted.get(member).map(|promise| promise.time);
        let times = self.members(group).into_iter().map(|member| (time_of(member), member));
        let (time, oldest) = times.min_by_key(|(time, _)| *time).unwrap_or((None, &self.own));
        let oldest = oldest.to_owned();
        let mut current = self.known();
        if let Some(own) = known.counted.remove(&self.own) {
            current.add(own, &|_| true);
        }
        // The settled time does not go back.
        current.settled = current.settled.max(time);
        Settling { time: current.settled, oldest }
    }

    /// Returns the settled time that was determined last.
    pub(crate) fn settled(&self) -> Option<HybridTime> {
        self.known().settled
    }
}

/// The promises at one time.
#[derive(Debug)]
pub(crate) struct Snapshot(KnownPromises);

impl KnownPromises {
    /// Removes the promises of other nodes than these.
    fn retain(&mut self, members: &BTreeSet<&str>) {
        self.counted.retain(|name, _| members.contains(name.as_str()));
        self.pending.retain(|name, _| members.contains(name.as_str()));
    }

    /// Adds a promise. Returns whether it counts and is later than the one before.
    fn add(&mut self, promise: Promise, has: &impl Fn(&VectorClock) -> bool) -> bool {
        if self.counted.get(&promise.member).is_some_and(|counted| counted.time >= promise.time) {
            return false;
        }
        if !has(&promise.clock) {
            self.pending.entry(promise.member.clone()).or_insert(promise);
            return false;
        }
        if self.pending.get(&promise.member).is_some_and(|pending| pending.time <= promise.time) {
            self.pending.remove(&promise.member);
        }
        self.counted.insert(promise.member.clone(), promise);
        true
    }

    /// Counts the pending promises whose events this node has. Returns whether there were any.
    fn count_pending(&mut self, has: &impl Fn(&VectorClock) -> bool) -> bool {
        let pending = std::mem::take(&mut self.pending);
        pending.into_values().fold(false, |changed, promise| changed | self.add(promise, has))
    }
}

#[cfg(test)]
mod tests {
    use es_core::model::{Dot, OriginId};

    use super::*;

    fn promise(member: &str, through: u64, time: u64) -> Promise {
        let dot = Dot { origin: OriginId::new(1), sequence: through.try_into().expect("from 1") };
        Promise { member: member.to_owned(), clock: [dot].into_iter().collect(), time: HybridTime::from_bits(time) }
    }

    fn has(through: u64) -> impl Fn(&VectorClock) -> bool {
        move |clock| clock.iter().all(|dot| dot.sequence.get() <= through)
    }

    /// Returns the settled time of a node that has the events up to `through`, and the member with the oldest promise.
    fn settle(promises: &Promises, through: u64) -> (Option<u64>, String) {
        let Settling { time, oldest } = promises.settle(&Group::default(), promises.snapshot(), None, has(through));
        (time.map(HybridTime::to_bits), oldest)
    }

    #[test]
    fn the_settled_time_is_the_least_of_all_members_and_does_not_go_back() {
        let promises = Promises::new("a", ["b", "c"].map(str::to_owned));
        promises.make(HybridTime::from_bits(90), VectorClock::new());
        promises.receive(&Group::default(), vec![promise("b", 1, 70)], has(1));
        assert_eq!(settle(&promises, 1), (None, "c".to_owned()));
        promises.receive(
            &Group::default(),
            vec![promise("c", 1, 50), promise("b", 1, 60), promise("stranger", 1, 10)],
            has(1),
        );
        assert_eq!(settle(&promises, 1), (Some(50), "c".to_owned()));
        promises.receive(&Group::default(), vec![promise("c", 1, 80)], has(1));
        assert_eq!(settle(&promises, 1), (Some(70), "b".to_owned()));
        assert_eq!(promises.of_others().iter().map(|of| of.time.to_bits()).collect::<Vec<_>>(), [70, 80]);
    }

    #[test]
    fn a_promise_counts_once_its_events_are_here() {
        let promises = Promises::new("a", ["b".to_owned()]);
        promises.make(HybridTime::from_bits(90), VectorClock::new());
        assert_eq!(settle(&promises, 1), (None, "b".to_owned()));
        let changes = promises.watch();
        promises.receive(&Group::default(), vec![promise("b", 2, 50)], has(1));
        assert_eq!((settle(&promises, 1).0, changes.has_changed().expect("open")), (None, false));
        assert_eq!(promises.of_others(), [], "it is not forwarded either");
        promises.receive(&Group::default(), Vec::new(), has(2));
        assert_eq!((settle(&promises, 2).0, changes.has_changed().expect("open")), (Some(50), true));
    }

    /// The events of the newest promise of a busy member are never all here.
    #[test]
    fn a_newer_promise_does_not_replace_one_that_waits() {
        let promises = Promises::new("a", ["b".to_owned()]);
        promises.make(HybridTime::from_bits(900), VectorClock::new());
        for round in 1..10 {
            promises.receive(&Group::default(), vec![promise("b", round + 2, 10 * round)], has(round));
        }
        assert!(settle(&promises, 9).0 >= Some(40), "{promises:?}");
        // A promise that counts replaces one that waits for events which were lost.
        promises.receive(&Group::default(), vec![promise("b", 99, 200)], has(9));
        promises.receive(&Group::default(), vec![promise("b", 9, 300)], has(9));
        assert_eq!(settle(&promises, 9).0, Some(300));
    }
}
