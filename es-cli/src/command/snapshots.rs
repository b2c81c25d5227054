//! The commands `snapshots list` and `snapshots drop`.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use es_core::aggregate::snapshot::{self, SnapshotHeader};
use es_core::model::Category;
use es_core::retention::Scope;
use es_core::store::{Row, RowScan, StoreAdmin};
use es_core::{EventReader, EventStore, StreamId};
use es_rocksdb::{Options, ReadOnlyStore};
use es_tool::text::table;
use serde::Serialize;

use crate::answer::print;
use crate::args::{DropArgs, SnapshotsArgs};
use crate::failure::Failure;
use crate::text::count;

/// The number of rows per read.
const PAGE: usize = 1000;
/// The length of the revision at the end of a key.
const REVISION_BYTES: usize = 8;

#[derive(Serialize)]
struct SnapshotRow {
    stream: String,
    revision: u64,
    position: Option<u64>,
    fingerprint: Option<String>,
    bytes: usize,
}

pub(super) async fn list(directory: &Path, args: &SnapshotsArgs, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let mut found = Vec::new();
    let mut after = None;
    while let Some(page) = page(&store, &mut after, args.stream.as_ref(), args.category.as_ref()).await? {
        found.extend(page);
    }
    print(json, || to_text(&found), &found)
}

fn to_text(found: &[SnapshotRow]) -> String {
    let rows = found.iter().map(|row| {
        let position = row.position.map_or_else(|| "?".to_owned(), |position| position.to_string());
        let fingerprint = row.fingerprint.clone().unwrap_or_else(|| "?".to_owned());
        [row.stream.clone(), fingerprint, row.revision.to_string(), position, row.bytes.to_string()]
    });
    let header = ["stream", "fingerprint", "revision", "position", "bytes"];
    format!("{}\n{}", table(header, 2, rows), count(found.len() as u64, "snapshot", "snapshots"))
}

pub(super) async fn drop(directory: &Path, args: &DropArgs, json: bool) -> Result<(), Failure> {
    let store = Options::new().create_if_missing(false).open(directory).await?;
    let scope = args.stream.clone().map(Scope::Stream).or_else(|| args.category.clone().map(Scope::Category));
    let deleted = StoreAdmin::new(Arc::new(store.clone())).delete_snapshots(scope.as_ref()).await;
    let closed = store.close().await;
    let deleted = deleted?;
    closed?;
    #[derive(Serialize)]
    struct DeletedSnapshots {
        deleted: u64,
    }
    print(json, || format!("{} deleted", count(deleted, "snapshot", "snapshots")), &DeletedSnapshots { deleted })
}

/// Returns the next page of snapshots; `None` after the last.
async fn page(
    store: &dyn EventReader,
    after: &mut Option<Bytes>,
    stream: Option<&StreamId>,
    category: Option<&Category>,
) -> Result<Option<Vec<SnapshotRow>>, Failure> {
    let prefix = stream.map(|stream| [stream.as_str().as_bytes(), &[0]].concat());
    // A prefix can match other categories as well, which the filter below removes.
    let prefix = prefix.or_else(|| category.map(|category| category.as_str().as_bytes().to_vec())).unwrap_or_default();
    let mut scan = RowScan::new(snapshot::table(), prefix, PAGE);
    scan.after.clone_from(after);
    let rows = store.rows(scan).await?;
    let Some(last) = rows.last() else { return Ok(None) };
    *after = Some(last.key.clone());
    let found = rows.iter().filter_map(parse);
    let matches_category = |row: &SnapshotRow| {
        category
            .is_none_or(|category| StreamId::new(&row.stream).is_ok_and(|stream| *category == *stream.category_str()))
    };
    Ok(Some(found.filter(matches_category).collect()))
}

/// Parses a row of the table of snapshots; `None` if its key is not that of a snapshot.
fn parse(Row { key, value }: &Row) -> Option<SnapshotRow> {
    let (stream, revision) = key.split_at_checked(key.len().checked_sub(REVISION_BYTES)?)?;
    let stream = std::str::from_utf8(stream.strip_suffix(&[0])?).ok()?.to_owned();
    let revision = u64::from_be_bytes(revision.try_into().ok()?);
    let header = SnapshotHeader::read(value);
    Some(SnapshotRow {
        stream,
        revision,
        position: header.as_ref().map(|(header, _)| header.position.get()),
        fingerprint: header.as_ref().map(|(header, _)| format!("{:016x}", header.fingerprint)),
        bytes: header.map_or(value.len(), |(_, state)| state.len()),
    })
}
