//! Inline projections: the view always agrees with the log, also after failures and kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use es_core::__private::{StoredGeneration, StoredProjection, partition_of};
use es_core::aggregate::{InfrastructureError, RetryPolicy};
use es_core::model::ErrorChain;
use es_core::model::Table;
use es_core::projection::inline::{Inline, InlineError, StartInlineError};
use es_core::projection::view::Views;
use es_core::projection::{Live, Projection, ProjectionOptions, StartError, Supervisor, reset_followers};
use es_core::store::Committed;
use es_core::store::implement::StoreLayer;
use es_core::store::memory::MemoryStore;
use es_core::store::{RowScan, StartHookError};
use es_core::{
    Commit, CommitError, EventReader, EventStore, EventType, ExecuteError, ExpectedRevision, NewEvent, Position,
    Repository, StreamId,
};
use es_rocksdb::{OpenError, RocksDbStore};
use es_tests::account::{Account, AccountEvent, Deposit};
use es_tests::counted::{self, COUNTS, EventsOfStreams};
use es_tests::crash::{History, Random, Run, number, options, read_all, seed};
use es_tests::stores::small;
use es_tests::supervised::{TIMEOUT, active, wait_until};

/// Runs a test on each kind of store with the inline projection [`EventsOfStreams`].
fn on_every_store(test: impl AsyncFn(Arc<dyn EventStore>)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let memory = MemoryStore::new().with_hook(Inline::new(EventsOfStreams::<1>)).await.expect("started");
        test(Arc::new(memory)).await;
        let dir = tempfile::tempdir().expect("a directory");
        let store = small().hook(Inline::new(EventsOfStreams::<1>)).open(dir.path()).await.expect("opened");
        test(Arc::new(store.clone())).await;
        store.close().await.expect("closed");
    });
}

/// Returns the error of an inline projection that rejected a commit.
fn inline_error(result: Result<Committed, CommitError>) -> InlineError {
    match result {
        Err(CommitError::Rejected(error)) => *error.downcast().expect("the error of an inline projection"),
        other => panic!("expected a rejection, found {other:?}"),
    }
}

/// Returns the error of an inline projection that could not start with a store.
fn start_error(error: OpenError) -> StartInlineError {
    match error {
        OpenError::Hook { source: StartHookError::Prepare { source, .. }, .. } => {
            *source.downcast().expect("the error of an inline projection")
        }
        other => panic!("expected a hook that cannot start, found {other:?}"),
    }
}

fn event(payload: &str) -> NewEvent {
    NewEvent::json(EventType::new("happened").expect("a type"), format!("\"{payload}\""))
}

fn to(stream: &str, payloads: &[&str]) -> Commit {
    Commit::to(
        &StreamId::new(stream).expect("a stream"),
        ExpectedRevision::Any,
        payloads.iter().map(|payload| event(payload)),
    )
}

#[test]
fn the_view_agrees_with_the_log_under_sixteen_writers_and_repeats() {
    on_every_store(async |store| {
        let writers: Vec<_> = (0..16u64)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut random = Random::new(writer);
                    for _ in 0..40 {
                        let stream = format!("s-{}", random.below(9));
                        let commit = to(&stream, &["a", "b", "c"][..1 + usize::try_from(random.below(3)).unwrap()]);
                        let commit = commit.append(StreamId::new("all-1").unwrap(), event("d"));
                        let first = store.commit(commit.clone()).await.unwrap();
                        if random.once_in(2) {
                            assert_eq!(store.commit(commit).await.unwrap().events, first.events);
                        }
                        let views = Views::of::<EventsOfStreams>(store.clone());
                        let count = views.view(&COUNTS).get(&stream).await.unwrap().expect("the stream has a row");
                        assert!(
                            count.last >= first.events[0].position.get(),
                            "a writer sees its own events in the view"
                        );
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(counted::check(&store).await, store.head().await.unwrap());
    });
}

#[test]
fn a_commit_that_the_projection_rejects_changes_nothing() {
    on_every_store(async |store| {
        store.commit(to("a-1", &["x"])).await.unwrap();
        for payload in ["refused", "panic"] {
            let table = es_core::model::Table::new("t").unwrap();
            let commit = to("a-1", &["x", payload]).put_row(table.clone(), "k", "v");
            let (rejected, ()) = tokio::join!(store.commit(commit), async {
                for _ in 0..10 {
                    store.commit(to("b-1", &["x"])).await.unwrap();
                }
            });
            let InlineError::Event { projection, stream, source, .. } = inline_error(rejected) else {
                panic!("expected the error of an event");
            };
            assert_eq!((projection, stream.as_str()), ("events-of-streams", "a-1"));
            assert!(source.to_string().contains("injected"), "{source}");
            assert_eq!(store.row(&table, b"k").await.unwrap(), None);
            assert_eq!(counted::check(&store).await, store.head().await.unwrap());
        }
        assert_eq!(store.head().await.unwrap().unwrap().get(), 21);
    });
}

#[test]
fn a_repository_returns_the_error_of_the_projection() {
    struct NoRiches;
    impl es_core::projection::Projection for NoRiches {
        type Source = Account;
        const NAME: &'static str = "no-riches";
        fn apply(
            &self,
            event: &AccountEvent,
            _: &es_core::projection::ProjectedContext<'_>,
            _: &mut es_core::projection::Rows,
        ) -> Result<(), es_core::projection::ApplyError> {
            match event {
                AccountEvent::Deposited { cents } if *cents > 100 => {
                    Err(es_core::projection::ApplyError::new("too rich"))
                }
                _ => Ok(()),
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let store = MemoryStore::new().with_hook(Inline::new(NoRiches)).await.unwrap();
        let accounts = Repository::<Account>::new(Arc::new(store));
        accounts.execute(&"1".to_owned(), Deposit { cents: 100 }).await.unwrap();
        let error = accounts.execute(&"1".to_owned(), Deposit { cents: 101 }).await.unwrap_err();
        let ExecuteError::Failed(InfrastructureError::Rejected(source)) = error else {
            panic!("expected a rejection of the projection, found {error:?}");
        };
        let text = ErrorChain(&*source).to_string();
        assert!(text.contains("no-riches") && text.contains("too rich"), "{text}");
    });
}

/// A projection that is new, missed events or has a new version catches up before the store opens.
#[tokio::test]
async fn opening_the_store_catches_up_on_missed_events_and_rebuilds_a_new_version() {
    let dir = tempfile::tempdir().unwrap();
    let fill = async |store: &RocksDbStore, count: usize| {
        for number in 0..count {
            store.commit(to(&format!("s-{}", number % 7), &["x", "y"])).await.unwrap();
        }
    };
    let mut events = 0;
    for (round, count) in [700, 300, 0].into_iter().enumerate() {
        let plain = small().open(dir.path()).await.unwrap();
        fill(&plain, count).await;
        plain.close().await.unwrap();
        let inline = small().hook(Inline::new(EventsOfStreams::<1>)).open(dir.path()).await.unwrap();
        let shared: Arc<dyn EventStore> = Arc::new(inline.clone());
        events += 2 * count as u64;
        assert_eq!(counted::check(&shared).await.map_or(0, Position::get), events, "round {round}");
        fill(&inline, 3).await;
        events += 6;
        assert_eq!(counted::check(&shared).await.map_or(0, Position::get), events);
        drop(shared);
        inline.close().await.unwrap();
    }
    let plain = small().open(dir.path()).await.unwrap();
    let first = active(&plain, "events-of-streams").await.unwrap().expect("a build");
    let counts_of = |build: &StoredGeneration| {
        build.table("events-of-streams", &Table::new("counts").expect("a name")).expect("a name")
    };
    assert!(!plain.rows(RowScan::new(counts_of(&first), "", 100)).await.unwrap().is_empty(), "the name of the table");
    plain.close().await.unwrap();
    let rebuilt = small().hook(Inline::new(EventsOfStreams::<2>)).open(dir.path()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(rebuilt.clone());
    assert_eq!(counted::check(&shared).await.unwrap().get(), events);
    let current = active(&*shared, "events-of-streams").await.unwrap();
    assert_eq!(current.map(|build| (build.generation.get(), build.version)), Some((2, 2)));
    let remaining = shared.rows(RowScan::new(counts_of(&first), "", 100)).await.unwrap();
    assert!(remaining.is_empty(), "rows of the former generation: {remaining:?}");
    drop(shared);
    rebuilt.close().await.unwrap();
    // With an event that the projection rejects, the store does not open and names the event. It opens without it.
    let plain = small().open(dir.path()).await.unwrap();
    plain.commit(to("a-1", &["refused"])).await.unwrap();
    plain.close().await.unwrap();
    let failed = small().hook(Inline::new(EventsOfStreams::<2>)).open(dir.path()).await.unwrap_err();
    let error = start_error(failed);
    assert!(matches!(&error, StartInlineError::Event { position, .. } if position.get() == events + 1), "{error}");
    small().open(dir.path()).await.expect("the store opens").close().await.unwrap();
}

/// A store in which one partition of the projection stops: its fourth commit never ends.
#[derive(Debug)]
struct Stopping {
    inner: Arc<dyn EventStore>,
    partition: u32,
    commits: AtomicU32,
}

#[async_trait]
impl StoreLayer for Stopping {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let of_partition = [&[0][..], &1u64.to_be_bytes(), &self.partition.to_be_bytes()].concat();
        let key = [EventsOfStreams::<1>::NAME.as_bytes(), &of_partition].concat();
        if commit.rows().iter().any(|row| row.key == key) && self.commits.fetch_add(1, Ordering::SeqCst) == 3 {
            std::future::pending::<()>().await;
        }
        self.inner.commit(commit).await
    }
}

/// The partitions of the background projection stop at different positions. The inline projection applies no event
/// twice and skips none.
#[tokio::test]
async fn a_projection_moves_from_the_background_to_inline_and_keeps_its_view() {
    let store = MemoryStore::new();
    for number in 0..60 {
        store.commit(to(&format!("s-{}", number % 11), &["x"])).await.unwrap();
    }
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let partition = partition_of("s-1", 4);
    let stopping = Arc::new(Stopping { inner: Arc::clone(&shared), partition, commits: AtomicU32::new(0) });
    let options = ProjectionOptions::new().partitions(4).batch(1);
    let running = Supervisor::new().projection(EventsOfStreams::<1>, options).start(stopping).await.unwrap();
    let checkpoints = async || {
        let stored = StoredProjection::read(&*shared, EventsOfStreams::<1>::NAME).await.unwrap();
        stored.active.map(|build| build.checkpoints).unwrap_or_default()
    };
    let of_stopped = partition as usize;
    let running_on: Vec<usize> = (0..4).filter(|running| *running != of_stopped).collect();
    wait_until("the other partitions arrive", async || {
        let found = checkpoints().await;
        found.len() == 4 && running_on.iter().all(|partition| found[*partition].is_some_and(|p| p.get() >= 50))
    })
    .await;
    running.shutdown(Duration::from_millis(100)).await.expect_err("the stopped partition is aborted");
    assert!(checkpoints().await[of_stopped].is_some_and(|position| position.get() < 40), "{:?}", checkpoints().await);
    let store: Arc<dyn EventStore> = Arc::new(store.with_hook(Inline::new(EventsOfStreams::<1>)).await.unwrap());
    assert_eq!(counted::check(&store).await.unwrap().get(), 60);
    store.commit(to("s-1", &["x"])).await.unwrap();
    assert_eq!(counted::check(&store).await.unwrap().get(), 61);
    let found = active(&*store, "events-of-streams").await.unwrap();
    assert_eq!(found.map(|build| (build.generation.get(), build.checkpoints.len())), Some((1, 1)));
    // The same projection as a live fold: of one stream, of all streams, up to a position, and refreshed.
    let live = Live::fold(store.clone(), EventsOfStreams::<1>, StreamId::new("s-1").unwrap()).await.unwrap();
    assert_eq!(live.view(&COUNTS).scan().read(), [("s-1".to_owned(), live.view(&COUNTS).get(&"s-1".into()).unwrap())]);
    let all = es_core::projection::LiveEvents::All;
    let past = Live::fold_up_to(store.clone(), EventsOfStreams::<1>, all.clone(), es_core::Position::new(11));
    assert_eq!(past.await.unwrap().view(&COUNTS).get(&"s-0".into()).unwrap().events, 1);
    let mut live = Live::fold(store.clone(), EventsOfStreams::<1>, all).await.unwrap();
    store.commit(to("new-1", &["x", "y"])).await.unwrap();
    assert_eq!((live.refresh().await.unwrap(), live.refresh().await.unwrap()), (2, 0));
    let views = Views::of::<EventsOfStreams>(store.clone());
    assert_eq!(live.view(&COUNTS).scan().read(), views.view(&COUNTS).scan().read().await.unwrap().rows);
}

#[tokio::test]
async fn commits_fail_after_the_view_of_an_inline_projection_was_reset() {
    let store = MemoryStore::new().with_hook(Inline::new(EventsOfStreams::<1>)).await.unwrap();
    store.commit(to("s-1", &["x", "y"])).await.unwrap();
    assert_eq!(reset_followers(&store).await.unwrap().projections, 1);
    let rejected = store.commit(to("s-1", &["z"])).await;
    assert!(matches!(inline_error(rejected), InlineError::OutOfSync { .. }));
    assert_eq!(store.head().await.unwrap().unwrap().get(), 2);
    let duplicate = store.with_hook(Inline::new(EventsOfStreams::<1>)).await;
    assert!(matches!(duplicate, Err(StartHookError::Duplicate { .. })));
}

#[test]
fn the_view_agrees_with_the_log_after_a_kill() {
    kill_with_the_projection();
}

/// Kills children with the inline projection.
fn kill_with_the_projection() {
    let (seed, cycles) = (seed(), number("ES_CRASH_CYCLES", 50).min(500) / 5);
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let mut history = History::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut events = 0;
    for run in 1..=cycles {
        let number = u32::try_from(run).expect("a small number");
        let run = Run::new(env!("CARGO_BIN_EXE_crash-child"), &store, number);
        let mut child = run.start();
        // With 0, the child may be killed while it opens the store.
        child.wait_for("A ", if number == 1 { 1 } else { random.pick(&[0, 1]) });
        let lines = child.kill_after(Duration::from_millis(50 + random.below(300)));
        history.add(&lines).expect("acknowledgements");
        let contents = read_all(&store, &history).expect("the store opens");
        history.check(&contents).unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
        events = contents.log.len();
        runtime.block_on(async {
            // Open without the projection, so that the view is that of the killed process.
            let opened = RocksDbStore::open_with(&store, options()).await.expect("the store opens");
            let shared: Arc<dyn EventStore> = Arc::new(opened.clone());
            assert_eq!(counted::check(&shared).await, shared.head().await.expect("it is open"), "ES_SEED={seed}");
            drop(shared);
            opened.close().await.expect("closed");
        });
    }
    assert!(events > 0, "ES_SEED={seed}: nothing was committed");
}

/// A projection changes from background to inline and back, and keeps its view. It cannot run in both modes at once,
/// and cannot change to inline while a key is parked, because an inline projection does not park events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_can_change_between_background_and_inline() {
    let dir = tempfile::tempdir().unwrap();
    let options = ProjectionOptions::new().partitions(3).retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
    let store = small().open(dir.path()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    for n in 0..30 {
        shared.commit(to(&format!("s-{}", n % 5), &["x"])).await.unwrap();
    }
    let poisoned = shared.commit(to("s-1", &["refused", "x"])).await.unwrap();
    let running = Supervisor::new().projection(EventsOfStreams::<1>, options).start(Arc::clone(&shared)).await.unwrap();
    let projection = running.projection(EventsOfStreams::<1>::NAME).unwrap();
    projection.wait_for(poisoned.position(), TIMEOUT).await.unwrap();
    let admin = projection.admin().clone();
    assert_eq!(admin.parked(None, 10).await.unwrap().len(), 1);
    running.shutdown(TIMEOUT).await.unwrap();
    drop((shared, admin));
    store.close().await.unwrap();

    let failed = small().hook(Inline::new(EventsOfStreams::<1>)).open(dir.path()).await.unwrap_err();
    let error = start_error(failed);
    assert!(matches!(error, StartInlineError::Parked { .. }), "{error}");

    let store = small().open(dir.path()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let running = Supervisor::new().projection(EventsOfStreams::<1>, options).start(Arc::clone(&shared)).await.unwrap();
    let projection = running.projection(EventsOfStreams::<1>::NAME).unwrap();
    let first = poisoned.events[0].position;
    projection.admin().skip("s-1", first, "a test").await.unwrap();
    let is_unparked = async {
        while !projection.admin().parked(None, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, is_unparked).await.expect("the key is unparked");
    running.shutdown(TIMEOUT).await.unwrap();
    drop(shared);
    store.close().await.unwrap();

    let store = small().hook(Inline::new(EventsOfStreams::<1>)).open(dir.path()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let both =
        Supervisor::new().projection(EventsOfStreams::<1>, options).start(Arc::clone(&shared)).await.unwrap_err();
    assert!(matches!(both, StartError::RunsInline { name } if name == EventsOfStreams::<1>::NAME), "{both}");
    let inline = shared.commit(to("s-2", &["x", "x"])).await.unwrap();
    let views = Views::of::<EventsOfStreams>(shared.clone());
    assert_eq!(views.as_of().await.unwrap(), inline.position());
    assert_eq!(views.view(&COUNTS).get(&"s-2".to_owned()).await.unwrap().unwrap().events, 8);
    drop((shared, views));
    store.close().await.unwrap();

    let store = small().open(dir.path()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let running = Supervisor::new().projection(EventsOfStreams::<1>, options).start(Arc::clone(&shared)).await.unwrap();
    let last = shared.commit(to("s-2", &["x"])).await.unwrap();
    running.projection(EventsOfStreams::<1>::NAME).unwrap().wait_for(last.position(), TIMEOUT).await.unwrap();
    let views = Views::of::<EventsOfStreams>(shared.clone());
    let counts = views.view(&COUNTS).scan().read_all().await.unwrap();
    // 30 events, the second event of the poisoned commit, two inline and one now.
    let counted: u64 =
        counts.iter().filter(|(stream, _)| stream.starts_with("s-")).map(|(_, count)| count.events).sum();
    assert_eq!(counted, 30 + 1 + 2 + 1);
    running.shutdown(TIMEOUT).await.unwrap();
    store.close().await.unwrap();
}
