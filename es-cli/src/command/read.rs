//! The commands `read` and `log`.

mod remote;

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use es_core::model::{ContentType, LogPosition};
use es_core::retention::DeleteKind;
use es_core::store::{EventStream, HiddenStream};
use es_core::store::{Query, QueryItem};
use es_core::{EventReader, LogRead, Position, RecordedEvent, Revision, StreamId, StreamRead, Timestamp};
use es_rocksdb::ReadOnlyStore;
use es_tool::text::{fit, pad, terminal_width, width};

use crate::answer::{JsonLines, print_note};
use crate::args::{LogArgs, ReadArgs};
use crate::failure::Failure;
use crate::service::Target;
use crate::text::{count, format_time};
use es_core::schema::line;

/// The minimum time between two polls of a follower.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The minimum length of a payload in columns on a narrow terminal, which then breaks the line.
const MIN_CONTENT_COLUMNS: usize = 20;
/// The length of a line before the payload without the names of stream and type: position, time, revision and spaces.
const FIXED_COLUMNS: usize = 10 + 2 + 23 + 2 + 1 + 8 + 2 + 2;

pub(super) async fn stream(target: &Target, args: &ReadArgs, json: bool) -> Result<(), Failure> {
    let hidden = match target {
        Target::Directory(directory) => list_stream(directory, args, json).await?,
        Target::Service(service) => remote::list_stream(service, args, json).await?,
    };
    if let Some(hidden) = hidden {
        print_note(&explain(&args.stream, hidden));
    }
    Ok(())
}

/// Lists a stream of a directory. Returns why it has no visible events, if it has none.
async fn list_stream(directory: &Path, args: &ReadArgs, json: bool) -> Result<Option<HiddenStream>, Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let Some(last) = store.revision(&args.stream).await? else { return Err(Failure::no_stream(&args.stream)) };
    if let Some(from) = args.from.filter(|from| *from > last.next()) {
        let stream = &args.stream;
        return Err(Failure::Input(format!("stream {stream:?}: expected a revision up to {last}, found {from}")));
    }
    let mut read = StreamRead::new(args.stream.clone());
    (read.from, read.limit) = (args.from, args.limit);
    if args.backward {
        read = read.backward();
    }
    let mut listing = EventListing::new(json)?;
    listing.add_all(store.read_stream(read).await?).await?;
    Ok(HiddenStream::of(&store, &args.stream).await?)
}

/// Explains why an existing stream has no visible events.
fn explain(stream: &StreamId, HiddenStream { events, deletion }: HiddenStream) -> String {
    let events = |one, many| count(events, one, many);
    match deletion {
        Some((kind, position)) => {
            let deleted = if kind == DeleteKind::Hard { "hard deleted" } else { "deleted" };
            format!(
                "stream {stream:?} was {deleted} at position {position}; its {} hidden",
                events("event is", "events are")
            )
        }
        None => {
            format!("stream {stream:?}: a rule hides all of its {}; see `es retain list`", events("event", "events"))
        }
    }
}

pub(super) async fn log(target: &Target, args: &LogArgs, json: bool) -> Result<(), Failure> {
    match target {
        Target::Directory(directory) => list_log(directory, args, json).await,
        Target::Service(service) => remote::list_log(service, args, json).await,
    }
}

async fn list_log(directory: &Path, args: &LogArgs, json: bool) -> Result<(), Failure> {
    let mut store = ReadOnlyStore::open(directory).await?;
    let mut read = LogRead::matching(query(args));
    (read.from, read.limit) = (first_position(args, &store)?, args.limit);
    let mut listing = EventListing::new(json)?;
    loop {
        let head = store.head().await?;
        let before = listing.listed;
        listing.add_all(store.read_log(read.clone()).await?).await?;
        let is_limit_reached = read.limit.is_some_and(|limit| listing.listed - before >= limit);
        if !args.follow || is_limit_reached {
            return Ok(());
        }
        read.limit = read.limit.map(|limit| limit - (listing.listed - before));
        // The read has scanned everything up to the head, also events that do not match.
        read.from = read.from.max(head.map(Position::next));
        store = wait_for_newer(&store, head).await?;
    }
}

/// Returns the first position to read. A position that is not in the log is refused: a follower would wait until the
/// log reaches it, and miss the events until then.
fn first_position(args: &LogArgs, store: &ReadOnlyStore) -> Result<Option<Position>, Failure> {
    if let Some(after) = args.after {
        return Ok(after.resolve(store)?.map(Position::next));
    }
    let Some(from @ LogPosition { position, .. }) = args.from else { return Ok(None) };
    let head = store.watch_head().current();
    if position == Some(Position::following(head)) {
        LogPosition { position: head, ..from }.resolve(store)?;
    } else {
        from.resolve(store)?;
    }
    Ok(position)
}

/// Waits for an event after `head` and returns the store with it. Fails if the directory now has another log, such as
/// that of a restored backup.
async fn wait_for_newer(store: &ReadOnlyStore, head: Option<Position>) -> Result<ReadOnlyStore, Failure> {
    let mut pause = POLL_INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        if let Some(newer) = store.refresh().await? {
            LogPosition::in_log(store.log_id(), head).resolve(&newer)?;
            if newer.head().await? > head {
                return Ok(newer);
            }
        }
        // Opening reads the log after the index tables, which can take a second. Poll less often then, so that the
        // service is not slowed down.
        pause = POLL_INTERVAL.max(started.elapsed() * 4);
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

/// Lists events on standard output.
struct EventListing {
    json: bool,
    listed: u64,
    columns: Columns,
}

impl EventListing {
    fn new(json: bool) -> Result<Self, Failure> {
        let columns = Columns::of_terminal(terminal_width());
        if !json {
            let header = ["position", "recorded (UTC)", "stream", "revision", "type", "content"];
            writeln!(io::stdout(), "{}", columns.line(header)).map_err(Failure::output)?;
        }
        Ok(Self { json, listed: 0, columns })
    }

    async fn add_all(&mut self, mut events: EventStream) -> Result<(), Failure> {
        while let Some(batch) = events.next_batch().await? {
            let mut text = Vec::new();
            for event in &batch {
                let written = if self.json {
                    line::write(event, &mut text)
                } else {
                    writeln!(text, "{}", EventRow::from(event).to_text(self.columns))
                };
                written.map_err(Failure::output)?;
            }
            self.print(batch.len() as u64, &text)?;
        }
        Ok(())
    }

    /// Prints the text of events.
    fn print(&mut self, events: u64, text: &[u8]) -> Result<(), Failure> {
        self.listed += events;
        let written = if self.json { write_all(JsonLines::new(), text) } else { write_all(io::stdout(), text) };
        written.map_err(Failure::output)
    }
}

fn write_all(mut out: impl Write, text: &[u8]) -> io::Result<()> {
    out.write_all(text).and_then(|()| out.flush())
}

/// The lengths of the columns of a list of events. A name that is longer moves the columns after it.
#[derive(Debug, Clone, Copy)]
struct Columns {
    stream: usize,
    event_type: usize,
    /// The maximum length of the payload with the space that shorter names leave.
    total: usize,
}

impl Columns {
    /// Returns the columns for a terminal of this width; `None` if standard output is not a terminal.
    fn of_terminal(width: Option<usize>) -> Self {
        let (stream, event_type, content) = (24, 28, 120);
        let Some(total) = width else {
            return Self { stream, event_type, total: FIXED_COLUMNS + stream + event_type + content };
        };
        // A narrow terminal takes from the names, which are often shorter, before it takes from the payload.
        let missing = (FIXED_COLUMNS + stream + event_type + MIN_CONTENT_COLUMNS).saturating_sub(total);
        let narrowed = |columns: usize| columns.saturating_sub(missing.div_ceil(2)).max(6);
        Self { stream: narrowed(stream), event_type: narrowed(event_type), total }
    }

    fn line(self, [position, recorded, stream, revision, event_type, content]: [&str; 6]) -> String {
        let (stream, event_type) = (pad(stream, self.stream), pad(event_type, self.event_type));
        let fields = format!("{position:>10}  {recorded:23}  {stream} {revision:>8}  {event_type}  ");
        let free = self.total.saturating_sub(width(&fields)).max(MIN_CONTENT_COLUMNS);
        fields + &fit(content, free)
    }
}

/// An event in a list for people.
struct EventRow<'a> {
    position: Position,
    recorded_at: Timestamp,
    stream: &'a str,
    revision: Revision,
    event_type: &'a str,
    /// The payload as text, or its description.
    content: Cow<'a, str>,
}

impl EventRow<'_> {
    fn to_text(&self, columns: Columns) -> String {
        columns.line([
            &self.position.to_string(),
            &format_time(self.recorded_at),
            self.stream,
            &self.revision.to_string(),
            self.event_type,
            &self.content,
        ])
    }
}

impl<'a> From<&'a RecordedEvent> for EventRow<'a> {
    fn from(event: &'a RecordedEvent) -> Self {
        Self {
            position: event.position,
            recorded_at: event.recorded_at,
            stream: event.stream.as_str(),
            revision: event.revision,
            event_type: event.data.event_type.as_str(),
            content: match event.data.content_type {
                ContentType::Json => String::from_utf8_lossy(&event.data.payload),
                ref other => describe(event.data.payload.len(), other.as_str()).into(),
            },
        }
    }
}

/// Describes a payload that is not JSON.
fn describe(bytes: usize, content_type: &str) -> String {
    format!("{} of {content_type}", count(bytes as u64, "byte", "bytes"))
}
