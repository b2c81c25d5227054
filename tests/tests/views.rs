//! Typed views: the order of keys and of their bytes, secondary orders, scans, and the detection of changed
//! declarations.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate};
use es_core::aggregate::RetryPolicy;
use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::projection::view::{Beginning, Continuation, Order, View, ViewError, ViewKey, Views};
use es_core::projection::{Generation, ProjectionOptions, Supervisor};
use es_core::store::memory::MemoryStore;
use es_core::testing::given_events;
use es_core::{Commit, NewEvent, StreamId};
use es_tests::supervised::{TIMEOUT, wait_until};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

fn check_keys<K: ViewKey + Ord + std::fmt::Debug>(a: &K, b: &K) {
    assert_eq!(a.cmp(b), a.to_key().cmp(&b.to_key()), "{a:?} and {b:?}");
    for key in [a, b] {
        assert_eq!(K::from_key(&key.to_key()).as_ref(), Some(key));
    }
    assert!(a == b || !b.to_key().starts_with(&a.to_key()), "{a:?} is a prefix of {b:?}");
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('ÿ'), any::<char>()], 0..6)
        .prop_map(|chars| chars.into_iter().collect())
}

fn time() -> impl Strategy<Value = DateTime<chrono::Utc>> {
    (-90_000_000_000i64..90_000_000_000, 0u32..2_000_000_000).prop_filter_map("a time", |(seconds, nanos)| {
        DateTime::from_timestamp(seconds, nanos).or_else(|| DateTime::from_timestamp(seconds, nanos % 1_000_000_000))
    })
}

fn date() -> impl Strategy<Value = NaiveDate> {
    (-500_000i32..3_000_000).prop_filter_map("a date", NaiveDate::from_num_days_from_ce_opt)
}

proptest! {
    #[test]
    fn keys_sort_like_their_bytes(
        numbers in any::<[(u8, u16, u32, u64); 2]>(), signed in any::<[(i8, i16, i32, i64); 2]>(),
        wide in any::<[(u128, i128); 2]>(), small in [-2i64..3, -2i64..3],
        texts in [text(), text(), text(), text()], times in [time(), time()], dates in [date(), date()],
        uuids in any::<[u128; 2]>(), flags in any::<[bool; 2]>(), options in any::<[Option<u8>; 2]>(),
    ) {
        let [t1, t2, t3, t4] = texts;
        check_keys(&numbers[0], &numbers[1]);
        check_keys(&signed[0], &signed[1]);
        check_keys(&wide[0], &wide[1]);
        check_keys(&small[0], &small[1]);
        check_keys(&t1, &t2);
        check_keys(&(t1.clone(), t3.clone()), &(t2.clone(), t4.clone()));
        check_keys(&(t1.clone(), small[0], t3.clone(), flags[0]), &(t1.clone(), small[1], t4.clone(), flags[1]));
        check_keys(&(Reverse(t1.clone()), t3.clone()), &(Reverse(t2.clone()), t4.clone()));
        check_keys(&(Reverse((small[0], t1.clone())), small[1]), &(Reverse((small[1], t2.clone())), small[0]));
        check_keys(&times[0], &times[1]);
        check_keys(&dates[0], &dates[1]);
        check_keys(&Uuid::from_u128(uuids[0]), &Uuid::from_u128(uuids[1]));
        check_keys(&options[0], &options[1]);
        check_keys(&(options[0], t1), &(options[1], t2));
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
enum ShopEvent {
    #[event(name = "set")]
    Set { year: u16, product: String, pieces: i32 },
    #[event(name = "removed")]
    Removed { year: u16, product: String },
}

#[derive(Clone, Aggregate)]
#[aggregate(category = "shop", id = u64, event = ShopEvent)]
struct Shop;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Demand {
    pieces: i32,
}

type Key = (u16, String);
const DEMAND: View<Key, Demand> = View::new("demand").message_pack().ordered_by(&BY_PIECES).ordered_by(&BY_NAME);
const BY_PIECES: Order<Key, Demand, i32> = Order::new("by-pieces", |_, demand| demand.pieces);
const BY_NAME: Order<Key, Demand, (String, Reverse<i32>)> =
    Order::new("by-name", |(_, name), demand| (name.clone(), Reverse(demand.pieces)));

/// Version 2 doubles the numbers.
struct Demands<const VERSION: u32 = 1>;

impl<const V: u32> Projection for Demands<V> {
    type Source = Shop;
    const NAME: &'static str = "demands";
    const VERSION: u32 = V;

    fn apply(&self, event: &ShopEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        match event {
            ShopEvent::Set { year, product, pieces } => rows
                .view(&DEMAND)?
                .update(&(*year, product.clone()), |demand| demand.pieces = *pieces * V.cast_signed()),
            ShopEvent::Removed { year, product } => rows.view(&DEMAND)?.delete(&(*year, product.clone())),
        }
    }
}

fn shop_event() -> impl Strategy<Value = ShopEvent> {
    let key = || (2020u16..2024, prop_oneof![Just("Chai"), Just("Chang"), Just("Tofu"), Just("Ä")]);
    prop_oneof![
        4 => (key(), -3i32..4)
            .prop_map(|((year, product), pieces)| ShopEvent::Set { year, product: product.into(), pieces }),
        1 => key().prop_map(|(year, product)| ShopEvent::Removed { year, product: product.into() }),
    ]
}

fn model(events: &[ShopEvent]) -> BTreeMap<Key, i32> {
    let mut rows = BTreeMap::new();
    for event in events {
        match event.clone() {
            ShopEvent::Set { year, product, pieces } => rows.insert((year, product), pieces),
            ShopEvent::Removed { year, product } => rows.remove(&(year, product)),
        };
    }
    rows
}

fn plain(rows: Vec<(Key, Demand)>) -> Vec<(Key, i32)> {
    rows.into_iter().map(|(key, demand)| (key, demand.pieces)).collect()
}

proptest! {
    #[test]
    fn orders_sort_the_rows_and_scans_return_slices_of_them(
        events in proptest::collection::vec(shop_event(), 0..40),
        from in -4i32..5, to in -4i32..5, year in 2019u16..2025, limit in 1usize..8, backward in any::<bool>(),
    ) {
        let rows = model(&events);
        given_events().of::<Shop>(1, events).project(Demands::<1>).then(|views| {
            let demand = views.view(&DEMAND);
            let all: Vec<(Key, i32)> = rows.clone().into_iter().collect();
            assert_eq!(plain(demand.scan().limit(1000).read()), all);
            let mut by_pieces = all.clone();
            by_pieces.sort_by(|(a, x), (b, y)| (x, a).cmp(&(y, b)));
            assert_eq!(plain(demand.scan().by(&BY_PIECES).limit(1000).read()), by_pieces);
            let mut by_name = all.clone();
            by_name.sort_by(|(a, x), (b, y)| (&a.1, Reverse(x), a.0).cmp(&(&b.1, Reverse(y), b.0)));
            assert_eq!(plain(demand.scan().by(&BY_NAME).limit(1000).read()), by_name);
            // Scans return slices of the sorted rows, in both directions.
            let slice = |mut rows: Vec<(Key, i32)>| {
                if backward {
                    rows.reverse();
                }
                rows.truncate(limit);
                rows
            };
            let kept = |keep: &dyn Fn(&Key, i32) -> bool| -> Vec<_> {
                by_pieces.iter().filter(|(key, pieces)| keep(key, *pieces)).cloned().collect()
            };
            let scan = || {
                let scan = demand.scan().by(&BY_PIECES).limit(limit);
                if backward { scan.backward() } else { scan }
            };
            assert_eq!(plain(scan().range(from..).read()), slice(kept(&|_, pieces| pieces >= from)));
            assert_eq!(plain(scan().range(..to).read()), slice(kept(&|_, pieces| pieces < to)));
            assert_eq!(plain(scan().range(..=to).read()), slice(kept(&|_, pieces| pieces <= to)));
            if from <= to {
                let expected = slice(kept(&|_, pieces| (from..=to).contains(&pieces)));
                assert_eq!(plain(scan().range(from..=to).read()), expected);
            }
            let beyond = (std::ops::Bound::Excluded(from), std::ops::Bound::Unbounded);
            assert_eq!(plain(scan().range(beyond).read()), slice(kept(&|_, pieces| pieces > from)));
            let of_year: Vec<_> = all.iter().filter(|((of, _), _)| *of == year).cloned().collect();
            let scan = demand.scan().prefix(&(year,)).limit(limit);
            assert_eq!(plain(if backward { scan.backward() } else { scan }.read()), slice(of_year.clone()));
            let begun = of_year.into_iter().filter(|((_, name), _)| name.starts_with("Cha")).collect();
            let scan = demand.scan().prefix(&(year, Beginning("Cha"))).limit(limit);
            assert_eq!(plain(if backward { scan.backward() } else { scan }.read()), slice(begun));
        });
    }
}

fn set(product: &str, pieces: i32) -> Commit {
    let event = ShopEvent::Set { year: 2020, product: product.into(), pieces }.encode().expect("valid");
    let event = NewEvent::json(event.event_type, event.payload);
    Commit::to(&StreamId::new("shop-1").expect("valid"), ExpectedRevision::Any, [event])
}

/// Sets 30 products, and returns the position of the last event.
async fn fill(store: &dyn EventStore) -> Option<Position> {
    for number in 0..30 {
        store.commit(set(&format!("p-{number:02}"), number % 7)).await.expect("valid");
    }
    store.head().await.expect("valid")
}

async fn shop() -> Arc<dyn EventStore> {
    let store = MemoryStore::new().with_hook(Inline::new(Demands::<1>)).await.expect("valid");
    fill(&store).await;
    Arc::new(store)
}

#[tokio::test]
async fn pages_return_each_row_once_in_order() {
    let store = shop().await;
    let views = Views::of::<Demands<1>>(store.clone());
    for backward in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None::<Continuation>);
        loop {
            let mut scan = views.view(&DEMAND).scan().by(&BY_PIECES).range(1..=5).limit(4);
            scan = if backward { scan.backward() } else { scan };
            if let Some(after) = after.take() {
                // Clients receive and send the continuation as text.
                scan = scan.after(after.to_string().parse().unwrap());
            }
            let page = scan.read().await.unwrap();
            assert!(page.rows.len() <= 4);
            seen.extend(plain(page.rows));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let keys: BTreeSet<_> = seen.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!((seen.len(), keys.len()), (21, 21));
        assert!(seen.is_sorted_by(|(_, a), (_, b)| if backward { a >= b } else { a <= b }));
    }
    for invalid in ["", "1", "0-ab", "1-abc", "1-zz", "x-ab"] {
        assert!(matches!(invalid.parse::<Continuation>(), Err(ViewError::Continuation { .. })), "{invalid}");
    }
    let (value, as_of) = views.view(&DEMAND).get_as_of(&(2020, "p-03".into())).await.unwrap();
    assert_eq!((value, as_of), (Some(Demand { pieces: 3 }), store.head().await.unwrap()));
}

#[tokio::test]
async fn a_rebuilt_view_is_read_immediately_and_invalidates_continuations_of_the_old_view() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let position = fill(&*store).await;
    let views = Views::of::<Demands<1>>(Arc::<dyn EventStore>::clone(&store));
    let run = async |supervisor: Supervisor, generation: Generation| {
        let running = supervisor.start(Arc::clone(&store)).await.expect("started");
        running.wait_for(position, TIMEOUT).await.expect("caught up");
        // The old view has reached the position while the new one is being built.
        wait_until("the view is swapped", async || views.generation().await.unwrap() == Some(generation)).await;
        running.shutdown(TIMEOUT).await.expect("finished");
    };
    run(Supervisor::new().projection(Demands::<1>, ProjectionOptions::new()), Generation::FIRST).await;
    let page = views.view(&DEMAND).scan().limit(10).read().await.unwrap();
    let pieces = async || views.view(&DEMAND).get(&(2020, "p-03".into())).await.unwrap().map(|demand| demand.pieces);
    assert_eq!((views.generation().await.unwrap(), pieces().await), (Some(Generation::FIRST), Some(3)));
    // A reader that has cached the first generation, and does nothing until the view is rebuilt.
    let idle = Views::of::<Demands<1>>(Arc::<dyn EventStore>::clone(&store));
    let of_idle = async || idle.view(&DEMAND).get(&(2020, "p-03".into())).await.unwrap().map(|demand| demand.pieces);
    assert_eq!(of_idle().await, Some(3));
    run(Supervisor::new().projection(Demands::<2>, ProjectionOptions::new()), Generation::FIRST.next()).await;
    assert_eq!((views.generation().await.unwrap(), pieces().await), (Some(Generation::FIRST.next()), Some(6)));
    assert_eq!(of_idle().await, Some(6));
    let next_page = views.view(&DEMAND).scan().limit(10).after(page.next.unwrap()).read().await;
    assert!(matches!(next_page, Err(ViewError::Rebuilt { .. })), "{next_page:?}");
}

#[tokio::test]
async fn a_changed_declaration_of_a_view_is_an_error() {
    const OTHER_KEY: View<(u32, String), Demand> = View::new("demand");
    const OTHER_CODEC: View<Key, Demand> = View::new("demand").ordered_by(&BY_PIECES).ordered_by(&BY_NAME);
    const NO_ORDER: View<Key, Demand> = View::new("demand").message_pack();
    const OTHER_ORDER: View<Key, Demand> =
        View::new("demand").message_pack().ordered_by(&BY_FEWEST).ordered_by(&BY_NAME);
    const BY_FEWEST: Order<Key, Demand, i32> = Order::new("by-pieces", |_, demand| -demand.pieces);
    const NEVER: Order<Key, Demand, i32> = Order::new("never", |_, demand| demand.pieces);
    let views = Views::of::<Demands<1>>(shop().await);
    let key = (2020, "p-03".to_owned());
    let is_redeclared = |error: ViewError| matches!(error, ViewError::Redeclared { .. });
    assert!(is_redeclared(views.view(&OTHER_KEY).get(&(2020, "p-03".into())).await.unwrap_err()));
    assert!(is_redeclared(views.view(&OTHER_CODEC).get(&key).await.unwrap_err()));
    assert!(is_redeclared(views.view(&NO_ORDER).scan().read().await.unwrap_err()));
    let unknown = views.view(&DEMAND).scan().by(&NEVER).read().await.unwrap_err();
    assert!(matches!(unknown, ViewError::NoSuchOrder { .. }), "{unknown}");
    // An order with the same name and shape but another function is detected at the first misplaced row.
    let misplaced = views.view(&OTHER_ORDER).scan().by(&BY_FEWEST).read().await.unwrap_err();
    assert!(matches!(misplaced, ViewError::Misplaced { .. }), "{misplaced}");
}

struct Redeclared;

impl Projection for Redeclared {
    type Source = Shop;
    const NAME: &'static str = "demands";

    fn apply(&self, event: &ShopEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        const OTHER: View<String, Demand> = View::new("demand");
        let (ShopEvent::Set { product, .. } | ShopEvent::Removed { product, .. }) = event;
        rows.view(&OTHER)?.delete(product)
    }
}

#[tokio::test]
async fn a_projection_with_a_changed_view_and_the_same_version_does_not_change_the_view() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    store.commit(set("Chai", 3)).await.unwrap();
    let live = es_core::projection::Live::fold(store.clone(), Redeclared, es_core::projection::LiveEvents::All);
    live.await.expect("a fold in memory has no other declaration");
    let options = ProjectionOptions::new().retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
    let first = Supervisor::new().projection(Demands::<1>, options).start(Arc::clone(&store)).await.unwrap();
    first.projection("demands").unwrap().wait_for(store.head().await.unwrap(), TIMEOUT).await.unwrap();
    first.shutdown(TIMEOUT).await.unwrap();
    let second = Supervisor::new().projection(Redeclared, options).start(Arc::clone(&store)).await.unwrap();
    let demands = second.projection("demands").unwrap();
    let position = store.commit(set("Chai", 4)).await.unwrap().position();
    demands.wait_for(position, TIMEOUT).await.unwrap();
    let parked = demands.admin().parked(None, 10).await.unwrap();
    second.shutdown(TIMEOUT).await.unwrap();
    let [parked] = &parked[..] else { panic!("expected one parked key, found {parked:?}") };
    assert!(parked.error.contains("stored with another declaration"), "{}", parked.error);
    let views = Views::of::<Demands<1>>(store);
    assert_eq!(views.view(&DEMAND).get(&(2020, "Chai".into())).await.unwrap(), Some(Demand { pieces: 3 }));
}
