//! The row cache and the read-ahead of projection workers: a worker caches the rows that it wrote, and reads the next
//! batch while it commits one.

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
use es_tests::supervised::{self, TIMEOUT, active, wait_until};

fn start(
    store: &Arc<dyn EventStore>,
    ledger: Ledger,
    options: ProjectionOptions,
) -> (RunningProjections, ProjectionHandle) {
    supervised::start(store, ledger, options.restart(Duration::from_millis(1), Duration::from_millis(10)))
}

/// A store layer that counts the row lookups per table.
#[derive(Debug)]
struct CountingStore {
    inner: Arc<dyn EventStore>,
    lookups: Mutex<BTreeMap<Table, u64>>,
}

#[async_trait]
impl StoreLayer for CountingStore {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        *self.lookups.lock().expect("not poisoned").entry(table.clone()).or_default() += 1;
        self.inner.row(table, key).await
    }
}

/// A single worker caches the rows that it has read or written. With several workers, each reads the rows that others
/// wrote.
#[test]
fn a_single_worker_looks_up_each_row_once() {
    for partitions in [1, 2] {
        on_every_store(async |inner| {
            for number in 0..300 {
                append(&*inner, number % 3, AccountEvent::Deposited { cents: 1 }).await;
            }
            let counting = Arc::new(CountingStore { inner, lookups: Mutex::default() });
            let store: Arc<dyn EventStore> = Arc::clone(&counting) as _;
            let options = ProjectionOptions::new().batch(10).partitions(partitions);
            let (running, ledger) = start(&store, Ledger::default(), options);
            ledger.wait_for(Position::new(300), TIMEOUT).await.expect("the projection catches up");
            running.shutdown(TIMEOUT).await.expect("the projection stops");
            let build = active(&*store, "ledger").await.unwrap().expect("the view exists");
            let lookups = |logical| {
                let physical = build.table("ledger", &logical).unwrap();
                counting.lookups.lock().unwrap().get(&physical).copied().unwrap_or_default()
            };
            let (of_chains, of_sum) = (lookups(chains()), lookups(sums()));
            if partitions == 1 {
                assert_eq!((of_chains, of_sum), (3, 1), "one lookup per row");
            } else {
                assert!(of_sum >= 30, "the other worker changes the sum in each batch: {of_sum}");
            }
            assert_eq!(check(&store, "after the catch-up").await.events(), 300);
        });
    }
}

/// Commits fail or lose their acknowledgement during a catch-up.
#[test]
fn cached_rows_agree_with_stored_rows_after_failed_commits() {
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
        ledger.wait_for(Position::new(200), TIMEOUT).await.expect("the projection catches up");
        assert!(ledger.status().restarts >= 3, "each fault restarts the projection");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&inner, "after faults").await.events(), 200);
    });
}

/// A worker is stopped while it retries an event. The next batch is already read and has no event for this worker, but
/// must not advance its checkpoint past the event.
#[test]
fn a_stop_during_a_retry_skips_no_event_although_the_next_batch_was_read() {
    on_every_store(async |store| {
        let of = |number: u64| partition_of(account(number).as_str(), 2);
        let other = (1..100).find(|number| of(*number) != of(0)).expect("an account of the other worker");
        append(&*store, 0, AccountEvent::Withdrawn { cents: POISON }).await;
        for _ in 0..20 {
            append(&*store, other, AccountEvent::Deposited { cents: 1 }).await;
        }
        let patient = RetryPolicy { attempts: 5, first_pause: TIMEOUT * 10, longest_pause: TIMEOUT * 10 };
        let options = ProjectionOptions::new().batch(1).partitions(2).retry(patient);
        let ledger = Ledger::<1>::default();
        let (running, handle) = start(&store, ledger.clone(), options);
        wait_until("the projection retries", async || handle.status().state == ProjectionState::Retrying).await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        ledger.accepts_poison.store(true, Ordering::SeqCst);
        let (running, handle) = start(&store, ledger, options);
        handle.wait_for(Position::new(21), TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&store, "after a stop").await.events(), 21);
    });
}
