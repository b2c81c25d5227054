//! `append`

use std::io::{self, Read};
use std::path::Path;

use es_core::store::MAX_PAYLOAD_BYTES;
use es_core::{Commit, Committed, EventStore, Metadata, NewEvent};
use es_rocksdb::Options;
use serde::Serialize;

use crate::answer::say;
use crate::args::AppendArgs;
use crate::failure::Failure;

#[derive(Serialize)]
struct Appended {
    stream: String,
    revision: u64,
    position: u64,
    id: String,
    already_there: bool,
}

pub(super) async fn run(folder: &Path, args: &AppendArgs, json: bool) -> Result<(), Failure> {
    let commit = Commit::to(&args.stream, args.expect, [event(args)?]);
    let store = Options::new().open(folder).await?;
    let committed = store.commit(commit).await;
    let closed = store.close().await;
    let Committed { events, repeated } = committed?;
    closed?;
    let Some(event) = events.first() else { return Ok(()) };
    let appended = Appended {
        stream: event.stream.to_string(),
        revision: event.revision.get(),
        position: event.position.get(),
        id: event.id.to_string(),
        already_there: repeated,
    };
    say(json, || in_words(&appended), &appended)
}

fn in_words(Appended { stream, revision, position, id, already_there }: &Appended) -> String {
    let what = if *already_there { "was there already" } else { "appended" };
    format!("{what}: stream {stream}, revision {revision}, position {position}, id {id}")
}

fn event(args: &AppendArgs) -> Result<NewEvent, Failure> {
    let data = if args.data == "-" { from_stdin()? } else { args.data.clone() };
    let data = data.trim();
    serde_json::from_str::<&serde_json::value::RawValue>(data)
        .map_err(|error| Failure::Input(format!("expected JSON behind --data, found: {error}")))?;
    let mut event = NewEvent::json(args.event_type.clone(), data.to_owned());
    event.version = args.version;
    event.tags = args.tag.iter().cloned().collect();
    event.occurred_at = args.occurred_at;
    if let Some(id) = args.id {
        event.id = id;
    }
    if let Some(metadata) = &args.metadata {
        event.metadata = serde_json::from_str::<Metadata>(metadata)
            .map_err(|error| Failure::Input(format!("expected a JSON object behind --metadata, found: {error}")))?;
    }
    Ok(event)
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    // NOTE: one byte more than is allowed is enough to be refused.
    let read = io::stdin().lock().take(MAX_PAYLOAD_BYTES as u64 + 1).read_to_string(&mut text);
    read.map_err(|source| Failure::Io { action: "read standard input".into(), source })?;
    Ok(text)
}
