//! A session of a replica with a hostile peer, which has a valid certificate and sends anything.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use async_trait::async_trait;
use es_core::model::{
    Clock, CommandDigest, CommandId, ContentType, Dot, Entropy, HybridTime, KeyChange, LogId, LogPosition, OriginId,
    Stamp, UniqueKey, VectorClock,
};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::testing::{ManualClock, SeededEntropy};
use es_core::{Commit, EventData, EventId, EventType, LogRead, NewEvent, RecordedEvent, StreamId};
use es_replication::{
    AnswerError, Claim, Confirmation, ForeignEvent, GapReason, Item, LocalPeer, Page, Peer, PeerError, Promise, Pull,
    PullError, Replica, ReplicaOptions,
};
use uuid::Uuid;

use super::wire::{decode, log_position, pull, reports, sender, transferred};
use crate::wire::Message;

/// The largest number of steps of a session.
const MAX_STEPS: usize = 60;
/// The largest number of pages that a correct peer needs.
const MAX_PAGES: usize = 100;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
#[event(name = "counted")]
struct Counted(u64);

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "counter", id = u64, event = Counted, consistency = "eventual")]
struct Counter(u64);

impl Evolve for Counter {
    fn initial(_: &u64) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) {
        self.0 = self.0.wrapping_add(event.0);
    }
}

/// The properties of a session, in which B pulls from A and from a hostile peer, answers the requests of that peer, and
/// decides on events:
///
/// - nothing panics, and B can always decide;
/// - the events of A and B stay as they are;
/// - B restarts with the same knowledge;
/// - another node can pull everything that B has stored;
/// - B has all events of A, if it pulled from A without an error, except those that the hostile peer declared as
///   removed: no node can know that they were not.
pub fn sessions(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(session(&mut Unstructured::new(data)));
}

async fn session(from: &mut Unstructured<'_>) {
    let (a, b) = (Node::start("a", 1).await, Node::start("b", 2).await);
    a.decide(1).await;
    a.decide(2).await;
    b.pull_all(&a).await.expect("a correct peer");
    b.decide(1).await;
    let names = [origin(&a).await, origin(&b).await, OriginId::GENESIS, OriginId::new(77)];
    let mut hides_events_of_a = false;
    for _ in 0..MAX_STEPS {
        // Choices that are missing are zeros.
        if from.is_empty() {
            break;
        }
        match from.int_in_range(0..=7) {
            Ok(0) => drop(answer(&b, from).await),
            Ok(1) => b.decide(1).await,
            Ok(2) => a.decide(1).await,
            Ok(_) => {
                let Ok(page) = page(from, &b, &names).await else { break };
                let is_gap_of_a = |item: &Item| match item {
                    Item::Gap { origin, reason, .. } => *origin == names[0] && *reason == GapReason::Removed,
                    Item::Commit(_) => false,
                };
                hides_events_of_a |= page.items.iter().any(is_gap_of_a);
                // Refusals are expected.
                let _ = b.replica.pull(&OnePage(page), Duration::ZERO).await;
            }
            Err(_) => break,
        }
    }
    check(&a, &b, hides_events_of_a).await;
}

async fn check(a: &Node, b: &Node, hides_events_of_a: bool) {
    b.decide(2).await;
    a.decide(3).await;
    let (events_of_a, events_of_b) = (a.events().await, b.events().await);
    let pulled = b.pull_all(a).await;
    // A finds out that the hostile peer invented events of A, if it did.
    let _ = a.pull_all(b).await;
    assert!(a.events().await.starts_with(&events_of_a), "the log of A has changed");
    let stored = b.events().await;
    assert!(stored.starts_with(&events_of_b), "the log of B has changed");
    if pulled.is_ok() && !hides_events_of_a {
        for event in &events_of_a {
            assert!(stored.iter().any(|other| other.data == event.data), "B does not have {event:?}");
        }
    }
    let knowledge = b.knowledge().await;
    let restarted = Node::open("b", 4, b.store.copy(b.store.log_id())).await;
    assert_eq!(restarted.knowledge().await, knowledge);
    let c = Node::start("c", 3).await;
    c.pull_all(&restarted).await.expect("what B has stored can be stored elsewhere");
    assert_eq!(c.knowledge().await, knowledge);
}

async fn origin(node: &Node) -> OriginId {
    node.replica.origin().await.expect("a sound store")
}

struct Node {
    store: MemoryStore,
    replica: Replica,
    entropy: Arc<SeededEntropy>,
}

impl Node {
    async fn start(name: &str, seed: u64) -> Self {
        Self::open(name, seed, MemoryStore::with_clock(clock())).await
    }

    async fn open(name: &str, seed: u64, store: MemoryStore) -> Self {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let options = ReplicaOptions::new(name).aggregate::<Counter>().expect("a category");
        let options = options.with_clock(clock()).with_entropy(entropy.clone());
        let store = store.with_hook(options.hook()).await.expect("a sound store");
        let replica = Replica::new(Arc::new(store.clone())).expect("a hook").with_page_bytes(500);
        Self { store, replica, entropy }
    }

    /// Appends an event to the stream of a counter.
    async fn decide(&self, id: u64) {
        let stream = Counter::stream(&id).expect("a name");
        let mut event = NewEvent::json(EventType::new("counted").expect("a name"), "1");
        event.data.id = EventId::from_uuid(uuid(self.entropy.next_u64()));
        self.store.commit(Commit::new().append(stream, event)).await.expect("a node can always decide");
    }

    async fn pull_all(&self, from: &Self) -> Result<(), PullError> {
        let peer = LocalPeer::new("peer", from.replica.source());
        for _ in 0..MAX_PAGES {
            if self.replica.pull(&peer, Duration::ZERO).await?.is_last {
                return Ok(());
            }
        }
        panic!("a node does not receive everything within {MAX_PAGES} pages");
    }

    async fn events(&self) -> Vec<RecordedEvent> {
        self.store.read_log(LogRead::all()).await.expect("a sound store").collect().await.expect("a sound store")
    }

    async fn knowledge(&self) -> VectorClock {
        self.replica.knowledge().await.expect("a sound store").clock().clone()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time")))
}

fn uuid(number: u64) -> Uuid {
    Uuid::from_u64_pair(number, number)
}

/// The hostile peer.
#[derive(Debug)]
struct OnePage(Page);

#[async_trait]
impl Peer for OnePage {
    fn name(&self) -> &str {
        "hostile"
    }
    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        Ok(self.0.clone())
    }
    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        Err(PeerError::Failed("no answer".to_owned()))
    }
}

/// Answers a request of the hostile peer.
async fn answer(node: &Node, from: &mut Unstructured<'_>) -> Result<()> {
    if from.ratio(1, 3)? {
        let claim = Claim { node: "hostile".to_owned(), origin: OriginId::new(from.arbitrary()?) };
        is_answered(node.replica.source().confirm(claim).await);
        return Ok(());
    }
    let pull = Pull { wait: Duration::ZERO, ..pull(from)? };
    is_answered(node.replica.source().page(&pull).await);
    Ok(())
}

/// Checks that a request was answered, or that its node has departed by an event that the hostile peer invented.
fn is_answered<T>(answer: Result<T, AnswerError>) {
    if let Err(error) = answer
        && !matches!(error, AnswerError::Departed(_))
    {
        panic!("a sound store: {error:?}")
    }
}

/// What the hostile peer needs to invent a page.
struct Forgery {
    /// The origins of events.
    origins: [OriginId; 4],
    /// What B has after the part of the page that is generated so far.
    knowledge: VectorClock,
    /// The ids of events of B.
    ids: Vec<EventId>,
}

impl Forgery {
    fn origin(&self, from: &mut Unstructured<'_>) -> Result<OriginId> {
        from.choose(&self.origins).copied()
    }

    /// Returns the next dot of an origin in most cases, because B refuses others early.
    fn dot(&self, from: &mut Unstructured<'_>) -> Result<Dot> {
        let origin = self.origin(from)?;
        let known = self.knowledge.get(origin).map_or(0, NonZeroU64::get);
        let sequence = match from.int_in_range(0..=15)? {
            0 => from.arbitrary()?,
            1..=3 => NonZeroU64::MIN.saturating_add(from.int_in_range(0..=6)?),
            _ => NonZeroU64::MIN.saturating_add(known),
        };
        Ok(Dot { origin, sequence })
    }

    fn clock(&self, from: &mut Unstructured<'_>) -> Result<VectorClock> {
        let mut clock = if from.ratio(3, 4)? { self.knowledge.clone() } else { VectorClock::new() };
        if from.ratio(1, 4)? {
            clock.extend([self.dot(from)?]);
        }
        Ok(clock)
    }

    fn id(&self, from: &mut Unstructured<'_>) -> Result<EventId> {
        if from.ratio(1, 16)? {
            from.choose(&self.ids).copied()
        } else {
            Ok(EventId::from_uuid(uuid(from.arbitrary()?)))
        }
    }

    fn stamp(&mut self, from: &mut Unstructured<'_>) -> Result<Stamp> {
        let now = HybridTime::at(clock().now()).to_bits();
        let time = if from.ratio(1, 16)? { from.arbitrary()? } else { now + from.int_in_range(0..=1_000_000_u64)? };
        let command = CommandId::new("transfer-1").expect("a name");
        let dot = self.dot(from)?;
        let seen = from.arbitrary::<bool>()?.then(|| self.clock(from)).transpose()?;
        self.knowledge.extend([dot]);
        Ok(Stamp {
            dot,
            time: HybridTime::from_bits(time),
            seen,
            command: from.ratio(1, 4)?.then_some((command, CommandDigest::from_bits(from.int_in_range(0..=1)?))),
        })
    }

    fn event(&mut self, from: &mut Unstructured<'_>) -> Result<ForeignEvent> {
        let reserved = ["es.retention", "es.replica", "es.tx-1", "es.membership"];
        let streams = ["counter-1", "counter-2", "other-1"];
        let stream = if from.ratio(1, 32)? { from.choose(&reserved)? } else { from.choose(&streams)? };
        let event_type = if from.ratio(1, 32)? { "es.removed" } else { "counted" };
        let payload: &[u8] = if from.ratio(1, 8)? { b"{" } else { b"5" };
        let event_type = EventType::new(event_type).expect("a name");
        let mut data = EventData::new(event_type, 1, ContentType::Json, payload.to_vec());
        data.id = self.id(from)?;
        data.stamp = if from.ratio(1, 32)? { None } else { Some(Box::new(self.stamp(from)?)) };
        if from.ratio(1, 32)? {
            data.keys.push(KeyChange::Claim(UniqueKey::new("name", "ada").expect("two names")));
        }
        Ok(ForeignEvent { stream: StreamId::new(*stream).expect("a name"), data, occurred_at: clock().now() })
    }

    fn item(&mut self, from: &mut Unstructured<'_>) -> Result<Item> {
        if from.ratio(1, 8)? {
            let Dot { origin, sequence: first } = self.dot(from)?;
            // A peer in the same process could send an invalid gap.
            let through =
                if from.ratio(1, 8)? { NonZeroU64::MIN } else { first.saturating_add(from.int_in_range(0..=2)?) };
            self.knowledge.extend([Dot { origin, sequence: through }]);
            let reason = if from.ratio(1, 2)? { GapReason::Withheld } else { GapReason::Removed };
            return Ok(Item::Gap { origin, from: first, through, reason });
        }
        (0..from.int_in_range(1..=3)?).map(|_| self.event(from)).collect::<Result<_>>().map(Item::Commit)
    }

    fn page(&mut self, from: &mut Unstructured<'_>) -> Result<Page> {
        let position = |from: &mut Unstructured<'_>| {
            let position = Position::new(from.int_in_range(0..=9)?);
            Ok(LogPosition { log_id: from.arbitrary::<bool>()?.then(|| LogId::from_uuid(uuid(1))), position })
        };
        let items = (0..from.int_in_range(0..=4)?).map(|_| self.item(from)).collect::<Result<_>>()?;
        Ok(Page {
            sender: sender(from)?,
            reports: reports(from)?,
            items,
            cursor: if from.ratio(1, 8)? { log_position(from)? } else { position(from)? },
            knowledge: self.clock(from)?.into(),
            is_last: from.arbitrary()?,
            ids: (0..from.int_in_range(0..=2)?)
                .map(|_| Ok((self.dot(from)?, self.id(from)?)))
                .collect::<Result<_>>()?,
            promises: (0..from.int_in_range(0..=2)?).map(|_| self.promise(from)).collect::<Result<_>>()?,
        })
    }

    /// Returns a promise of a node, of the hostile peer or of an unknown one.
    fn promise(&self, from: &mut Unstructured<'_>) -> Result<Promise> {
        let member = (*from.choose(&["a", "b", "hostile", "unknown"])?).to_owned();
        Ok(Promise { member, clock: self.clock(from)?, time: HybridTime::from_bits(from.arbitrary()?) })
    }
}

/// Returns a page of the hostile peer: bytes of the wire, or a page that it transfers if it can be sent.
async fn page(from: &mut Unstructured<'_>, node: &Node, origins: &[OriginId; 4]) -> Result<Page> {
    if from.ratio(1, 8)? {
        let length = from.int_in_range(0..=200)?.min(from.len());
        if let Some(Message::Page(page)) = decode(from.bytes(length)?) {
            return Ok(page);
        }
    }
    let ids = node.events().await.iter().map(|event| event.data.id).collect();
    let knowledge = node.knowledge().await;
    let page = Forgery { origins: *origins, knowledge, ids }.page(from)?;
    Ok(match transferred(Message::Page(page.clone())) {
        Some(Message::Page(page)) => page,
        _ => page,
    })
}
