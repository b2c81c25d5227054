//! The event log as server-sent events.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use es_core::model::{Category, LogId, LogPosition, PositionError, Tags};
use es_core::store::{Query, QueryItem};
use es_core::{EventType, RecordedEvent, StoreError, Subscription};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde::Deserialize;

use super::Api;
use super::problem::Problem;
use crate::json::EventJson;

/// The query parameters of `GET /events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParameters {
    /// Start after this position, `LOG:POSITION` or a number; 0 for all events. Without it, only new events.
    after: Option<LogPosition>,
    category: Option<Category>,
    #[serde(rename = "type")]
    event_type: Option<EventType>,
}

/// Streams the events after a position, then new events as they are committed. The response does not end.
///
/// The id of each server-sent event is its position with the id of the log, so that a browser that reconnects continues
/// after the last event that it received. A position of another log, such as that of the store before a restore, is
/// 409.
pub(super) async fn events(
    State(service): State<Arc<Api>>,
    headers: HeaderMap,
    parameters: Result<Parameters<EventParameters>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, StoreError>>>, Problem> {
    let Parameters(EventParameters { after, category, event_type }) = parameters?;
    let after = match last_event_id(&headers)?.or(after) {
        Some(position) => position.resolve(service.shop.store())?,
        None => service.shop.store().head().await?,
    };
    let item = QueryItem {
        categories: category.into_iter().collect(),
        event_types: event_type.into_iter().collect(),
        tags: Tags::new(),
    };
    let query = if item.is_unrestricted() { Query::all() } else { Query::from(item) };
    let subscription = Subscription::new(service.shop.shared_store(), query, after).map_err(PositionError::from)?;
    let log_id = service.log_id();
    let batches = subscription.into_stream();
    let events = batches.map_ok(move |batch| stream::iter(batch.events).map(move |record| Ok(event(log_id, &record))));
    let events = events.try_flatten();
    let mut shutdown = service.shutdown.subscribe();
    // An error means that the sender was dropped, which also ends the response.
    let stopped = async move { drop(shutdown.wait_for(|requested| *requested).await) };
    Ok(Sse::new(events.take_until(Box::pin(stopped))).keep_alive(KeepAlive::default()))
}

/// Returns the position in `Last-Event-ID`, which a browser sends when it reconnects.
fn last_event_id(headers: &HeaderMap) -> Result<Option<LogPosition>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    let expected = "a position, or LOG:POSITION";
    position.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID", expected, &format!("{value:?}")))
}

fn event(log_id: LogId, record: &RecordedEvent) -> Event {
    let id = LogPosition::in_log(log_id, Some(record.position)).to_string();
    let event = Event::default().id(id).event(record.data.event_type.as_str());
    // Serialization fails only for the content of an event; such an event is sent without data.
    event.json_data(EventJson::of(record)).unwrap_or_default()
}
