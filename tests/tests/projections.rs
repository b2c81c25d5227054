//! Background projections on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use es_core::aggregate::RetryPolicy;
use es_core::projection::view::Views;
use es_core::projection::{
    AdminError, ApplyError, ProjectedContext, Projection, ProjectionOptions, ProjectionState, RebuildErrors,
    RebuildFrom, Rows, StartError, Supervisor, WaitError,
};
use es_core::store::RowScan;
use es_core::{EventStore, LogRead, Position};
use es_tests::account::{Account, AccountEvent};
use es_tests::ledger::{Ledger, POISON, append, chains, check, parked_positions, read_books};
use es_tests::stores::on_every_store;
use es_tests::supervised::{TIMEOUT, active, start, wait_until};

fn options() -> ProjectionOptions {
    let retry =
        RetryPolicy { attempts: 3, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(2) };
    ProjectionOptions::new().retry(retry).keep_retired(Duration::ZERO)
}

async fn deposit(store: &Arc<dyn EventStore>, events: u64) -> Position {
    let mut last = Position::FIRST;
    for number in 0..events {
        last = append(&**store, number % 7, AccountEvent::Deposited { cents: number }).await;
    }
    last
}

#[test]
fn a_projection_catches_up_follows_and_applies_each_event_once() {
    on_every_store(async |store| {
        for partitions in [1, 4] {
            deposit(&store, 500).await;
            let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(partitions).batch(16));
            let last = deposit(&store, 300).await;
            ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
            let status = ledger.status();
            assert_eq!((status.state, status.lag_events, status.restarts), (ProjectionState::Live, 0, 0));
            running.shutdown(TIMEOUT).await.expect("the projection stops");
            let books = check(&store, "after shutdown").await;
            assert_eq!(books.events(), last.get());
        }
    });
}

/// Otherwise, a projection would read the same events again after each restart.
#[test]
fn the_checkpoint_advances_over_events_that_do_not_match_the_query() {
    on_every_store(async |store| {
        let (running, ledger) = start(&store, Ledger::<1>::default(), options());
        let other = es_core::NewEvent::json(es_core::EventType::new("other").expect("a name"), "{}");
        let stream = es_core::StreamId::new("elsewhere-1").expect("a name");
        let commit = es_core::Commit::to(&stream, es_core::ExpectedRevision::Any, [other]);
        let last = store.commit(commit).await.expect("committed").position();
        ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        let build = active(&*store, "ledger").await.expect("a row").expect("a build");
        assert_eq!(build.position(), last);
    });
}

/// An event that failed once delayed the events of all keys of its worker during the pauses of its retries.
#[test]
fn an_event_that_is_retried_delays_no_other_key() {
    on_every_store(async |store| {
        let projection = Ledger::<1>::default();
        let hours = RetryPolicy { attempts: 5, first_pause: TIMEOUT * 100, longest_pause: TIMEOUT * 100 };
        let (running, ledger) = start(&store, projection.clone(), options().retry(hours));
        let poison = append(&*store, 1, AccountEvent::Withdrawn { cents: POISON }).await;
        append(&*store, 1, AccountEvent::Deposited { cents: 1 }).await;
        let mut last = poison;
        for _ in 0..30 {
            last = append(&*store, 2, AccountEvent::Deposited { cents: 1 }).await;
        }
        wait_until("the other key is applied", async || read_books(&*store).await.expect("rows").events() == 30).await;
        assert_eq!(ledger.status().state, ProjectionState::Retrying);
        let parked = ledger.admin().parked(None, 10).await.expect("a list");
        let found: Vec<_> = parked.iter().map(|key| (key.key.as_str(), key.attempts, key.is_retried)).collect();
        assert_eq!(found, [("account-1", 1, true)]);
        assert_eq!(Views::of::<Ledger>(store.clone()).parked_events(10).await.expect("a number"), 2);
        let waited = ledger.wait_for(poison, Duration::from_millis(20)).await;
        assert!(matches!(waited, Err(WaitError::Timeout { .. })), "an event that is retried is not applied");
        running.shutdown(TIMEOUT).await.expect("the projection stops");

        // The next worker continues the attempts at once, and applies the events of the key in order.
        let (running, ledger) = start(&store, projection.clone(), options().retry(hours));
        wait_until("the second attempt has failed", async || {
            ledger.admin().parked(None, 10).await.expect("a list").iter().any(|key| key.attempts == 2)
        })
        .await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        projection.accepts_poison.store(true, Ordering::SeqCst);
        let (running, ledger) = start(&store, projection, options().partitions(2).retry(hours));
        ledger.wait_for(last, TIMEOUT).await.expect("the key is applied");
        assert!(ledger.admin().parked(None, 10).await.expect("a list").is_empty());
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&store, "after the retries").await.events(), 32);
    });
}

/// A worker that retries as many keys as it may waits, and ends with every key parked.
#[test]
fn a_projection_that_fails_for_many_keys_parks_them_all() {
    on_every_store(async |store| {
        for number in 0..1100 {
            append(&*store, number, AccountEvent::Withdrawn { cents: POISON }).await;
        }
        let (running, ledger) = start(&store, Ledger::<1>::default(), options());
        ledger.wait_for(store.head().await.expect("a head"), TIMEOUT).await.expect("the projection catches up");
        let parked = ledger.admin().parked(None, 2000).await.expect("a list");
        assert_eq!(parked.len(), 1100);
        assert!(parked.iter().all(|key| key.attempts == 3 && !key.is_retried));
        running.shutdown(TIMEOUT).await.expect("the projection stops");
    });
}

#[test]
fn an_event_that_fails_parks_only_its_key_and_can_be_retried_or_skipped() {
    on_every_store(async |store| {
        let projection = Ledger::<1>::default();
        let (running, ledger) = start(&store, projection.clone(), options().partitions(2));
        let admin = ledger.admin();
        let poison = append(&*store, 1, AccountEvent::Withdrawn { cents: POISON }).await;
        let second = append(&*store, 1, AccountEvent::Deposited { cents: 1 }).await;
        append(&*store, 2, AccountEvent::Opened { owner: "panic".into() }).await;
        let last = deposit(&store, 50).await;
        ledger.wait_for(last, TIMEOUT).await.expect("the other keys continue");

        let parked = admin.parked(None, 10).await.expect("a list");
        let errors: Vec<_> = parked.iter().map(|key| (key.key.as_str(), key.error.as_str(), key.attempts)).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.contains(&("account-1", "injected error", 3)), "{errors:?}");
        assert!(errors.iter().any(|(key, error, _)| *key == "account-2" && error.contains("injected panic")));
        let page = admin.parked(Some(&parked[0]), 10).await.expect("a list");
        assert_eq!(page, parked[1..]);
        let events = admin.parked_events("account-1", None, 2).await.expect("a list");
        assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [poison, second]);

        // A failed retry increments only the number of attempts.
        admin.retry("account-1").await.expect("the action is accepted");
        wait_until("the retry has failed", async || {
            let parked = admin.parked(None, 10).await.expect("a list");
            parked.iter().any(|key| key.key == "account-1" && key.attempts == 4)
        })
        .await;
        assert!(matches!(admin.retry("account-3").await, Err(AdminError::NotParked { .. })));
        let skipped = admin.skip("account-1", second, "no").await;
        assert!(matches!(skipped, Err(AdminError::NotFirst { first, .. }) if first == poison));

        // One event succeeds after a fix, the other is skipped.
        projection.accepts_poison.store(true, Ordering::SeqCst);
        admin.retry("account-1").await.expect("the action is accepted");
        let panics = admin.parked_events("account-2", None, 1).await.expect("a list")[0].position;
        admin.skip("account-2", panics, "this owner never existed").await.expect("skipped");
        wait_until("both keys are unparked", async || admin.parked(None, 10).await.expect("a list").is_empty()).await;
        let last = deposit(&store, 20).await;
        ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");

        assert!(parked_positions(&store).await.expect("a list").is_empty());
        let books = read_books(&*store).await.expect("rows");
        let audit = LogRead::category(es_core::model::Category::new("es.projections").expect("a name"));
        let audit = store.read_log(audit).await.expect("a read").collect().await.expect("events");
        assert_eq!(books.events(), last.get() - audit.len() as u64 - 1, "all events except the skipped one");
        let skipped = audit.iter().find(|event| event.data.event_type == "projection-event-skipped").expect("recorded");
        assert!(String::from_utf8_lossy(&skipped.data.payload).contains("this owner never existed"));
    });
}

#[test]
fn readers_never_see_missing_data_during_a_rebuild_under_load() {
    on_every_store(async |store| {
        let first = deposit(&store, 400).await;
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2).batch(32));
        ledger.wait_for(first, TIMEOUT).await.expect("the projection catches up");
        let writing = tokio::spawn({
            let store = Arc::clone(&store);
            async move { deposit(&store, 1_500).await }
        });
        ledger.admin().rebuild(RebuildFrom::Start, "a test").await.expect("the action is accepted");
        let views = Views::of::<Ledger<1>>(store.clone());
        let first = active(&*store, "ledger").await.expect("a row").expect("a build");
        let mut seen = 0;
        let mut generations = std::collections::BTreeSet::new();
        wait_until("the views are swapped", async || {
            let generation = views.generation().await.expect("a row");
            let rows = views.rows(&RowScan::new(chains(), Vec::new(), 1_000)).await.expect("rows");
            let count =
                |value: &[u8]| String::from_utf8_lossy(value).split(':').next().and_then(|n| n.parse::<u64>().ok());
            let events: u64 = rows.iter().filter_map(|row| count(&row.value)).sum();
            assert!(events >= seen, "the view had {seen} events, then {events}");
            seen = events;
            generations.insert(generation);
            generations.len() == 2
        })
        .await;
        let last = writing.await.expect("written");
        ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        let old = first.table("ledger", &chains()).expect("a name");
        wait_until("the old rows are removed", async || {
            store.rows(RowScan::new(old.clone(), Vec::new(), 1)).await.expect("rows").is_empty()
        })
        .await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        check(&store, "after the rebuild").await;
    });
}

/// Counts events. While the gate is closed, it waits at the event at position 21.
#[derive(Clone, Default)]
struct Gated {
    is_closed: Arc<AtomicBool>,
    is_reached: Arc<AtomicBool>,
}

impl Projection for Gated {
    type Source = Account;
    const NAME: &'static str = "gated";

    fn apply(&self, _: &AccountEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        while at.position().get() == 21 && self.is_closed.load(Ordering::SeqCst) {
            self.is_reached.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        rows.put(&chains(), at.position().get().to_be_bytes().to_vec(), "applied");
        Ok(())
    }
}

/// A rebuild is a batch short of the old view when the workers stop for the swap, and each event is a commit of its
/// own. The swap is recorded with the position of the new view, which must have all events of the old one.
#[test]
fn a_rebuild_that_has_not_caught_up_is_not_swapped() {
    on_every_store(async |store| {
        let (projection, last) = (Gated::default(), deposit(&store, 24).await);
        let options = ProjectionOptions { commit_bytes: 1, ..options().batch(10) };
        let (running, gated) = start(&store, projection.clone(), options);
        gated.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        projection.is_closed.store(true, Ordering::SeqCst);
        gated.admin().rebuild(RebuildFrom::Start, "a test").await.expect("the action is accepted");
        wait_until("the rebuild waits", async || projection.is_reached.load(Ordering::SeqCst)).await;
        // Ten times the interval at which a rebuild is polled.
        tokio::time::sleep(Duration::from_millis(100)).await;
        projection.is_closed.store(false, Ordering::SeqCst);
        let audit = LogRead::event_type(es_core::EventType::new("projection-rebuilt").expect("a name"));
        let rebuilt = async || store.read_log(audit.clone()).await.expect("a read").next().await.expect("an event");
        wait_until("the views are swapped", async || rebuilt().await.is_some()).await;
        let details = String::from_utf8(rebuilt().await.expect("the swap").data.payload.to_vec()).expect("a text");
        let position = details.split_once("\"position\":").and_then(|(_, rest)| rest.split([',', '}']).next());
        let position: u64 = position.expect("a position").parse().expect("a number");
        assert!(position >= last.get(), "{details}");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
    });
}

/// A rebuild retries the last event and has applied all others. The old view, which has the event, is not replaced
/// before the retry succeeds.
#[test]
fn a_rebuild_that_retries_an_event_is_not_swapped() {
    on_every_store(async |store| {
        let projection = Ledger::<1>::default();
        projection.accepts_poison.store(true, Ordering::SeqCst);
        let pause = Duration::from_millis(20);
        let patient = RetryPolicy { attempts: 100_000, first_pause: pause, longest_pause: pause };
        let (running, ledger) = start(&store, projection.clone(), options().retry(patient));
        deposit(&store, 20).await;
        let last = append(&*store, 1, AccountEvent::Withdrawn { cents: POISON }).await;
        ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        let generation = async || active(&*store, "ledger").await.expect("a row").expect("a build").generation;
        let old = generation().await;
        projection.accepts_poison.store(false, Ordering::SeqCst);
        ledger.admin().rebuild(RebuildFrom::Start, "a test").await.expect("the action is accepted");
        // Fifty times the interval at which a rebuild is polled.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(generation().await, old, "readers keep the old view");
        projection.accepts_poison.store(true, Ordering::SeqCst);
        wait_until("the views are swapped", async || generation().await > old).await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        assert_eq!(check(&store, "after the rebuild").await.events(), last.get());
    });
}

/// The code of a rebuild rejects an event that the active view has applied. By default readers keep the old view until
/// the event is retried; `RebuildErrors::Swap` gives them the new view without the event.
#[test]
fn a_rebuild_with_parked_keys_is_held() {
    for policy in [RebuildErrors::Hold, RebuildErrors::Swap] {
        on_every_store(async |store| {
            let projection = Ledger::<1>::default();
            projection.accepts_poison.store(true, Ordering::SeqCst);
            let (running, ledger) = start(&store, projection.clone(), options().rebuild_errors(policy));
            append(&*store, 1, AccountEvent::Withdrawn { cents: POISON }).await;
            ledger.wait_for(deposit(&store, 20).await, TIMEOUT).await.expect("the projection catches up");
            let generation = async || active(&*store, "ledger").await.expect("a row").expect("a build").generation;
            let old = generation().await;
            projection.accepts_poison.store(false, Ordering::SeqCst);
            let admin = ledger.admin();
            admin.rebuild(RebuildFrom::Start, "a test").await.expect("the action is accepted");
            wait_until("the key is parked in the rebuild", async || {
                let parked = admin.parked(None, 10).await.expect("a list");
                parked.iter().any(|parked| parked.key == "account-1" && parked.generation > old)
            })
            .await;
            if policy == RebuildErrors::Hold {
                // Ten times the interval at which a rebuild is polled.
                tokio::time::sleep(Duration::from_millis(500)).await;
                assert_eq!(generation().await, old, "readers keep the old view");
                projection.accepts_poison.store(true, Ordering::SeqCst);
                admin.retry("account-1").await.expect("the action is accepted");
            }
            wait_until("the views are swapped", async || generation().await > old).await;
            running.shutdown(TIMEOUT).await.expect("the projection stops");
            let is_parked = !parked_positions(&store).await.expect("a list").is_empty();
            assert_eq!(is_parked, policy == RebuildErrors::Swap);
            check(&store, "after the rebuild").await;
        });
    }
}

#[test]
fn a_new_version_is_built_in_the_background_and_replaces_the_old_view() {
    on_every_store(async |store| {
        let last = deposit(&store, 100).await;
        let (running, ledger) = start(&store, Ledger::<1>::default(), options());
        ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        let old = active(&*store, "ledger").await.expect("a row").expect("a build");

        let (running, ledger) = start(&store, Ledger::<2>::default(), options().partitions(3));
        let last = deposit(&store, 100).await;
        ledger.wait_for(last, TIMEOUT).await.expect("the projection catches up");
        let new = active(&*store, "ledger").await.expect("a row").expect("a build");
        assert_eq!((old.version, new.version, new.checkpoints.len()), (1, 2, 3));
        assert!(new.generation > old.generation);
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        check(&store, "after the new version").await;
    });
}

#[test]
fn a_pause_survives_a_restart_and_a_reset_rebuilds_the_view() {
    on_every_store(async |store| {
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2));
        ledger.wait_for(deposit(&store, 50).await, TIMEOUT).await.expect("the projection catches up");
        ledger.admin().pause("maintenance").await.expect("paused");
        let before = read_books(&*store).await.expect("rows");
        let last = deposit(&store, 50).await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");

        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2));
        wait_until("the projection is paused", async || ledger.status().state == ProjectionState::Paused).await;
        let waited = ledger.wait_for(last, Duration::from_millis(50)).await.expect_err("the projection is paused");
        let text = waited.to_string();
        assert!(
            matches!(&waited, WaitError::Timeout { position, timeout, state, .. }
                if *position == last && state == "paused" && *timeout == Duration::from_millis(50)),
            "{waited:?}"
        );
        assert!(text.ends_with("the command itself succeeded and must not be repeated"), "{text}");
        assert_eq!(read_books(&*store).await.expect("rows"), before);

        ledger.admin().reset("wrong rows").await.expect("the action is accepted");
        ledger.admin().resume("done").await.expect("resumed");
        wait_until("the view is reset", async || {
            active(&*store, "ledger").await.expect("a row").is_some_and(|build| build.generation.get() == 2)
        })
        .await;
        let last = deposit(&store, 1).await;
        wait_until("the projection has caught up", async || ledger.status().position >= Some(last)).await;
        running.shutdown(TIMEOUT).await.expect("the projection stops");
        check(&store, "after the reset").await;
        let late = deposit(&store, 1).await;
        assert!(matches!(ledger.wait_for(late, TIMEOUT).await, Err(WaitError::Stopped { .. })));
    });
}

#[test]
fn a_rebuild_from_a_position_or_a_time_applies_only_later_events() {
    on_every_store(async |store| {
        deposit(&store, 30).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let middle = append(&*store, 3, AccountEvent::Closed).await;
        let event = store.read_log(LogRead::all().from(middle).limit(1)).await.expect("a read").next().await;
        let time = event.expect("an event").expect("an event").recorded_at;
        for (generation, from) in [(2, RebuildFrom::Position(middle)), (3, RebuildFrom::Time(time))] {
            let (running, ledger) = start(&store, Ledger::<1>::default(), options());
            ledger.admin().rebuild(from, "a test").await.expect("the action is accepted");
            wait_until("the views are swapped", async || {
                active(&*store, "ledger")
                    .await
                    .expect("a row")
                    .is_some_and(|build| build.generation.get() == generation)
            })
            .await;
            running.shutdown(TIMEOUT).await.expect("the projection stops");
            assert_eq!(read_books(&*store).await.expect("rows").events(), 1, "{from:?}");
        }
    });
}

/// The second process takes over from a process that is dead or slow, which then cannot write.
#[test]
fn another_process_takes_over_after_the_lease_or_by_force() {
    on_every_store(async |store| {
        let short = options().lease(Duration::from_millis(200));
        let (killed, _) = start(&store, Ledger::<1>::default(), short);
        let (standby, ledger) = start(&store, Ledger::<1>::default(), short);
        wait_until("one process is on standby", async || {
            [killed.status(), standby.status()]
                .iter()
                .flatten()
                .any(|status| matches!(status.state, ProjectionState::Standby { .. }))
        })
        .await;
        let last = deposit(&store, 20).await;
        ledger.wait_for(last, TIMEOUT).await.expect("a standby process knows the position of the active one");
        drop(killed);
        let last = deposit(&store, 20).await;
        ledger.wait_for(last, TIMEOUT).await.expect("the standby process takes over");
        let (forced, by_force) = start(&store, Ledger::<1>::default(), short.lease(Duration::from_secs(3600)));
        by_force.take_over();
        wait_until("the third process is live", async || by_force.status().state == ProjectionState::Live).await;
        let last = deposit(&store, 20).await;
        by_force.wait_for(last, TIMEOUT).await.expect("the third process catches up");
        standby.shutdown(TIMEOUT).await.expect("the projection stops");
        forced.shutdown(TIMEOUT).await.expect("the projection stops");
        check(&store, "after two takeovers").await;
    });
}

#[test]
fn a_failing_projection_does_not_stop_another_and_a_duplicate_name_is_an_error() {
    struct Poisoned;
    impl Projection for Poisoned {
        type Source = Account;
        const NAME: &'static str = "poisoned";
        fn query(&self) -> es_core::store::Query {
            panic!("injected panic")
        }
        fn apply(
            &self,
            _: &AccountEvent,
            _: &es_core::projection::ProjectedContext<'_>,
            _: &mut es_core::projection::Rows,
        ) -> Result<(), es_core::projection::ApplyError> {
            Ok(())
        }
    }
    on_every_store(async |store| {
        let both = Supervisor::new().projection(Ledger::<1>::default(), options());
        let running = both
            .projection(Poisoned, options().restart(Duration::from_millis(1), Duration::from_millis(5)))
            .start(Arc::clone(&store))
            .await
            .expect("started");
        let handle = |name| running.projection(name).expect("the supervisor has the projection");
        let (ledger, poisoned) = (handle("ledger"), handle("poisoned"));
        wait_until("the projection has failed repeatedly", async || poisoned.status().restarts > 3).await;
        assert!(poisoned.status().last_error.expect("an error").message.contains("injected panic"));
        ledger.wait_for(deposit(&store, 50).await, TIMEOUT).await.expect("the other projection continues");
        running.shutdown(TIMEOUT).await.expect("both projections stop");
        let first = Supervisor::new().projection(Ledger::<1>::default(), options());
        let duplicate = first.projection(Ledger::<2>::default(), options()).start(store).await;
        assert!(matches!(duplicate, Err(StartError::DuplicateName { name }) if name == "ledger"));
    });
}
