//! `show` and `history`

use es_core::aggregate::AsOf;
use es_core::schema::RawEvent;
use es_core::{Aggregate, Event, LoadError, Loaded, RecordedEvent, Revision, StreamRead};

use super::answer::{Answer, shown, table};
use super::args::{ShowArgs, When};
use crate::domain::{City, Country, Order, OrderEvent, OrderId};
use crate::failure::Failure;
use crate::shop::Shop;
use crate::shown::{Reached, ShownEvent, ShownLine, ShownOrder};

/// Shows an order as it is or was.
pub(super) async fn order(shop: &Shop, args: &ShowArgs) -> Result<Answer, Failure> {
    let id = &args.id;
    let loaded = match load(shop, id, &args.when).await {
        Err(LoadError::NotYet { wanted, actual, .. }) => return Err(not_yet(id.clone(), wanted, actual)),
        loaded => loaded?,
    };
    let Some(order) = loaded.state.placed() else { return Err(absent(shop, args).await?) };
    let order = ShownOrder::of(id, loaded.revision, order)?;
    Ok(Answer::new(order_in_words(&order), &order))
}

/// Loads the present state, or the past state that the arguments name.
async fn load(shop: &Shop, id: &OrderId, when: &When) -> Result<Loaded<Order>, LoadError> {
    if let Some(revision) = when.at {
        return shop.orders.load_at_revision(id, Revision::new(revision)).await;
    }
    let occurred = when.as_of.map(|moment| AsOf::Occurred(moment.last()));
    match occurred.or(when.as_at.map(|moment| AsOf::Recorded(moment.last()))) {
        Some(as_of) => shop.orders.load_at(id, as_of).await,
        None => shop.orders.load(id).await,
    }
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

fn order_in_words(order: &ShownOrder<'_>) -> String {
    let mut text = format!("order {} is {}", order.order_id, order.status);
    if let Some(reason) = order.cancelled_because {
        text += &format!(" ({reason})");
    }
    if let Some(revision) = order.revision {
        text += &format!(", revision {revision}");
    }
    text += &format!("\ncustomer {}", order.customer_id);
    let city = order.ship_city.map(City::as_str);
    let destination: Vec<&str> = city.into_iter().chain(order.ship_country.map(Country::as_str)).collect();
    if !destination.is_empty() {
        text += &format!(", to {}", destination.join(", "));
    }
    for Reached { status, at } in &order.reached {
        text += &format!("\n{status:9} {}", shown(*at));
    }
    let header = ["product", "unit price", "quantity", "discount", "revenue"];
    let sum = ["sum".to_owned(), String::new(), String::new(), String::new(), order.revenue.to_string()];
    let rows = order.lines.iter().map(line_row).chain([sum]);
    format!("{text}\n{}", table(header, 1, rows))
}

fn line_row(line: &ShownLine<'_>) -> [String; 5] {
    [
        line.product_id.to_string(),
        line.unit_price.to_string(),
        line.quantity.to_string(),
        line.discount.to_string(),
        line.revenue.to_string(),
    ]
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
        record.data.event_type.to_string(),
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
