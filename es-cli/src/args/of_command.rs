//! The arguments of each command.

use std::path::PathBuf;

use clap::Args;
use es_core::model::{Category, LogPosition, Metadata, Tag, parse_time};
use es_core::schema::check_json;
use es_core::{EventId, EventType, ExpectedRevision, Revision, StreamId, Timestamp};
use es_tool::arguments::whole_number;

/// The snapshots to list.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Only snapshots of this stream
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// Only snapshots of this category
    #[arg(long)]
    pub category: Option<Category>,
}

/// The snapshots to delete. There is no default.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct DropArgs {
    /// Delete the snapshots of this stream
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// Delete the snapshots of this category
    #[arg(long)]
    pub category: Option<Category>,
    /// Delete all snapshots
    #[arg(long)]
    pub all: bool,
}

/// The streams to list.
#[derive(Debug, Args)]
pub struct StreamsArgs {
    /// Only streams of this category
    #[arg(long)]
    pub category: Option<Category>,
    /// Only streams whose names have this prefix
    #[arg(long, value_name = "P", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// The maximum number of streams
    #[arg(long, value_name = "N", value_parser = any_number())]
    pub limit: Option<u64>,
}

/// The part of a stream to read.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The stream
    pub stream: StreamId,
    /// The first revision
    #[arg(long, value_name = "N")]
    pub from: Option<Revision>,
    /// The maximum number of events
    #[arg(long, value_name = "N", value_parser = any_number())]
    pub limit: Option<u64>,
    /// Newest first
    #[arg(long)]
    pub backward: bool,
}

/// The part of the log to read.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// The first position
    #[arg(long, value_name = "P", value_parser = first_position)]
    pub from: Option<LogPosition>,
    /// The position before the first event to read; 0 for all events
    #[arg(long, value_name = "P", conflicts_with = "from")]
    pub after: Option<LogPosition>,
    /// Only events of this category
    #[arg(long, value_name = "C")]
    pub category: Vec<Category>,
    /// Only events of this type
    #[arg(long = "type", value_name = "T")]
    pub event_type: Vec<EventType>,
    /// Only events with this tag
    #[arg(long, value_name = "T")]
    pub tag: Vec<Tag>,
    /// The maximum number of events
    #[arg(long, value_name = "N", value_parser = any_number())]
    pub limit: Option<u64>,
    /// Continue with new events until interrupted; polls at most four times per second
    #[arg(long)]
    pub follow: bool,
}

/// The event to append.
#[derive(Debug, Args)]
pub struct AppendArgs {
    /// The stream
    pub stream: StreamId,
    /// The event type
    #[arg(long = "type", value_name = "T")]
    pub event_type: EventType,
    /// The payload as JSON that can be decoded; `-` reads standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, value_parser = data)]
    pub data: Data,
    /// The expected state of the stream: any, none, exists, or its last revision; exits with code 3 on a conflict
    #[arg(long, value_name = "EXPECTED", default_value = "any", allow_hyphen_values = true, value_parser = expectation)]
    pub expect: ExpectedRevision,
    /// The event id, which makes the command idempotent; a new one by default
    #[arg(long, value_name = "UUID")]
    pub id: Option<EventId>,
    /// The schema version of the payload
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole_number::<u32>(1..=u64::from(u32::MAX)))]
    pub version: u32,
    /// A tag; can be repeated
    #[arg(long, value_name = "T")]
    pub tag: Vec<Tag>,
    /// The metadata as a JSON object
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, value_parser = metadata)]
    pub metadata: Option<Metadata>,
    /// The time of occurrence, RFC 3339 with at most 6 decimals, no leap second; the recorded time by default
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub occurred_at: Option<Timestamp>,
}

/// The source of a payload.
#[derive(Debug, Clone)]
pub enum Data {
    /// Standard input.
    Stdin,
    /// JSON from the command line, without surrounding whitespace.
    Json(String),
}

impl Data {
    /// Returns a JSON text without surrounding whitespace. The text can be decoded.
    ///
    /// # Errors
    /// The parse error as a message.
    pub(crate) fn json(text: &str) -> Result<String, String> {
        let text = text.trim();
        check_json(text.as_bytes()).map(|()| text.to_owned()).map_err(|error| error.to_string())
    }
}

/// Returns a parser of whole numbers.
pub(super) fn any_number() -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    whole_number(0..=u64::MAX)
}

fn data(text: &str) -> Result<Data, String> {
    if text == "-" { Ok(Data::Stdin) } else { Data::json(text).map(Data::Json) }
}

fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object, found: {error}"))
}

fn first_position(text: &str) -> Result<LogPosition, String> {
    let expected = || "expected a position, which is a number from 1, or LOG:POSITION".to_owned();
    text.parse().ok().filter(|given: &LogPosition| given.position.is_some()).ok_or_else(expected)
}

pub(super) fn expectation(text: &str) -> Result<ExpectedRevision, String> {
    Ok(match text {
        "any" => ExpectedRevision::Any,
        "none" => ExpectedRevision::NoStream,
        "exists" => ExpectedRevision::StreamExists,
        number => ExpectedRevision::Exact(
            number.parse().map_err(|_| format!("expected any, none, exists or a revision from 0, found {number}"))?,
        ),
    })
}

/// The file to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file, which may be compressed by gzip or zstd; `-` for standard input
    pub file: PathBuf,
    /// Skip bad lines and list them in this file, which is replaced
    #[arg(long, value_name = "F")]
    pub skip_bad: Option<PathBuf>,
    /// The number of commits per fsync
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = whole_number::<u32>(1..=4096))]
    pub batch: u32,
}

/// Where to write a repaired store.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Write the repaired store into this directory, which must be empty or not exist
    #[arg(long, value_name = "NEWDIR")]
    pub to: Option<PathBuf>,
    /// Confirm the number of lost events, as shown without --to; 0 if only rows or unique keys are lost
    #[arg(long, value_name = "N", requires = "to", value_parser = any_number())]
    pub accept_loss: Option<u64>,
}

/// The tags to add.
#[derive(Debug, Args)]
pub struct RetagArgs {
    /// The directory of the copy; must be empty or not exist
    #[arg(long, value_name = "NEWDIR")]
    pub to: PathBuf,
    /// Add the tag KEY:value to events of TYPE; the value is at the JSON pointer in the content
    #[arg(long, required = true, num_args = 3, value_names = ["TYPE", "KEY", "POINTER"])]
    pub tag: Vec<String>,
}

/// The target of an export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file, which is replaced when the export is complete; `-`, the default, is standard output. A FIFO or a
    /// descriptor such as /dev/fd/3 is written to directly
    pub file: Option<PathBuf>,
}
