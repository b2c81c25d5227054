//! [`StockAndMoney`]: the sagas, and what became of the stock and of the money.

use std::collections::{BTreeMap, BTreeSet};

use es_core::store::{Query, QueryItem};
use es_core::{Aggregate, LoadError, LogRead, RecordedEvent};
use es_saga::{Direction, Phase, SagaAdmin, SagaId, SagaInstance, StepKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FULFILMENT;
use super::run::all_unfinished;
use crate::domain::{OrderId, Product, ProductEvent, ProductId};
use crate::failure::Failure;
use crate::provider::{EffectKind, RecordedEffect};
use crate::shop::{self, Shop};

/// The sagas, and what became of the stock and of the money, from the streams and the record of the provider.
///
/// Stock is counted in items, money in cents. At any time `stock_reserved` is the sum of `stock_shipped`,
/// `stock_released` and `stock_held`, and `money_taken` the sum of `money_kept`, `money_refunded` and `money_pending`.
/// Each number is computed on its own: what was reserved or taken, and belongs to no saga that could release or refund
/// it, is missing from the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockAndMoney {
    /// Number of sagas of orders. Those of reminders are not counted.
    pub sagas: u64,
    /// Completed sagas.
    pub completed: u64,
    /// Compensated sagas.
    pub compensated: u64,
    /// Sagas that wait for a person, that were killed or abandoned, or that cannot be read or run.
    pub stuck: u64,
    /// Other unfinished sagas.
    pub running: u64,
    /// Items that were reserved.
    pub stock_reserved: u64,
    /// Reserved items that were shipped.
    pub stock_shipped: u64,
    /// Reserved items that were released.
    pub stock_released: u64,
    /// Items that are reserved for the orders of running and stuck sagas.
    pub stock_held: u64,
    /// Money that the provider took.
    pub money_taken: u64,
    /// Money of completed sagas.
    pub money_kept: u64,
    /// Money that the provider refunded.
    pub money_refunded: u64,
    /// Money of running and stuck sagas that is not refunded.
    pub money_pending: u64,
    /// The largest number of effects under one key, at the provider and in the stock.
    pub effects_per_key_max: u64,
}

/// Whether a saga can still release stock and refund money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SagaClass {
    Completed,
    Compensated,
    Stuck,
    Running,
}

/// What the log has.
#[derive(Debug, Default)]
struct LogFold {
    sagas: BTreeMap<SagaId, SagaInstance>,
    /// Sagas with an event that cannot be decoded.
    unreadable: BTreeSet<SagaId>,
    stock: StockFold,
}

/// The reservations of all products.
#[derive(Debug, Default)]
struct StockFold {
    reserved: u64,
    shipped: u64,
    released: u64,
    /// The items that are reserved now.
    open: BTreeMap<(ProductId, OrderId), u64>,
    /// The largest number of effects of one kind on a reservation.
    most_effects: u64,
}

impl StockAndMoney {
    /// Computes the numbers. The log is read first, then `effects` is called, so that the effects of each saga that the
    /// log has as ended are among them.
    ///
    /// # Errors
    /// - [`Failure::Store`] or [`Failure::Load`] if the log cannot be read.
    /// - The failure of `effects`.
    pub async fn compute(
        shop: &Shop,
        effects: impl AsyncFnOnce() -> Result<Vec<RecordedEffect>, Failure>,
    ) -> Result<Self, Failure> {
        let admin = SagaAdmin::new(shop.shared_store());
        let fold = LogFold::read(shop).await?;
        let mut classes = classes(&fold, &admin).await?;
        let effects = effects().await?;
        for id in sagas_of(&effects).filter(|id| !fold.sagas.contains_key(id)) {
            // It was created after the log was read.
            if admin.status(&id).await.is_ok_and(|state| state.phase() != Phase::Missing) {
                classes.entry(id).or_insert(SagaClass::Running);
            }
        }
        let mut totals = Self::default();
        totals.count_sagas(&classes);
        totals.add_stock(&fold.stock, &classes);
        totals.add_money(&effects, &fold, &classes);
        totals.effects_per_key_max = most_of_one_key(&effects).max(fold.stock.most_effects);
        Ok(totals)
    }

    /// Returns whether the sums hold, each key has at most one effect, and nothing is held or pending without a saga
    /// that runs or is stuck.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        let is_open = self.running > 0 || self.stuck > 0;
        self.sagas == self.completed + self.compensated + self.stuck + self.running
            && self.stock_reserved == self.stock_shipped + self.stock_released + self.stock_held
            && self.money_taken == self.money_kept + self.money_refunded + self.money_pending
            && self.effects_per_key_max <= 1
            && (is_open || (self.stock_held == 0 && self.money_pending == 0))
    }

    fn count_sagas(&mut self, classes: &BTreeMap<SagaId, SagaClass>) {
        for class in classes.values() {
            self.sagas += 1;
            match class {
                SagaClass::Completed => self.completed += 1,
                SagaClass::Compensated => self.compensated += 1,
                SagaClass::Stuck => self.stuck += 1,
                SagaClass::Running => self.running += 1,
            }
        }
    }

    fn add_stock(&mut self, stock: &StockFold, classes: &BTreeMap<SagaId, SagaClass>) {
        (self.stock_reserved, self.stock_shipped, self.stock_released) =
            (stock.reserved, stock.shipped, stock.released);
        let open = stock.open.iter().filter(|((_, order), _)| {
            let class = SagaId::new(FULFILMENT, order).ok().and_then(|id| classes.get(&id));
            matches!(class, Some(SagaClass::Stuck | SagaClass::Running))
        });
        self.stock_held = open.map(|(_, items)| items).sum();
    }

    fn add_money(&mut self, effects: &[RecordedEffect], fold: &LogFold, classes: &BTreeMap<SagaId, SagaClass>) {
        let (mut paid, mut refunded) = (BTreeMap::new(), BTreeMap::new());
        for effect in effects {
            let payment = effect.of.as_ref().unwrap_or(&effect.key).as_str();
            match effect.kind {
                EffectKind::Payment => *paid.entry(payment).or_insert(0) += effect.cents,
                EffectKind::Refund => *refunded.entry(payment).or_insert(0) += effect.cents,
                _ => {}
            }
        }
        (self.money_taken, self.money_refunded) = (paid.values().sum(), refunded.values().sum());
        for (id, class) in classes {
            let left = payment_keys(id, fold.sagas.get(id)).map(|key| {
                let key = key.to_string();
                let amount = |money: &BTreeMap<&str, u64>| money.get(key.as_str()).copied().unwrap_or_default();
                amount(&paid).saturating_sub(amount(&refunded))
            });
            let left: u64 = left.sum();
            match class {
                SagaClass::Completed => self.money_kept += left,
                SagaClass::Stuck | SagaClass::Running => self.money_pending += left,
                SagaClass::Compensated => {}
            }
        }
    }
}

/// Returns the keys of the payments of a saga: one for each run of the step.
fn payment_keys(id: &SagaId, state: Option<&SagaInstance>) -> impl Iterator<Item = StepKey> {
    const NODE: &str = "take-payment";
    let run = state.and_then(|state| {
        let index = state.shape().position(NODE)?;
        state.nodes().get(index as usize).map(|node| node.run)
    });
    (0..=run.unwrap_or_default()).map(move |run| StepKey::of(id, NODE, 0, run, Direction::Forward))
}

/// Returns the sagas that the effects name.
fn sagas_of(effects: &[RecordedEffect]) -> impl Iterator<Item = SagaId> {
    let names: BTreeSet<&str> = effects.iter().map(|effect| effect.saga.as_str()).collect();
    names.into_iter().filter_map(|name| name.parse().ok())
}

fn most_of_one_key(effects: &[RecordedEffect]) -> u64 {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    effects.iter().for_each(|effect| *counts.entry(effect.key.as_str()).or_default() += 1);
    counts.into_values().max().unwrap_or_default()
}

async fn classes(fold: &LogFold, admin: &SagaAdmin) -> Result<BTreeMap<SagaId, SagaClass>, Failure> {
    let quarantined = quarantined(admin).await?;
    let class = |id: &SagaId, state: &SagaInstance| match state.phase() {
        _ if fold.unreadable.contains(id) => SagaClass::Stuck,
        Phase::Completed => SagaClass::Completed,
        Phase::Compensated => SagaClass::Compensated,
        Phase::Running | Phase::Compensating if !quarantined.contains(id) => SagaClass::Running,
        _ => SagaClass::Stuck,
    };
    let known = fold.sagas.iter().map(|(id, state)| (id.clone(), class(id, state)));
    let unreadable = fold.unreadable.iter().map(|id| (id.clone(), SagaClass::Stuck));
    Ok(known.chain(unreadable).collect())
}

/// Returns the sagas that the program cannot run.
async fn quarantined(admin: &SagaAdmin) -> Result<BTreeSet<SagaId>, Failure> {
    let unfinished = all_unfinished(admin).await?.into_iter();
    Ok(unfinished.filter(|saga| saga.quarantine.is_some()).map(|saga| saga.id).collect())
}

impl LogFold {
    /// Reads the events of sagas and products up to the present head.
    async fn read(shop: &Shop) -> Result<Self, Failure> {
        let categories = [SagaInstance::category(), Product::category()];
        let items = categories.into_iter().map(|it| it.map(|category| QueryItem::new().category(category)));
        let query = Query::any_of(items.collect::<Result<Vec<_>, _>>()?);
        let mut log = shop.store().read_log(LogRead::matching(query)).await?;
        let mut fold = Self::default();
        while let Some(batch) = log.next_batch().await? {
            for record in &batch {
                fold.apply(record)?;
            }
        }
        Ok(fold)
    }

    fn apply(&mut self, record: &RecordedEvent) -> Result<(), LoadError> {
        if let Some(product) = Product::id_of(&record.stream) {
            let events = shop::decode::<Product>(record)?;
            events.iter().for_each(|event| self.stock.apply(&product, event));
        } else if let Some(id) = SagaInstance::id_of(&record.stream).filter(|id| id.saga() == FULFILMENT)
            && shop::apply::<SagaInstance>(&mut self.sagas, record).is_err()
        {
            self.unreadable.insert(id);
        }
        Ok(())
    }
}

impl StockFold {
    fn apply(&mut self, product: &ProductId, event: &ProductEvent) {
        let (quantity, order) = match event {
            ProductEvent::Reserved { quantity, order }
            | ProductEvent::Released { quantity, order }
            | ProductEvent::Shipped { quantity, order } => (u64::from(quantity.get()), order),
            _ => return,
        };
        let key = (product.clone(), order.clone());
        let is_repeat = match event {
            ProductEvent::Reserved { .. } => {
                self.reserved += quantity;
                self.open.insert(key, quantity).is_some()
            }
            ProductEvent::Released { .. } => {
                self.released += quantity;
                self.open.remove(&key).is_none()
            }
            _ => {
                self.shipped += quantity;
                self.open.remove(&key).is_none()
            }
        };
        self.most_effects = self.most_effects.max(if is_repeat { 2 } else { 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EffectKind, key: &str, of: Option<&str>, cents: u64) -> RecordedEffect {
        let saga = format!("{FULFILMENT}:1");
        RecordedEffect { kind, key: key.to_owned(), of: of.map(ToOwned::to_owned), saga, cents }
    }

    fn saga() -> SagaId {
        SagaId::new(FULFILMENT, 1).expect("an id")
    }

    fn key(run: u32) -> String {
        StepKey::of(&saga(), "take-payment", 0, run, Direction::Forward).to_string()
    }

    fn money(effects: &[RecordedEffect], class: SagaClass) -> StockAndMoney {
        let mut totals = StockAndMoney::default();
        totals.add_money(effects, &LogFold::default(), &BTreeMap::from([(saga(), class)]));
        totals
    }

    #[test]
    fn money_belongs_to_its_saga_until_it_is_refunded() {
        let paid = [event(EffectKind::Payment, &key(0), None, 500)];
        for (class, kept, pending) in [(SagaClass::Completed, 500, 0), (SagaClass::Stuck, 0, 500)] {
            let totals = money(&paid, class);
            assert_eq!((totals.money_taken, totals.money_kept, totals.money_pending), (500, kept, pending));
            assert!(StockAndMoney { stuck: 1, sagas: 1, ..totals }.is_balanced());
        }
        let lost = money(&paid, SagaClass::Compensated);
        assert!(!lost.is_balanced(), "a compensated saga has not refunded its payment: {lost:?}");
        let refunded = [paid[0].clone(), event(EffectKind::Refund, "r", Some(&key(0)), 500)];
        assert!(money(&refunded, SagaClass::Compensated).is_balanced());
        let unknown = [event(EffectKind::Payment, "of no saga", None, 500)];
        assert!(!money(&unknown, SagaClass::Completed).is_balanced());
    }

    #[test]
    fn an_invoice_is_no_money_until_the_customer_pays() {
        let invoice = event(EffectKind::Invoice, &key(0), None, 700);
        assert_eq!(money(std::slice::from_ref(&invoice), SagaClass::Running).money_taken, 0);
        let paid = [invoice, event(EffectKind::Payment, "customer", Some(&key(0)), 700)];
        assert_eq!(money(&paid, SagaClass::Completed).money_kept, 700);
    }

    #[test]
    fn a_second_effect_of_a_key_is_counted() {
        let once = [event(EffectKind::Payment, "a", None, 1), event(EffectKind::Shipment, "b", None, 0)];
        assert_eq!(most_of_one_key(&once), 1);
        assert_eq!(most_of_one_key(&[once.clone(), once].concat()), 2);
        let mut stock = StockFold::default();
        let (product, order): (ProductId, OrderId) = ("11".parse().expect("an id"), "1".parse().expect("an id"));
        let quantity = "3".parse().expect("a quantity");
        let reserved = ProductEvent::Reserved { quantity, order: order.clone() };
        stock.apply(&product, &reserved);
        stock.apply(&product, &ProductEvent::Released { quantity, order });
        assert_eq!((stock.reserved, stock.released, stock.open.len(), stock.most_effects), (3, 3, 0, 1));
        stock.apply(&product, &reserved);
        stock.apply(&product, &reserved);
        assert_eq!(stock.most_effects, 2);
    }
}
