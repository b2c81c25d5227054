//! Tests of sources: projections, reactors and groups receive only the events of their own aggregates.
#![cfg(feature = "derive")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::aggregate::AsOf;
use es_core::aggregate::source::{OneOf2, OneOrderSource};
use es_core::consumer::group::{ConsumerGroup, StartAt};
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner};
use es_core::model::ErrorChain;
use es_core::model::Table;
use es_core::prelude::*;
use es_core::projection::inline::Inline;
use es_core::projection::view::{View, Views};
use es_core::projection::{Live, LiveEvents, ProjectionOptions, Supervisor, UnknownEvents};
use es_core::schema::DecodeEventError;
use es_core::store::memory::MemoryStore;
use es_core::store::{Query, QueryItem};
use es_core::testing::given_events;
use es_core::{Commit, EventType, LogRead, NewEvent, RecordedEvent, StreamId};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "created")]
    Created { customer: String },
    #[event(name = "shipped", alias("sent"))]
    Shipped,
}

/// An event with the same wire name as that of `Order`, but another content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum ProductEvent {
    #[event(name = "created")]
    Created { price: u64 },
}

#[derive(Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent)]
struct Order;

#[derive(Clone, Aggregate)]
#[aggregate(category = "product", id = u64, event = ProductEvent)]
struct Product;

fn texts() -> Table {
    Table::new("texts").unwrap()
}

/// A projection that stores the debug output of each event under its position.
struct Texts<S> {
    unknown: UnknownEvents,
    query: Option<Query>,
    source: std::marker::PhantomData<fn() -> S>,
}

fn texts_of<S>() -> Texts<S> {
    Texts { unknown: UnknownEvents::Fail, query: None, source: std::marker::PhantomData }
}

impl<S: Source> Projection for Texts<S>
where
    EventOf<S>: std::fmt::Debug,
{
    type Source = S;
    const NAME: &'static str = "texts";

    fn query(&self) -> Query {
        self.query.clone().unwrap_or_else(S::query)
    }

    fn unknown_events(&self) -> UnknownEvents {
        self.unknown
    }

    fn apply(&self, event: &EventOf<S>, context: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        rows.put(&texts(), context.position().to_string(), format!("{event:?}"));
        Ok(())
    }
}

fn projected<S: Source>(projection: Texts<S>) -> Vec<String>
where
    EventOf<S>: std::fmt::Debug,
{
    let mut found = Vec::new();
    let created = ProductEvent::Created { price: 3 };
    let _ = given_events()
        .of::<Order>(1, [OrderEvent::Created { customer: "ada".into() }])
        .of::<Product>(1, [created.clone()])
        .of::<Order>(1, [OrderEvent::Shipped])
        .in_stream("cart-1", [created])
        .project(projection)
        .then(|views| found = views.rows().map(|(_, _, value)| String::from_utf8_lossy(value).into_owned()).collect());
    found
}

#[test]
fn a_projection_receives_only_events_of_its_aggregates_even_if_they_share_a_wire_name() {
    assert_eq!(projected(texts_of::<Order>()), [r#"Created { customer: "ada" }"#, "Shipped"]);
    assert_eq!(projected(texts_of::<Product>()), ["Created { price: 3 }"]);
    assert_eq!(
        projected(texts_of::<(Product, Order)>()),
        [r#"Second(Created { customer: "ada" })"#, "First(Created { price: 3 })", "Second(Shipped)"]
    );
}

#[test]
fn raw_events_are_records_that_the_query_of_the_projection_selects() {
    let all = projected(texts_of::<RawEvents>());
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|text| text.starts_with("RecordedEvent")), "{all:?}");
    let created = QueryItem::new().event_type(EventType::new("created").unwrap());
    assert_eq!(projected(Texts { query: Some(created.into()), ..texts_of::<RawEvents>() }).len(), 3);
}

#[test]
fn events_outside_of_the_source_fail_or_are_skipped_and_are_never_decoded() {
    let wide = || Texts { query: Some(Query::all()), ..texts_of::<Order>() };
    let skipped = projected(Texts { unknown: UnknownEvents::Skip, ..wide() });
    assert_eq!(skipped, [r#"Created { customer: "ada" }"#, "Shipped"]);
    let _ = given_events().in_stream("cart-1", [OrderEvent::Shipped]).project(wide()).then_failed(|failure| {
        let text = ErrorChain(failure).to_string();
        assert!(text.contains("unknown event type \"shipped\""), "{text}");
    });
}

#[test]
fn a_query_has_the_categories_and_all_wire_names_of_its_aggregates() {
    let category = |name: &str| es_core::model::Category::new(name).unwrap();
    let types = |names: &[&str]| names.iter().map(|name| EventType::new(name).unwrap()).collect();
    let order = QueryItem {
        categories: [category("order")].into(),
        event_types: types(&["created", "shipped", "sent"]),
        ..QueryItem::new()
    };
    let product =
        QueryItem { categories: [category("product")].into(), event_types: types(&["created"]), ..QueryItem::new() };
    assert_eq!(Order::query(), order.clone().into());
    assert_eq!(<(Order, Product)>::query(), Query::any_of([order, product]));
    assert_eq!(RawEvents::query(), Query::all());
}

/// The compiler checks the levels of all aggregates.
#[test]
fn a_tuple_of_aggregates_with_one_order_has_one_order() {
    fn name_of<S: OneOrderSource>() -> &'static str {
        std::any::type_name::<S>()
    }
    assert_ne!(name_of::<Order>(), name_of::<(Order, Product)>());
}

fn created(stream: &str, payload: &'static str) -> Commit {
    let event = NewEvent::json(EventType::new("created").unwrap(), payload);
    Commit::to(&StreamId::new(stream).unwrap(), ExpectedRevision::Any, [event])
}

async fn shop() -> Arc<dyn EventStore> {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    store.commit(created("order-1", r#"{"customer":"ada"}"#)).await.unwrap();
    store.commit(created("product-1", r#"{"price":3}"#)).await.unwrap();
    store.commit(created("order-2", r#"{"customer":"bob"}"#)).await.unwrap();
    store
}

/// A reactor that records the events that it receives.
struct Noted(Arc<Mutex<Vec<OneOf2<ProductEvent, OrderEvent>>>>);

#[async_trait]
impl Reactor for Noted {
    type Source = (Product, Order);
    const NAME: &'static str = "noted";

    fn query(&self) -> Query {
        // A part of the source.
        Product::query()
    }

    async fn react(&self, event: &EventOf<Self::Source>, _: &ReactorContext) -> Result<(), ReactError> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

#[tokio::test]
async fn a_reactor_receives_the_events_of_its_source_that_its_query_selects() {
    let store = shop().await;
    let noted = Arc::new(Mutex::new(Vec::new()));
    let running = ReactorRunner::new(Noted(Arc::clone(&noted))).start_at(StartAt::Beginning);
    let running = running.start(Arc::clone(&store)).await.unwrap();
    running.wait_for(store.head().await.unwrap(), PATIENCE).await.unwrap();
    running.shutdown(PATIENCE).await.unwrap();
    assert_eq!(*noted.lock().unwrap(), [OneOf2::First(ProductEvent::Created { price: 3 })]);
}

#[tokio::test]
async fn a_group_decodes_the_events_of_its_source() {
    let store = shop().await;
    let group = ConsumerGroup::of::<Order>("packers").start_at(StartAt::Beginning).start(store).await.unwrap();
    let consumer = group.consumer();
    for customer in ["ada", "bob"] {
        let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().unwrap();
        let expected = OrderEvent::Created { customer: customer.into() };
        assert_eq!(delivery.decode::<Order>().unwrap().as_slice(), [expected]);
        let foreign = delivery.decode::<Product>().unwrap_err();
        assert!(matches!(foreign, DecodeEventError::UnknownType { .. }), "{foreign}");
        delivery.ack().await.unwrap();
    }
    group.shutdown(PATIENCE).await.unwrap();
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &OrderEvent, _: &EventContext<'_>) {}
}

const COUNT: View<(), u64> = View::new("count");

/// Declares a projection that counts the events of `Order`.
macro_rules! counts {
    ($($projection:ident $name:literal)*) => {$(
        struct $projection;

        impl Projection for $projection {
            type Source = Order;
            const NAME: &'static str = $name;

            fn apply(&self, _: &OrderEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
                rows.view(&COUNT)?.update(&(), |count| *count += 1)
            }
        }
    )*};
}

counts! { InlineCount "inline-count" BackgroundCount "background-count" }

/// The content of this event is one of an `Order`, too: only its category tells it from one.
const LOOKALIKE: &str = r#"{"customer":"eve"}"#;

/// User case 5: two aggregates had one wire name, and the projection of one counted the events of the other.
#[tokio::test]
async fn background_inline_and_live_views_and_past_states_ignore_the_same_wire_name_of_another_aggregate() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new().with_hook(Inline::new(InlineCount)).await.unwrap());
    for (stream, payload) in [("product-1", LOOKALIKE), ("order-1", r#"{"customer":"ada"}"#), ("cart-1", LOOKALIKE)] {
        store.commit(created(stream, payload)).await.unwrap();
    }
    let running = Supervisor::new().projection(BackgroundCount, ProjectionOptions::new());
    let running = running.start(Arc::clone(&store)).await.unwrap();
    running.wait_for(store.head().await.unwrap(), PATIENCE).await.unwrap();
    let background = Views::of::<BackgroundCount>(store.clone());
    assert_eq!(background.view(&COUNT).get(&()).await.unwrap(), Some(1));
    running.shutdown(PATIENCE).await.unwrap();
    let inline = Views::of::<InlineCount>(store.clone());
    assert_eq!(inline.view(&COUNT).get(&()).await.unwrap(), Some(1));
    let live = Live::fold(store.clone(), InlineCount, LiveEvents::All).await.unwrap();
    assert_eq!(live.view(&COUNT).get(&()), Some(1));
    let orders = Repository::<Order>::new(Arc::clone(&store));
    let last = store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap().pop().unwrap();
    let past = orders.load_at(&1, AsOf::Recorded(last.recorded_at)).await.unwrap();
    assert_eq!(past.position, Position::new(2));
}

#[tokio::test]
async fn views_of_raw_events_skip_reserved_streams() {
    let store = shop().await;
    let admin = es_core::projection::ProjectionAdmin::new(Arc::clone(&store), "texts").unwrap();
    admin.pause("writes an event into an audit stream").await.unwrap();
    let log = store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap();
    let is_audit = |event: &&RecordedEvent| event.stream.as_str().starts_with("es.");
    assert_eq!(log.iter().filter(is_audit).count(), 1);
    let live = Live::fold(store.clone(), texts_of::<RawEvents>(), LiveEvents::All).await.unwrap();
    assert_eq!(live.views().rows().count(), 3);
}
