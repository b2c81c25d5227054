//! `show` and `history`

use es_core::{
    Aggregate, At, ContentType, CorrelationId, Event, EventId, LoadError, RawEvent, RecordedEvent, Revision,
    StreamRead, Timestamp,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{Answer, shown, table};
use super::args::{ShowArgs, When};
use crate::domain::{
    City, Country, CustomerId, Discount, Inexact, Order, OrderEvent, OrderId, OrderLine, OrderStatus, PlacedOrder,
    Price, ProductId, Quantity, Reason, Revenue,
};
use crate::failure::Failure;
use crate::shop::Shop;

/// An order as it is shown.
#[derive(Debug, Serialize)]
struct ShownOrder<'a> {
    order_id: &'a OrderId,
    revision: Option<u64>,
    status: OrderStatus,
    customer_id: &'a CustomerId,
    ship_city: Option<&'a City>,
    ship_country: Option<&'a Country>,
    lines: Vec<ShownLine<'a>>,
    revenue: Revenue,
    reached: Vec<Reached>,
    cancelled_because: Option<&'a Reason>,
}

#[derive(Debug, Serialize)]
struct ShownLine<'a> {
    product_id: &'a ProductId,
    unit_price: Price,
    quantity: Quantity,
    discount: Discount,
    revenue: Revenue,
}

#[derive(Debug, Serialize)]
struct Reached {
    status: OrderStatus,
    at: Timestamp,
}

/// Shows an order as it is or was.
pub(super) async fn order(shop: &Shop, args: &ShowArgs) -> Result<Answer, Failure> {
    let id = &args.id;
    let loaded = match at(&args.when) {
        None => shop.orders.load(id).await?,
        Some(at) => match shop.orders.load_at(id, at).await {
            Err(LoadError::NotYet { wanted, actual, .. }) => return Err(not_yet(id.clone(), wanted, actual)),
            loaded => loaded?,
        },
    };
    let Some(order) = loaded.state.placed() else { return Err(absent(shop, args).await?) };
    let order = ShownOrder::of(id, loaded.revision, order)?;
    Ok(Answer::new(order.in_words(), &order))
}

fn at(when: &When) -> Option<At> {
    let revision = when.at.map(|revision| At::Revision(Revision::new(revision)));
    let occurred = when.as_of.map(|moment| At::Occurred(moment.last()));
    revision.or(occurred).or(when.as_at.map(|moment| At::Recorded(moment.last())))
}

fn not_yet(id: OrderId, wanted: Revision, last: Option<Revision>) -> Failure {
    match last {
        Some(last) => Failure::NoRevisionYet { id, wanted, last },
        None => Failure::NoOrder(id),
    }
}

/// Whether an order does not exist, or did not exist at the time that was asked for.
async fn absent(shop: &Shop, args: &ShowArgs) -> Result<Failure, Failure> {
    let id = args.id.clone();
    let exists = shop.orders.load(&id).await?.state.placed().is_some();
    let time = args.when.as_of.or(args.when.as_at);
    Ok(match time {
        Some(time) if exists => Failure::NoOrderThen { id, when: format!("at {}", shown(time.last())) },
        _ => Failure::NoOrder(id),
    })
}

impl<'a> ShownOrder<'a> {
    fn of(order_id: &'a OrderId, revision: Option<Revision>, order: &'a PlacedOrder) -> Result<Self, Inexact> {
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

    fn in_words(&self) -> String {
        let mut text = format!("order {} is {}", self.order_id, self.status);
        if let Some(reason) = self.cancelled_because {
            text += &format!(" ({reason})");
        }
        if let Some(revision) = self.revision {
            text += &format!(", revision {revision}");
        }
        text += &format!("\ncustomer {}", self.customer_id);
        let city = self.ship_city.map(City::as_str);
        let destination: Vec<&str> = city.into_iter().chain(self.ship_country.map(Country::as_str)).collect();
        if !destination.is_empty() {
            text += &format!(", to {}", destination.join(", "));
        }
        for Reached { status, at } in &self.reached {
            text += &format!("\n{status:9} {}", shown(*at));
        }
        let header = ["product", "unit price", "quantity", "discount", "revenue"];
        let sum = ["sum".to_owned(), String::new(), String::new(), String::new(), self.revenue.to_string()];
        let rows = self.lines.iter().map(ShownLine::row).chain([sum]);
        format!("{text}\n{}", table(header, 1, rows))
    }
}

impl<'a> ShownLine<'a> {
    fn of(line: &'a OrderLine) -> Result<Self, Inexact> {
        let OrderLine { product, unit_price, quantity, discount } = line;
        let (unit_price, quantity, discount) = (*unit_price, *quantity, *discount);
        Ok(Self { product_id: product, unit_price, quantity, discount, revenue: line.revenue()? })
    }

    fn row(&self) -> [String; 5] {
        [
            self.product_id.to_string(),
            self.unit_price.to_string(),
            self.quantity.to_string(),
            self.discount.to_string(),
            self.revenue.to_string(),
        ]
    }
}

/// An event as it is shown to machines: as it was recorded.
#[derive(Debug, Serialize)]
struct ShownEvent<'a> {
    revision: u64,
    position: u64,
    event_type: &'a str,
    version: u32,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    event_id: EventId,
    correlation_id: Option<CorrelationId>,
    content: Option<&'a RawValue>,
}

/// Shows everything that has happened to an order.
pub(super) async fn history(shop: &Shop, id: &OrderId) -> Result<Answer, Failure> {
    let read = StreamRead::new(Order::stream(id)?);
    let records = shop.store().read_stream(read).await?.collect().await?;
    if records.is_empty() {
        return Err(Failure::NoOrder(id.clone()));
    }
    let mut rows = Vec::with_capacity(records.len());
    for record in &records {
        rows.push(row(record)?);
    }
    let header = ["revision", "occurred", "recorded", "event", "what happened"];
    let shown: Vec<_> = records.iter().map(ShownEvent::of).collect();
    Ok(Answer::new(table(header, header.len(), rows).to_string(), &shown))
}

fn row(record: &RecordedEvent) -> Result<[String; 5], Failure> {
    let events = OrderEvent::decode(RawEvent::from(record)).map_err(|source| LoadError::Event {
        stream: record.stream.clone(),
        revision: record.revision,
        position: record.position,
        source,
    })?;
    let what: Vec<String> = events.as_slice().iter().map(in_words).collect();
    Ok([
        record.revision.to_string(),
        shown(record.occurred_at),
        shown(record.recorded_at),
        record.event_type.to_string(),
        what.join("; "),
    ])
}

fn in_words(event: &OrderEvent) -> String {
    match event {
        OrderEvent::Placed { customer, lines, .. } => {
            let revenue = lines.revenue().map_or_else(|inexact| inexact.to_string(), |revenue| revenue.to_string());
            let count = lines.as_slice().len();
            format!("{customer} wants {count} {}, {revenue}", if count == 1 { "product" } else { "products" })
        }
        OrderEvent::Approved => "the house agrees".into(),
        OrderEvent::Shipped => "it is on its way".into(),
        OrderEvent::Delivered => "the customer has it".into(),
        OrderEvent::Cancelled { reason } => reason.to_string(),
    }
}

impl<'a> ShownEvent<'a> {
    fn of(record: &'a RecordedEvent) -> Self {
        let is_json = record.content_type == ContentType::Json;
        Self {
            revision: record.revision.get(),
            position: record.position.get(),
            event_type: record.event_type.as_str(),
            version: record.version,
            occurred_at: record.occurred_at,
            recorded_at: record.recorded_at,
            event_id: record.id,
            correlation_id: record.correlation_id,
            content: if is_json { serde_json::from_slice(&record.payload).ok() } else { None },
        }
    }
}
