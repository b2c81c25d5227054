//! The routes that only read.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use es_core::aggregate::{SnapshotPage, snapshots};
use es_core::model::{Category, LogPosition};
use es_core::schema::line;
use es_core::store::{
    EventStream, HiddenStream, Query as LogQuery, QueryItem, RetentionReport, StoreInfo, StreamFilter, StreamPage,
};
use es_core::{LogRead, Position, RecordedEvent, Revision, StoreError, StreamId, StreamRead};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::Operations;
use super::parameters::{MAX_WAIT_SECONDS, bad, scope};
use crate::{Draining, Json, NoInput, Path, Problem, Query};

/// The maximum number of streams, snapshots or events in a page.
const MAX_PAGE: usize = 1000;
/// The length at which a page of events ends, in bytes.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The time after which a read that finds few events ends its page.
const MAX_PAGE_TIME: Duration = Duration::from_secs(5);

pub(super) async fn info(State(operations): State<Operations>, _: NoInput) -> Result<Json<StoreInfo>, Problem> {
    Ok(Json(operations.store.info().await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamParameters {
    category: Option<Category>,
    #[serde(default)]
    prefix: String,
    after: Option<StreamId>,
    limit: Option<usize>,
}

pub(super) async fn streams(
    State(operations): State<Operations>,
    Query(StreamParameters { category, prefix, after, limit }): Query<StreamParameters>,
) -> Result<Json<StreamPage>, Problem> {
    let filter = StreamFilter { category, prefix };
    Ok(Json(filter.page(&*operations.store, after.as_ref(), limit.unwrap_or(MAX_PAGE)).await?))
}

pub(super) async fn retention(
    State(operations): State<Operations>,
    _: NoInput,
) -> Result<Json<RetentionReport>, Problem> {
    Ok(Json(RetentionReport::read(&*operations.store).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotParameters {
    stream: Option<StreamId>,
    category: Option<Category>,
    after_stream: Option<StreamId>,
    after_revision: Option<Revision>,
    limit: Option<usize>,
}

pub(super) async fn list_snapshots(
    State(operations): State<Operations>,
    Query(parameters): Query<SnapshotParameters>,
) -> Result<Json<SnapshotPage>, Problem> {
    let scope = scope(parameters.stream, parameters.category)?;
    let after = match (&parameters.after_stream, parameters.after_revision) {
        (None, None) => None,
        (Some(stream), Some(revision)) => Some((stream, revision)),
        _ => return Err(bad("expected after_stream and after_revision together, found one of them")),
    };
    let limit = parameters.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    Ok(Json(snapshots(&*operations.store, scope.as_ref(), after, limit).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParameters {
    from: Option<Revision>,
    limit: Option<u64>,
    #[serde(default)]
    backward: bool,
}

/// Returns the next events of a stream, and the revision with which the next page begins.
pub(super) async fn stream_events(
    State(operations): State<Operations>,
    Path(stream): Path<StreamId>,
    Query(EventParameters { from, limit, backward }): Query<EventParameters>,
) -> Result<Response, Problem> {
    let store = &*operations.store;
    let Some(last) = store.revision(&stream).await? else {
        return Err(Problem::new(StatusCode::NOT_FOUND, format!("expected stream {stream:?}, found none")));
    };
    if let Some(from) = from.filter(|from| *from > last.next()) {
        return Err(bad(format!("stream {stream:?}: expected a revision up to {last}, found {from}")));
    }
    let mut read = StreamRead::new(stream.clone()).limit(limit.unwrap_or(u64::MAX).min(MAX_PAGE as u64));
    read.from = from;
    if backward {
        read = read.backward();
    }
    let mut page = EventPage::default();
    let end = page.fill(store.read_stream(read.clone()).await?).await?;
    let next = page.last.as_ref().filter(|_| end == PageEnd::Full || read.limit == Some(page.events)).map(|last| {
        let revision = last.revision.get();
        if backward { revision.checked_sub(1) } else { revision.checked_add(1) }
    });
    let hidden = HiddenStream::of(store, &stream).await?;
    Ok(page.respond(&json!({ "next": next.flatten(), "hidden": hidden })))
}

/// The parameters of a read of the log, of which some can be repeated.
struct LogParameters {
    from: Option<LogPosition>,
    after: Option<LogPosition>,
    query: QueryItem,
    limit: u64,
    wait: Duration,
}

impl LogParameters {
    fn parse(parameters: Vec<(String, String)>) -> Result<Self, Problem> {
        let limit = MAX_PAGE as u64;
        let mut parsed = Self { from: None, after: None, query: QueryItem::new(), limit, wait: Duration::ZERO };
        for (name, value) in parameters {
            match name.as_str() {
                "from" => parsed.from = Some(value_of(&name, "a position from 1, or LOG:POSITION", &value)?),
                "after" => parsed.after = Some(value_of(&name, "a position, or LOG:POSITION", &value)?),
                "category" => drop(parsed.query.categories.insert(value_of(&name, "a category", &value)?)),
                "type" => drop(parsed.query.event_types.insert(value_of(&name, "an event type", &value)?)),
                "tag" => drop(parsed.query.tags.insert(value_of(&name, "a tag", &value)?)),
                "limit" => parsed.limit = value_of::<u64>(&name, "a number", &value)?.min(limit),
                "wait" => {
                    let seconds = value_of::<u64>(&name, "a number of seconds", &value)?;
                    parsed.wait = Duration::from_secs(seconds.min(MAX_WAIT_SECONDS));
                }
                _ => return Err(bad(format!("unknown parameter {:?}", crate::problem::shortened(&name)))),
            }
        }
        Ok(parsed)
    }
}

fn value_of<T: FromStr>(name: &str, expected: impl Display, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::invalid(name, expected, value))
}

/// Returns the next events of the log, and the position with which the next page begins. If there is none, waits
/// for a new event, at most as long as `wait`.
pub(super) async fn log(
    State(operations): State<Operations>,
    draining: Draining,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let store = &*operations.store;
    let LogParameters { from, after, query, limit, wait } = LogParameters::parse(parameters)?;
    let mut first = first_position(store, from, after)?;
    let query = if query.is_unrestricted() { LogQuery::all() } else { query.into() };
    let (mut page, mut watch, start) = (EventPage::default(), store.watch_head(), Instant::now());
    let mut stop = std::pin::pin!(draining.requested());
    loop {
        let head = store.head().await?;
        let read = LogRead { from: first, ..LogRead::matching(query.clone()).limit(limit) };
        let end = page.fill(store.read_log(read).await?).await?;
        let is_end = end == PageEnd::Complete && page.events < limit;
        let next = match (&page.last, is_end) {
            // The read has scanned everything up to the head, also events that do not match.
            (_, true) => first.max(head.map(Position::next)),
            (last, false) => last.as_ref().map(|last| last.position).max(page.scanned_before_end).map(Position::next),
        };
        let remaining = wait.saturating_sub(start.elapsed());
        if page.events == 0 && is_end && !remaining.is_zero() {
            let waited = tokio::select! {
                waited = timeout(remaining, watch.wait_after(head)) => waited,
                () = &mut stop => break Ok(page.respond(&log_end(&operations, next, true, head))),
            };
            if let Ok(waited) = waited {
                waited?;
                first = next;
                continue;
            }
        }
        break Ok(page.respond(&log_end(&operations, next, is_end, head)));
    }
}

fn log_end(operations: &Operations, next: Option<Position>, is_end: bool, head: Option<Position>) -> Value {
    json!({ "next": next, "is_end": is_end, "head": head, "log_id": operations.store.log_id() })
}

/// Returns the first position to read. A position that is not in the log is refused: a follower would wait until the
/// log reaches it, and miss the events until then.
fn first_position(
    store: &dyn es_core::EventReader,
    from: Option<LogPosition>,
    after: Option<LogPosition>,
) -> Result<Option<Position>, Problem> {
    match (from, after) {
        (Some(_), Some(_)) => Err(bad("expected one of from and after, found both")),
        (None, Some(after)) => Ok(after.resolve(store)?.map(Position::next)),
        (Some(from @ LogPosition { position, .. }), None) => {
            let head = store.watch_head().current();
            if position == Some(Position::following(head)) {
                LogPosition { position: head, ..from }.resolve(store)?;
            } else {
                from.resolve(store)?;
            }
            Ok(position)
        }
        (None, None) => Ok(None),
    }
}

/// Why a page has no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageEnd {
    /// The read has ended.
    Complete,
    /// The page is long enough, or took long enough.
    Full,
}

/// A page of events, as the elements of a JSON array.
#[derive(Default)]
struct EventPage {
    json: Vec<u8>,
    events: u64,
    last: Option<RecordedEvent>,
    /// The last position that a page which took too long has scanned.
    scanned_before_end: Option<Position>,
}

impl EventPage {
    async fn fill(&mut self, mut events: EventStream) -> Result<PageEnd, StoreError> {
        let start = Instant::now();
        while let Some(batch) = events.advance().await? {
            for event in batch.events {
                if self.events > 0 {
                    self.json.push(b',');
                }
                line::write(&event, &mut self.json).map_err(|error| StoreError::io("encode an event", error))?;
                self.events += 1;
                self.last = Some(event);
                if self.json.len() >= MAX_PAGE_BYTES {
                    return Ok(PageEnd::Full);
                }
            }
            if start.elapsed() > MAX_PAGE_TIME {
                self.scanned_before_end = batch.scanned;
                return Ok(PageEnd::Full);
            }
        }
        Ok(PageEnd::Complete)
    }

    /// Returns the response with `events` and other members.
    fn respond(self, members: &Value) -> Response {
        let members = members.to_string();
        let mut body = Vec::with_capacity(self.json.len() + members.len() + 16);
        body.extend_from_slice(b"{\"events\":[");
        body.extend_from_slice(&self.json);
        body.extend_from_slice(b"],");
        // The members without their opening brace.
        body.extend_from_slice(members.get(1..).unwrap_or("}").as_bytes());
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
    }
}
