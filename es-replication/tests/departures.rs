//! Members that leave while events are only there, and reports from the future.

mod one_page;

use std::sync::Arc;
use std::time::Duration;

use es_core::model::Clock;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_replication::{LocalPeer, MemberState, Monitor, Pull, Replica, ReplicaOptions, Sender, StreamFilter};
use one_page::OnePage;
use serde::{Deserialize, Serialize};

use MemberState::{Leaving, Left, Retired};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
struct Noted;

/// A list with a number of notes.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "list", id = u64, event = Noted, consistency = "causal", conflict = "canonical")]
struct List(u64);

impl Evolve for List {
    fn initial(_: &u64) -> Self {
        Self(0)
    }
    fn evolve(&mut self, _: &Noted, _: &EventContext<'_>) {
        self.0 += 1;
    }
}

#[derive(Clone)]
struct Note;

impl Decide<Note> for List {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Note: Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted.into())
    }
}

struct Node {
    name: &'static str,
    replica: Replica,
    lists: Repository<List>,
    clock: Arc<ManualClock>,
}

fn noon() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-01-31T12:00:00Z".parse().expect("a time")))
}

/// Opens a node that declares these peers, which are down while it opens.
async fn open(name: &'static str, peers: &[&'static str], store: MemoryStore) -> Node {
    let clock = noon();
    let options = ReplicaOptions::new(name).aggregate::<List>().expect("a category").with_clock(clock.clone());
    let options = peers.iter().fold(options, |options, peer| {
        options.member(Arc::new(LocalPeer::new(*peer, ReplicaOptions::new(*peer).source())))
    });
    let shared: Arc<dyn EventStore> = Arc::new(store.with_hook(options.hook()).await.expect("started"));
    let replica = Replica::new(Arc::clone(&shared)).expect("a replica");
    Node { name, replica, lists: Repository::new(shared), clock }
}

/// Opens three nodes that declare each other.
async fn group(names: [&'static str; 3]) -> [Node; 3] {
    let [a, b, c] = names;
    let node = |name, peers: [&'static str; 2]| async move { open(name, &peers, MemoryStore::new()).await };
    [node(a, [b, c]).await, node(b, [a, c]).await, node(c, [a, b]).await]
}

/// Selects these lists.
fn lists<const N: usize>(ids: [u64; N]) -> StreamFilter {
    let stream = |id: &u64| format!("list-{id}").parse().expect("a name");
    ids.iter().map(stream).fold(StreamFilter::none(), StreamFilter::stream)
}

impl Node {
    /// Pulls everything that a filter selects.
    async fn pull_some(&self, from: &Self, filter: StreamFilter) {
        let (replica, peer) =
            (self.replica.clone().with_filter(filter), LocalPeer::new(from.name, from.replica.source()));
        let mut is_last = false;
        while !is_last {
            // Of two reports with the same time, the one that arrives last would count.
            self.clock.advance(Duration::from_millis(1));
            from.clock.advance(Duration::from_millis(1));
            is_last = replica.pull(&peer, Duration::ZERO).await.expect("pulled").is_last;
        }
    }

    async fn pull(&self, from: &Self) {
        self.pull_some(from, StreamFilter::all()).await;
    }

    /// Reports to another node without pulling an event, and learns of changes of the members.
    async fn report_to(&self, other: &Self) {
        for _ in 0..2 {
            self.pull_some(other, StreamFilter::none()).await;
        }
    }

    async fn note(&self, list: u64) {
        self.lists.execute(&list, Note).await.expect("executed");
    }

    async fn notes(&self, list: u64) -> u64 {
        self.lists.load(&list).await.expect("loaded").state.0
    }

    async fn leave(&self, name: &str) {
        self.replica.membership().leave(name).await.expect("a member");
    }

    /// Advances the membership, and returns the state of a member.
    async fn advanced(&self, name: &str) -> Option<MemberState> {
        let membership = self.replica.membership();
        for _ in 0..3 {
            membership.advance().await.expect("advanced");
        }
        membership.members().await.expect("read").get(name).copied()
    }

    /// Returns the members that have not acknowledged the departure of a member.
    async fn unacknowledged(&self, name: &str) -> Vec<String> {
        let status = Monitor::new(&self.replica, []).status().await.expect("a status").running.expect("it runs");
        status.unacknowledged.get(name).into_iter().flatten().cloned().collect()
    }
}

/// Regression: events from before the replication did not delay the departure of the node that had adopted them.
#[tokio::test]
async fn a_member_does_not_leave_with_the_only_copy_of_adopted_events() {
    let store = MemoryStore::with_clock(noon());
    let local = Repository::<List>::new(Arc::new(store.clone()));
    local.execute(&1, Note).await.expect("executed");
    let [a, _, c] = group(["a", "b", "c"]).await;
    let b = open("b", &["a", "c"], store).await;
    a.leave("b").await;
    b.report_to(&a).await;
    c.report_to(&a).await;
    assert_eq!(a.advanced("b").await, Some(Leaving));
    assert_eq!(a.unacknowledged("b").await, ["a", "c"]);
    a.pull(&b).await;
    assert_eq!((a.advanced("b").await, a.notes(1).await), (Some(Leaving), 1));
    assert_eq!(a.unacknowledged("b").await, ["c"]);
    c.pull(&a).await;
    c.report_to(&a).await;
    assert_eq!(a.advanced("b").await, Some(Left));
}

/// Regression: an event that a member had written and then lost was not counted, because the member still used its
/// origin as far as the others knew. The member that leaves is the only one that has pulled it.
#[tokio::test]
async fn a_member_does_not_leave_with_the_only_copy_of_an_event_of_another_member() {
    let [a, b, c] = group(["a", "b", "c"]).await;
    a.leave("b").await;
    b.report_to(&a).await;
    c.report_to(&a).await;
    c.note(1).await;
    b.pull(&c).await;
    b.report_to(&a).await;
    assert_eq!(a.advanced("b").await, Some(Leaving));
    a.pull(&b).await;
    assert_eq!((a.advanced("b").await, a.notes(1).await), (Some(Left), 1));
}

/// Regression: of two members that left together, each counted as the one that has the other copy.
#[tokio::test]
async fn two_members_do_not_leave_with_the_only_copies_of_an_event() {
    let [a, b, c] = group(["a", "b", "c"]).await;
    b.note(1).await;
    c.pull(&b).await;
    a.leave("b").await;
    a.leave("c").await;
    for node in [&b, &c] {
        node.report_to(&a).await;
        a.pull_some(node, StreamFilter::none()).await;
    }
    assert_eq!((a.advanced("b").await, a.advanced("c").await), (Some(Left), Some(Leaving)));
    assert_eq!((a.unacknowledged("c").await, a.notes(1).await), (vec!["a".to_owned()], 0));
    a.pull(&c).await;
    assert_eq!((a.advanced("c").await, a.notes(1).await), (Some(Left), 1));
}

/// Regression: the events that a leaving member has did not count if they were between withheld ones that it reports as
/// one range. The member o writes alternating lists, and is lost.
#[tokio::test]
async fn a_member_does_not_leave_with_the_only_copies_between_withheld_events() {
    let [l, m, o] = group(["l", "a", "o"]).await;
    for number in 1..=80 {
        o.note(if number % 2 == 1 {
            2
        } else if number <= 40 {
            1
        } else {
            3
        })
        .await;
    }
    l.pull_some(&o, lists([1, 3])).await;
    m.pull_some(&o, lists([2, 3])).await;
    m.replica.membership().retire("o").await.expect("a member");
    l.report_to(&m).await;
    assert_eq!(m.advanced("o").await, Some(Retired));
    m.leave("l").await;
    l.report_to(&m).await;
    m.pull_some(&l, lists([2, 3])).await;
    assert_eq!(m.advanced("l").await, Some(Leaving));
    assert_eq!((m.notes(1).await, m.unacknowledged("l").await), (0, vec!["a".to_owned()]));
    // M finds out that it has the events between those that it withheld.
    m.pull_some(&l, lists([1, 2, 3])).await;
    assert_eq!((m.advanced("l").await, m.notes(1).await), (Some(Left), 20));
}

/// Nobody has an event that a lost member had written. It does not delay the departure of a node that withholds it.
#[tokio::test]
async fn a_member_leaves_if_it_has_no_copy_either() {
    let [l, m, o] = group(["l", "a", "o"]).await;
    o.note(1).await;
    l.pull_some(&o, StreamFilter::none()).await;
    m.pull_some(&o, StreamFilter::none()).await;
    m.replica.membership().retire("o").await.expect("a member");
    l.report_to(&m).await;
    assert_eq!(m.advanced("o").await, Some(Retired));
    m.leave("l").await;
    l.report_to(&m).await;
    assert_eq!(m.advanced("l").await, Some(Left));
}

/// Regression: one report of a node whose clock was far ahead hid its later ones, and the departure waited for decades.
#[tokio::test]
async fn a_report_from_the_future_does_not_hide_later_ones() {
    for relays in [false, true] {
        let [a, b, c] = group(["a", "b", "c"]).await;
        c.clock.set("2099-01-01T00:00:00Z".parse().expect("a time"));
        let report = async || {
            c.report_to(if relays { &b } else { &a }).await;
            b.report_to(&a).await;
            a.report_to(&b).await;
        };
        report().await;
        // A second later.
        c.clock.set("2026-01-31T12:00:01Z".parse().expect("a time"));
        a.leave("b").await;
        b.pull(&a).await;
        report().await;
        assert_eq!(a.advanced("b").await, Some(Left), "relays: {relays}");
    }
}

/// A peer that passes on a report from the future, as a node without a check does, is not believed.
#[tokio::test]
async fn a_relayed_report_from_the_future_is_discarded() {
    let [a, b, c] = group(["a", "b", "c"]).await;
    b.report_to(&c).await;
    let pull = Pull {
        sender: Sender {
            node: "a".to_owned(),
            origin: a.replica.origin().await.expect("an origin"),
            time: a.clock.now(),
        },
        knowledge: a.replica.knowledge().await.expect("read"),
        filter: StreamFilter::all(),
        cursor: None,
        max_bytes: 1024,
        wait: Duration::ZERO,
    };
    let mut page = b.replica.source().page(&pull).await.expect("a page");
    assert_eq!(page.reports.len(), 1, "the report of C");
    page.reports[0].sender.time = "2099-01-01T00:00:00Z".parse().expect("a time");
    a.replica.pull(&OnePage(page), Duration::ZERO).await.expect("stored");
    a.leave("b").await;
    b.pull(&a).await;
    c.pull(&b).await;
    c.report_to(&b).await;
    b.report_to(&a).await;
    a.report_to(&b).await;
    assert_eq!(a.advanced("b").await, Some(Left));
}

/// A member whose clock was set back reports earlier times than before.
#[tokio::test]
async fn the_report_of_a_page_is_newer_than_those_before_its_request() {
    let [a, b, c] = group(["a", "b", "c"]).await;
    c.report_to(&a).await;
    c.clock.set("2026-01-31T11:59:30Z".parse().expect("a time"));
    a.leave("b").await;
    b.report_to(&a).await;
    c.report_to(&a).await;
    assert_eq!(a.advanced("b").await, Some(Leaving), "a pull may have been delayed");
    a.report_to(&c).await;
    assert_eq!(a.advanced("b").await, Some(Left));
}
