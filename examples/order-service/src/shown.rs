//! Orders, products and events as they are shown, and what came of commands: the same in the answers of the command line and
//! of the HTTP interface.

use es_core::model::{ContentType, CorrelationId};
use es_core::{Aggregate, EventId, Executed, Outcome, Position, RecordedEvent, Revision, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::{
    City, Country, CustomerId, Discount, Inexact, OrderId, OrderLine, OrderStatus, PlacedOrder, Price, Product,
    ProductId, ProductName, Quantity, Reason, RegisteredProduct, Revenue,
};

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandResult {
    /// `done`, `unchanged` or `repeated`.
    pub outcome: &'static str,
    /// How many events it led to.
    pub events: usize,
    /// The revision of the last event of the aggregate.
    pub revision: Option<u64>,
    /// The position of the last event that the command led to.
    pub position: Option<u64>,
}

impl CommandResult {
    /// What came of an executed command.
    #[must_use]
    pub fn of<A: Aggregate>(executed: &Executed<A>) -> Self {
        Self {
            outcome: match executed.outcome {
                Outcome::Done => "done",
                Outcome::Unchanged => "unchanged",
                Outcome::Repeated => "repeated",
            },
            events: executed.events.len(),
            revision: executed.revision.map(Revision::get),
            position: executed.position.map(Position::get),
        }
    }
}

/// What came of a command to an order.
#[derive(Debug, Serialize)]
pub struct OrderDone<'a> {
    /// The order.
    pub order_id: &'a OrderId,
    /// What it is now.
    pub status: Option<OrderStatus>,
    /// What came of the command.
    #[serde(flatten)]
    pub result: CommandResult,
}

/// What came of a command to a product.
#[derive(Debug, Serialize)]
pub struct ProductDone<'a> {
    /// The product.
    pub product_id: &'a ProductId,
    /// How many pieces there are now.
    pub stock: Option<u64>,
    /// What came of the command.
    #[serde(flatten)]
    pub result: CommandResult,
}

impl<'a> ProductDone<'a> {
    /// What came of an executed command.
    #[must_use]
    pub fn of(product_id: &'a ProductId, executed: &Executed<Product>) -> Self {
        let stock = executed.state.registered().map(|product| product.stock);
        Self { product_id, stock, result: CommandResult::of(executed) }
    }
}

/// What came of a move of stock between two products.
#[derive(Debug, Serialize)]
pub struct StockMoved<'a> {
    /// The product that the pieces were taken from.
    #[serde(flatten)]
    pub from: ProductDone<'a>,
    /// The product that they were added to.
    pub to: ProductDone<'a>,
}

/// A product as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownProduct<'a> {
    /// The product.
    pub product_id: &'a ProductId,
    /// What people call it.
    pub name: &'a ProductName,
    /// What one piece costs unless an order says otherwise.
    pub unit_price: Price,
    /// How many pieces there are.
    pub stock: u64,
}

impl<'a> ShownProduct<'a> {
    /// How a product is shown.
    #[must_use]
    pub fn of(product_id: &'a ProductId, product: &'a RegisteredProduct) -> Self {
        let RegisteredProduct { name, unit_price, stock, first_stock: _ } = product;
        Self { product_id, name, unit_price: *unit_price, stock: *stock }
    }
}

/// An order as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownOrder<'a> {
    /// The order.
    pub order_id: &'a OrderId,
    /// The revision of its last event.
    pub revision: Option<u64>,
    /// How far it has come.
    pub status: OrderStatus,
    /// Who wants it.
    pub customer_id: &'a CustomerId,
    /// The city that it goes to.
    pub ship_city: Option<&'a City>,
    /// The country that it goes to.
    pub ship_country: Option<&'a Country>,
    /// What is on it.
    pub lines: Vec<ShownLine<'a>>,
    /// What it earns.
    pub revenue: Revenue,
    /// When it came by each status.
    pub reached: Vec<Reached>,
    /// Why it was cancelled.
    pub cancelled_because: Option<&'a Reason>,
}

/// One product on an order, as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownLine<'a> {
    /// What is ordered.
    pub product_id: &'a ProductId,
    /// What one piece costs on this order.
    pub unit_price: Price,
    /// How many pieces.
    pub quantity: Quantity,
    /// What is taken off the price.
    pub discount: Discount,
    /// What the line earns.
    pub revenue: Revenue,
}

/// When an order came by a status.
#[derive(Debug, Serialize)]
pub struct Reached {
    /// The status.
    pub status: OrderStatus,
    /// When.
    pub at: Timestamp,
}

impl<'a> ShownOrder<'a> {
    /// How an order at a revision is shown.
    ///
    /// # Errors
    /// None for orders whose lines were made by [`OrderLines`](crate::domain::OrderLines), which has looked.
    pub fn of(order_id: &'a OrderId, revision: Option<Revision>, order: &'a PlacedOrder) -> Result<Self, Inexact> {
        let lines: Result<_, _> = order.lines.as_slice().iter().map(ShownLine::of).collect();
        let reached = order.reached.iter().map(|(status, at)| Reached { status: *status, at: *at });
        Ok(Self {
            order_id,
            revision: revision.map(Revision::get),
            status: order.status,
            customer_id: &order.customer,
            ship_city: order.destination.city.as_ref(),
            ship_country: order.destination.country.as_ref(),
            lines: lines?,
            revenue: order.lines.revenue()?,
            reached: reached.collect(),
            cancelled_because: order.cancelled_because.as_ref(),
        })
    }
}

impl<'a> ShownLine<'a> {
    fn of(line: &'a OrderLine) -> Result<Self, Inexact> {
        let OrderLine { product, unit_price, quantity, discount } = line;
        let (unit_price, quantity, discount) = (*unit_price, *quantity, *discount);
        Ok(Self { product_id: product, unit_price, quantity, discount, revenue: line.revenue()? })
    }
}

/// An event as it is shown to machines: as it was recorded.
#[derive(Debug, Serialize)]
pub struct ShownEvent<'a> {
    /// Its stream.
    pub stream: &'a str,
    /// Its number in the stream.
    pub revision: u64,
    /// Its number in the log.
    pub position: u64,
    /// Its wire name.
    pub event_type: &'a str,
    /// Its schema version.
    pub version: u32,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Its identity.
    pub event_id: EventId,
    /// What it has in common with everything of the same first cause.
    pub correlation_id: Option<CorrelationId>,
    /// What it says, where that is JSON.
    pub content: Option<&'a RawValue>,
}

impl<'a> ShownEvent<'a> {
    /// How a recorded event is shown.
    #[must_use]
    pub fn of(record: &'a RecordedEvent) -> Self {
        let is_json = record.data.content_type == ContentType::Json;
        Self {
            stream: record.stream.as_str(),
            revision: record.revision.get(),
            position: record.position.get(),
            event_type: record.data.event_type.as_str(),
            version: record.data.version,
            occurred_at: record.occurred_at,
            recorded_at: record.recorded_at,
            event_id: record.data.id,
            correlation_id: record.data.correlation_id,
            content: if is_json { serde_json::from_slice(&record.data.payload).ok() } else { None },
        }
    }
}
