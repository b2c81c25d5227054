//! What a worker of a projection does ahead: it remembers the rows that it wrote, and reads the next batch while it commits one.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use es_core::__private::partition_of;
use es_core::aggregate::RetryPolicy;
use es_core::model::Table;
use es_core::projection::{ProjectionHandle, ProjectionOptions, ProjectionState, RunningProjections};
use es_core::store::implement::StoreLayer;
use es_core::testing::{Fault, FaultyStore};
use es_core::{EventStore, Position, StoreError};
use es_tests::account::AccountEvent;
use es_tests::ledger::{Ledger, POISON, account, append, chains, check, sums};
use es_tests::stores::on_every_store;
use es_tests::supervised::{self, PATIENCE, active, until};

fn start(
    store: &Arc<dyn EventStore>,
    ledger: Ledger,
    options: ProjectionOptions,
) -> (RunningProjections, ProjectionHandle) {
    supervised::start(store, ledger, options.restart(Duration::from_millis(1), Duration::from_millis(10)))
}

/// A store in front of another one that counts how often rows of each table are looked up.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn EventStore>,
    looked_up: Mutex<BTreeMap<Table, u64>>,
}

#[async_trait]
impl StoreLayer for Counting {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        *self.looked_up.lock().expect("no panic").entry(table.clone()).or_default() += 1;
        self.inner.row(table, key).await
    }
}

/// One worker wrote the rows itself: what it has looked up or written once, it knows. Several look at what the others wrote.
#[test]
fn a_worker_that_is_alone_looks_up_each_row_once() {
    for partitions in [1, 2] {
        on_every_store(async |inner| {
            for number in 0..300 {
                append(&*inner, number % 3, AccountEvent::Deposited { cents: 1 }).await;
            }
            let counting = Arc::new(Counting { inner, looked_up: Mutex::default() });
            let store: Arc<dyn EventStore> = Arc::clone(&counting) as _;
            let options = ProjectionOptions::new().batch(10).partitions(partitions);
            let (running, ledger) = start(&store, Ledger::default(), options);
            ledger.wait_for(Position::new(300), PATIENCE).await.expect("it gets there");
            running.shutdown(PATIENCE).await.expect("it ends");
            let build = active(&*store, "ledger").await.unwrap().expect("it was built");
            let looked_up = |logical| {
                let physical = build.table("ledger", &logical).unwrap();
                counting.looked_up.lock().unwrap().get(&physical).copied().unwrap_or_default()
            };
            let (of_chains, of_sum) = (looked_up(chains()), looked_up(sums()));
            if partitions == 1 {
                assert_eq!((of_chains, of_sum), (3, 1), "three rows and one");
            } else {
                assert!(of_sum >= 30, "the other worker has changed it since the last batch: {of_sum}");
            }
            assert_eq!(check(&store, "built").await.events(), 300);
        });
    }
}

/// Commits that fail or whose acknowledgement is lost, in the middle of a catch-up: what is remembered is what was written.
#[test]
fn what_is_remembered_is_what_was_written_whatever_becomes_of_a_commit() {
    on_every_store(async |inner| {
        for number in 0..200 {
            append(&*inner, number % 3, AccountEvent::Deposited { cents: 1 }).await;
        }
        let faulty = FaultyStore::new(Arc::clone(&inner));
        for (at, fault) in [(4, Fault::Refuse), (9, Fault::LoseAcknowledgement), (14, Fault::Refuse)] {
            faulty.at_commit(at, fault);
        }
        let store: Arc<dyn EventStore> = Arc::new(faulty);
        let (running, ledger) = start(&store, Ledger::default(), ProjectionOptions::new().batch(7));
        ledger.wait_for(Position::new(200), PATIENCE).await.expect("it gets there");
        assert!(ledger.status().restarts >= 3, "each fault ends a life");
        running.shutdown(PATIENCE).await.expect("it ends");
        assert_eq!(check(&inner, "after faults").await.events(), 200);
    });
}

/// A worker that is told to stop while it tries an event again has not done that event; that the next batch is read already,
/// and has nothing for this worker, must not move its checkpoint beyond it.
#[test]
fn a_stop_within_a_batch_skips_nothing_though_the_next_one_was_read() {
    on_every_store(async |store| {
        let of = |number: u64| partition_of(account(number).as_str(), 2);
        let other = (1..100).find(|number| of(*number) != of(0)).expect("an account of the other worker");
        append(&*store, 0, AccountEvent::Withdrawn { cents: POISON }).await;
        for _ in 0..20 {
            append(&*store, other, AccountEvent::Deposited { cents: 1 }).await;
        }
        let patient = RetryPolicy { attempts: 5, first_pause: PATIENCE * 10, longest_pause: PATIENCE * 10 };
        let options = ProjectionOptions::new().batch(1).partitions(2).retry(patient);
        let ledger = Ledger::<1>::default();
        let (running, handle) = start(&store, ledger.clone(), options);
        until("it tries again", async || handle.status().state == ProjectionState::Retrying).await;
        running.shutdown(PATIENCE).await.expect("it ends");
        ledger.is_healed.store(true, Ordering::SeqCst);
        let (running, handle) = start(&store, ledger, options);
        handle.wait_for(Position::new(21), PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");
        assert_eq!(check(&store, "after a stop").await.events(), 21);
    });
}
