//! The command `append`.

use std::io::{self, Read};
use std::path::Path;

use es_core::retention::Scope;
use es_core::store::Committed;
use es_core::store::MAX_PAYLOAD_BYTES;
use es_core::{Commit, EventStore, ExpectedRevision, NewEvent, StreamId};
use es_rocksdb::OpenError;
use serde::Serialize;

use crate::answer::{print, print_ahead_note};
use crate::args::{AppendArgs, Data};
use crate::failure::Failure;
use crate::import::count_hidden;
use crate::store::{ReplicatedStreams, ahead_of_clock, open_for_writing};

#[derive(Serialize)]
struct Appended {
    stream: String,
    revision: u64,
    log_id: String,
    position: u64,
    id: String,
    repeated: bool,
    /// Whether a rule or a deletion hides the event, which an earlier command appended.
    hidden: bool,
}

pub(super) async fn run(directory: &Path, args: &AppendArgs, json: bool) -> Result<(), Failure> {
    let commit = Commit::to(&args.stream, args.expect, [event(args)?]);
    // An existing stream cannot be in a store that does not exist: the path is wrong.
    let may_be_new = matches!(args.expect, ExpectedRevision::Any | ExpectedRevision::NoStream);
    let opened = open_for_writing(directory, may_be_new).await;
    let store = opened.map_err(|error| match error {
        OpenError::NoSuchDirectory { directory } => Failure::Absent(format!(
            "expected an event store in {}, found none; check the path and whether its disk is mounted \
             (--expect any and --expect none create a store)",
            directory.display()
        )),
        other => other.into(),
    })?;
    let committed = append(&*store, directory, &args.stream, commit).await;
    let ahead = ahead_of_clock(&*store).await;
    let closed = store.close().await;
    let (Committed { events, repeated }, hidden) = committed?;
    closed?;
    let Some(event) = events.first() else { return Ok(()) };
    let appended = Appended {
        stream: event.stream.to_string(),
        revision: event.revision.get(),
        log_id: store.log_id().to_string(),
        position: event.position.get(),
        id: event.data.id.to_string(),
        repeated,
        hidden,
    };
    print_ahead_note(ahead);
    print(json, || to_text(&appended), &appended)
}

/// Commits the event. Returns whether it is a repeat of a hidden event, too.
async fn append(
    store: &dyn EventStore,
    directory: &Path,
    stream: &StreamId,
    commit: Commit,
) -> Result<(Committed, bool), Failure> {
    ReplicatedStreams::read(store, directory).await?.check(&Scope::Stream(stream.clone()))?;
    let committed = store.commit(commit).await?;
    let hidden = if committed.repeated { count_hidden(store, &committed.events).await? } else { 0 };
    Ok((committed, hidden > 0))
}

fn to_text(Appended { stream, revision, position, id, repeated, hidden, .. }: &Appended) -> String {
    let outcome = match (repeated, hidden) {
        (false, _) => "appended",
        (true, false) => "already stored",
        (true, true) => "already stored, but hidden by a rule or a deletion (see `es retain list`)",
    };
    format!("{outcome}: stream {stream}, revision {revision}, position {position}, id {id}")
}

fn event(args: &AppendArgs) -> Result<NewEvent, Failure> {
    let data = match &args.data {
        Data::Json(data) => data.clone(),
        Data::Stdin => {
            let text = read_stdin()?;
            Data::json(&text).map_err(|error| Failure::Input(format!("standard input, for --data -: {error}")))?
        }
    };
    let mut event = NewEvent::json(args.event_type.clone(), data);
    event.data.version = args.version;
    event.data.tags = args.tag.iter().cloned().collect();
    event.occurred_at = args.occurred_at;
    if let Some(id) = args.id {
        event.data.id = id;
    }
    event.data.metadata = args.metadata.clone().unwrap_or_default();
    Ok(event)
}

fn read_stdin() -> Result<String, Failure> {
    let failed = |source| Failure::Io { action: "read standard input".into(), source };
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_PAYLOAD_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    // The beginning of a longer text can be valid.
    if bytes.len() > MAX_PAYLOAD_BYTES {
        let message = format!("standard input, for --data -: expected at most {MAX_PAYLOAD_BYTES} bytes, found more");
        return Err(Failure::Input(message));
    }
    String::from_utf8(bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}
