//! The commands `read` and `log`.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use es_core::model::{ContentType, LogPosition};
use es_core::retention::{DeleteKind, Deletion, Retained};
use es_core::store::EventStream;
use es_core::store::{Query, QueryItem};
use es_core::{EventReader, LogRead, Position, RecordedEvent, Revision, StreamId, StreamRead};
use es_rocksdb::ReadOnlyStore;
use es_tool::text::{fit, pad, terminal_width, width};

use crate::answer::{JsonLines, print_note};
use crate::args::{LogArgs, ReadArgs};
use crate::failure::Failure;
use crate::text::{count, format_time};
use es_core::schema::line;

/// The minimum time between two polls of a follower.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The minimum length of a payload in columns on a narrow terminal, which then breaks the line.
const MIN_CONTENT_COLUMNS: usize = 20;
/// The length of a line before the payload without the names of stream and type: position, time, revision and spaces.
const FIXED_COLUMNS: usize = 10 + 2 + 23 + 2 + 1 + 8 + 2 + 2;

pub(super) async fn stream(directory: &Path, args: &ReadArgs, json: bool) -> Result<(), Failure> {
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
    if let Some(reason) = explain_empty(&store, &args.stream, last).await? {
        print_note(&reason);
    }
    Ok(())
}

/// Returns why an existing stream has no visible events; `None` if it has.
async fn explain_empty(store: &ReadOnlyStore, stream: &StreamId, last: Revision) -> Result<Option<String>, Failure> {
    let Retained { begins, first, .. } = store.retained(stream).await?;
    if first <= last {
        return Ok(None);
    }
    let retention = store.retention().of(stream);
    // Some of the hidden events may have been removed.
    let hidden = count(last.next().get(), "event", "events");
    Ok(Some(match retention.deletion {
        Some(Deletion { kind, position, .. }) if begins > last => {
            let deleted = if kind == DeleteKind::Hard { "hard deleted" } else { "deleted" };
            format!("stream {stream:?} was {deleted} at position {position}; its {hidden} are hidden")
        }
        _ => format!("stream {stream:?}: a rule hides all of its {hidden}; see `es retain list`"),
    }))
}

pub(super) async fn log(directory: &Path, args: &LogArgs, json: bool) -> Result<(), Failure> {
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
        // Opening is slow when the write-ahead log is long. Poll less often then, so that the service is not slowed
        // down.
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
                    writeln!(text, "{}", to_text(event, self.columns))
                };
                written.map_err(Failure::output)?;
            }
            self.listed += batch.len() as u64;
            let written = if self.json { write_all(JsonLines::new(), &text) } else { write_all(io::stdout(), &text) };
            written.map_err(Failure::output)?;
        }
        Ok(())
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

fn to_text(event: &RecordedEvent, columns: Columns) -> String {
    columns.line([
        &event.position.to_string(),
        &format_time(event.recorded_at),
        event.stream.as_str(),
        &event.revision.to_string(),
        event.data.event_type.as_str(),
        &content(event),
    ])
}

/// Returns the payload as text, or its description.
fn content(event: &RecordedEvent) -> Cow<'_, str> {
    match event.data.content_type {
        ContentType::Json => String::from_utf8_lossy(&event.data.payload),
        ref other => format!("{} bytes of {other}", event.data.payload.len()).into(),
    }
}
