//! JSON representations of orders, products, events and command results, for the command line and the HTTP interface.

use es_core::model::{ContentType, CorrelationId};
use es_core::{Aggregate, EventId, Executed, Outcome, Position, RecordedEvent, Revision, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::{
    City, Country, CustomerId, Discount, Inexact, OrderId, OrderLine, OrderStatus, PlacedOrder, Price, Product,
    ProductId, ProductName, Quantity, Reason, RegisteredProduct, Revenue,
};

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CommandResult {
    /// `done`, `unchanged` or `repeated`.
    pub outcome: &'static str,
    /// Number of events that the command produced.
    pub events: usize,
    /// Revision of the aggregate's last event.
    pub revision: Option<u64>,
    /// Position of the last event that the command produced.
    pub position: Option<u64>,
}

impl CommandResult {
    /// Returns the result of an executed command.
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

/// The result of a command on an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderCommandJson<'a> {
    /// The order id.
    pub order_id: &'a OrderId,
    /// The status after the command.
    pub status: Option<OrderStatus>,
    /// The result of the command.
    #[serde(flatten)]
    pub result: CommandResult,
}

/// The result of a command on a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductCommandJson<'a> {
    /// The product id.
    pub product_id: &'a ProductId,
    /// Number of items in stock after the command.
    pub stock: Option<u64>,
    /// The result of the command.
    #[serde(flatten)]
    pub result: CommandResult,
}

impl<'a> ProductCommandJson<'a> {
    /// Returns the result of an executed command.
    #[must_use]
    pub fn of(product_id: &'a ProductId, executed: &Executed<Product>) -> Self {
        let stock = executed.state.registered().map(|product| product.stock);
        Self { product_id, stock, result: CommandResult::of(executed) }
    }
}

/// The result of a move of stock between two products.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockMoveJson<'a> {
    /// The product that the items were taken from.
    #[serde(flatten)]
    pub from: ProductCommandJson<'a>,
    /// The product that the items were added to.
    pub to: ProductCommandJson<'a>,
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductJson<'a> {
    /// The product id.
    pub product_id: &'a ProductId,
    /// The display name.
    pub name: &'a ProductName,
    /// The list price of one item.
    pub unit_price: Price,
    /// Number of items in stock.
    pub stock: u64,
}

impl<'a> ProductJson<'a> {
    /// Converts a product.
    #[must_use]
    pub fn of(product_id: &'a ProductId, product: &'a RegisteredProduct) -> Self {
        let RegisteredProduct { name, unit_price, stock, first_stock: _, reserved: _ } = product;
        Self { product_id, name, unit_price: *unit_price, stock: *stock }
    }
}

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderJson<'a> {
    /// The order id.
    pub order_id: &'a OrderId,
    /// Revision of the order's last event.
    pub revision: Option<u64>,
    /// The current status.
    pub status: OrderStatus,
    /// The customer.
    pub customer_id: &'a CustomerId,
    /// The destination city.
    pub ship_city: Option<&'a City>,
    /// The destination country.
    pub ship_country: Option<&'a Country>,
    /// The order lines.
    pub lines: Vec<LineJson<'a>>,
    /// Revenue of the order.
    pub revenue: Revenue,
    /// The statuses of the order so far, with their times.
    pub reached: Vec<StatusTime>,
    /// The reason for the cancellation.
    pub cancelled_because: Option<&'a Reason>,
    /// When the customer was last reminded of the payment.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub reminded_at: Option<Timestamp>,
}

/// An order line.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineJson<'a> {
    /// The product id.
    pub product_id: &'a ProductId,
    /// Price of one item before the discount.
    pub unit_price: Price,
    /// Number of items.
    pub quantity: Quantity,
    /// The discount.
    pub discount: Discount,
    /// Revenue of the line.
    pub revenue: Revenue,
}

/// A status of an order and the time at which the order reached it.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusTime {
    /// The status.
    pub status: OrderStatus,
    /// The time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl<'a> OrderJson<'a> {
    /// Converts an order at a revision.
    ///
    /// # Errors
    /// Returns [`Inexact`] if an amount cannot be represented exactly. This does not happen for lines created by
    /// [`OrderLines::new`](crate::domain::OrderLines::new), which checks this.
    pub fn of(order_id: &'a OrderId, revision: Option<Revision>, order: &'a PlacedOrder) -> Result<Self, Inexact> {
        let lines: Result<_, _> = order.lines.as_slice().iter().map(LineJson::of).collect();
        let reached = order.reached.iter().map(|(status, at)| StatusTime { status: *status, at: *at });
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
            reminded_at: order.reminded_at,
        })
    }
}

impl<'a> LineJson<'a> {
    fn of(line: &'a OrderLine) -> Result<Self, Inexact> {
        let OrderLine { product, unit_price, quantity, discount } = line;
        let (unit_price, quantity, discount) = (*unit_price, *quantity, *discount);
        Ok(Self { product_id: product, unit_price, quantity, discount, revenue: line.revenue()? })
    }
}

/// A recorded event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventJson<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The revision: the number of the event in its stream, from 0.
    pub revision: u64,
    /// The position: the number of the event in the log, from 1.
    pub position: u64,
    /// The wire name of the event type.
    pub event_type: &'a str,
    /// The schema version.
    pub version: u32,
    /// When the event occurred.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Timestamp,
    /// The time at which the event was committed.
    #[schema(value_type = String, format = DateTime)]
    pub recorded_at: Timestamp,
    /// The event id.
    #[schema(value_type = String)]
    pub event_id: EventId,
    /// The correlation id, shared by all events of the same original request.
    #[schema(value_type = Option<String>)]
    pub correlation_id: Option<CorrelationId>,
    /// The payload if it is JSON.
    #[schema(value_type = Option<Object>)]
    pub content: Option<&'a RawValue>,
}

impl<'a> EventJson<'a> {
    /// Converts a recorded event.
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
