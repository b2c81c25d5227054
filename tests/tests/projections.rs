//! Projections in the background: what a user sees of them, over every store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use es_core::aggregate::RetryPolicy;
use es_core::projection::view::Views;
use es_core::projection::{
    AdminError, Projection, ProjectionOptions, ProjectionState, RebuildFrom, StartError, Supervisor, WaitError,
};
use es_core::store::RowScan;
use es_core::{EventStore, LogRead, Position};
use es_tests::account::{Account, AccountEvent};
use es_tests::ledger::{Ledger, POISON, append, chains, check, parked_positions, read_books};
use es_tests::stores::on_every_store;
use es_tests::supervised::{PATIENCE, active, start, until};

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
fn it_catches_up_then_follows_and_every_event_counts_once() {
    on_every_store(async |store| {
        for partitions in [1, 4] {
            deposit(&store, 500).await;
            let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(partitions).batch(16));
            let last = deposit(&store, 300).await;
            ledger.wait_for(last, PATIENCE).await.expect("it gets there");
            let status = ledger.status();
            assert_eq!((status.state, status.lag_events, status.restarts), (ProjectionState::Live, 0, 0));
            running.shutdown(PATIENCE).await.expect("it ends");
            let books = check(&store, "after shutdown").await;
            assert_eq!(books.events(), last.get());
        }
    });
}

/// What has no event for a projection must not be read again and again: its checkpoint goes on over it.
#[test]
fn a_checkpoint_goes_on_over_what_the_query_leaves_out() {
    on_every_store(async |store| {
        let (running, ledger) = start(&store, Ledger::<1>::default(), options());
        let other = es_core::NewEvent::json(es_core::EventType::new("other").expect("a name"), "{}");
        let stream = es_core::StreamId::new("elsewhere-1").expect("a name");
        let commit = es_core::Commit::to(&stream, es_core::ExpectedRevision::Any, [other]);
        let last = store.commit(commit).await.expect("committed").position();
        ledger.wait_for(last, PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");
        let build = active(&*store, "ledger").await.expect("a row").expect("a build");
        assert_eq!(build.position(), last);
    });
}

#[test]
fn a_poisoned_event_parks_its_key_only_and_can_be_retried_and_skipped() {
    on_every_store(async |store| {
        let healed = Ledger::<1>::default();
        let (running, ledger) = start(&store, healed.clone(), options().partitions(2));
        let admin = ledger.admin();
        let poison = append(&*store, 1, AccountEvent::Withdrawn { cents: POISON }).await;
        let behind = append(&*store, 1, AccountEvent::Deposited { cents: 1 }).await;
        append(&*store, 2, AccountEvent::Opened { owner: "panic".into() }).await;
        let last = deposit(&store, 50).await;
        ledger.wait_for(last, PATIENCE).await.expect("others go on");

        let parked = admin.parked(None, 10).await.expect("a list");
        let errors: Vec<_> = parked.iter().map(|key| (key.key.as_str(), key.error.as_str(), key.attempts)).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors.contains(&("account-1", "this amount cannot be booked", 3)), "{errors:?}");
        assert!(
            errors.iter().any(|(key, error, _)| *key == "account-2" && error.contains("this owner cannot be booked"))
        );
        let page = admin.parked(Some(&parked[0]), 10).await.expect("a list");
        assert_eq!(page, parked[1..]);
        let events = admin.parked_events("account-1", None, 2).await.expect("a list");
        assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [poison, behind]);

        // A retry in vain changes nothing but the count.
        admin.retry("account-1").await.expect("asked for");
        until("the retry", async || {
            let parked = admin.parked(None, 10).await.expect("a list");
            parked.iter().any(|key| key.key == "account-1" && key.attempts == 4)
        })
        .await;
        assert!(matches!(admin.retry("account-3").await, Err(AdminError::NotParked { .. })));
        assert!(
            matches!(admin.skip("account-1", behind, "no").await, Err(AdminError::NotFirst { first, .. }) if first == poison)
        );

        // One is mended, the other one skipped.
        healed.is_healed.store(true, Ordering::SeqCst);
        admin.retry("account-1").await.expect("asked for");
        let panics = admin.parked_events("account-2", None, 1).await.expect("a list")[0].position;
        admin.skip("account-2", panics, "this owner never existed").await.expect("skipped");
        until("both are free", async || admin.parked(None, 10).await.expect("a list").is_empty()).await;
        let last = deposit(&store, 20).await;
        ledger.wait_for(last, PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");

        assert!(parked_positions(&store).await.expect("a list").is_empty());
        let books = read_books(&*store).await.expect("rows");
        let audit = LogRead::category(es_core::model::Category::new("es.projections").expect("a name"));
        let audit = store.read_log(audit).await.expect("a read").collect().await.expect("events");
        assert_eq!(books.events(), last.get() - audit.len() as u64 - 1, "all but the skipped one");
        let skipped = audit.iter().find(|event| event.data.event_type == "projection-event-skipped").expect("recorded");
        assert!(String::from_utf8_lossy(&skipped.data.payload).contains("this owner never existed"));
    });
}

#[test]
fn a_rebuild_under_load_swaps_without_a_moment_of_missing_data() {
    on_every_store(async |store| {
        let first = deposit(&store, 400).await;
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2).batch(32));
        ledger.wait_for(first, PATIENCE).await.expect("it gets there");
        let writing = tokio::spawn({
            let store = Arc::clone(&store);
            async move { deposit(&store, 1_500).await }
        });
        ledger.admin().rebuild(RebuildFrom::Start, "a test").await.expect("asked for");
        let views = Views::of::<Ledger<1>>(store.clone());
        let first = active(&*store, "ledger").await.expect("a row").expect("a build");
        let mut seen = 0;
        let mut generations = std::collections::BTreeSet::new();
        until("the swap", async || {
            let generation = views.generation().await.expect("a row");
            let rows = views.rows(&RowScan::new(chains(), Vec::new(), 1_000)).await.expect("rows");
            let count =
                |value: &[u8]| String::from_utf8_lossy(value).split(':').next().and_then(|n| n.parse::<u64>().ok());
            let events: u64 = rows.iter().filter_map(|row| count(&row.value)).sum();
            assert!(events >= seen, "the view showed {seen} events, then {events}");
            seen = events;
            generations.insert(generation);
            generations.len() == 2
        })
        .await;
        let last = writing.await.expect("written");
        ledger.wait_for(last, PATIENCE).await.expect("it gets there");
        let old = first.table("ledger", &chains()).expect("a name");
        until("the old rows are removed", async || {
            store.rows(RowScan::new(old.clone(), Vec::new(), 1)).await.expect("rows").is_empty()
        })
        .await;
        running.shutdown(PATIENCE).await.expect("it ends");
        check(&store, "after the rebuild").await;
    });
}

#[test]
fn another_version_is_built_beside_the_old_view_which_serves_until_then() {
    on_every_store(async |store| {
        let last = deposit(&store, 100).await;
        let (running, ledger) = start(&store, Ledger::<1>::default(), options());
        ledger.wait_for(last, PATIENCE).await.expect("it gets there");
        running.shutdown(PATIENCE).await.expect("it ends");
        let old = active(&*store, "ledger").await.expect("a row").expect("a build");

        let (running, ledger) = start(&store, Ledger::<2>::default(), options().partitions(3));
        let last = deposit(&store, 100).await;
        ledger.wait_for(last, PATIENCE).await.expect("it gets there");
        let new = active(&*store, "ledger").await.expect("a row").expect("a build");
        assert_eq!((old.version, new.version, new.checkpoints.len()), (1, 2, 3));
        assert!(new.generation > old.generation);
        running.shutdown(PATIENCE).await.expect("it ends");
        check(&store, "after the new version").await;
    });
}

#[test]
fn pause_holds_through_a_restart_and_reset_begins_anew() {
    on_every_store(async |store| {
        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2));
        ledger.wait_for(deposit(&store, 50).await, PATIENCE).await.expect("it gets there");
        ledger.admin().pause("maintenance").await.expect("paused");
        let before = read_books(&*store).await.expect("rows");
        let last = deposit(&store, 50).await;
        running.shutdown(PATIENCE).await.expect("it ends");

        let (running, ledger) = start(&store, Ledger::<1>::default(), options().partitions(2));
        until("paused", async || ledger.status().state == ProjectionState::Paused).await;
        let waited = ledger.wait_for(last, Duration::from_millis(50)).await.expect_err("it is paused");
        let text = waited.to_string();
        assert!(
            matches!(&waited, WaitError::Timeout { position, timeout, state, .. }
                if *position == last && state == "paused" && *timeout == Duration::from_millis(50)),
            "{waited:?}"
        );
        assert!(text.ends_with("the command itself succeeded and must not be repeated"), "{text}");
        assert_eq!(read_books(&*store).await.expect("rows"), before);

        ledger.admin().reset("wrong rows").await.expect("asked for");
        ledger.admin().resume("done").await.expect("resumed");
        until("reset", async || {
            active(&*store, "ledger").await.expect("a row").is_some_and(|build| build.generation.get() == 2)
        })
        .await;
        let last = deposit(&store, 1).await;
        until("caught up", async || ledger.status().position >= Some(last)).await;
        running.shutdown(PATIENCE).await.expect("it ends");
        check(&store, "after the reset").await;
        assert!(matches!(ledger.wait_for(last.next(), PATIENCE).await, Err(WaitError::Stopped { .. })));
    });
}

#[test]
fn a_replay_from_a_position_or_a_time_shows_later_events_only() {
    on_every_store(async |store| {
        deposit(&store, 30).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let middle = append(&*store, 3, AccountEvent::Closed).await;
        let event = store.read_log(LogRead::all().from(middle).limit(1)).await.expect("a read").next().await;
        let time = event.expect("an event").expect("an event").recorded_at;
        for (generation, from) in [(2, RebuildFrom::Position(middle)), (3, RebuildFrom::Time(time))] {
            let (running, ledger) = start(&store, Ledger::<1>::default(), options());
            ledger.admin().rebuild(from, "a test").await.expect("asked for");
            until("the swap", async || {
                active(&*store, "ledger")
                    .await
                    .expect("a row")
                    .is_some_and(|build| build.generation.get() == generation)
            })
            .await;
            running.shutdown(PATIENCE).await.expect("it ends");
            assert_eq!(read_books(&*store).await.expect("rows").events(), 1, "{from:?}");
        }
    });
}

/// A worker that is dead, or is not and is only slow: the next one takes over, and the first can write nothing.
#[test]
fn another_process_takes_over_by_time_or_by_force() {
    on_every_store(async |store| {
        let short = options().lease(Duration::from_millis(200));
        let (killed, _) = start(&store, Ledger::<1>::default(), short);
        let (standby, ledger) = start(&store, Ledger::<1>::default(), short);
        until("one of them waits", async || {
            [killed.status(), standby.status()]
                .iter()
                .flatten()
                .any(|status| matches!(status.state, ProjectionState::Standby { .. }))
        })
        .await;
        let last = deposit(&store, 20).await;
        ledger.wait_for(last, PATIENCE).await.expect("one that waits knows how far the other is");
        drop(killed);
        let last = deposit(&store, 20).await;
        ledger.wait_for(last, PATIENCE).await.expect("it takes over");
        let (forced, by_force) = start(&store, Ledger::<1>::default(), short.lease(Duration::from_secs(3600)));
        by_force.take_over();
        until("taken over", async || by_force.status().state == ProjectionState::Live).await;
        let last = deposit(&store, 20).await;
        by_force.wait_for(last, PATIENCE).await.expect("it works");
        standby.shutdown(PATIENCE).await.expect("it ends");
        forced.shutdown(PATIENCE).await.expect("it ends");
        check(&store, "after two changes of hands").await;
    });
}

#[test]
fn one_failing_projection_never_stops_another_and_two_of_one_name_are_refused() {
    struct Poisoned;
    impl Projection for Poisoned {
        type Source = Account;
        const NAME: &'static str = "poisoned";
        fn query(&self) -> es_core::store::Query {
            panic!("it never gets anywhere")
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
        let (ledger, poisoned) =
            (running.projection("ledger").expect("given"), running.projection("poisoned").expect("given"));
        until("it fails again and again", async || poisoned.status().restarts > 3).await;
        assert!(poisoned.status().last_error.expect("an error").message.contains("it never gets anywhere"));
        ledger.wait_for(deposit(&store, 50).await, PATIENCE).await.expect("it goes on");
        running.shutdown(PATIENCE).await.expect("both end");
        let twice = Supervisor::new().projection(Ledger::<1>::default(), options());
        let refused = twice.projection(Ledger::<2>::default(), options()).start(store).await;
        assert!(matches!(refused, Err(StartError::DuplicateName { name }) if name == "ledger"));
    });
}
