//! `read` and `log`

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use es_core::model::ContentType;
use es_core::retention::{DeleteKind, Deletion, Retained};
use es_core::store::EventStream;
use es_core::store::{Query, QueryItem};
use es_core::{EventReader, LogRead, Position, RecordedEvent, Revision, StreamId, StreamRead};
use es_rocksdb::ReadOnlyStore;

use crate::answer::note;
use crate::args::{LogArgs, ReadArgs};
use crate::failure::Failure;
use crate::line;
use crate::text::{count, shown, shown_text};

/// How long a follower waits at the least before it looks again.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn stream(directory: &Path, args: &ReadArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let Some(last) = store.revision(&args.stream).await? else { return Err(Failure::no_stream(&args.stream)) };
    let mut read = StreamRead::new(args.stream.clone());
    (read.from, read.limit) = (args.from, args.limit);
    if args.backward {
        read = read.backward();
    }
    let mut listing = EventListing::new(json)?;
    listing.all(store.read_stream(read).await?).await?;
    if let Some(why) = why_empty(&store, &args.stream, last).await? {
        note(&why);
    }
    Ok(())
}

/// Why nothing is shown of a stream that there is; `None` where something is.
async fn why_empty(store: &ReadOnlyStore, stream: &StreamId, last: Revision) -> Result<Option<String>, Failure> {
    let Retained { begins, first, .. } = store.retained(stream).await?;
    if first <= last {
        return Ok(None);
    }
    let said = store.retention().of(stream);
    // NOTE: of those that are hidden, some may have been removed.
    let hidden = count(last.next().get(), "event", "events");
    Ok(Some(match said.deletion {
        Some(Deletion { kind, position, .. }) if begins > last => {
            let how = if kind == DeleteKind::Hard { "deleted for ever" } else { "deleted" };
            format!("stream {stream:?} was {how} at position {position}; its {hidden} are not shown any more")
        }
        _ => format!("stream {stream:?}: a rule hides all of its {hidden}; see `es retain list`"),
    }))
}

pub(super) async fn log(directory: &Path, args: &LogArgs, json: bool) -> Result<(), Failure> {
    let mut store = ReadOnlyStore::open(directory).await?;
    let mut read = LogRead::matching(query(args));
    (read.from, read.limit) = (args.from, args.limit);
    let mut listing = EventListing::new(json)?;
    loop {
        let head = store.head().await?;
        let before = listing.listed;
        listing.all(store.read_log(read.clone()).await?).await?;
        let is_enough = read.limit.is_some_and(|limit| listing.listed - before >= limit);
        if !args.follow || is_enough {
            return Ok(());
        }
        read.limit = read.limit.map(|limit| limit - (listing.listed - before));
        // NOTE: everything up to the head was looked at, whether or not it matched.
        read.from = read.from.max(head.map(Position::next));
        store = newer(&store, head).await?;
    }
}

/// The store when there is something behind `head`.
async fn newer(store: &ReadOnlyStore, head: Option<Position>) -> Result<ReadOnlyStore, Failure> {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        if let Some(newer) = store.refresh().await?
            && newer.head().await? > head
        {
            return Ok(newer);
        }
        // NOTE: where opening takes long because much is in the write-ahead log, it must not become the service's burden.
        pause = PAUSE.max(started.elapsed() * 4);
    }
}

fn query(args: &LogArgs) -> Query {
    let item = QueryItem {
        categories: args.category.iter().cloned().collect(),
        event_types: args.event_type.iter().cloned().collect(),
        tags: args.tag.iter().cloned().collect(),
    };
    if item.is_unrestricted() { Query::all() } else { item.into() }
}

/// Events, one behind the other on standard output.
struct EventListing {
    json: bool,
    listed: u64,
}

impl EventListing {
    fn new(json: bool) -> Result<Self, Failure> {
        if !json {
            let header = ["position", "recorded (UTC)", "stream", "revision", "type", "content"];
            let [position, recorded, stream, revision, event_type, content] = header;
            let line = format!("{position:>10}  {recorded:23}  {stream:24} {revision:>8}  {event_type:28}  {content}");
            writeln!(io::stdout(), "{line}").map_err(Failure::output)?;
        }
        Ok(Self { json, listed: 0 })
    }

    async fn all(&mut self, mut events: EventStream) -> Result<(), Failure> {
        while let Some(batch) = events.next_batch().await? {
            let mut text = Vec::new();
            for event in &batch {
                let written =
                    if self.json { line::write(event, &mut text) } else { writeln!(text, "{}", in_words(event)) };
                written.map_err(Failure::output)?;
            }
            self.listed += batch.len() as u64;
            let mut out = io::stdout().lock();
            out.write_all(&text).and_then(|()| out.flush()).map_err(Failure::output)?;
        }
        Ok(())
    }
}

fn in_words(event: &RecordedEvent) -> String {
    format!(
        "{:>10}  {}  {:24} {:>8}  {:28}  {}",
        event.position.get(),
        shown(event.recorded_at),
        event.stream,
        event.revision.get(),
        event.data.event_type,
        content(event)
    )
}

/// The content as it is shown to people: its beginning, without anything that a terminal could take for a command.
fn content(event: &RecordedEvent) -> String {
    if event.data.content_type != ContentType::Json {
        return format!("{} bytes of {}", event.data.payload.len(), event.data.content_type);
    }
    shown_text(&String::from_utf8_lossy(&event.data.payload))
}
