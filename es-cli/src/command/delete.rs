//! The command `delete`.

use std::io::{self, IsTerminal, Write};

use es_core::retention::{DeleteKind, Scope};
use es_core::store::{CommitError, Conflict, DeletedStream, FailedCheck, StoreAdmin};
use es_core::{EventStore, ExpectedRevision};
use ureq::http::Method;

use super::administer::change_retention;
use crate::answer::print;
use crate::args::DeleteArgs;
use crate::failure::Failure;
use crate::service::{Service, Target, encoded};

pub(super) async fn run(target: &Target, args: &DeleteArgs, json: bool) -> Result<(), Failure> {
    let kind = if args.hard { DeleteKind::Hard } else { DeleteKind::Soft };
    if args.hard && !args.yes {
        confirm(args)?;
    }
    let deleted = match target {
        Target::Directory(directory) => {
            let scope = Scope::Stream(args.stream.clone());
            change_retention(directory, &scope, async |store, admin| delete(store, &admin, args, kind).await).await?
        }
        Target::Service(service) => request(service, args, kind).await?,
    };
    print(json, || to_text(&deleted), &deleted)
}

async fn delete(
    store: &dyn EventStore,
    admin: &StoreAdmin,
    args: &DeleteArgs,
    kind: DeleteKind,
) -> Result<DeletedStream, Failure> {
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
    let committed = admin.delete_stream(&args.stream, kind, args.expect, args.note.note()).await?;
    Ok(DeletedStream::of(&args.stream, kind, &committed))
}

async fn request(service: &Service, args: &DeleteArgs, kind: DeleteKind) -> Result<DeletedStream, Failure> {
    let expect = match args.expect {
        ExpectedRevision::Any => "any".to_owned(),
        ExpectedRevision::NoStream => "none".to_owned(),
        ExpectedRevision::StreamExists => "exists".to_owned(),
        ExpectedRevision::Exact(revision) => revision.to_string(),
    };
    let mut query = vec![("kind", kind.to_string()), ("expect", expect)];
    query.extend(args.note.query());
    service.send(Method::DELETE, &format!("/streams/{}", encoded(args.stream.as_str())), &query).await
}

fn to_text(DeletedStream { stream, kind, through, repeated, is_replicated, .. }: &DeletedStream) -> String {
    let extent = through.map_or_else(|| "which has no event".to_owned(), |last| format!("up to revision {last}"));
    let already = if *repeated { "already " } else { "" };
    match (kind, is_replicated) {
        (DeleteKind::Soft, false) => {
            format!("{already}deleted: stream {stream}, {extent}; new events continue at the next revision")
        }
        (DeleteKind::Hard, false) => format!("{already}hard deleted: stream {stream}, {extent}"),
        (DeleteKind::Soft, true) => format!(
            "{already}deleted: stream {stream}, {extent} of this node; the other nodes delete the same events when \
             they receive the deletion, and keep events that they appended without knowing of it"
        ),
        (DeleteKind::Hard, true) => format!(
            "{already}erased: stream {stream}, {extent} of this node; the other nodes erase it with all of its events \
             when they receive the erasure, and no node accepts new ones"
        ),
    }
}

/// Asks the operator to type the name of the stream.
fn confirm(args: &DeleteArgs) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let message = "expected --yes with --hard, or the name of the stream at a terminal, found neither";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut stderr = io::stderr().lock();
    let question = "the stream will be hard deleted (on all nodes, if it is replicated) and cannot be written again; \
                    type its name to confirm: ";
    let asked = write!(stderr, "{question}").and_then(|()| stderr.flush());
    asked.map_err(|source| Failure::Io { action: "write to standard error".into(), source })?;
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|source| Failure::Io { action: "read standard input".into(), source })?;
    if answer.trim_end_matches(['\r', '\n']) == args.stream.as_str() {
        return Ok(());
    }
    Err(Failure::Input("expected the name of the stream, found another text; nothing was deleted".to_owned()))
}
