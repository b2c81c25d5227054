//! Members that join, leave and are retired, stable events, and origins that are removed from vector clocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::InfrastructureError;
use es_core::model::{Dot, OriginId, VectorClock};
use es_core::prelude::*;
use es_core::store::implement::SettledTime;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, CommitError, ExecuteError, LogRead, NewEvent, retention};
use es_replication::{
    Departed, Link, LinkState, LocalPeer, MemberState, MembershipError, Monitor, Peer, PeerError, PullError, Refusal,
    Replica, ReplicaOptions, ReplicationStatus, StabilityError, StreamFilter,
};
use serde::{Deserialize, Serialize};

use MemberState::{Joined, Leaving, Left, Retired, Retiring};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "noted")]
struct Noted(u64);

/// The numbers of a list, each with whether an earlier one was concurrent.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "list", id = u64, event = Noted, consistency = "causal", conflict = "canonical")]
struct List(Vec<(u64, bool)>);

impl Evolve for List {
    fn initial(_: &u64) -> Self {
        Self(Vec::new())
    }
    fn evolve(&mut self, event: &Noted, at: &EventContext<'_>) {
        self.0.push((event.0, at.is_concurrent()));
    }
}

#[derive(Clone)]
struct Note(u64);

impl Decide<Note> for List {
    type Rejection = std::convert::Infallible;
    fn decide(&self, Note(number): Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Noted(number).into())
    }
}

struct Node {
    name: &'static str,
    store: MemoryStore,
    replica: Replica,
    lists: Repository<List>,
}

/// Opens a node that declares these peers, which are down while it opens. So a node that was open takes a new origin.
async fn open(name: &'static str, peers: &[&'static str], store: MemoryStore) -> Node {
    let mut options = ReplicaOptions::new(name).aggregate::<List>().expect("a category");
    options = options.with_confirm_timeout(Duration::from_millis(10));
    for peer in peers {
        options = options.member(Arc::new(LocalPeer::new(*peer, ReplicaOptions::new(*peer).source())));
    }
    let store = store.with_hook(options.hook()).await.expect("started");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("a replica");
    Node { name, store, replica, lists: Repository::new(shared) }
}

/// Opens three nodes that declare each other.
async fn group() -> [Node; 3] {
    let node = |name, peers| open(name, peers, MemoryStore::new());
    [node("a", &["b", "c"]).await, node("b", &["a", "c"]).await, node("c", &["a", "b"]).await]
}

impl Node {
    fn as_peer(&self) -> Arc<dyn Peer> {
        Arc::new(LocalPeer::new(self.name, self.replica.source()))
    }

    async fn restart(self, peers: &[&'static str]) -> Self {
        open(self.name, peers, self.store.copy(self.store.log_id())).await
    }

    /// Pulls everything, and advances the membership as a link does.
    async fn pull(&self, from: &Self) {
        self.try_pull(from).await.expect("pulled");
        self.advance().await;
    }

    async fn try_pull(&self, from: &Self) -> Result<(), PullError> {
        while !self.replica.pull(&*from.as_peer(), Duration::ZERO).await?.is_last {}
        Ok(())
    }

    async fn advance(&self) {
        self.replica.membership().advance().await.expect("advanced");
    }

    async fn note(&self, number: u64) -> Result<(), ExecuteError<std::convert::Infallible>> {
        self.lists.execute(&1, Note(number)).await.map(drop)
    }

    async fn members(&self) -> BTreeMap<String, MemberState> {
        self.replica.membership().members().await.expect("read")
    }

    async fn state(&self, name: &str) -> Option<MemberState> {
        self.members().await.get(name).copied()
    }

    async fn retire(&self, name: &str) {
        self.replica.membership().retire(name).await.expect("a member");
    }

    async fn status(&self) -> ReplicationStatus {
        Monitor::new(&self.replica, []).status().await.expect("a status")
    }

    async fn settled(&self) -> SettledTime {
        let replication = self.store.replication().expect("a replica");
        replication.settled(&self.store).await.expect("read")
    }

    async fn knowledge(&self) -> VectorClock {
        self.replica.knowledge().await.expect("read").clock().clone()
    }

    async fn origin(&self) -> OriginId {
        self.replica.origin().await.expect("an origin")
    }

    /// Returns the clock that the next event of the node has.
    async fn compressed(&self) -> VectorClock {
        self.store.replication().expect("a replica").retired_origins().compress(&self.knowledge().await)
    }

    /// Returns the vector clock of the last event of the list.
    async fn last_clock(&self) -> VectorClock {
        let events = self.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read");
        let of_list = events.into_iter().rfind(|event| event.stream.as_str() == "list-1").expect("an event");
        of_list.data.stamp.expect("a stamp").seen.expect("a clock")
    }
}

/// Pulls between all nodes in both directions, twice, so that reports of reports arrive.
async fn exchange(nodes: &[&Node]) {
    for _ in 0..3 {
        for target in nodes {
            for source in nodes.iter().filter(|source| source.name != target.name) {
                target.pull(source).await;
            }
        }
    }
}

fn states(states: &[(&str, MemberState)]) -> BTreeMap<String, MemberState> {
    states.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

#[tokio::test]
async fn without_a_change_the_members_are_the_declared_ones_and_a_join_adds_one() {
    let [a, b, c] = group().await;
    a.note(1).await.expect("executed");
    exchange(&[&a, &b, &c]).await;
    assert_eq!(a.members().await, states(&[("a", Joined), ("b", Joined), ("c", Joined)]));
    assert_eq!(a.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read").len(), 1);

    b.replica.membership().join("d").await.expect("joined");
    b.replica.membership().join("d").await.expect("no effect");
    exchange(&[&a, &b, &c]).await;
    let d = open("d", &["a", "b", "c"], MemoryStore::new()).await;
    // No filter excludes the membership.
    let filtered = d.replica.clone().with_filter(StreamFilter::none());
    filtered.pull(&*c.as_peer(), Duration::ZERO).await.expect("pulled");
    let expected = states(&[("a", Joined), ("b", Joined), ("c", Joined), ("d", Joined)]);
    for node in [&a, &b, &c, &d] {
        assert_eq!(node.members().await, expected, "{}", node.name);
        assert_eq!(node.status().await.members, expected);
    }
    let status = ReplicationStatus::read(&a.store).await.expect("read").expect("a replica");
    assert_eq!(status.members, expected);
    // The founders, and the new member.
    assert_eq!(d.store.read_log(LogRead::all()).await.expect("read").collect().await.expect("read").len(), 2);

    let membership = a.replica.membership();
    assert!(matches!(membership.leave("x").await, Err(MembershipError::NotAMember { .. })));
    assert!(matches!(membership.retire("x").await, Err(MembershipError::NotAMember { .. })));
    assert!(matches!(membership.retire("a").await, Err(MembershipError::OwnName { .. })));
    assert!(matches!(membership.join("").await, Err(MembershipError::InvalidName(_))));
}

/// A node that has restarted beside a lost member is the home of its former streams again once the member is retired.
#[tokio::test]
async fn the_members_that_have_not_departed_confirm_homes() {
    let [a, b, c] = group().await;
    b.note(1).await.expect("executed");
    exchange(&[&a, &b, &c]).await;
    let b = b.restart(&["a", "c"]).await;
    let lost: Arc<dyn Peer> = Arc::new(LocalPeer::new("c", ReplicaOptions::new("c").source()));
    let confirm = async || b.replica.confirm_homes(&[a.as_peer(), Arc::clone(&lost)]).await.expect("answered");
    let is_answered = tokio::time::timeout(Duration::from_millis(50), confirm()).await.is_ok();
    assert!(!is_answered, "the member c does not answer");
    a.retire("c").await;
    exchange(&[&a, &b]).await;
    assert!(!b.replica.confirm_homes(&[]).await.expect("read"), "the member a is not asked");
    assert!(confirm().await);
    assert_eq!(b.replica.home_origins().await.expect("read").len(), 2);
}

#[tokio::test]
async fn only_valid_events_are_written_to_the_stream_of_the_membership() {
    let [a, b, _] = group().await;
    let write = async |event_type: &str, payload: &str| {
        let event = NewEvent::json(event_type.parse().expect("a name"), payload.to_owned());
        a.store.commit(Commit::new().append("es.membership".parse().expect("a name"), event)).await
    };
    assert!(matches!(write("noted", "1").await, Err(CommitError::Invalid(_))));
    for payload in ["{}", "1", r#"{"member":""}"#] {
        let Err(CommitError::Rejected(error)) = write("member-joined", payload).await else { panic!("{payload}") };
        assert!(matches!(error.downcast_ref(), Some(Refusal::Membership { .. })), "{error:?}");
    }
    // As if the operator had called `join`.
    write("member-joined", r#"{"member":"d"}"#).await.expect("written");
    b.try_pull(&a).await.expect("pulled");
    assert_eq!((a.state("d").await, b.state("d").await), (Some(Joined), Some(Joined)));
    let rule = retention::Rule { max_count: Some(1), ..retention::Rule::default() };
    let scope = retention::Scope::Category("es.membership".parse().expect("a name"));
    let rule = Commit::set_rule(scope, rule, retention::Note::default());
    assert!(matches!(a.store.commit(rule).await, Err(CommitError::Invalid(_))));
}

/// Two operators change one member without knowing of each other: retire prevails over join, and join over leave.
#[tokio::test]
async fn concurrent_changes_of_one_member_have_one_result_on_every_node() {
    for (first, second, expected) in [
        (Retiring, Joined, Retiring),
        (Joined, Retiring, Retiring),
        (Leaving, Joined, Joined),
        (Joined, Leaving, Joined),
        (Leaving, Retiring, Retiring),
        (Retiring, Leaving, Retiring),
    ] {
        let [a, b, _] = group().await;
        // The first change of each node also names the founders, whatever the other one has declared.
        for (node, change) in [(&a, first), (&b, second)] {
            let membership = node.replica.membership();
            match change {
                Retiring => membership.retire("c").await.expect("a member"),
                Leaving => membership.leave("c").await.expect("a member"),
                _ => {
                    membership.leave("c").await.expect("a member");
                    membership.join("c").await.expect("a member");
                }
            }
        }
        a.try_pull(&b).await.expect("pulled");
        b.try_pull(&a).await.expect("pulled");
        for node in [&a, &b] {
            assert_eq!(node.state("c").await, Some(expected), "{first:?} {second:?} on {}", node.name);
        }
        // A later change replaces both.
        a.replica.membership().join("c").await.expect("joined");
        b.try_pull(&a).await.expect("pulled");
        assert_eq!((a.state("c").await, b.state("c").await), (Some(Joined), Some(Joined)));
    }
}

/// A retired member does not hold the settled time back, and one that joins counts for it from then on.
#[tokio::test]
async fn the_settled_time_waits_for_the_present_members() {
    let [a, b, c] = group().await;
    c.note(1).await.expect("executed");
    exchange(&[&a, &b, &c]).await;
    assert_eq!(a.settled().await.held_back_by, None);

    // The node c is lost.
    b.note(2).await.expect("executed");
    exchange(&[&a, &b]).await;
    let held = a.settled().await;
    assert_eq!(held.held_back_by.as_deref(), Some("c"));
    a.retire("c").await;
    assert_eq!(a.settled().await.held_back_by.as_deref(), Some("c"), "no other member has acknowledged that");
    exchange(&[&a, &b]).await;
    assert_eq!(a.state("c").await, Some(Retired));
    // A promise that is later than the events of the membership.
    exchange(&[&a, &b]).await;
    for node in [&a, &b] {
        let settled = node.settled().await;
        assert!(settled.held_back_by.is_none() && settled.time > held.time, "{}: {settled:?}", node.name);
    }

    a.replica.membership().join("d").await.expect("joined");
    exchange(&[&a, &b]).await;
    let held = b.settled().await;
    assert_eq!(held.held_back_by.as_deref(), Some("d"));
    let d = open("d", &["a", "b"], MemoryStore::new()).await;
    d.note(3).await.expect("executed");
    exchange(&[&a, &b, &d]).await;
    exchange(&[&a, &b, &d]).await;
    for node in [&a, &b, &d] {
        let settled = node.settled().await;
        assert!(settled.held_back_by.is_none() && settled.time > held.time, "{}: {settled:?}", node.name);
    }
}

#[tokio::test]
async fn a_retirement_takes_effect_when_every_remaining_member_knows_of_it() {
    let [a, b, c] = group().await;
    let d = open("d", &["a", "b", "c"], MemoryStore::new()).await;
    a.replica.membership().join("d").await.expect("joined");
    exchange(&[&a, &b, &c, &d]).await;
    d.note(1).await.expect("executed");
    a.pull(&d).await;
    // D is down from now on, and C is cut off.
    a.retire("d").await;
    for _ in 0..3 {
        a.pull(&b).await;
        b.pull(&a).await;
    }
    assert_eq!((a.state("d").await, b.state("d").await), (Some(Retiring), Some(Retiring)));
    let running = a.status().await.running.expect("running");
    assert_eq!(running.unacknowledged, [("d".to_owned(), ["c".to_owned()].into())].into());
    // Until then, D counts, and is answered.
    assert!(running.members.iter().any(|member| member.name == "d"));
    b.try_pull(&d).await.expect("answered");

    // C learns of it from B only, and A learns that from B, too.
    c.pull(&b).await;
    b.pull(&c).await;
    assert_eq!(a.state("d").await, Some(Retiring));
    a.pull(&b).await;
    assert_eq!(a.state("d").await, Some(Retired));
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        assert_eq!(node.state("d").await, Some(Retired), "{}", node.name);
        let running = node.status().await.running.expect("running");
        assert_eq!((running.unacknowledged.len(), running.blocked_by), (0, None), "{}", node.name);
        assert!(running.members.iter().all(|member| member.name != "d"));
    }
}

#[tokio::test]
async fn a_retired_node_is_refused_and_joins_again_as_a_new_incarnation() {
    let [a, b, c] = group().await;
    c.note(1).await.expect("executed");
    exchange(&[&a, &b, &c]).await;
    let origin = c.origin().await;
    // Only C has this event.
    c.note(2).await.expect("executed");
    a.retire("c").await;
    exchange(&[&a, &b]).await;
    assert_eq!(b.state("c").await, Some(Retired));

    let refused = |error: PullError| {
        let PullError::Peer(PeerError::Failed(message)) = error else { panic!("{error:?}") };
        message
    };
    let message = refused(c.try_pull(&a).await.expect_err("refused"));
    assert!(message.contains("\"c\" has left the group or was retired; join it again"), "{message}");
    let error = a.try_pull(&c).await.expect_err("refused");
    assert!(matches!(&error, PullError::Departed(Departed::Node { node }) if node == "c"), "{error:?}");
    let link = Link::start(a.replica.clone(), c.as_peer());
    let mut status = link.watch();
    status.wait_for(|status| status.state == LinkState::Departed).await.expect("the link runs");
    link.stop().await;
    let claim = es_replication::Claim { node: "c".to_owned(), origin };
    assert!(c.replica.source().confirm(claim.clone()).await.is_ok() && a.as_peer().confirm(claim).await.is_err());

    // It is refused until it has another origin.
    b.replica.membership().join("c").await.expect("joined");
    exchange(&[&a, &b]).await;
    let message = refused(c.try_pull(&a).await.expect_err("refused"));
    assert!(message.contains(&format!("{origin}, which was retired; reopen its store")), "{message}");
    let error = a.try_pull(&c).await.expect_err("refused");
    assert!(matches!(error, PullError::Departed(Departed::Origin { .. })), "{error:?}");
    let claim = es_replication::Claim { node: "c".to_owned(), origin };
    assert!(a.replica.source().confirm(claim).await.expect("answered").is_retired);
    let c = c.restart(&["a", "b"]).await;
    assert_ne!(c.origin().await, origin);
    exchange(&[&a, &b, &c]).await;
    assert_eq!(c.members().await, states(&[("a", Joined), ("b", Joined), ("c", Joined)]));
    // What it had acknowledged before is not lost.
    for node in [&a, &b, &c] {
        assert_eq!(node.lists.load(&1).await.expect("loaded").state.0, [(1, false), (2, false)], "{}", node.name);
    }
}

/// A node that leaves has an event that the filters of all other members exclude.
#[tokio::test]
async fn a_member_does_not_leave_with_the_only_copy_of_an_event() {
    let [a, b, c] = group().await;
    b.note(1).await.expect("executed");
    let filtered = a.replica.clone().with_filter(StreamFilter::none());
    let pull_filtered = async || while !filtered.pull(&*b.as_peer(), Duration::ZERO).await.expect("pulled").is_last {};
    pull_filtered().await;
    a.replica.membership().leave("b").await.expect("a member");
    exchange(&[&a, &c]).await;
    b.pull(&a).await;
    pull_filtered().await;
    exchange(&[&a, &c]).await;
    assert_eq!(a.state("b").await, Some(Leaving));
    let waiting = a.status().await.running.expect("it runs").unacknowledged;
    assert_eq!(waiting["b"].iter().collect::<Vec<_>>(), ["a", "c"]);
    // One copy is enough.
    a.pull(&b).await;
    assert_eq!(a.state("b").await, Some(Left));
    assert_eq!(a.lists.load(&1).await.expect("loaded").state.0, [(1, false)]);
}

#[tokio::test]
async fn a_member_leaves_after_every_other_member_has_its_events() {
    let [a, b, c] = group().await;
    exchange(&[&a, &b, &c]).await;
    c.note(1).await.expect("executed");
    a.replica.membership().leave("c").await.expect("a member");
    a.pull(&b).await;
    assert_eq!(a.state("c").await, Some(Leaving));
    c.note(2).await.expect("C does not know of it yet");
    c.pull(&a).await;
    b.pull(&a).await;
    a.pull(&b).await;
    let Err(ExecuteError::Failed(InfrastructureError::Rejected(error))) = c.note(3).await else { panic!("refused") };
    assert!(matches!(error.downcast_ref(), Some(Refusal::Departed { node }) if node == "c"), "{error:?}");
    // All have acknowledged, as A knows. B does not have the events of C.
    a.pull(&c).await;
    assert_eq!(a.state("c").await, Some(Leaving));
    let waiting = a.status().await.running.expect("running").unacknowledged;
    assert_eq!(waiting, [("c".to_owned(), ["b".to_owned()].into())].into());
    b.pull(&a).await;
    a.pull(&b).await;
    assert_eq!(a.state("c").await, Some(Left));
    assert!(matches!(a.try_pull(&c).await, Err(PullError::Departed(Departed::Node { .. }))));
    b.pull(&a).await;
    assert_eq!(b.lists.load(&1).await.expect("loaded").state.0.len(), 2);
}

/// A node that is restarted beside a member that is down takes a new origin. Once every member has all events of the
/// former one, the clocks of new events omit it, and the same events are concurrent as before.
#[tokio::test]
async fn a_dead_origin_leaves_the_clocks_and_causality_stays() {
    let [a, b, c] = group().await;
    a.replica.membership().join("a").await.expect("no effect");
    assert!(a.members().await.len() == 3 && a.knowledge().await.iter().len() == 0, "a join without effect");
    a.replica.membership().join("x").await.expect("joined");
    a.replica.membership().leave("x").await.expect("left");
    a.retire("x").await;
    b.note(1).await.expect("executed");
    exchange(&[&a, &b, &c]).await;
    assert_eq!(a.state("x").await, Some(Retired));
    let former = b.origin().await;
    // Only A has the last event of the former origin.
    b.note(2).await.expect("executed");
    a.pull(&b).await;
    let b = b.restart(&["a", "c"]).await;
    assert_ne!(b.origin().await, former);
    let is_retired = |status: ReplicationStatus, origin| {
        status.origins.iter().find(|known| known.origin == origin).is_some_and(|known| known.is_retired)
    };
    for source in [&b, &c, &b, &c] {
        a.pull(source).await;
    }
    assert!(!is_retired(a.status().await, former) && a.compressed().await.get(former).is_some());
    exchange(&[&a, &b, &c]).await;
    assert!(is_retired(a.status().await, former) && !is_retired(a.status().await, a.origin().await));
    a.note(3).await.expect("executed");
    // Concurrent with 3.
    c.note(4).await.expect("executed");
    for node in [&a, &c] {
        let clock = node.last_clock().await;
        assert!(clock.get(former).is_none(), "{} still names the former origin: {clock:?}", node.name);
    }
    exchange(&[&a, &b, &c]).await;
    for node in [&a, &b, &c] {
        let noted = node.lists.load(&1).await.expect("loaded").state.0;
        assert_eq!(noted, [(1, false), (2, false), (3, false), (4, true)], "{}", node.name);
        assert!(node.knowledge().await.get(former).is_some());
    }
    // A node that starts later receives events whose clocks omit the origin.
    let d = open("d", &["a", "b", "c"], MemoryStore::new()).await;
    d.pull(&c).await;
    assert_eq!(d.lists.load(&1).await.expect("loaded").state.0[2..], [(3, false), (4, true)]);
    // The former origin is not continued, even if every member confirms it.
    let claim = es_replication::Claim { node: "b".to_owned(), origin: former };
    assert!(a.replica.source().confirm(claim).await.expect("answered").is_retired);
}

/// A and C have no link: B passes on what they have.
#[tokio::test]
async fn events_are_stable_when_every_member_has_them_also_over_a_relay() {
    let [a, b, c] = group().await;
    let mut stable = a.replica.stable();
    assert_eq!(stable.clock().await.expect("read"), None, "nobody has reported");
    a.note(1).await.expect("executed");
    let token = a.replica.token().await.expect("a token");
    let error = stable.wait_for(token.clock(), Duration::ZERO).await.expect_err("not stable");
    assert!(error.to_string().contains("does not have"), "{error}");

    b.pull(&a).await;
    a.pull(&b).await;
    let error = stable.wait_for(token.clock(), Duration::from_millis(10)).await.expect_err("C has not reported");
    let StabilityError::Blocked { member, missing } = error else { panic!("{error:?}") };
    assert_eq!((member.as_str(), missing), ("c", token.clock().iter().collect::<Vec<Dot>>()));
    assert_eq!(stable.clock().await.expect("read"), None);

    let waiting = {
        let (stable, clock) = (a.replica.stable(), token.clock().clone());
        tokio::spawn(async move { stable.wait_for(&clock, Duration::from_secs(20)).await })
    };
    c.pull(&b).await;
    b.pull(&c).await;
    a.pull(&b).await;
    waiting.await.expect("no panic").expect("stable");
    assert_eq!(stable.next().await.expect("read"), *token.clock());
    let next = tokio::time::timeout(Duration::from_millis(300), stable.next()).await;
    assert!(next.is_err(), "nothing has changed: {next:?}");

    a.note(2).await.expect("executed");
    b.pull(&a).await;
    a.pull(&b).await;
    let token = a.replica.token().await.expect("a token");
    let error = stable.wait_for(token.clock(), Duration::ZERO).await.expect_err("C lacks it");
    assert!(matches!(error, StabilityError::Blocked { member, .. } if member == "c"));
    assert_eq!(a.status().await.running.expect("running").blocked_by.as_deref(), Some("c"));
}
