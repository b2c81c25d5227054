//! Lists the events of a running service, in pages.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use es_core::store::HiddenStream;
use es_core::{Position, Revision, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{EventListing, EventRow, describe};
use crate::args::{LogArgs, ReadArgs};
use crate::failure::Failure;
use crate::service::{Service, encoded};
use crate::service_error::ServiceError;

/// How long the service waits for a new event, in seconds.
const WAIT_SECONDS: u64 = 20;

/// A page of the events of a stream.
#[derive(Deserialize)]
struct StreamEvents {
    events: Vec<Box<RawValue>>,
    /// The revision with which the next page begins.
    next: Option<u64>,
    hidden: Option<HiddenStream>,
}

/// A page of the events of the log.
#[derive(Deserialize)]
struct LogEvents {
    events: Vec<Box<RawValue>>,
    /// The position with which the next page begins.
    next: Option<Position>,
    /// Whether the page ends with the last event of the log.
    is_end: bool,
    log_id: String,
}

/// The fields of an event that a list for people has.
#[derive(Deserialize)]
struct ShownEvent<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    revision: Revision,
    position: Position,
    recorded_at: Timestamp,
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<Cow<'a, str>>,
}

impl ShownEvent<'_> {
    /// Returns the payload as text, or its description.
    fn content(&self) -> Cow<'_, str> {
        if let Some(data) = self.data {
            return data.get().into();
        }
        let payload = STANDARD.decode(self.data_base64.as_deref().unwrap_or_default()).unwrap_or_default();
        match self.content_type.as_deref() {
            Some(other) if other != "application/json" => describe(payload.len(), other).into(),
            _ => String::from_utf8_lossy(&payload).into_owned().into(),
        }
    }
}

/// Lists a stream. Returns why it has no visible events, if it has none.
pub(super) async fn list_stream(
    service: &Service,
    args: &ReadArgs,
    json: bool,
) -> Result<Option<HiddenStream>, Failure> {
    let path = format!("/streams/{}/events", encoded(args.stream.as_str()));
    let mut from = args.from.map(Revision::get);
    let mut listing: Option<EventListing> = None;
    loop {
        let mut query = vec![("backward", args.backward.to_string())];
        query.extend(from.map(|from| ("from", from.to_string())));
        let listed = listing.as_ref().map_or(0, |listing| listing.listed);
        let remaining = args.limit.map(|limit| limit.saturating_sub(listed));
        query.extend(remaining.map(|limit| ("limit", limit.to_string())));
        let page: StreamEvents = service.get(&path, &query).await?;
        // The header is printed only if the stream exists.
        let listing = match &mut listing {
            Some(listing) => listing,
            none => none.insert(EventListing::new(json)?),
        };
        listing.add_page(service, &page.events)?;
        from = page.next;
        if from.is_none() || args.limit.is_some_and(|limit| listing.listed >= limit) {
            return Ok(page.hidden);
        }
    }
}

/// Lists the log, and continues with new events if the command follows it.
pub(super) async fn list_log(service: &Service, args: &LogArgs, json: bool) -> Result<(), Failure> {
    let mut start = match (&args.from, &args.after) {
        (Some(from), _) => Some(("from", from.to_string())),
        (None, after) => after.as_ref().map(|after| ("after", after.to_string())),
    };
    let mut listing: Option<EventListing> = None;
    loop {
        let mut query: Vec<(&str, String)> = start.clone().into_iter().collect();
        query.extend(args.category.iter().map(|category| ("category", category.to_string())));
        query.extend(args.event_type.iter().map(|event_type| ("type", event_type.to_string())));
        query.extend(args.tag.iter().map(|tag| ("tag", tag.to_string())));
        let listed = listing.as_ref().map_or(0, |listing| listing.listed);
        query.extend(args.limit.map(|limit| ("limit", limit.saturating_sub(listed).to_string())));
        if args.follow && listing.is_some() {
            query.push(("wait", WAIT_SECONDS.to_string()));
        }
        let page: LogEvents = service.get("/log", &query).await?;
        let listing = match &mut listing {
            Some(listing) => listing,
            none => none.insert(EventListing::new(json)?),
        };
        listing.add_page(service, &page.events)?;
        if args.limit.is_some_and(|limit| listing.listed >= limit) || (page.is_end && !args.follow) {
            return Ok(());
        }
        if let Some(next) = page.next {
            // The id of the log: a service with another log, such as a restored one, refuses the position.
            start = Some(("from", format!("{}:{next}", page.log_id)));
        }
    }
}

impl EventListing {
    fn add_page(&mut self, service: &Service, events: &[Box<RawValue>]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for event in events {
            let written = if self.json {
                writeln!(text, "{}", event.get())
            } else {
                let shown: ShownEvent<'_> = serde_json::from_str(event.get()).map_err(|error| {
                    let source = ServiceError::Answer { detail: error.to_string() };
                    Failure::Service { address: service.address().to_owned(), source }
                })?;
                let row = EventRow {
                    position: shown.position,
                    recorded_at: shown.recorded_at,
                    stream: &shown.stream,
                    revision: shown.revision,
                    event_type: &shown.r#type,
                    content: shown.content(),
                };
                writeln!(text, "{}", row.to_text(self.columns))
            };
            written.map_err(Failure::output)?;
        }
        self.print(events.len() as u64, &text)
    }
}
