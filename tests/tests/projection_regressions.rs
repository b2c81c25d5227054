//! Regression tests for bugs of projections in other systems.

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::{RawEvents, RetryPolicy};
use es_core::model::Table;
use es_core::projection::view::Views;
use es_core::projection::{
    ApplyError, ProjectedContext, Projection, ProjectionAdmin, ProjectionOptions, ProjectionState, RebuildFrom, Rows,
};
use es_core::store::InvalidCommit;
use es_core::store::Query;
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use es_core::{
    Aggregate, Commit, CommitError, Event, EventStore, EventType, Events, ExpectedRevision, LogRead, NewEvent,
    Position, RecordedEvent, StoreError, StreamId, Subscription, Upcast,
};
use es_tests::account::AccountEvent;
use es_tests::ledger::{Ledger, account, append, check, read_books, written};
use es_tests::removed::WithGaps;
use es_tests::stores::{on_every_store, rocksdb};
use es_tests::supervised::{TIMEOUT, active, start, wait_until};
use serde::{Deserialize, Serialize};

fn options() -> ProjectionOptions {
    let retry =
        RetryPolicy { attempts: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
    ProjectionOptions::new()
        .retry(retry)
        .keep_retired(Duration::ZERO)
        .restart(Duration::from_millis(1), Duration::from_millis(10))
}

/// R16 (Marten #1629, #4964, #4977): a slow append was skipped when later appends became visible before it, because its
/// position was assigned before it was visible.
#[test]
fn r16_a_slow_append_is_not_skipped() {
    on_every_store(async |inner| {
        let faulty = FaultyStore::new(Arc::clone(&inner));
        for late in (0..200).step_by(7) {
            faulty.at_commit(late, Fault::Delay(Duration::from_millis(late % 30)));
        }
        let (running, ledger) = start(&inner, Ledger::<1>::default(), options().partitions(2).batch(8));
        let late: Arc<dyn EventStore> = Arc::new(faulty);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let late = Arc::clone(&late);
                tokio::spawn(async move {
                    for number in 0..50 {
                        append(&*late, (writer + number) % 5, AccountEvent::Deposited { cents: 1 }).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("written");
        }
        ledger.wait_for(Position::new(200), TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&inner, "late appends").await.events(), 200);
    });
}

/// R17 (Marten #4977): a rebuild skipped events of a concurrent import.
#[test]
fn r17_a_rebuild_during_an_import_skips_no_event() {
    on_every_store(async |store| {
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2).batch(64));
        let import = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                for lot in 0..40u64 {
                    let of_lot =
                        (0..50).map(|number| (account(number % 6), written(&AccountEvent::Deposited { cents: lot })));
                    let commit = of_lot.fold(Commit::new(), |commit, (stream, event)| commit.append(stream, event));
                    store.commit(commit).await.expect("committed");
                }
            }
        });
        for _ in 0..3 {
            ledger.admin().rebuild(RebuildFrom::Start, "a test").await.expect("the action is accepted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        import.await.expect("imported");
        wait_until("the rebuild is complete", async || {
            let status = ledger.status();
            status.rebuild.is_none()
                && status.state == ProjectionState::Live
                && status.generation.is_some_and(|at| at.get() > 1)
        })
        .await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&store, "a rebuild during an import").await.events(), 2_000);
    });
}

/// R20 and R21 (KurrentDB #2034, #3449, #1468): a projection stopped forever when events after its checkpoint were
/// removed, or when its checkpoint was inside a removed range.
#[test]
fn r20_r21_a_checkpoint_inside_a_removed_range_continues_at_the_next_event() {
    on_every_store(async |whole| {
        let (running, ledger) = start(&whole, Ledger::<1>::default(), options().partitions(2));
        for number in 0..40 {
            append(&*whole, number % 3, AccountEvent::Deposited { cents: 1 }).await;
        }
        ledger.wait_for(Position::new(40), TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        // The removed ranges are at the start, around the checkpoint at 40, and up to the head.
        for number in 0..20 {
            append(&*whole, number % 3, AccountEvent::Deposited { cents: 2 }).await;
        }
        let with_gaps = WithGaps::new(Arc::clone(&whole));
        [1..=10, 30..=50, 58..=60].into_iter().for_each(|range| with_gaps.remove(range));
        let with_gaps: Arc<dyn EventStore> = Arc::new(with_gaps);
        let (running, ledger) = start(&with_gaps, Ledger::<1>::default(), options().partitions(2).batch(4));
        ledger.wait_for(Position::new(60), TIMEOUT).await.expect("the projection continues");
        append(&*whole, 1, AccountEvent::Deposited { cents: 3 }).await;
        ledger.wait_for(Position::new(61), TIMEOUT).await.expect("the projection follows");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        // 1 to 40 before the removal, then 51 to 57 and 61.
        assert_eq!(read_books(&*whole).await.expect("rows").events(), 40 + 7 + 1);
    });
}

/// R22 (KurrentDB #2763): events that were appended while the subsystem was stopped were missing after a restart.
#[test]
fn r22_events_appended_while_the_projection_is_stopped_are_applied_after_a_restart() {
    on_every_store(async |store| {
        let mut written = 0;
        for (round, partitions) in [1, 3, 2, 5, 1].into_iter().enumerate() {
            let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(partitions).batch(5));
            for number in 0..30 {
                append(&*store, number % 4, AccountEvent::Deposited { cents: 1 }).await;
                written += 1;
            }
            if round % 2 == 0 {
                ledger.wait_for(Position::new(written), TIMEOUT).await.expect("the projection catches up");
            }
            running.shutdown(TIMEOUT).await.expect("the projection stops");
            check(&store, "stopped").await;
            for number in 0..30 {
                append(&*store, number % 4, AccountEvent::Deposited { cents: 2 }).await;
                written += 1;
            }
        }
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2));
        ledger.wait_for(Position::new(written), TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&store, "after the last start").await.events(), written);
    });
}

/// R23 (KurrentDB #2807): a projection could not be started after a client had appended to a stream of the projection.
/// Here the store rejects such an append, and projections do not read their state from that stream.
#[test]
fn r23_a_client_cannot_append_to_the_stream_of_a_projection() {
    struct All;
    impl Projection for All {
        type Source = RawEvents;
        const NAME: &'static str = "all";
        fn apply(&self, event: &RecordedEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            rows.put(&Table::new("seen")?, at.position().to_string(), format!("{event:?}"));
            Ok(())
        }
    }
    on_every_store(async |store| {
        let admin = ProjectionAdmin::new(Arc::clone(&store), "all").expect("a name");
        admin.pause("before the first start").await.expect("paused");
        let stream = StreamId::new("es.projections-all").expect("a name");
        let foreign = [
            ("projection-paused", "not even JSON"),
            ("projection-paused", "{\"projection\":\"another\"}"),
            ("order-placed", "{\"projection\":\"all\"}"),
        ];
        for (name, content) in foreign {
            let event = NewEvent::json(EventType::new(name).expect("a name"), content);
            let result = store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await;
            assert!(matches!(result, Err(CommitError::Invalid(InvalidCommit::Reserved { .. }))), "{result:?}");
        }
        admin.resume("a test").await.expect("resumed");
        let (running, all) = start(&store, All, options());
        let last = append(&*store, 1, AccountEvent::Closed).await;
        all.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        assert!(admin.parked(None, 10).await.expect("a list").is_empty());
        assert_eq!(all.status().restarts, 0);
        running.shutdown(TIMEOUT).await.expect("the projection stops");
    });
}

/// The code before the fix: its upcaster cannot decode version 1.
mod old {
    use super::*;
    #[derive(Clone, Aggregate)]
    #[aggregate(category = "parcel", id = u64, event = ParcelEvent)]
    pub(crate) struct Parcel;
    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed", version = 2, upcast(1 = Never))]
        Weighed { grams: u32 },
    }
    #[derive(Debug, Deserialize)]
    pub(crate) struct Never {
        stones: u32,
    }
    impl Upcast<ParcelEvent> for Never {
        fn upcast(self) -> Events<ParcelEvent> {
            ParcelEvent::Weighed { grams: self.stones * 6_350 }.into()
        }
    }
}

/// The fixed code.
mod fixed {
    use super::*;
    #[derive(Clone, Aggregate)]
    #[aggregate(category = "parcel", id = u64, event = ParcelEvent)]
    pub(crate) struct Parcel;
    #[derive(Debug, Serialize, Deserialize, Event)]
    pub(crate) enum ParcelEvent {
        #[event(name = "parcel-weighed", version = 2, upcast(1 = InPounds))]
        Weighed { grams: u32 },
    }
    #[derive(Debug, Deserialize)]
    pub(crate) struct InPounds {
        pounds: u32,
    }
    impl Upcast<ParcelEvent> for InPounds {
        fn upcast(self) -> Events<ParcelEvent> {
            ParcelEvent::Weighed { grams: self.pounds * 454 }.into()
        }
    }
}

/// R25 (Axon #2500): a dead letter was stored after decoding, so that an upcaster that was added later had no effect on
/// it.
#[test]
fn r25_a_parked_event_is_retried_with_the_current_upcasters() {
    struct Weights<A: Aggregate>(fn(&A::Event) -> u32);
    impl<A: Aggregate> Projection for Weights<A> {
        type Source = A;
        const NAME: &'static str = "weights";
        fn apply(&self, event: &A::Event, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            rows.put(&Table::new("grams")?, at.position().to_string(), self.0(event).to_string());
            Ok(())
        }
    }
    on_every_store(async |store| {
        let stream = StreamId::new("parcel-1").expect("a name");
        let weighed = NewEvent::json(EventType::new("parcel-weighed").expect("a name"), r#"{"pounds":2}"#);
        let parked =
            store.commit(Commit::to(&stream, ExpectedRevision::Any, [weighed])).await.expect("committed").position();
        let grams = |old::ParcelEvent::Weighed { grams }: &old::ParcelEvent| *grams;
        let (running, weights) = start(&store, Weights::<old::Parcel>(grams), options());
        weights.wait_for(parked, TIMEOUT).await.expect("the event is parked");
        assert_eq!(weights.admin().parked(None, 10).await.expect("a list").len(), 1);
        running.shutdown(TIMEOUT).await.expect("the projection stops");

        let grams = |fixed::ParcelEvent::Weighed { grams }: &fixed::ParcelEvent| *grams;
        let (running, weights) = start(&store, Weights::<fixed::Parcel>(grams), options());
        weights.admin().retry("parcel-1").await.expect("the action is accepted");
        wait_until("the key is unparked", async || weights.admin().parked(None, 10).await.expect("a list").is_empty())
            .await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        let views = Views::of::<Weights<fixed::Parcel>>(store.clone());
        let grams = Table::new("grams").expect("a name");
        assert_eq!(views.row(&grams, b"1").await.expect("a row").as_deref(), Some(&b"908"[..]));
    });
}

/// R26 (Axon): a worker that lost its claim in the middle of a batch still wrote its view.
#[test]
fn r26_a_worker_that_lost_its_claim_writes_neither_view_nor_checkpoint() {
    on_every_store(async |inner| {
        let faulty = FaultyStore::new(Arc::clone(&inner));
        let slow: Arc<dyn EventStore> = Arc::new(faulty.clone());
        let (first, stolen) = start(&slow, Ledger::<1>::default(), options().lease(Duration::from_secs(3600)));
        wait_until("the first worker is live", async || stolen.status().state == ProjectionState::Live).await;
        // Its next commit is delayed until the second worker has the claim and has applied the event.
        let delayed = faulty.commits();
        faulty.at_commit(delayed, Fault::Delay(Duration::from_millis(400)));
        let last = append(&*inner, 1, AccountEvent::Deposited { cents: 1 }).await;
        wait_until("the first worker commits", async || faulty.commits() > delayed).await;
        let (second, ledger) = start(&inner, Ledger::<1>::default(), options().lease(Duration::from_secs(3600)));
        ledger.take_over();
        ledger.wait_for(last, TIMEOUT).await.expect("the second worker catches up");
        wait_until("the first worker is on standby", async || {
            matches!(stolen.status().state, ProjectionState::Standby { .. })
        })
        .await;
        let last = append(&*inner, 1, AccountEvent::Deposited { cents: 2 }).await;
        ledger.wait_for(last, TIMEOUT).await.expect("the second worker catches up");
        assert_eq!(stolen.status().restarts, 0, "the loss of a claim is not a failure");
        first.shutdown(TIMEOUT).await.expect("the projection stops");
        second.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&inner, "after the takeover").await.events(), 2);
    });
}

/// A slow subscription does not delay other subscriptions or writers, and receives every event. A subscription at the
/// head ends when the store is closed.
#[test]
fn a_slow_subscription_delays_only_itself_and_closing_the_store_ends_it() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let opened = rocksdb(dir.path()).await;
        let store: Arc<dyn EventStore> = Arc::new(opened.clone());
        let mut slow = Subscription::new(store.clone(), Query::all(), None).expect("the start of the log").batch(3);
        let mut fast = Subscription::new(
            store.clone(),
            LogRead::event_type(EventType::new("account-closed").expect("a name")).query,
            None,
        )
        .expect("the start of the log");
        let writing = tokio::spawn({
            let store = Arc::clone(&store);
            async move {
                for number in 0..100 {
                    let event =
                        if number % 10 == 9 { AccountEvent::Closed } else { AccountEvent::Deposited { cents: number } };
                    append(&*store, number % 3, event).await;
                }
            }
        });
        let mut closed = 0;
        while fast.scanned() < Position::new(100) {
            closed += fast.next().await.expect("a batch").events.len();
        }
        assert_eq!(closed, 10, "events that do not match are scanned");
        writing.await.expect("the writer is not delayed");
        let mut expected = 1;
        while expected <= 100 {
            // A dropped future loses no events.
            let _ = tokio::time::timeout(Duration::ZERO, slow.next()).await.map(|batch| {
                for event in batch.expect("a batch").events {
                    assert_eq!(event.position.get(), expected);
                    expected += 1;
                }
            });
        }
        assert!(slow.is_at_head());
        let waiting = tokio::spawn(async move { slow.next().await });
        opened.close().await.expect("closed");
        assert!(matches!(waiting.await.expect("no panic"), Err(StoreError::Closed)));
    });
}

/// After a failed read, no event is parked or skipped, and the projection continues when reads succeed again.
#[test]
fn a_failed_read_restarts_the_projection_and_parks_no_event() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let inner: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let faulty = FaultyStore::new(Arc::clone(&inner));
        for read in 0..20 {
            faulty.at_read(read, Fault::Refuse);
        }
        append(&*inner, 1, AccountEvent::Closed).await;
        let store: Arc<dyn EventStore> = Arc::new(faulty);
        let (running, ledger) = start(&store, Ledger::<1>::default(), options());
        ledger.wait_for(Position::FIRST, TIMEOUT).await.expect("the projection catches up");
        let status = ledger.status();
        assert!(status.restarts >= 20, "{status:?}");
        assert!(status.last_error.expect("an error").message.contains("injected fault"));
        assert!(ledger.admin().parked(None, 10).await.expect("a list").is_empty());
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        let build = active(&*inner, "ledger").await.expect("a row").expect("a build");
        assert_eq!(build.position(), Some(Position::FIRST));
    });
}
