//! What broke elsewhere must not break here. Each test has the idea of a bug that another system had.

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
use es_tests::supervised::{PATIENCE, active, start, until};
use serde::{Deserialize, Serialize};

fn options() -> ProjectionOptions {
    let retry =
        RetryPolicy { attempts: 2, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(1) };
    ProjectionOptions::new()
        .retry(retry)
        .keep_retired(Duration::ZERO)
        .restart(Duration::from_millis(1), Duration::from_millis(10))
}

/// R16 (Marten #1629, #4964, #4977): an append that is late while later ones are done was skipped for good, because its number
/// was given before it could be seen.
#[test]
fn r16_an_append_that_is_late_is_not_skipped() {
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
        ledger.wait_for(Position::new(200), PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");
        assert_eq!(check(&inner, "late appends").await.events(), 200);
    });
}

/// R17 (Marten #4977): a rebuild passed over events that an import was writing at the same time.
#[test]
fn r17_a_rebuild_during_an_import_passes_nothing() {
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
            ledger.admin().rebuild(RebuildFrom::Start, "a test").await.expect("asked for");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        import.await.expect("imported");
        until("built", async || {
            let status = ledger.status();
            status.rebuild.is_none()
                && status.state == ProjectionState::Live
                && status.generation.is_some_and(|at| at.get() > 1)
        })
        .await;
        running.shutdown(PATIENCE).await.expect("it ends");
        assert_eq!(check(&store, "a rebuild during an import").await.events(), 2_000);
    });
}

/// R20 and R21 (KurrentDB #2034, #3449, #1468): a projection stood still for ever when the log that it came to had events
/// removed that the one before had, or when its own checkpoint was within what was removed.
#[test]
fn r20_r21_a_checkpoint_within_what_was_removed_goes_on_at_the_next_event() {
    on_every_store(async |whole| {
        let (running, ledger) = start(&whole, Ledger::<1>::default(), options().partitions(2));
        for number in 0..40 {
            append(&*whole, number % 3, AccountEvent::Deposited { cents: 1 }).await;
        }
        ledger.wait_for(Position::new(40), PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");
        // What is removed lies around the checkpoint at 40, up to the head, and at the beginning.
        for number in 0..20 {
            append(&*whole, number % 3, AccountEvent::Deposited { cents: 2 }).await;
        }
        let with_gaps = WithGaps::new(Arc::clone(&whole));
        [1..=10, 30..=50, 58..=60].into_iter().for_each(|gone| with_gaps.remove(gone));
        let with_gaps: Arc<dyn EventStore> = Arc::new(with_gaps);
        let (running, ledger) = start(&with_gaps, Ledger::<1>::default(), options().partitions(2).batch(4));
        ledger.wait_for(Position::new(60), PATIENCE).await.expect("it goes on");
        append(&*whole, 1, AccountEvent::Deposited { cents: 3 }).await;
        ledger.wait_for(Position::new(61), PATIENCE).await.expect("it follows");
        running.shutdown(PATIENCE).await.expect("it ends");
        // 1 to 40 while they were there, then 51 to 57 and 61.
        assert_eq!(read_books(&*whole).await.expect("rows").events(), 40 + 7 + 1);
    });
}

/// R22 (KurrentDB #2763): events that came while the subsystem was stopped were missing after it was started again.
#[test]
fn r22_stopped_and_started_again_there_is_no_gap() {
    on_every_store(async |store| {
        let mut written = 0;
        for (round, partitions) in [1, 3, 2, 5, 1].into_iter().enumerate() {
            let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(partitions).batch(5));
            for number in 0..30 {
                append(&*store, number % 4, AccountEvent::Deposited { cents: 1 }).await;
                written += 1;
            }
            if round % 2 == 0 {
                ledger.wait_for(Position::new(written), PATIENCE).await.expect("it gets there");
            }
            running.shutdown(PATIENCE).await.expect("it ends");
            check(&store, "stopped").await;
            for number in 0..30 {
                append(&*store, number % 4, AccountEvent::Deposited { cents: 2 }).await;
                written += 1;
            }
        }
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2));
        ledger.wait_for(Position::new(written), PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");
        assert_eq!(check(&store, "the end").await.events(), written);
    });
}

/// R23 (KurrentDB #2807): somebody wrote into a stream that belonged to a projection, and the projection could not be started any
/// more. Here the store refuses it; and nothing is read back from that stream, and what stands in it is passed over.
#[test]
fn r23_a_foreign_event_in_the_stream_of_the_machinery_is_refused_and_no_poison() {
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
        admin.pause("before it is there").await.expect("paused");
        let stream = StreamId::new("es.projections-all").expect("a name");
        let foreign = [
            ("projection-paused", "not even JSON"),
            ("projection-paused", "{\"projection\":\"another\"}"),
            ("order-placed", "{\"projection\":\"all\"}"),
        ];
        for (name, content) in foreign {
            let event = NewEvent::json(EventType::new(name).expect("a name"), content);
            let refused = store.commit(Commit::to(&stream, ExpectedRevision::Any, [event])).await;
            assert!(matches!(refused, Err(CommitError::Invalid(InvalidCommit::Reserved { .. }))), "{refused:?}");
        }
        admin.resume("go on").await.expect("resumed");
        let (running, all) = start(&store, All, options());
        let last = append(&*store, 1, AccountEvent::Closed).await;
        all.wait_for(last, PATIENCE).await.expect("it gets there");
        assert!(admin.parked(None, 10).await.expect("a list").is_empty());
        assert_eq!(all.status().restarts, 0);
        running.shutdown(PATIENCE).await.expect("it ends");
    });
}

/// The event as it is written by new code, which old code cannot read.
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
    /// Says that version 1 can be read, and cannot.
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

mod repaired {
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

/// R25 (Axon #2500): a dead letter was kept as it had been decoded, so that an upcaster added later did not help it.
#[test]
fn r25_a_dead_letter_is_retried_through_the_upcasters_of_today() {
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
        weights.wait_for(parked, PATIENCE).await.expect("it is parked");
        assert_eq!(weights.admin().parked(None, 10).await.expect("a list").len(), 1);
        running.shutdown(PATIENCE).await.expect("it ends");

        let grams = |repaired::ParcelEvent::Weighed { grams }: &repaired::ParcelEvent| *grams;
        let (running, weights) = start(&store, Weights::<repaired::Parcel>(grams), options());
        weights.admin().retry("parcel-1").await.expect("asked for");
        until("the key is free", async || weights.admin().parked(None, 10).await.expect("a list").is_empty()).await;
        running.shutdown(PATIENCE).await.expect("it ends");
        let views = Views::of::<Weights<repaired::Parcel>>(store.clone());
        let grams = Table::new("grams").expect("a name");
        assert_eq!(views.row(&grams, b"1").await.expect("a row").as_deref(), Some(&b"908"[..]));
    });
}

/// R26 (Axon): a worker whose claim was stolen in the middle of a batch wrote its view all the same.
#[test]
fn r26_who_has_lost_the_claim_can_write_neither_view_nor_checkpoint() {
    on_every_store(async |inner| {
        let faulty = FaultyStore::new(Arc::clone(&inner));
        let slow: Arc<dyn EventStore> = Arc::new(faulty.clone());
        let (first, stolen) = start(&slow, Ledger::<1>::default(), options().lease(Duration::from_secs(3600)));
        until("it works", async || stolen.status().state == ProjectionState::Live).await;
        // Its next commit is held up, until another has the claim and has done the work.
        let held_up = faulty.commits();
        faulty.at_commit(held_up, Fault::Delay(Duration::from_millis(400)));
        let last = append(&*inner, 1, AccountEvent::Deposited { cents: 1 }).await;
        until("it is in the middle of its batch", async || faulty.commits() > held_up).await;
        let (second, ledger) = start(&inner, Ledger::<1>::default(), options().lease(Duration::from_secs(3600)));
        ledger.take_over();
        ledger.wait_for(last, PATIENCE).await.expect("it works");
        until("the first has noticed", async || matches!(stolen.status().state, ProjectionState::Standby { .. })).await;
        let last = append(&*inner, 1, AccountEvent::Deposited { cents: 2 }).await;
        ledger.wait_for(last, PATIENCE).await.expect("it works");
        assert_eq!(stolen.status().restarts, 0, "to lose a claim is no failure");
        first.shutdown(PATIENCE).await.expect("it ends");
        second.shutdown(PATIENCE).await.expect("it ends");
        assert_eq!(check(&inner, "stolen").await.events(), 2);
    });
}

/// A slow follower slows nobody, holds one batch, and misses nothing; one that has seen everything ends when the store does.
#[test]
fn a_slow_subscriber_slows_itself_only_and_the_end_of_the_store_is_the_end() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let opened = rocksdb(dir.path()).await;
        let store: Arc<dyn EventStore> = Arc::new(opened.clone());
        let mut slow = Subscription::new(store.clone(), Query::all(), None).batch(3);
        let mut fast = Subscription::new(
            store.clone(),
            LogRead::event_type(EventType::new("account-closed").expect("a name")).query,
            None,
        );
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
        assert_eq!(closed, 10, "what does not match is looked through");
        writing.await.expect("nobody was slowed");
        let mut expected = 1;
        while expected <= 100 {
            // NOTE: a future that is dropped takes nothing with it.
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

/// A failing read is not the fault of an event: nothing is parked, nothing is skipped, and it goes on when the cause is mended.
#[test]
fn a_failing_store_fails_the_projection_and_parks_nothing() {
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
        ledger.wait_for(Position::FIRST, PATIENCE).await.expect("it gets there");
        let status = ledger.status();
        assert!(status.restarts >= 20, "{status:?}");
        assert!(status.last_error.expect("an error").message.contains("injected fault"));
        assert!(ledger.admin().parked(None, 10).await.expect("a list").is_empty());
        running.shutdown(PATIENCE).await.expect("it ends");
        let build = active(&*inner, "ledger").await.expect("a row").expect("a build");
        assert_eq!(build.position(), Some(Position::FIRST));
    });
}
