//! The command `delete`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use es_core::retention::{DeleteKind, OperatorEvent};
use es_core::store::Committed;
use es_core::store::{CommitError, Conflict, FailedCheck, StoreAdmin};
use es_core::{EventReader, EventStore, ExpectedRevision};
use es_rocksdb::{Options, RocksDbStore};
use serde::Serialize;

use crate::answer::print;
use crate::args::DeleteArgs;
use crate::failure::Failure;

#[derive(Serialize)]
struct Deleted {
    stream: String,
    kind: DeleteKind,
    through: Option<u64>,
    position: Option<u64>,
    /// Whether an earlier command deleted the stream.
    repeated: bool,
}

pub(super) async fn run(directory: &Path, args: &DeleteArgs, json: bool) -> Result<(), Failure> {
    let kind = if args.hard { DeleteKind::Hard } else { DeleteKind::Soft };
    if args.hard && !args.yes {
        confirm(args)?;
    }
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let result = delete(&store, args, kind).await;
    let closed = store.close().await;
    let committed = result?;
    closed?;
    let deleted = Deleted::of(args, kind, &committed);
    print(json, || to_text(&deleted), &deleted)
}

async fn delete(store: &RocksDbStore, args: &DeleteArgs, kind: DeleteKind) -> Result<Committed, Failure> {
    // The library can delete a stream that does not exist. On a command line its name is more likely misspelled.
    if store.revision(&args.stream).await?.is_none() {
        return Err(match args.expect {
            ExpectedRevision::Any | ExpectedRevision::NoStream => Failure::no_stream(&args.stream),
            expected => {
                let check = FailedCheck::Revision { stream: args.stream.clone(), expected, actual: None };
                CommitError::Conflict(Conflict { failed: vec![check] }).into()
            }
        });
    }
    let admin = StoreAdmin::new(Arc::new(store.clone()));
    Ok(admin.delete_stream(&args.stream, kind, args.expect, args.note.note()).await?)
}

impl Deleted {
    /// Returns the answer for a deletion event, which is that of an earlier command if the deletion is a repeat.
    fn of(args: &DeleteArgs, requested: DeleteKind, committed: &Committed) -> Self {
        let deletion = committed
            .events
            .first()
            .map(|event| OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload));
        let (kind, through) = match deletion {
            Some(Ok(OperatorEvent::StreamDeleted { kind, through, .. })) => (kind, through),
            _ => (requested, None),
        };
        Self {
            stream: args.stream.to_string(),
            kind,
            through: through.map(es_core::Revision::get),
            position: committed.position().map(es_core::Position::get),
            repeated: committed.repeated,
        }
    }
}

fn to_text(Deleted { stream, kind, through, repeated, .. }: &Deleted) -> String {
    let extent = through.map_or_else(|| "which has no event".to_owned(), |last| format!("up to revision {last}"));
    let already = if *repeated { "already " } else { "" };
    match kind {
        DeleteKind::Soft => {
            format!("{already}deleted: stream {stream}, {extent}; new events continue at the next revision")
        }
        DeleteKind::Hard => format!("{already}hard deleted: stream {stream}, {extent}"),
    }
}

/// Asks the operator to type the name of the stream.
fn confirm(args: &DeleteArgs) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let message = "expected --yes with --hard, or the name of the stream at a terminal, found neither";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut stderr = io::stderr().lock();
    let question = "the stream will be hard deleted and cannot be written again; type its name to confirm: ";
    write!(stderr, "{question}").and_then(|()| stderr.flush()).map_err(Failure::output)?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|source| Failure::Io { action: "read standard input".into(), source })?;
    if answer.trim_end_matches(['\r', '\n']) == args.stream.as_str() {
        return Ok(());
    }
    Err(Failure::Input("expected the name of the stream, found another text; nothing was deleted".to_owned()))
}
