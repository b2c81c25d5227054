//! The `show` and `history` commands.

use es_core::aggregate::AsOf;
use es_core::schema::RawEvent;
use es_core::{Aggregate, Event, LoadError, Loaded, RecordedEvent, Revision, StreamRead, Timestamp};

use super::args::{PastStateArgs, ShowArgs};
use super::output::{Output, format_time, table};
use crate::domain::{City, Country, Order, OrderEvent, OrderId};
use crate::failure::Failure;
use crate::json::{EventJson, LineJson, OrderJson, StatusTime};
use crate::moment::Moment;
use crate::shop::Shop;

/// Shows the current or a past state of an order.
pub(super) async fn order(shop: &Shop, args: &ShowArgs) -> Result<Output, Failure> {
    let id = &args.id;
    let loaded = match load(shop, id, &args.past).await {
        Err(LoadError::NotYet { wanted, actual, .. }) => return Err(no_such_revision(id.clone(), wanted, actual)),
        loaded => loaded?,
    };
    let Some(order) = loaded.state.placed() else { return Err(not_found(shop, args).await?) };
    let order = OrderJson::of(id, loaded.revision, order)?;
    Ok(Output::new(order_text(&order), &order))
}

/// Loads the current state, or the past state that the arguments select.
async fn load(shop: &Shop, id: &OrderId, past: &PastStateArgs) -> Result<Loaded<Order>, LoadError> {
    if let Some(revision) = past.at {
        return shop.orders.load_at_revision(id, revision).await;
    }
    let occurred = past.as_of.map(|moment| AsOf::Occurred(moment.end()));
    match occurred.or(past.as_at.map(|moment| AsOf::Recorded(recorded_until(moment)))) {
        Some(as_of) => shop.orders.load_at(id, as_of).await,
        None => shop.orders.load(id).await,
    }
}

/// Returns the time itself, or the end of the date, which for today is now: a later time is ahead of the log.
fn recorded_until(moment: Moment) -> Timestamp {
    let now = chrono::Utc::now();
    if moment.start() <= now { moment.end().min(now) } else { moment.end() }
}

fn no_such_revision(id: OrderId, wanted: Revision, last: Option<Revision>) -> Failure {
    match last {
        Some(last) => Failure::NoSuchRevision { id, wanted, last },
        None => Failure::NoOrder(id),
    }
}

/// Returns the error for an order that does not exist, or did not exist at the requested time.
async fn not_found(shop: &Shop, args: &ShowArgs) -> Result<Failure, Failure> {
    let id = args.id.clone();
    let exists = shop.orders.load(&id).await?.state.placed().is_some();
    let time = args.past.as_of.or(args.past.as_at);
    Ok(match time {
        Some(time) if exists => Failure::NoOrderAtTime { id, when: format!("at {}", format_time(time.end())) },
        _ => Failure::NoOrder(id),
    })
}

fn order_text(order: &OrderJson<'_>) -> String {
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
    for StatusTime { status, at } in &order.reached {
        text += &format!("\n{status:9} {}", format_time(*at));
    }
    if let Some(at) = order.reminded_at {
        text += &format!("\nreminded  {}", format_time(at));
    }
    let header = ["product", "unit price", "quantity", "discount", "revenue"];
    let sum = ["sum".to_owned(), String::new(), String::new(), String::new(), order.revenue.to_string()];
    let rows = order.lines.iter().map(line_row).chain([sum]);
    format!("{text}\n{}", table(header, 1, rows))
}

fn line_row(line: &LineJson<'_>) -> [String; 5] {
    [
        line.product_id.to_string(),
        line.unit_price.to_string(),
        line.quantity.to_string(),
        line.discount.to_string(),
        line.revenue.to_string(),
    ]
}

/// Shows all events of an order.
pub(super) async fn history(shop: &Shop, id: &OrderId) -> Result<Output, Failure> {
    let read = StreamRead::new(Order::stream(id)?);
    let records = shop.store().read_stream(read).await?.collect().await?;
    if records.is_empty() {
        return Err(Failure::NoOrder(id.clone()));
    }
    let mut rows = Vec::with_capacity(records.len());
    for record in &records {
        rows.push(row(record)?);
    }
    let header = ["revision", "occurred", "recorded", "event", "description"];
    let events: Vec<_> = records.iter().map(EventJson::of).collect();
    Ok(Output::new(table(header, header.len(), rows).to_string(), &events))
}

fn row(record: &RecordedEvent) -> Result<[String; 5], Failure> {
    let events = OrderEvent::decode(RawEvent::from(record)).map_err(|source| LoadError::Event {
        stream: record.stream.clone(),
        revision: record.revision,
        position: record.position,
        source,
    })?;
    let descriptions: Vec<String> = events.as_slice().iter().map(description).collect();
    Ok([
        record.revision.to_string(),
        format_time(record.occurred_at),
        format_time(record.recorded_at),
        record.data.event_type.to_string(),
        descriptions.join("; "),
    ])
}

fn description(event: &OrderEvent) -> String {
    match event {
        OrderEvent::Placed { customer, lines, .. } => {
            let revenue = lines.revenue().map_or_else(|inexact| inexact.to_string(), |revenue| revenue.to_string());
            let count = lines.as_slice().len();
            format!("customer {customer}, {count} {}, {revenue}", if count == 1 { "line" } else { "lines" })
        }
        OrderEvent::Approved => "approved".into(),
        OrderEvent::Shipped => "shipped".into(),
        OrderEvent::Delivered => "delivered".into(),
        OrderEvent::Cancelled { reason } => format!("cancelled: {reason}"),
        OrderEvent::PaymentReminded => "reminded of the payment".into(),
    }
}
