//! A crash at each point of each step of the fulfilment: the sums of the report hold after it, and the saga ends as
//! without it. The provider is a process; the store is in memory and survives the crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use es_core::EventStore;
use es_core::store::memory::MemoryStore;
use es_saga::{
    Direction, ErrorClass, HookAction, HookPlace, HookPoint, Phase, RunningSagas, SagaCoordinator, SagaId, StepFailure,
    StepKey,
};
use order_service::domain::order::Place;
use order_service::domain::product::Register;
use order_service::domain::{Destination, Discount, OrderLine, OrderLines};
use order_service::fulfilment::{
    FULFILMENT, Fulfilment, OrderToFulfil, PAYMENT_DEADLINE, ProviderClient, StockAndMoney, coordinator, fulfilment,
    payment_reminder,
};
use order_service::shop::Shop;
use tokio::sync::Notify;

use crate::provider::ProviderProgram;
use crate::support::TestDir;

const PATIENCE: Duration = Duration::from_secs(60);
const STEPS: [&str; 5] = ["reserve-stock", "take-payment", "await-payment", "ship", "complete-order"];

/// How a saga ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// The customer pays at once.
    Completes,
    /// The customer pays an invoice.
    PaysLater,
    /// The shipment has an unknown outcome and then fails, so that all steps are undone.
    TurnsBack,
}

type CrashPoint = (&'static str, Direction, HookPlace);

/// One order with its saga, in a store of its own.
struct Case {
    shop: Arc<Shop>,
    saga: Fulfilment,
    id: SagaId,
    input: OrderToFulfil,
    provider: Arc<ProviderProgram>,
    course: Course,
    /// The number of calls of the shipment.
    shipments: Arc<AtomicU32>,
}

impl Case {
    async fn new(number: usize, provider: &Arc<ProviderProgram>, course: Course) -> Self {
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let shop = Arc::new(Shop::new(store));
        let order = format!("{course:?}-{number}").parse().expect("an id");
        let mut lines = Vec::new();
        for product in ["11", "42"] {
            let id = product.parse().expect("an id");
            let (name, price) = ("Tofu".parse().expect("a name"), "2.50".parse().expect("a price"));
            let register = Register { name, unit_price: price, stock: 10.into() };
            shop.products.execute(&id, register).await.expect("it is registered");
            let quantity = "3".parse().expect("a quantity");
            lines.push(OrderLine { product: id, unit_price: price, quantity, discount: Discount::NONE });
        }
        let lines = OrderLines::new(lines).expect("valid lines");
        let place = Place { customer: "VINET".parse().expect("an id"), destination: Destination::default(), lines };
        let placed = shop.orders.execute(&order, place).await.expect("it is placed");
        let input = OrderToFulfil::of(&order, placed.state.placed().expect("it is placed")).expect("exact");
        let saga = fulfilment(PAYMENT_DEADLINE).expect("it is valid");
        let id = SagaId::new(FULFILMENT, &order).expect("an id");
        let (provider, shipments) = (Arc::clone(provider), Arc::default());
        Self { shop, saga, id, input, provider, course, shipments }
    }

    fn coordinator(&self) -> SagaCoordinator {
        let (client, reminder) = (ProviderClient::new(&self.provider.address), payment_reminder());
        let coordinator = coordinator(&self.shop, &self.saga, &reminder.expect("it is valid"), &client);
        coordinator.poll(Duration::from_millis(10)).lease(Duration::from_millis(60))
    }

    /// Returns what happens at a point without a crash.
    fn action(&self) -> impl Fn(HookPoint<'_>) -> HookAction + Send + Sync + use<> {
        let (course, shipments, provider) = (self.course, Arc::clone(&self.shipments), Arc::clone(&self.provider));
        let payment = StepKey::of(&self.id, "take-payment", 0, 0, Direction::Forward).to_string();
        move |point: HookPoint<'_>| match (point.node, point.direction, point.place) {
            ("await-payment", Direction::Forward, HookPlace::BeforeIntent) => {
                // The customer pays once; a later payment is refused.
                provider.customer_pays(&payment);
                HookAction::Continue
            }
            ("ship", Direction::Forward, HookPlace::BeforeCall) if course == Course::TurnsBack => {
                if shipments.fetch_add(1, Ordering::SeqCst) == 0 {
                    HookAction::TimeOutAfterCall
                } else {
                    HookAction::Fail(StepFailure::new(ErrorClass::Terminal, "no such address"))
                }
            }
            _ => HookAction::Continue,
        }
    }

    /// Runs the saga until it crashes at a point or ends. Returns whether the point was reached.
    async fn run_until_crash(&self, at: CrashPoint) -> bool {
        let (is_reached, crashed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (flag, notify, action) = (Arc::clone(&is_reached), Arc::clone(&crashed), self.action());
        let coordinator = self.coordinator().test_hook(move |point| {
            if (point.node, point.direction, point.place) != at {
                return action(point);
            }
            flag.store(true, Ordering::SeqCst);
            notify.notify_one();
            HookAction::Crash
        });
        let sagas = coordinator.start(self.shop.shared_store()).await.expect("it starts");
        let order = self.id.instance();
        sagas.create(&self.saga, order, &self.input).await.expect("it is created");
        tokio::select! {
            () = crashed.notified() => {}
            // It may return because of the crash.
            state = sagas.wait(&self.id) => drop(state),
        }
        is_reached.load(Ordering::SeqCst)
    }

    async fn restart(&self) -> RunningSagas {
        let coordinator = self.coordinator().test_hook(self.action());
        coordinator.start(self.shop.shared_store()).await.expect("it starts")
    }

    /// Computes the report of this order: the provider has the effects of all of them.
    async fn totals(&self) -> StockAndMoney {
        let (client, saga) = (ProviderClient::new(&self.provider.address), self.id.to_string());
        let totals = StockAndMoney::compute(&self.shop, async || {
            let mut effects = client.effects().await?;
            effects.retain(|effect| effect.saga == saga);
            Ok(effects)
        });
        totals.await.expect("it is computed")
    }

    async fn check(&self, at: CrashPoint) -> bool {
        let is_reached = self.run_until_crash(at).await;
        let totals = self.totals().await;
        assert!(totals.is_balanced(), "{:?}, {at:?}: {totals:?}", self.course);
        let sagas = self.restart().await;
        let ended = tokio::time::timeout(PATIENCE, sagas.wait(&self.id)).await.expect("it continues");
        let phase = ended.expect("it can be read").phase();
        let totals = self.totals().await;
        assert!(totals.is_balanced(), "{:?}, {at:?}: {totals:?}", self.course);
        let StockAndMoney { stock_reserved, stock_shipped, money_taken, money_kept, effects_per_key_max, .. } = totals;
        let (expected, shipped, kept) = match self.course {
            Course::Completes | Course::PaysLater => (Phase::Completed, 6, 1500),
            Course::TurnsBack => (Phase::Compensated, 0, 0),
        };
        assert_eq!((phase, stock_shipped, money_kept), (expected, shipped, kept), "{:?}, {at:?}", self.course);
        assert_eq!((stock_reserved, money_taken, effects_per_key_max), (6, 1500, 1), "{:?}, {at:?}", self.course);
        assert!(sagas.shutdown(PATIENCE).await);
        is_reached
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_of_any_step_leaves_the_sums_and_one_effect_for_each_key() {
    let (dir, invoicing) = (TestDir::new(), TestDir::new());
    let at_once = Arc::new(ProviderProgram::new(&dir, &[]));
    let later = Arc::new(ProviderProgram::new(&invoicing, &["--unpaid-rate", "1"]));
    let mut reached = BTreeSet::new();
    let mut number = 0;
    for (course, provider) in
        [(Course::Completes, &at_once), (Course::PaysLater, &later), (Course::TurnsBack, &at_once)]
    {
        for step in STEPS {
            for direction in [Direction::Forward, Direction::Backward] {
                for place in HookPlace::ALL {
                    let at = (step, direction, place);
                    let is_new = !reached.contains(&at);
                    let may_be_reached = course == Course::TurnsBack || direction == Direction::Forward;
                    if !(is_new && may_be_reached) {
                        continue;
                    }
                    number += 1;
                    if Case::new(number, provider, course).await.check(at).await {
                        reached.insert(at);
                    }
                }
            }
        }
    }
    // Forward, three external steps with four points and two local ones with three; backward, two and one.
    assert_eq!(reached.len(), 3 * 4 + 2 * 3 + 2 * 4 + 3, "{reached:?}");
}
