//! Consumer groups on every store: distribution, redelivery, parking and fencing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::RetryPolicy;
use es_core::consumer::group::{
    Consumer, ConsumerGroup, Delivery, GroupError, Nack, RunningGroup, SettleError, StartAt,
};
use es_core::store::memory::MemoryStore;
use es_core::store::{Query, QueryItem};
use es_core::testing::{Fault, FaultyStore};
use es_core::{Commit, EventStore, EventType, ExpectedRevision, LogRead, NewEvent, Position, StreamId};
use es_tests::crash::{Random, number, seed};
use es_tests::removed::WithGaps;
use es_tests::stores::on_every_store;
use es_tests::supervised::{TIMEOUT, wait_until};

type Store = Arc<dyn EventStore>;

const FAST: RetryPolicy =
    RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) };

fn at(number: u64) -> Position {
    Position::new(number).expect("not zero")
}

/// Appends events to the streams `a-0`, `a-1`, ... in turn.
async fn append(store: &Store, events: u64, streams: u64) {
    for number in 0..events {
        let stream = StreamId::new(format!("a-{}", number % streams)).expect("a name");
        let event = NewEvent::json(EventType::new("happened").expect("a name"), "{}");
        store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await.expect("appended");
    }
}

fn group() -> ConsumerGroup {
    ConsumerGroup::new("workers", Query::all()).start_at(StartAt::Beginning).retry(FAST)
}

async fn open(group: ConsumerGroup, store: &Store) -> RunningGroup {
    group.start(Arc::clone(store)).await.expect("the group opens")
}

/// Returns the next delivery.
async fn next(consumer: &Consumer) -> Delivery {
    let next = tokio::time::timeout(Duration::from_secs(60), consumer.next());
    next.await.expect("in time").expect("the group runs").expect("an event")
}

/// Returns whether no event is delivered for 60 ms.
async fn is_idle(consumer: &Consumer) -> bool {
    tokio::time::timeout(Duration::from_millis(60), consumer.next()).await.is_err()
}

#[test]
fn consumers_share_the_events_and_an_acked_event_is_not_redelivered() {
    on_every_store(async |store| {
        append(&store, 100, 3).await;
        let running = open(group().capacity(16), &store).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let consumer = running.consumer();
            tasks.spawn(async move {
                let mut received = Vec::new();
                while let Some(delivery) = consumer.next().await.expect("the group runs") {
                    received.push(delivery.event().position);
                    delivery.ack().await.expect("acked");
                }
                received
            });
        }
        running.wait_for(at(100), TIMEOUT).await.expect("the group runs");
        let status = running.status();
        assert_eq!((status.checkpoint, status.lag, status.ahead, status.delivered), (Some(at(100)), 0, 0, 0));
        running.shutdown(TIMEOUT).await.expect("closed");
        let received: Vec<Vec<Position>> = tasks.join_all().await;
        let distinct: BTreeSet<_> = received.iter().flatten().copied().collect();
        assert_eq!((distinct.len(), received.iter().flatten().count()), (100, 100));

        append(&store, 1, 1).await;
        let running = open(group(), &store).await;
        let delivery = next(&running.consumer()).await;
        assert_eq!(delivery.event().position, at(101));
        delivery.ack().await.expect("acked");
        running.shutdown(TIMEOUT).await.expect("closed");
    });
}

#[test]
fn waiting_consumers_receive_events_in_turn() {
    on_every_store(async |store| {
        let running = open(group(), &store).await;
        let consumers: Vec<Consumer> = (0..3).map(|_| running.consumer()).collect();
        for round in 0..3 {
            let waiting = futures::future::join_all(consumers.iter().map(next));
            let (deliveries, ()) = futures::join!(waiting, append(&store, 3, 1));
            let positions: Vec<u64> = deliveries.iter().map(|delivery| delivery.event().position.get()).collect();
            assert_eq!(positions, [1, 2, 3].map(|number| round * 3 + number));
            futures::future::join_all(deliveries.into_iter().map(Delivery::ack)).await;
        }
    });
}

#[test]
fn an_ordered_group_delivers_one_event_of_a_key_at_a_time() {
    on_every_store(async |store| {
        append(&store, 6, 2).await;
        let running = open(group().ordered_by_stream(), &store).await;
        let consumer = running.consumer();
        let (first, second) = (next(&consumer).await, next(&consumer).await);
        assert_eq!((first.event().position, second.event().position), (at(1), at(2)));
        assert!(is_idle(&consumer).await, "one event of each stream is unsettled");
        first.ack().await.expect("acked");
        let third = next(&consumer).await;
        assert_eq!(third.event().position, at(3));
        // One after the other, because the pauses have jitter.
        let mut redelivered = Vec::new();
        for (dropped, position) in [(second, at(2)), (third, at(3))] {
            drop(dropped);
            let delivery = next(&consumer).await;
            assert_eq!((delivery.event().position, delivery.attempt()), (position, 2), "dropped without ack or nack");
            redelivered.push(delivery);
        }
    });
}

#[test]
fn a_group_delivers_no_more_events_than_its_capacity() {
    on_every_store(async |store| {
        append(&store, 20, 1).await;
        let running = open(group().capacity(4), &store).await;
        let consumer = running.consumer();
        let mut deliveries = Vec::new();
        for _ in 0..4 {
            deliveries.push(next(&consumer).await);
        }
        assert!(is_idle(&consumer).await);
        let first = deliveries.remove(0);
        for delivery in deliveries {
            delivery.ack().await.expect("acked");
        }
        assert!(is_idle(&consumer).await, "events acked ahead of the checkpoint count towards the capacity");
        assert_eq!((running.status().checkpoint, running.status().ahead), (None, 3));
        first.ack().await.expect("acked");
        assert_eq!(next(&consumer).await.event().position, at(5));
    });
}

#[test]
fn an_ack_ahead_of_the_checkpoint_survives_a_crash() {
    on_every_store(async |store| {
        append(&store, 5, 5).await;
        let running = open(group(), &store).await;
        let consumer = running.consumer();
        let mut deliveries = Vec::new();
        for _ in 0..5 {
            deliveries.push(next(&consumer).await);
        }
        for delivery in deliveries.split_off(3) {
            delivery.ack().await.expect("acked");
        }
        let keys: Vec<_> = deliveries.iter().map(Delivery::key).collect();
        drop(running);
        drop(deliveries);
        let running = open(group(), &store).await;
        let consumer = running.consumer();
        for (number, key) in (1..).zip(keys) {
            let delivery = next(&consumer).await;
            assert_eq!((delivery.event().position, delivery.key()), (at(number), key));
            delivery.ack().await.expect("acked");
        }
        assert!(is_idle(&consumer).await);
        running.shutdown(TIMEOUT).await.expect("closed");
    });
}

#[test]
fn failures_are_counted_across_restarts_and_a_parked_event_can_be_replayed_or_skipped() {
    on_every_store(async |store| {
        append(&store, 6, 3).await;
        let running = open(group().ordered_by_stream(), &store).await;
        let retry = Nack::Retry("the printer is out of paper".to_owned());
        next(&running.consumer()).await.nack(retry.clone()).await.expect("nacked");
        running.shutdown(TIMEOUT).await.expect("closed");

        let running = open(group().ordered_by_stream(), &store).await;
        let consumer = running.consumer();
        let mut acked = 0;
        while acked < 4 || running.status().parked < 2 {
            let delivery = next(&consumer).await;
            if delivery.event().stream.as_str() == "a-0" {
                assert!(delivery.attempt() >= 2, "the failure before the restart is counted");
                delivery.nack(retry.clone()).await.expect("nacked");
            } else {
                delivery.ack().await.expect("acked");
                acked += 1;
            }
        }
        running.wait_for(at(6), TIMEOUT).await.expect("parked events do not block the checkpoint");
        let parked = running.parked();
        let shown: Vec<_> =
            parked.iter().map(|p| (p.position.get(), p.failures, p.waits_for.map(Position::get))).collect();
        assert_eq!(shown, [(1, 3, None), (4, 0, Some(1))]);
        assert_eq!((parked[0].key.as_str(), parked[0].reason.as_str()), ("a-0", "the printer is out of paper"));
        running.shutdown(TIMEOUT).await.expect("closed");

        let running = open(group().ordered_by_stream(), &store).await;
        let consumer = running.consumer();
        assert_eq!(running.parked(), parked, "events stay parked after a restart");
        assert!(is_idle(&consumer).await);
        assert_eq!(running.replay_parked(Some(1)).await.expect("the group runs"), 1);
        let delivery = next(&consumer).await;
        assert_eq!((delivery.event().position, delivery.attempt()), (at(1), 1));
        assert!(!running.skip_parked(at(1), "delivered").await.expect("the group runs"));
        delivery.ack().await.expect("acked");
        assert!(is_idle(&consumer).await, "the replay stops at its limit");
        assert!(running.skip_parked(at(4), "ordered by mistake").await.expect("the group runs"));
        assert!(
            !running.skip_parked(at(4), "repeated").await.expect("the group runs"),
            "the event is no longer parked"
        );
        let skipped = running.skipped(None, 10).await.expect("read");
        assert_eq!((skipped.len(), skipped[0].reason.as_str()), (1, "ordered by mistake"));
        append(&store, 1, 1).await;
        assert_eq!(next(&consumer).await.event().position, at(7), "the key is no longer parked");
    });
}

#[test]
fn a_replay_continues_after_a_crash() {
    on_every_store(async |store| {
        append(&store, 2, 1).await;
        let running = open(group().ordered_by_stream(), &store).await;
        next(&running.consumer()).await.nack(Nack::Park("no".to_owned())).await.expect("nacked");
        running.wait_for(at(2), TIMEOUT).await.expect("the group runs");
        running.replay_parked(None).await.expect("the group runs");
        drop(running);
        let running = open(group().ordered_by_stream(), &store).await;
        let consumer = running.consumer();
        for position in [1, 2] {
            let delivery = next(&consumer).await;
            assert_eq!(delivery.event().position, at(position));
            delivery.ack().await.expect("acked");
        }
        assert_eq!(running.status().parked, 0);
    });
}

#[test]
fn an_ack_after_the_deadline_is_an_error_and_the_event_is_redelivered() {
    on_every_store(async |store| {
        append(&store, 1, 1).await;
        let running = open(group().answer_within(Duration::from_millis(500)), &store).await;
        let consumer = running.consumer();
        let slow = next(&consumer).await;
        let redelivered = next(&consumer).await;
        assert_eq!((redelivered.event().position, redelivered.attempt(), redelivered.key()), (at(1), 2, slow.key()));
        assert!(matches!(slow.ack().await, Err(SettleError::TooLate)));
        redelivered.ack().await.expect("acked");
        running.wait_for(at(1), TIMEOUT).await.expect("the group runs");
    });
}

#[test]
fn opening_a_group_fences_its_previous_owner() {
    on_every_store(async |store| {
        append(&store, 2, 1).await;
        let first = open(group(), &store).await;
        let of_first = next(&first.consumer()).await;
        let second = open(group(), &store).await;
        let of_second = next(&second.consumer()).await;
        assert_eq!(of_second.event().position, at(1));
        let fenced = of_first.ack().await;
        assert!(matches!(fenced, Err(SettleError::Group(GroupError::Fenced { .. }))), "{fenced:?}");
        assert!(matches!(first.consumer().next().await, Err(GroupError::Fenced { .. })));
        of_second.ack().await.expect("acked");

        let third = open(group(), &store).await;
        assert!(matches!(second.ended().await, GroupError::Fenced { .. }), "also without a write");
        assert_eq!(next(&third.consumer()).await.event().position, at(2));
    });
}

#[test]
fn the_checkpoint_advances_over_events_that_do_not_match_the_query() {
    on_every_store(async |store| {
        append(&store, 50, 5).await;
        let nothing = QueryItem::new().event_type(EventType::new("never").expect("a name"));
        let group = || ConsumerGroup::new("rare", nothing.clone()).start_at(StartAt::Beginning);
        let running = open(group(), &store).await;
        running.wait_for(at(50), TIMEOUT).await.expect("the group runs");
        drop(running);
        let running = open(group(), &store).await;
        assert_eq!(running.status().checkpoint, Some(at(50)));
    });
}

#[test]
fn a_new_group_starts_at_its_start_position_and_an_existing_one_at_its_checkpoint() {
    on_every_store(async |store| {
        append(&store, 3, 1).await;
        let running = open(group().start_at(StartAt::After(at(2))), &store).await;
        next(&running.consumer()).await.ack().await.expect("acked");
        running.shutdown(TIMEOUT).await.expect("closed");
        let running = open(group().start_at(StartAt::Beginning), &store).await;
        assert!(is_idle(&running.consumer()).await);
        let at_head = open(ConsumerGroup::new("others", Query::all()), &store).await;
        append(&store, 1, 1).await;
        assert_eq!(next(&at_head.consumer()).await.event().position, at(4));
    });
}

#[test]
fn a_paused_group_stays_paused_after_a_restart() {
    on_every_store(async |store| {
        append(&store, 1, 1).await;
        let running = open(group(), &store).await;
        running.pause().await.expect("the group runs");
        assert!(is_idle(&running.consumer()).await);
        drop(running);
        let running = open(group(), &store).await;
        let consumer = running.consumer();
        assert!(is_idle(&consumer).await && running.status().is_paused);
        running.resume().await.expect("the group runs");
        next(&consumer).await.ack().await.expect("acked");
    });
}

/// KurrentDB #3449: a persistent subscription whose checkpoint was inside a removed range never advanced again.
#[test]
fn a_checkpoint_inside_a_removed_range_continues_after_it() {
    on_every_store(async |store| {
        append(&store, 30, 1).await;
        let with_gap = Arc::new(WithGaps::new(Arc::clone(&store)));
        let shared: Store = with_gap.clone();
        let running = open(group(), &shared).await;
        let consumer = running.consumer();
        for _ in 0..5 {
            next(&consumer).await.ack().await.expect("acked");
        }
        next(&consumer).await.nack(Nack::Park("no".to_owned())).await.expect("nacked");
        drop(running);
        with_gap.remove(3..=20);
        let running = open(group(), &shared).await;
        let consumer = running.consumer();
        for position in 21..=30 {
            let delivery = next(&consumer).await;
            assert_eq!(delivery.event().position, at(position));
            delivery.ack().await.expect("acked");
        }
        running.wait_for(at(30), TIMEOUT).await.expect("the group runs");
        running.replay_parked(None).await.expect("the group runs");
        let is_skipped = async || !running.skipped(None, 10).await.expect("read").is_empty();
        wait_until("the event is skipped", is_skipped).await;
        assert!(is_idle(&consumer).await);
        let skipped = running.skipped(None, 10).await.expect("read");
        assert_eq!((running.status().parked, skipped.len(), skipped[0].position), (0, 1, at(6)));
        assert_eq!(skipped[0].reason, "the event was removed from the log");
    });
}

#[tokio::test]
async fn a_lost_acknowledgement_is_recognized_and_a_failed_commit_is_retried() {
    let inner: Store = Arc::new(MemoryStore::new());
    append(&inner, 3, 1).await;
    let faulty = FaultyStore::new(Arc::clone(&inner));
    let store: Store = Arc::new(faulty.clone());
    let running = open(group(), &store).await;
    let consumer = running.consumer();
    faulty.at_commit(faulty.commits(), Fault::LoseAcknowledgement);
    next(&consumer).await.ack().await.expect("the ack was written");
    faulty.at_commit(faulty.commits(), Fault::Refuse);
    faulty.at_commit(faulty.commits() + 1, Fault::Refuse);
    next(&consumer).await.nack(Nack::Park("no".to_owned())).await.expect("written by a retry");
    drop(running);
    let running = open(group(), &store).await;
    assert_eq!(next(&running.consumer()).await.event().position, at(3));
    assert_eq!(running.status().parked, 1);
}

/// The first commit of a parked event fails, and the second is written. Without the row of the event, its checkpoint
/// would pass it unnoticed.
#[tokio::test]
async fn a_parked_event_is_written_after_a_failed_commit() {
    let inner: Store = Arc::new(MemoryStore::new());
    append(&inner, 2, 1).await;
    let faulty = FaultyStore::new(Arc::clone(&inner));
    let running = open(group(), &(Arc::new(faulty.clone()) as Store)).await;
    let consumer = running.consumer();
    for nack in [Nack::Park("cannot".to_owned()), Nack::Skip("will not".to_owned())] {
        let delivery = next(&consumer).await;
        faulty.at_commit(faulty.commits(), Fault::Refuse);
        delivery.nack(nack).await.expect("written at the second attempt");
    }
    running.shutdown(TIMEOUT).await.expect("closed");
    let running = open(group(), &inner).await;
    let parked = running.parked();
    assert_eq!(parked.iter().map(|parked| parked.position).collect::<Vec<_>>(), [at(1)]);
    let skipped = running.skipped(None, 10).await.expect("read");
    assert_eq!(skipped.iter().map(|skipped| skipped.position).collect::<Vec<_>>(), [at(2)]);
    assert_eq!(running.status().checkpoint, Some(at(2)));
    running.shutdown(TIMEOUT).await.expect("closed");
}

#[tokio::test]
async fn a_store_that_keeps_failing_stops_the_group_with_an_error() {
    let inner: Store = Arc::new(MemoryStore::new());
    append(&inner, 1, 1).await;
    let faulty = FaultyStore::new(inner);
    let running = open(group(), &(Arc::new(faulty.clone()) as Store)).await;
    let delivery = next(&running.consumer()).await;
    for commit in 0..20 {
        faulty.at_commit(faulty.commits() + commit, Fault::Refuse);
    }
    assert!(matches!(delivery.ack().await, Err(SettleError::Group(GroupError::Store { .. }))));
    assert!(running.status().ended.is_some());
    assert!(running.shutdown(TIMEOUT).await.is_err());
}

/// The deliveries of a random run.
#[derive(Default)]
struct Seen {
    /// Events whose ack returned.
    acked: BTreeSet<Position>,
    /// Events whose ack was interrupted, so that it is unknown whether it was written.
    unknown: BTreeSet<Position>,
    /// The last position of each stream that was delivered since the last restart.
    last: BTreeMap<String, Position>,
}

/// Consumers ack, fail and are dropped, and the group is dropped at random times. In the end each event is acked, no
/// event is redelivered after its ack returned, and the events of a stream are delivered in order.
#[test]
fn a_group_that_is_dropped_at_random_times_delivers_each_event() {
    let seed = seed();
    let rounds = number("ES_CRASH_CYCLES", 50).min(500);
    on_every_store(async |store| {
        append(&store, 200, 7).await;
        let mut random = Random::new(seed);
        let seen = Arc::new(std::sync::Mutex::new(Seen::default()));
        let patient = || group().ordered_by_stream().capacity(24).retry(RetryPolicy { attempts: usize::MAX, ..FAST });
        for round in 0..=rounds {
            let running = open(patient(), &store).await;
            seen.lock().expect("not poisoned").last.clear();
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..3 {
                let random = Random::new(random.next_u64());
                tasks.spawn(consume(running.consumer(), Arc::clone(&seen), random, round < rounds));
            }
            if round == rounds {
                let caught_up = tokio::time::timeout(Duration::from_secs(120), running.wait_for(at(200), TIMEOUT));
                caught_up
                    .await
                    .unwrap_or_else(|_| panic!("ES_SEED={seed}: {:?}", running.status()))
                    .expect("the group runs");
                running.shutdown(TIMEOUT).await.expect("closed");
            } else {
                tokio::time::sleep(Duration::from_micros(random.below(12_000))).await;
                drop(running);
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
            }
        }
        let log = store.read_log(LogRead::all()).await.expect("a log").collect().await.expect("events");
        let seen = seen.lock().expect("not poisoned");
        let lost =
            log.iter().find(|event| !seen.acked.contains(&event.position) && !seen.unknown.contains(&event.position));
        assert_eq!(lost.map(|event| event.position), None, "ES_SEED={seed}");
    });
}

async fn consume(consumer: Consumer, seen: Arc<std::sync::Mutex<Seen>>, mut random: Random, fails: bool) {
    while let Ok(Some(delivery)) = consumer.next().await {
        let (position, stream) = (delivery.event().position, delivery.event().stream.as_str().to_owned());
        {
            let mut seen = seen.lock().expect("not poisoned");
            assert!(!seen.acked.contains(&position), "{position} was acked and redelivered");
            let last = seen.last.insert(stream, position);
            assert!(last <= Some(position), "{position} was delivered after {last:?} of its stream");
        }
        let answer = match random.below(if fails { 8 } else { 1 }) {
            0..6 => delivery.ack().await.map(|()| true),
            6 => delivery.nack(Nack::Retry("not now".to_owned())).await.map(|()| false),
            _ => Ok(false),
        };
        match answer {
            Ok(true) => {
                seen.lock().expect("not poisoned").acked.insert(position);
            }
            Ok(false) => {}
            Err(_) => {
                seen.lock().expect("not poisoned").unknown.insert(position);
                return;
            }
        }
    }
}
