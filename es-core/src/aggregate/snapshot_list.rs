//! The list of the snapshots of a store, for operators.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aggregate::snapshot::{SnapshotHeader, key, revision_of, table};
use crate::model::reserved::stream_prefix;
use crate::model::{Position, Revision, StreamId};
use crate::retention::Scope;
use crate::store::{EventReader, Row, RowScan, StoreError};

/// A stored snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSummary {
    /// The stream of the aggregate.
    pub stream: StreamId,
    /// The revision of the last event in the state.
    pub revision: Revision,
    /// The position of that event; `None` if another version of the library stored the snapshot.
    pub position: Option<Position>,
    /// The fingerprint of the state type in hexadecimal digits; `None` as for `position`.
    pub fingerprint: Option<String>,
    /// The size of the encoded state in bytes.
    pub bytes: u64,
}

/// A part of a list of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// The snapshots, sorted by stream and revision. A page that is not the last one can be empty.
    pub snapshots: Vec<SnapshotSummary>,
    /// The stream and the revision after which the next page continues; `None` after the last page.
    pub next: Option<(StreamId, Revision)>,
}

/// Reads the next `limit` snapshots of a stream or a category, or of all streams for `None`, after the snapshot
/// `after`.
///
/// # Errors
/// [`StoreError`] if the store is closed, damaged, or fails to read.
pub async fn snapshots(
    reader: &dyn EventReader,
    scope: Option<&Scope>,
    after: Option<(&StreamId, Revision)>,
    limit: usize,
) -> Result<SnapshotPage, StoreError> {
    let prefix = match scope {
        None => Bytes::new(),
        Some(Scope::Stream(stream)) => stream_prefix(stream),
        Some(Scope::Category(category)) => Bytes::copy_from_slice(category.as_str().as_bytes()),
    };
    let mut scan = RowScan::new(table(), prefix, limit.max(1));
    scan.after = after.map(|(stream, revision)| key(stream, revision));
    let limit = scan.limit;
    let rows = reader.rows(scan).await?;
    let is_last = rows.len() < limit;
    let found: Vec<SnapshotSummary> = rows.iter().filter_map(summary).collect();
    let next = found.last().filter(|_| !is_last).map(|last| (last.stream.clone(), last.revision));
    // The prefix of a category can match streams of other categories.
    let is_selected = |found: &SnapshotSummary| match scope {
        Some(Scope::Category(category)) => *category == *found.stream.category_str(),
        Some(Scope::Stream(_)) | None => true,
    };
    Ok(SnapshotPage { snapshots: found.into_iter().filter(is_selected).collect(), next })
}

/// Returns the summary of a row; `None` if its key is not that of a snapshot.
fn summary(Row { key, value }: &Row) -> Option<SnapshotSummary> {
    let revision = revision_of(key)?;
    let stream = key.split_last_chunk::<8>()?.0.strip_suffix(&[0])?;
    let stream = StreamId::new(std::str::from_utf8(stream).ok()?).ok()?;
    let header = SnapshotHeader::read(value);
    Some(SnapshotSummary {
        stream,
        revision,
        position: header.as_ref().map(|(header, _)| header.position),
        fingerprint: header.as_ref().map(|(header, _)| format!("{:016x}", header.fingerprint)),
        bytes: header.map_or(value.len(), |(_, state)| state.len()) as u64,
    })
}
