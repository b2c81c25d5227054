//! What happens, as server-sent events.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use es_core::model::{Category, Tags};
use es_core::store::{Query, QueryItem};
use es_core::{EventType, Position, RecordedEvent, StoreError, Subscription};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde::Deserialize;

use super::Api;
use super::problem::Problem;
use crate::shown::ShownEvent;

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Those behind this position; 0 for all. Without it, those that happen from now on.
    after: Option<u64>,
    category: Option<Category>,
    #[serde(rename = "type")]
    event_type: Option<EventType>,
}

/// What is there behind a position, and then what comes, without an end. Each event has its position as its id, so that a
/// browser that connects again goes on where it was.
pub(super) async fn events(
    State(service): State<Arc<Api>>,
    headers: HeaderMap,
    which: Result<Parameters<Which>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, StoreError>>>, Problem> {
    let Parameters(Which { after, category, event_type }) = which?;
    let after = match last_seen(&headers)?.or(after) {
        Some(position) => Position::new(position),
        None => service.shop.store().head().await?,
    };
    let item = QueryItem {
        categories: category.into_iter().collect(),
        event_types: event_type.into_iter().collect(),
        tags: Tags::new(),
    };
    let query = if item.is_unrestricted() { Query::all() } else { Query::from(item) };
    let batches = Subscription::new(service.shop.shared_store(), query, after).into_stream();
    let events = batches.map_ok(|batch| stream::iter(batch.events).map(|record| Ok(event(&record)))).try_flatten();
    let mut ending = service.ending.subscribe();
    // NOTE: an error says that the service is gone.
    let ended = async move { drop(ending.wait_for(|ending| *ending).await) };
    Ok(Sse::new(events.take_until(Box::pin(ended))).keep_alive(KeepAlive::default()))
}

/// The position that a browser has seen last.
fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Problem::not_understood("Last-Event-ID", "a position", &format!("{value:?}")))
}

fn event(record: &RecordedEvent) -> Event {
    let event = Event::default().id(record.position.to_string()).event(record.data.event_type.as_str());
    // NOTE: names and positions can always be written; content that cannot is not shown.
    event.json_data(ShownEvent::of(record)).unwrap_or_default()
}
