//! A crash at each point of each step of the fulfilment: the sums of the report hold after it, and the saga ends as
//! without it. The provider is a process of its own.
//!
//! - In memory, the coordinator does nothing more at the point, and the store survives.
//! - On disk, a process with the store and the coordinator is killed (SIGKILL) at the point, and this process opens the
//!   store again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use es_core::EventStore;
use es_core::store::memory::MemoryStore;
use es_rocksdb::RocksDbStore;
use es_saga::{
    Direction, ErrorClass, HookAction, HookPlace, HookPoint, Phase, RunningSagas, SagaCoordinator, SagaId, StepFailure,
    StepKey,
};
use order_service::domain::order::Place;
use order_service::domain::product::Register;
use order_service::domain::{Destination, Discount, OrderId, OrderLine, OrderLines};
use order_service::fulfilment::{
    FULFILMENT, Fulfilment, OrderToFulfil, PAYMENT_DEADLINE, ProviderClient, StockAndMoney, coordinator, fulfilment,
    payment_reminder,
};
use order_service::shop::Shop;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::provider::ProviderProgram;
use crate::support::TestDir;

const PATIENCE: Duration = Duration::from_secs(60);
const STEPS: [&str; 5] = ["reserve-stock", "take-payment", "await-payment", "ship", "complete-order"];
/// The variable with the [`Kill`] of a process.
const KILL: &str = "ES_FULFILMENT_KILL";
const PRODUCTS: [&str; 2] = ["11", "42"];

/// How a saga ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Course {
    /// The customer pays at once.
    Completes,
    /// The customer pays an invoice.
    PaysLater,
    /// The shipment has an unknown outcome and then fails, so that all steps are undone.
    TurnsBack,
}

/// A point of a step.
type CrashPoint = (&'static str, Direction, HookPlace);

/// Returns all points of all steps, each with the course of a saga that reaches it.
fn points() -> Vec<(Course, CrashPoint)> {
    let places = |step: &str| {
        let is_local = matches!(step, "reserve-stock" | "complete-order");
        HookPlace::ALL.into_iter().filter(move |place| !(is_local && *place == HookPlace::BeforeCall))
    };
    let forward = STEPS.into_iter().flat_map(|step| {
        let course = if step == "await-payment" { Course::PaysLater } else { Course::Completes };
        places(step).map(move |place| (course, (step, Direction::Forward, place)))
    });
    let undone = ["ship", "take-payment", "reserve-stock"].into_iter();
    let backward =
        undone.flat_map(|step| places(step).map(move |place| (Course::TurnsBack, (step, Direction::Backward, place))));
    forward.chain(backward).collect()
}

/// Registers the products of all orders.
async fn stock(store: Arc<dyn EventStore>) -> Arc<Shop> {
    let shop = Shop::new(store);
    for product in PRODUCTS {
        let (name, unit_price) = ("Tofu".parse().expect("a name"), "2.50".parse().expect("a price"));
        let register = Register { name, unit_price, stock: 1_000.into() };
        shop.products.execute(&product.parse().expect("an id"), register).await.expect("it is registered");
    }
    Arc::new(shop)
}

/// Places an order of three items of each product.
async fn place(shop: &Shop, order: &OrderId) {
    let line = |product: &str| OrderLine {
        product: product.parse().expect("an id"),
        unit_price: "2.50".parse().expect("a price"),
        quantity: "3".parse().expect("a quantity"),
        discount: Discount::NONE,
    };
    let lines = OrderLines::new(PRODUCTS.map(line).to_vec()).expect("valid lines");
    let place = Place { customer: "VINET".parse().expect("an id"), destination: Destination::default(), lines };
    shop.orders.execute(order, place).await.expect("it is placed");
}

/// The fulfilment of an order.
struct Case {
    shop: Arc<Shop>,
    saga: Fulfilment,
    id: SagaId,
    input: OrderToFulfil,
    provider: Arc<ProviderProgram>,
    course: Course,
}

impl Case {
    async fn new(shop: Arc<Shop>, order: &OrderId, provider: Arc<ProviderProgram>, course: Course) -> Self {
        let placed = shop.orders.load(order).await.expect("it can be read").state;
        let input = OrderToFulfil::of(order, placed.placed().expect("it is placed")).expect("exact");
        let saga = fulfilment(PAYMENT_DEADLINE).expect("it is valid");
        let id = SagaId::new(FULFILMENT, order).expect("an id");
        Self { shop, saga, id, input, provider, course }
    }

    fn coordinator(&self) -> SagaCoordinator {
        let (client, reminder) = (ProviderClient::new(&self.provider.address), payment_reminder());
        let coordinator = coordinator(&self.shop, &self.saga, &reminder.expect("it is valid"), &client);
        coordinator.poll(Duration::from_millis(10)).lease(Duration::from_millis(60))
    }

    /// Returns what happens at a point without a crash. It depends on the effects only, so that it is the same in each
    /// process.
    fn action(&self) -> impl Fn(HookPoint<'_>) -> HookAction + Send + Sync + use<> {
        let (course, saga, provider) = (self.course, self.id.to_string(), Arc::clone(&self.provider));
        let payment = StepKey::of(&self.id, "take-payment", 0, 0, Direction::Forward).to_string();
        move |point: HookPoint<'_>| match (point.node, point.direction, point.place) {
            _ if point.saga.to_string() != saga => HookAction::Continue,
            ("await-payment", Direction::Forward, HookPlace::BeforeIntent) => {
                // The customer pays once; a later payment is refused.
                provider.customer_pays(&payment);
                HookAction::Continue
            }
            ("ship", Direction::Forward, HookPlace::BeforeCall) if course == Course::TurnsBack => {
                if provider.count(&saga, "shipment") == 0 {
                    HookAction::TimeOutAfterCall
                } else {
                    HookAction::Fail(StepFailure::new(ErrorClass::Terminal, "no such address"))
                }
            }
            _ => HookAction::Continue,
        }
    }

    /// Runs the saga until it reaches a point or ends. At the point, `crash` is called.
    async fn run_until(&self, at: CrashPoint, crash: impl Fn() -> HookAction + Send + Sync + 'static) -> RunningSagas {
        let (action, id) = (self.action(), self.id.clone());
        let coordinator = self.coordinator().test_hook(move |point| {
            let is_here = (point.node, point.direction, point.place) == at && *point.saga == id;
            if is_here { crash() } else { action(point) }
        });
        let sagas = coordinator.start(self.shop.shared_store()).await.expect("it starts");
        sagas.create(&self.saga, self.id.instance(), &self.input).await.expect("it is created");
        sagas
    }

    /// Stops the coordinator at a point, and drops it.
    async fn crash_at(&self, at: CrashPoint) {
        let crashed = Arc::new(Notify::new());
        let notify = Arc::clone(&crashed);
        let sagas = self.run_until(at, move || {
            notify.notify_one();
            HookAction::Crash
        });
        let _sagas = sagas.await;
        let reached = tokio::time::timeout(PATIENCE, crashed.notified()).await;
        assert!(reached.is_ok(), "{:?}: {at:?} is not reached", self.course);
    }

    /// Starts a coordinator, waits for the end of the saga, and checks it.
    async fn finish(&self, at: CrashPoint) {
        let coordinator = self.coordinator().test_hook(self.action());
        let sagas = coordinator.start(self.shop.shared_store()).await.expect("it starts");
        let ended = tokio::time::timeout(PATIENCE, sagas.wait(&self.id)).await.expect("it continues");
        let phase = ended.expect("it can be read").phase();
        let expected = if self.course == Course::TurnsBack { Phase::Compensated } else { Phase::Completed };
        assert_eq!(phase, expected, "{:?}, {at:?}", self.course);
        assert!(sagas.shutdown(PATIENCE).await);
    }

    /// Computes the report with the effects of the sagas of the store.
    async fn totals(&self, providers: &[&ProviderProgram], is_of_store: impl Fn(&str) -> bool) -> StockAndMoney {
        let totals = StockAndMoney::compute(&self.shop, async || {
            let mut effects = Vec::new();
            for provider in providers {
                effects.extend(ProviderClient::new(&provider.address).effects().await?);
            }
            effects.retain(|effect| is_of_store(&effect.saga));
            Ok(effects)
        });
        totals.await.expect("it is computed")
    }
}

/// Checks the report after the end of these sagas.
#[track_caller]
fn assert_totals(totals: StockAndMoney, courses: &[Course], at: CrashPoint) {
    let all = courses.len() as u64;
    let compensated = courses.iter().filter(|course| **course == Course::TurnsBack).count() as u64;
    let completed = all - compensated;
    let expected = StockAndMoney {
        sagas: all,
        completed,
        compensated,
        stock_reserved: 6 * all,
        stock_shipped: 6 * completed,
        stock_released: 6 * compensated,
        money_taken: 1500 * all,
        money_kept: 1500 * completed,
        money_refunded: 1500 * compensated,
        effects_per_key_max: 1,
        ..StockAndMoney::default()
    };
    assert_eq!(totals, expected, "{:?}, {at:?}", courses.last());
}

/// The providers: one whose customers pay at once, and one whose customers get an invoice.
struct Providers {
    at_once: Arc<ProviderProgram>,
    later: Arc<ProviderProgram>,
    _directories: [TestDir; 2],
}

impl Providers {
    fn start() -> Self {
        let directories = [TestDir::new(), TestDir::new()];
        let at_once = Arc::new(ProviderProgram::new(&directories[0], &[]));
        let later = Arc::new(ProviderProgram::new(&directories[1], &["--unpaid-rate", "1"]));
        Self { at_once, later, _directories: directories }
    }

    fn of(&self, course: Course) -> Arc<ProviderProgram> {
        Arc::clone(if course == Course::PaysLater { &self.later } else { &self.at_once })
    }

    fn all(&self) -> [&ProviderProgram; 2] {
        [&self.at_once, &self.later]
    }
}

fn order(number: usize) -> OrderId {
    format!("A-{number}").parse().expect("an id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_of_any_step_leaves_the_sums_and_one_effect_for_each_key() {
    let providers = Providers::start();
    for (number, (course, at)) in points().into_iter().enumerate() {
        let (shop, order) = (stock(Arc::new(MemoryStore::new())).await, order(number));
        place(&shop, &order).await;
        let case = Case::new(shop, &order, providers.of(course), course).await;
        let is_of_store = |saga: &str| *saga == case.id.to_string();
        case.crash_at(at).await;
        let totals = case.totals(&providers.all(), is_of_store).await;
        assert!(totals.is_balanced(), "{course:?}, {at:?}: {totals:?}");
        case.finish(at).await;
        assert_totals(case.totals(&providers.all(), is_of_store).await, &[course], at);
    }
}

/// What a process is to do: run the saga of an order until it is killed at a point.
#[derive(Debug, Serialize, Deserialize)]
struct Kill {
    order: OrderId,
    course: Course,
    provider: String,
    step: String,
    direction: Direction,
    /// The index in [`HookPlace::ALL`].
    place: usize,
}

impl Kill {
    fn new(order: OrderId, course: Course, provider: &ProviderProgram, (step, direction, place): CrashPoint) -> Self {
        let index = HookPlace::ALL.iter().position(|other| *other == place).expect("a place");
        Self { order, course, provider: provider.address.clone(), step: step.to_owned(), direction, place: index }
    }

    fn point(&self) -> CrashPoint {
        let step = STEPS.into_iter().find(|step| *step == self.step).expect("a step");
        (step, self.direction, HookPlace::ALL[self.place])
    }

    /// Starts a process for it, and waits for its end.
    #[cfg(unix)]
    fn run(&self, store: &Path) {
        use std::os::unix::process::ExitStatusExt;

        let mut process = Command::new(std::env::current_exe().expect("the program of the tests"));
        process.args(["--exact", "--ignored", "fulfilment_crashes::a_process_that_is_killed"]).stdout(Stdio::null());
        process.env(KILL, serde_json::to_string(self).expect("JSON")).current_dir(store);
        let status = process.status().expect("it starts");
        assert_eq!(status.signal(), Some(9), "{self:?}: it was not killed: {status}");
    }
}

/// A process of the test below, whose working directory is that of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of another test"]
async fn a_process_that_is_killed() {
    let Ok(kill) = std::env::var(KILL) else { return };
    let kill: Kill = serde_json::from_str(&kill).expect("JSON");
    let store = RocksDbStore::open(".").await.expect("it opens");
    let provider = Arc::new(ProviderProgram::at(kill.provider.clone()));
    let case = Case::new(Arc::new(Shop::new(Arc::new(store))), &kill.order, provider, kill.course).await;
    let sagas = case.run_until(kill.point(), || {
        let killed = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        panic!("it was not killed: {killed:?}");
    });
    // The point after the last outcome is reached while the end of the saga is already visible.
    let _sagas = sagas.await;
    tokio::time::sleep(PATIENCE).await;
    panic!("the point is not reached");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_point_of_any_step_leaves_the_sums_and_one_effect_for_each_key() {
    let (providers, directory) = (Providers::start(), TestDir::new());
    let path = directory.path("shop");
    let open = async || Arc::new(RocksDbStore::open(&path).await.expect("it opens")) as Arc<dyn EventStore>;
    let shop = stock(open().await).await;
    for number in 0..points().len() {
        place(&shop, &order(number)).await;
    }
    shop.settle().await;
    shop.store().close().await.expect("it is closed");
    drop(shop);
    let mut courses = Vec::new();
    for (number, (course, at)) in points().into_iter().enumerate() {
        let provider = providers.of(course);
        Kill::new(order(number), course, &provider, at).run(&path);
        let shop = Arc::new(Shop::new(open().await));
        let case = Case::new(shop, &order(number), provider, course).await;
        let totals = case.totals(&providers.all(), |_| true).await;
        assert!(totals.is_balanced(), "{course:?}, {at:?}: {totals:?}");
        case.finish(at).await;
        courses.push(course);
        assert_totals(case.totals(&providers.all(), |_| true).await, &courses, at);
        case.shop.settle().await;
        case.shop.store().close().await.expect("it is closed");
    }
}
