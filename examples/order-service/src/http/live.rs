//! The event log as server-sent events.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use es_core::model::{Category, LogId, LogPosition, PositionError, Tags};
use es_core::store::{Query as EventQuery, QueryItem};
use es_core::{EventType, RecordedEvent, StoreError, Subscription};
use es_http::{Draining, Problem, Revocation};
use futures::future;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::reads::{Read, ReadParameters};
use crate::json::EventJson;

/// The query parameters of `GET /events`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParameters {
    /// Start after this position, `LOG:POSITION` or a number; 0 for all events. Without it, only new events.
    #[param(value_type = Option<String>)]
    after: Option<LogPosition>,
    /// Only the events of streams of this category.
    #[param(value_type = Option<String>)]
    category: Option<Category>,
    /// Only the events of this type.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>)]
    event_type: Option<EventType>,
}

impl ReadParameters for EventParameters {}

/// Streams the events after a position, then new events as they are committed. The response ends when the
/// service stops or the token of the client is revoked.
///
/// The id of each server-sent event is its position with the id of the log, so that a browser that reconnects continues
/// after the last event that it received. A position of another log, such as that of the store before a restore, is
/// 410.
#[utoipa::path(
    get, path = "/events", tag = "events",
    params(Read<EventParameters>,
           ("Last-Event-ID" = Option<String>, Header, description = "The position after which a browser continues.")),
    responses(
        (status = 200, description = "Server-sent events; the data of each is a recorded event.",
         body = EventJson<'static>,
         content_type = "text/event-stream"),
        Read<EventParameters>,
    )
)]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    draining: Draining,
    client: Revocation,
    Read { parameters: EventParameters { after, category, event_type }, .. }: Read<EventParameters>,
) -> Result<Sse<impl Stream<Item = Result<Event, StoreError>>>, Problem> {
    let after = match last_event_id(&headers)?.or(after) {
        Some(position) => position.resolve(api.shop.store())?,
        None => api.shop.store().head().await?,
    };
    let item = QueryItem {
        categories: category.into_iter().collect(),
        event_types: event_type.into_iter().collect(),
        tags: Tags::new(),
    };
    let query = if item.is_unrestricted() { EventQuery::all() } else { EventQuery::from(item) };
    let subscription = Subscription::new(api.shop.shared_store(), query, after).map_err(PositionError::from)?;
    let log_id = api.shop.store().log_id();
    let batches = subscription.into_stream();
    let events = batches.map_ok(move |batch| stream::iter(batch.events).map(move |record| Ok(event(log_id, &record))));
    let events = events.try_flatten();
    let end = future::select(Box::pin(draining.requested()), Box::pin(client.revoked()));
    Ok(Sse::new(events.take_until(end)).keep_alive(KeepAlive::default()))
}

/// Returns the position in `Last-Event-ID`, which a browser sends when it reconnects.
fn last_event_id(headers: &HeaderMap) -> Result<Option<LogPosition>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    let expected = "a position, or LOG:POSITION";
    let found = || String::from_utf8_lossy(value.as_bytes());
    position.map(Some).ok_or_else(|| Problem::invalid("Last-Event-ID", expected, &found()))
}

fn event(log_id: LogId, record: &RecordedEvent) -> Event {
    let id = LogPosition::in_log(log_id, Some(record.position)).to_string();
    let event = Event::default().id(id).event(record.data.event_type.as_str());
    // Serialization fails only for the content of an event; such an event is sent without data.
    event.json_data(EventJson::of(record)).unwrap_or_default()
}
