//! Inline projections: the view is the fold of the log at each moment, whatever fails and whoever is killed.

use std::sync::Arc;
use std::time::Duration;

use es_core::__private::{StoredGeneration, StoredProjection, partition_of};
use es_core::aggregate::{InfrastructureError, RawEvents, RetryPolicy};
use es_core::model::ErrorChain;
use es_core::model::Table;
use es_core::projection::inline::{Inline, InlineError, StartInlineError};
use es_core::projection::view::Views;
use es_core::projection::{
    ApplyError, Live, ProjectedContext, Projection, ProjectionOptions, Rows, StartError, Supervisor, reset_followers,
};
use es_core::store::Committed;
use es_core::store::memory::MemoryStore;
use es_core::store::{RowScan, StartHookError};
use es_core::{
    Commit, CommitError, EventReader, EventStore, EventType, ExecuteError, ExpectedRevision, NewEvent, Position,
    RecordedEvent, Repository, StreamId,
};
use es_rocksdb::{Durability, OpenError, RocksDbStore};
use es_tests::account::{Account, AccountEvent, Deposit};
use es_tests::counted::{self, COUNTS, EventsOfStreams};
use es_tests::crash::{History, Random, Run, number, read_all, seed};
use es_tests::stores::small;
use es_tests::supervised::{PATIENCE, active, until};

/// Runs a test on each kind of store with the projection inline.
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

/// Returns the error with which an inline projection refused a commit.
fn refusal(answer: Result<Committed, CommitError>) -> InlineError {
    match answer {
        Err(CommitError::Rejected(error)) => *error.downcast().expect("the error of an inline projection"),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// Returns the error with which an inline projection refused to start with a store.
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
fn the_view_is_the_fold_of_the_log_under_sixteen_writers_and_repeats() {
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
                        let count = views.view(&COUNTS).get(&stream).await.unwrap().expect("it was counted");
                        assert!(count.last >= first.events[0].position.get(), "who has the answer sees the view");
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
fn a_commit_that_the_projection_refuses_leaves_nothing() {
    on_every_store(async |store| {
        store.commit(to("a-1", &["x"])).await.unwrap();
        for payload in ["refused", "panic"] {
            let table = es_core::model::Table::new("t").unwrap();
            let commit = to("a-1", &["x", payload]).put_row(table.clone(), "k", "v");
            let (refused, others) = tokio::join!(store.commit(commit), async {
                for _ in 0..10 {
                    store.commit(to("b-1", &["x"])).await.unwrap();
                }
            });
            let () = others;
            let InlineError::Event { projection, stream, source, .. } = refusal(refused) else {
                panic!("expected the error of an event");
            };
            assert_eq!((projection, stream.as_str()), ("events-of-streams", "a-1"));
            assert!(source.to_string().contains("told to"), "{source}");
            assert_eq!(store.row(&table, b"k").await.unwrap(), None);
            assert_eq!(counted::check(&store).await, store.head().await.unwrap());
        }
        assert_eq!(store.head().await.unwrap().unwrap().get(), 21);
    });
}

#[test]
fn a_repository_hands_the_refusal_on() {
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
        let refused = accounts.execute(&"1".to_owned(), Deposit { cents: 101 }).await.unwrap_err();
        let ExecuteError::Failed(InfrastructureError::Rejected(source)) = refused else {
            panic!("expected a refusal of the projection, found {refused:?}");
        };
        let text = ErrorChain(&*source).to_string();
        assert!(text.contains("no-riches") && text.contains("too rich"), "{text}");
    });
}

/// A projection that is new, that was away, and that has another version catches up before the store opens.
#[tokio::test]
async fn opening_catches_up_whatever_was_missed_and_rebuilds_another_version() {
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
    let now = active(&*shared, "events-of-streams").await.unwrap();
    assert_eq!(now.map(|build| (build.generation.get(), build.version)), Some((2, 2)));
    let left = shared.rows(RowScan::new(counts_of(&first), "", 100)).await.unwrap();
    assert!(left.is_empty(), "rows of the former generation: {left:?}");
    drop(shared);
    rebuilt.close().await.unwrap();
    // A poisoned log refuses to open, names the event, and opens without the projection.
    let plain = small().open(dir.path()).await.unwrap();
    plain.commit(to("a-1", &["refused"])).await.unwrap();
    plain.close().await.unwrap();
    let refused = small().hook(Inline::new(EventsOfStreams::<2>)).open(dir.path()).await.unwrap_err();
    let error = start_error(refused);
    assert!(matches!(&error, StartInlineError::Event { position, .. } if position.get() == events + 1), "{error}");
    small().open(dir.path()).await.expect("the directory is free").close().await.unwrap();
}

/// The same view as [`EventsOfStreams`], but events of streams `s-1` and `s-4` after position 20 fail, so that their partitions stop.
struct Stopping;

impl Projection for Stopping {
    type Source = RawEvents;
    const NAME: &'static str = EventsOfStreams::<1>::NAME;

    fn apply(&self, event: &RecordedEvent, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        if ["s-1", "s-4"].contains(&event.stream.as_str()) && event.position.get() > 20 {
            return Err(ApplyError::new("stopped"));
        }
        EventsOfStreams::<1>.apply(event, context, rows)
    }
}

/// The partitions of the background stopped at different positions: inline, none of their events is applied twice or skipped.
#[tokio::test]
async fn a_projection_moves_from_the_background_to_inline_and_keeps_its_view() {
    let store = MemoryStore::new();
    for number in 0..60 {
        store.commit(to(&format!("s-{}", number % 11), &["x"])).await.unwrap();
    }
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    // The retry outlasts the test.
    let hour = Duration::from_secs(3600);
    let options = ProjectionOptions::new().partitions(4).batch(1).retry(RetryPolicy {
        attempts: 5,
        first_pause: hour,
        longest_pause: hour,
    });
    let running = Supervisor::new().projection(Stopping, options).start(Arc::clone(&shared)).await.unwrap();
    let checkpoints = async || {
        let stored = StoredProjection::read(&*shared, Stopping::NAME).await.unwrap();
        stored.active.map(|build| build.checkpoints).unwrap_or_default()
    };
    let of_stopped = partition_of("s-1", 4) as usize;
    let running_on = (0..4u32).filter(|partition| ["s-1", "s-4"].iter().all(|s| partition_of(s, 4) != *partition));
    let running_on: Vec<usize> = running_on.map(|partition| partition as usize).collect();
    assert!(!running_on.is_empty(), "a partition without a stopped stream");
    until("the other partitions arrive", async || {
        let found = checkpoints().await;
        found.len() == 4 && running_on.iter().all(|partition| found[*partition].is_some_and(|p| p.get() >= 50))
    })
    .await;
    running.shutdown(PATIENCE).await.unwrap();
    assert!(checkpoints().await[of_stopped].is_some_and(|position| position.get() < 30), "{:?}", checkpoints().await);
    let store: Arc<dyn EventStore> = Arc::new(store.with_hook(Inline::new(EventsOfStreams::<1>)).await.unwrap());
    assert_eq!(counted::check(&store).await.unwrap().get(), 60);
    store.commit(to("s-1", &["x"])).await.unwrap();
    assert_eq!(counted::check(&store).await.unwrap().get(), 61);
    let found = active(&*store, "events-of-streams").await.unwrap();
    assert_eq!(found.map(|build| (build.generation.get(), build.checkpoints.len())), Some((1, 1)));
    // The same projection, folded on demand: of one stream, of all, of the past, and further.
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
async fn a_view_that_was_reset_under_an_inline_projection_refuses_commits() {
    let store = MemoryStore::new().with_hook(Inline::new(EventsOfStreams::<1>)).await.unwrap();
    store.commit(to("s-1", &["x", "y"])).await.unwrap();
    assert_eq!(reset_followers(&store).await.unwrap().projections, 1);
    let refused = store.commit(to("s-1", &["z"])).await;
    assert!(matches!(refusal(refused), InlineError::OutOfSync { .. }));
    assert_eq!(store.head().await.unwrap().unwrap().get(), 2);
    let twice = store.with_hook(Inline::new(EventsOfStreams::<1>)).await;
    assert!(matches!(twice, Err(StartHookError::Duplicate { .. })));
}

/// Children with the projection inline are killed; the view is that of the log each time.
#[test]
fn a_kill_leaves_the_view_as_the_log() {
    let (seed, cycles) = (seed(), number("ES_CRASH_CYCLES", 50).min(500) / 5);
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let mut history = History::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut events = 0;
    for run in 1..=cycles {
        let run = Run {
            program: env!("CARGO_BIN_EXE_crash-child"),
            dir: &store,
            number: u32::try_from(run).expect("a small number"),
            durability: Durability::Sync,
            commits: 0,
            power: None,
            open_files: 0,
        };
        let lines = run.start().kill_after(Duration::from_millis(50 + random.below(300)));
        history.note(&lines).expect("acknowledgements");
        let contents = read_all(&store, &history).expect("it opens");
        history.check(&contents).unwrap_or_else(|error| panic!("ES_SEED={seed}: {error}"));
        events = contents.log.len();
        runtime.block_on(async {
            // Opened without the projection: what is compared is what the killed process has left.
            let opened = RocksDbStore::open(&store).await.expect("it opens");
            let shared: Arc<dyn EventStore> = Arc::new(opened.clone());
            assert_eq!(counted::check(&shared).await, shared.head().await.unwrap(), "ES_SEED={seed}");
            drop(shared);
            opened.close().await.expect("closed");
        });
    }
    assert!(events > 0, "ES_SEED={seed}: nothing was committed");
}

/// A projection moves from the background into the commits of the events and back, and keeps its view. It cannot run both ways at
/// once, and cannot move while a key stands still: inline there is nowhere to park.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_moves_between_the_background_and_the_commits_of_the_events() {
    let patience = Duration::from_secs(60);
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
    projection.wait_for(poisoned.position(), patience).await.unwrap();
    let admin = projection.admin().clone();
    assert_eq!(admin.parked(None, 10).await.unwrap().len(), 1);
    running.shutdown(patience).await.unwrap();
    drop((shared, admin));
    store.close().await.unwrap();

    let refused = small().hook(Inline::new(EventsOfStreams::<1>)).open(dir.path()).await.unwrap_err();
    let error = start_error(refused);
    assert!(matches!(error, StartInlineError::Parked { .. }), "{error}");

    let store = small().open(dir.path()).await.unwrap();
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let running = Supervisor::new().projection(EventsOfStreams::<1>, options).start(Arc::clone(&shared)).await.unwrap();
    let projection = running.projection(EventsOfStreams::<1>::NAME).unwrap();
    let first = poisoned.events[0].position;
    projection.admin().skip("s-1", first, "a test").await.unwrap();
    let free = async {
        while !projection.admin().parked(None, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, free).await.expect("the key is free again");
    running.shutdown(patience).await.unwrap();
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
    running.projection(EventsOfStreams::<1>::NAME).unwrap().wait_for(last.position(), patience).await.unwrap();
    let views = Views::of::<EventsOfStreams>(shared.clone());
    let counts = views.view(&COUNTS).scan().read_all().await.unwrap();
    // NOTE: thirty, two of the poisoned commit without the one that was skipped, two inline, one now, and the skips of operators.
    let counted: u64 =
        counts.iter().filter(|(stream, _)| stream.starts_with("s-")).map(|(_, count)| count.events).sum();
    assert_eq!(counted, 30 + 1 + 2 + 1);
    running.shutdown(patience).await.unwrap();
    store.close().await.unwrap();
}
