//! What can be asked of each command.

use std::path::PathBuf;

use clap::Args;
use es_core::model::{Category, Metadata, Tag};
use es_core::{EventId, EventType, ExpectedRevision, Position, Revision, StreamId, Timestamp};

/// Snapshots of what.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Only of this stream
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// Only of this category
    #[arg(long)]
    pub category: Option<Category>,
}

/// Snapshots of what are dropped: of nothing unless it is said.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct DropArgs {
    /// Those of this stream
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// Those of this category
    #[arg(long)]
    pub category: Option<Category>,
    /// All
    #[arg(long)]
    pub all: bool,
}

/// Which streams.
#[derive(Debug, Args)]
pub struct StreamsArgs {
    /// Only those of this category
    #[arg(long)]
    pub category: Option<Category>,
    /// Only those whose names begin like this
    #[arg(long, value_name = "P", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// What of a stream.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The stream
    pub stream: StreamId,
    /// Begin at this revision
    #[arg(long, value_name = "N")]
    pub from: Option<Revision>,
    /// At most so many events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// From the newest to the oldest
    #[arg(long)]
    pub backward: bool,
}

/// What of the log.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Begin at this position
    #[arg(long, value_name = "P", value_parser = position)]
    pub from: Option<Position>,
    /// Only events of streams of this category
    #[arg(long, value_name = "C")]
    pub category: Vec<Category>,
    /// Only events of this type
    #[arg(long = "type", value_name = "T")]
    pub event_type: Vec<EventType>,
    /// Only events with this tag
    #[arg(long, value_name = "T")]
    pub tag: Vec<Tag>,
    /// At most so many events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on with new events as they come, until interrupted; looks for them at most four times a second
    #[arg(long)]
    pub follow: bool,
}

/// The event to append.
#[derive(Debug, Args)]
pub struct AppendArgs {
    /// The stream
    pub stream: StreamId,
    /// Its type
    #[arg(long = "type", value_name = "T")]
    pub event_type: EventType,
    /// Its content as JSON; `-` reads it from standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, value_parser = data)]
    pub data: Data,
    /// Only if the stream is like this (any, none, exists, or the revision of its last event); otherwise exit code 3
    #[arg(long, value_name = "EXPECTED", default_value = "any", allow_hyphen_values = true, value_parser = expectation)]
    pub expect: ExpectedRevision,
    /// Its id, so that it can be repeated; without it, a new one
    #[arg(long, value_name = "UUID")]
    pub id: Option<EventId>,
    /// The schema version of its content
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub version: u32,
    /// A label by which it can be found; give one for each
    #[arg(long, value_name = "T")]
    pub tag: Vec<Tag>,
    /// Annotations as a JSON object
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, value_parser = metadata)]
    pub metadata: Option<Metadata>,
    /// When it happened, RFC 3339; without it, when it is recorded
    #[arg(long, value_name = "TIME")]
    pub occurred_at: Option<Timestamp>,
}

/// Where the content of an event is.
#[derive(Debug, Clone)]
pub enum Data {
    /// On standard input.
    Stdin,
    /// On the command line: JSON without space around it.
    Json(String),
}

impl Data {
    /// A JSON text without the space around it.
    pub(crate) fn json(text: &str) -> Result<String, String> {
        let text = text.trim();
        let read = serde_json::from_str::<&serde_json::value::RawValue>(text);
        read.map(|_| text.to_owned()).map_err(|error| format!("expected JSON, found: {error}"))
    }
}

fn data(text: &str) -> Result<Data, String> {
    if text == "-" { Ok(Data::Stdin) } else { Data::json(text).map(Data::Json) }
}

fn metadata(text: &str) -> Result<Metadata, String> {
    serde_json::from_str(text).map_err(|error| format!("expected a JSON object, found: {error}"))
}

fn position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|_| "expected a position, which is a number from 1".to_owned())
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

/// What to import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file, or `-` for standard input
    pub file: PathBuf,
    /// Leave bad lines out, and list them with their faults in this file, which is replaced
    #[arg(long, value_name = "F")]
    pub skip_bad: Option<PathBuf>,
    /// How many commits share a wait for the disk
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: u32,
}

/// What to do about damage.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Write what can be saved into this directory, empty or not there yet
    #[arg(long, value_name = "NEWDIR")]
    pub to: Option<PathBuf>,
    /// Accept that exactly so many events are lost, as said without --to; 0 where only rows or unique keys are
    #[arg(long, value_name = "N", requires = "to")]
    pub accept_loss: Option<u64>,
}

/// Where to export to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file, which is replaced when the export is whole; without it, and for `-`, standard output
    pub file: Option<PathBuf>,
}
