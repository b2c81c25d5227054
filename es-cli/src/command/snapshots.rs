//! The commands `snapshots list` and `snapshots drop`.

use es_core::EventReader;
use es_core::aggregate::{SnapshotPage, SnapshotSummary, snapshots};
use es_core::retention::Scope;
use es_rocksdb::ReadOnlyStore;
use es_tool::text::table;
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::administer::administer;
use crate::answer::print;
use crate::args::{DropArgs, SnapshotsArgs};
use crate::failure::Failure;
use crate::service::Target;
use crate::text::count;

/// The number of snapshots per read.
const PAGE: usize = 1000;

pub(super) async fn list(target: &Target, args: &SnapshotsArgs, json: bool) -> Result<(), Failure> {
    let scope = args.stream.clone().map(Scope::Stream).or_else(|| args.category.clone().map(Scope::Category));
    let store = match target {
        Target::Directory(directory) => Some(ReadOnlyStore::open(directory).await?),
        Target::Service(_) => None,
    };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page: SnapshotPage = match (target, &store) {
            (Target::Service(service), _) => {
                let mut query = query(scope.as_ref());
                if let Some((stream, revision)) = &after {
                    query.push(("after_stream", format!("{stream}")));
                    query.push(("after_revision", format!("{revision}")));
                }
                service.get("/snapshots", &query).await?
            }
            (Target::Directory(_), Some(store)) => {
                let after = after.as_ref().map(|(stream, revision)| (stream, *revision));
                snapshots(store as &dyn EventReader, scope.as_ref(), after, PAGE).await?
            }
            (Target::Directory(_), None) => break,
        };
        found.extend(page.snapshots);
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    print(json, || to_text(&found), &found)
}

/// Returns the parameters that select a scope.
fn query(scope: Option<&Scope>) -> Vec<(&'static str, String)> {
    match scope {
        None => Vec::new(),
        Some(Scope::Stream(stream)) => vec![("stream", stream.to_string())],
        Some(Scope::Category(category)) => vec![("category", category.to_string())],
    }
}

fn to_text(found: &[SnapshotSummary]) -> String {
    let rows = found.iter().map(|row| {
        let position = row.position.map_or_else(|| "?".to_owned(), |position| position.to_string());
        let fingerprint = row.fingerprint.clone().unwrap_or_else(|| "?".to_owned());
        [row.stream.to_string(), fingerprint, row.revision.to_string(), position, row.bytes.to_string()]
    });
    let header = ["stream", "fingerprint", "revision", "position", "bytes"];
    format!("{}\n{}", table(header, 2, rows), count(found.len() as u64, "snapshot", "snapshots"))
}

#[derive(Serialize, Deserialize)]
struct DeletedSnapshots {
    deleted: u64,
}

pub(super) async fn drop(target: &Target, args: &DropArgs, json: bool) -> Result<(), Failure> {
    let scope = args.stream.clone().map(Scope::Stream).or_else(|| args.category.clone().map(Scope::Category));
    let answer = match target {
        Target::Directory(directory) => {
            let deleted = administer(directory, async |_, admin| Ok(admin.delete_snapshots(scope.as_ref()).await?));
            DeletedSnapshots { deleted: deleted.await? }
        }
        Target::Service(service) => {
            let mut query = query(scope.as_ref());
            query.extend(scope.is_none().then(|| ("all", "true".to_owned())));
            service.send(Method::DELETE, "/snapshots", &query).await?
        }
    };
    print(json, || format!("{} deleted", count(answer.deleted, "snapshot", "snapshots")), &answer)
}
