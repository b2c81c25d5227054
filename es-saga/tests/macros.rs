//! `saga!`, `#[step_function]` and `#[derive(SagaStep)]`: what they generate, and how it runs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use es_core::store::memory::MemoryStore;
use es_core::{Commit, EventStore};
use es_saga::{
    Classify, DeclaredSaga, DeclaredStep, DefineError, ErrorClass, ExecuteSagaError, LocalStep, NodeOut, Repeat, Saga,
    SagaCoordinator, SagaGraph, SagaStep, StepContext, StepKey, Undo, saga, step_function,
};

#[derive(Debug, thiserror::Error)]
#[error("misspelt")]
struct Refused;

impl Classify for Refused {
    fn class(&self) -> ErrorClass {
        ErrorClass::Terminal
    }
}

/// The calls of the functions below, in all tests.
static CALLS: Mutex<Vec<(&'static str, StepKey)>> = Mutex::new(Vec::new());

fn record(call: &'static str, key: StepKey) {
    CALLS.lock().expect("no panic").push((call, key));
}

#[step_function(step = Reserve, name = "reserve", undo = release, version = 2, timeout = "1s")]
async fn reserve(units: u64, context: &StepContext) -> Result<u64, Refused> {
    record("reserve", context.key());
    Ok(units * 100)
}

async fn release(reserved: StepKey, cents: Option<u64>, context: &StepContext) -> Result<(), Refused> {
    assert_eq!(cents, Some(1300));
    assert_ne!(reserved, context.key(), "the undo has a key of its own");
    record("release", reserved);
    Ok(())
}

#[step_function(step = Check, name = "check", undo = "ignore")]
async fn check(units: u64, cents: u64) -> Result<bool, Refused> {
    Ok(units < cents)
}

#[step_function(step = Ship, name = "ship", undo = "pause")]
async fn ship(units: u64, cents: u64, checked: Option<bool>) -> Result<String, Refused> {
    if units == 13 { Err(Refused) } else { Ok(format!("{units} for {cents}, checked: {checked:?}")) }
}

#[step_function(step = Split, name = "split", undo = "ignore")]
async fn split(units: u64) -> Result<Vec<u64>, Refused> {
    Ok((1..=units).collect())
}

#[step_function(step = Begin, name = "begin", undo = "ignore", retry(attempts = 2))]
async fn begin() -> Result<(), Refused> {
    Ok(())
}

/// A local step without an effect.
#[derive(SagaStep)]
#[saga_step(name = "count")]
struct Count;

impl LocalStep for Count {
    type Input = u64;
    type Output = u64;
    type Error = Refused;

    async fn execute(&self, units: u64, _: &StepContext) -> Result<(u64, Commit), Refused> {
        Ok((units, Commit::new()))
    }

    async fn undo(&self, _: u64, _: u64, _: &StepContext) -> Result<Commit, Refused> {
        Ok(Commit::new())
    }
}

saga! {
    /// Has each form of a line.
    pub(crate) saga AllForms(units: u64) -> String, version = 3, name = "all-forms", deadline = "60s" {
        let begun = Begin();
        let counted = local Count(units);
        let cents = Reserve(units) after begun, counted;
        let checked = if *units > 5 { Check(units, cents) };
        if *units == 1 { local Count(units) as "count-one" }
        pivot;
        let list = Split(units);
        for item in list { Reserve(item) as "reserve-more" }
        let numbers = for item in list { local Count(item) as "count-each" };
        Begin() as "end" after numbers;
        let books = child OrderOfBooks(units);
        if *units > 1 { child OrderOfBooks(units) as "more-books" after books }
        let rides = for item in list { child Ride(item) };
        child self::Ride(units) as "last-ride" after rides;
        let cooled = delay("3d") after rides;
        let pause = if *units > 7 { delay("90m", units) as "pause" after cooled };
        Begin() as "later" after pause;
        Ship(units, cents, checked)
    }
}

/// A saga of the builder.
struct Ride;

impl DeclaredSaga<u64, bool> for Ride {
    const NAME: &'static str = "ride";

    fn define() -> Result<Saga<u64, bool>, DefineError> {
        Saga::define(Self::NAME, 1, |saga, units| saga.step::<Check>((units, units)))
    }
}

/// The same graph, written with the builder.
fn all_forms() -> Saga<u64, String> {
    fn build<'g>(graph: &mut SagaGraph<'g>, units: NodeOut<'g, u64>) -> NodeOut<'g, String> {
        let begun = graph.step::<Begin>(());
        let counted = graph.local::<Count>(units);
        let cents = graph.node("reserve").after(begun).after(counted).step::<Reserve>(units);
        let checked = graph.node("check").step_if::<Check>((units, cents), |(units, _)| *units > 5);
        let _ = graph.node("count-one").local_if::<Count>(units, |units| *units == 1);
        graph.pivot();
        let list = graph.step::<Split>(units);
        let _ = graph.node("reserve-more").each::<Reserve>(list);
        let numbers = graph.node("count-each").local_each::<Count>(list);
        let _ = graph.node("end").after(numbers).step::<Begin>(());
        let (order, ride) = (OrderOfBooks::define().expect("it is valid"), Ride::define().expect("it is valid"));
        let books = graph.child(&order, units);
        let _ = graph.node("more-books").after(books).child_if(&order, units, |units| *units > 1);
        let rides = graph.node("ride").child_each(&ride, list);
        let _ = graph.node("last-ride").after(rides).child(&ride, units);
        let cooled = graph.node("delay").after(rides).delay(Duration::from_secs(3 * 86_400));
        let pause = graph.node("pause").after(cooled);
        let pause = pause.delay_if(Duration::from_secs(5400), units, |units| *units > 7);
        let _ = graph.node("later").after(pause).step::<Begin>(());
        graph.step::<Ship>((units, cents, checked))
    }
    Saga::define("all-forms", 3, build).expect("the graph is valid")
}

#[test]
fn a_saga_expands_to_the_calls_of_the_builder() {
    let declared = AllForms::define().expect("the graph is valid");
    assert_eq!(declared.shape(), all_forms().shape());
    assert_eq!(declared.fingerprint(), all_forms().fingerprint());
    assert_eq!((AllForms::NAME, AllForms::VERSION), ("all-forms", 3));
}

saga! {
    saga OrderOfBooks(units: u64) {
        Reserve(units);
    }
}

saga! {
    saga Refunded(units: u64) -> String, version = 2 {
        let cents = Reserve(units);
        let checked = if units > &99 { Check(units, cents) };
        Ship(units, cents, checked)
    }
}

#[test]
fn a_saga_without_keys_and_output_has_the_defaults() {
    let saga: Saga<u64, ()> = OrderOfBooks::define().expect("the graph is valid");
    assert_eq!((OrderOfBooks::NAME, OrderOfBooks::VERSION), ("order-of-books", 1));
    assert_eq!((saga.shape().output.as_str(), saga.shape().pivot), ("()", None));
    assert_eq!(saga.shape().nodes[0].repeat, Repeat::Once);
}

saga! {
    saga Trip(units: u64) -> bool {
        child Misspelt(units);
        child Ride(units)
    }
}

/// A saga whose graph has a mistake.
struct Misspelt;

impl DeclaredSaga<u64, ()> for Misspelt {
    const NAME: &'static str = "misspelt";

    fn define() -> Result<Saga<u64, ()>, DefineError> {
        Saga::define("with space", 1, |saga, _| saga.unit())
    }
}

#[test]
fn the_mistake_of_a_child_saga_is_an_error_of_its_parent() {
    let error = Trip::define().expect_err("a child saga has a mistake");
    assert_eq!(error.to_string(), "could not define child saga \"misspelt\"");
    let source = std::error::Error::source(&error).expect("the mistake").to_string();
    assert!(source.contains("\"with space\""), "{source}");
}

saga! {
    saga Twice(units: u64) -> Vec<u64> {
        let first = child Splitting(units);
        let second = child Splitting(units) as "again" after first;
        Join(first, second)
    }
}

saga! {
    saga Splitting(units: u64) -> Vec<u64> {
        Split(units)
    }
}

#[step_function(step = Join, name = "join", undo = "ignore")]
async fn join(first: Vec<u64>, second: Vec<u64>) -> Result<Vec<u64>, Refused> {
    Ok([first, second].concat())
}

#[tokio::test]
async fn a_child_saga_of_a_line_runs_and_gives_its_output() {
    let saga = Twice::define().expect("the graph is valid");
    let sagas = SagaCoordinator::new().saga(&saga).step(Split).step(Join);
    let sagas = sagas.start(Arc::new(MemoryStore::new())).await.expect("it starts");
    let output = sagas.execute(&saga, "1", &2).await.expect("it completes");
    assert_eq!(output, [1, 2, 1, 2]);
    assert!(sagas.shutdown(Duration::from_secs(60)).await);
}

#[test]
fn a_step_function_has_the_declared_options() {
    assert_eq!((Reserve::NAME, Reserve::VERSION), ("reserve", 2));
    assert_eq!((Reserve::OPTIONS.timeout, Reserve::OPTIONS.undo), (Duration::from_secs(1), Undo::Compensate));
    assert_eq!((Check::OPTIONS.undo, Ship::OPTIONS.undo), (Undo::Ignore, Undo::Pause));
    assert_eq!(Begin::OPTIONS.retry.attempts, 2);
}

#[tokio::test]
async fn a_step_function_is_executed_and_undone_under_its_key() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let saga = Refunded::define().expect("the graph is valid");
    let sagas = SagaCoordinator::new().saga(&saga).step(Reserve).step(Check).step(Ship).start(store).await;
    let sagas = sagas.expect("it starts");
    let parcel = sagas.execute(&saga, "1", &2).await.expect("it completes");
    assert_eq!(parcel, "2 for 200, checked: None");
    let refused = sagas.execute(&saga, "2", &13).await;
    assert!(matches!(refused, Err(ExecuteSagaError::NotCompleted { phase: "compensated", .. })), "{refused:?}");
    let calls = CALLS.lock().expect("no panic").clone();
    let [(first, _), (second, reserved), (third, released)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((*first, *second, *third), ("reserve", "reserve", "release"));
    assert_eq!(reserved, released, "the compensation is the key of the call");
    assert!(sagas.shutdown(Duration::from_secs(60)).await);
}

/// Counts its concurrent calls.
#[derive(SagaStep, Default)]
#[saga_step(name = "narrow", undo = "ignore", concurrency = 2)]
struct Narrow {
    running: AtomicUsize,
    most: Arc<AtomicUsize>,
}

impl SagaStep for Narrow {
    type Input = u64;
    type Output = ();
    type Compensation = ();
    type Error = Refused;

    fn compensation(&self, _: &u64, _: StepKey) {}

    async fn execute(&self, _: u64, _: &StepContext) -> Result<(), Refused> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn compensate(&self, (): (), _: Option<()>, _: &StepContext) -> Result<(), Refused> {
        Ok(())
    }
}

saga! {
    saga ManyCalls(numbers: Vec<u64>) -> Vec<()> {
        for number in numbers { Narrow(number) }
    }
}

#[tokio::test]
async fn a_step_has_at_most_the_declared_number_of_concurrent_calls() {
    let (narrow, saga) = (Narrow::default(), ManyCalls::define().expect("the graph is valid"));
    let most = Arc::clone(&narrow.most);
    let sagas = SagaCoordinator::new().saga(&saga).step(narrow).start(Arc::new(MemoryStore::new())).await;
    let sagas = sagas.expect("it starts");
    let numbers = vec![1, 2, 3, 4];
    let (first, second) = tokio::join!(sagas.execute(&saga, "1", &numbers), sagas.execute(&saga, "2", &numbers));
    assert_eq!((first.expect("it completes").len(), second.expect("it completes").len()), (4, 4));
    assert_eq!(most.load(Ordering::SeqCst), 2, "over all sagas");
    assert!(sagas.shutdown(Duration::from_secs(60)).await);
}
