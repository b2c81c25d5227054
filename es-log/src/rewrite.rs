//! Rewrites a sealed segment without records that are no longer wanted: an event becomes a tombstone, a row or a unique
//! key is dropped. No position changes. A plain segment can become a compressed one by the same steps.
//!
//! ```text
//!   00000003.seg --> 00000003.new, with tombstones, on disk --> renamed to 00000003.seg
//! ```
//!
//! A frame that changes keeps its original checksum in its header, because the next frame has that one. So frames
//! without a change are copied as they are, and no other segment changes.

use std::path::Path;

use crate::active::SegmentInfo;
use crate::catalog::Catalog;
use crate::compressed;
use crate::disk::Disk;
use crate::error::{Damage, ReadError, RewriteError};
use crate::frame::{self, EntryKind, Frame, FrameHeader};
use crate::layout::{FRAME_HEADER_LEN, SEGMENT_HEADER_LEN};
use crate::reader::with_source;
use crate::record::{Body, Record, TombstoneFields};
use crate::scan::{READ_LEN, Window, read_frame};
use crate::segment::{self, SegmentHeader, Trailer};

/// What a rewrite of a segment has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewritten {
    /// The number of events that are tombstones now.
    pub events: u64,
    /// The number of rows and unique keys that were dropped.
    pub changes: u64,
    /// The number of bytes by which the file is shorter.
    pub bytes: u64,
}

/// The form of a rewritten segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// That of the old one.
    Unchanged,
    Compressed,
}

/// The new content of a segment.
struct Content {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    removed: Rewritten,
}

/// Rewrites a segment without the records for which `is_unwanted` returns `true`. Does nothing if there is no such
/// record and the segment has the form.
pub(crate) fn rewrite(
    catalog: &Catalog,
    disk: &dyn Disk,
    directory: &Path,
    (number, form): (u32, Form),
    is_unwanted: &mut dyn FnMut(&Record<'_>) -> bool,
) -> Result<Rewritten, RewriteError> {
    let Some(info) = catalog.sealed(number) else { return Err(RewriteError::NotSealed { segment: number }) };
    let Some(trailer) = info.trailer else {
        let reason = "expected a footer, found other bytes".to_owned();
        return Err(damaged(&info, info.header.size.into(), reason).into());
    };
    let path = directory.join(segment::file_name(number));
    let failed = |source| RewriteError::Io { path: path.clone(), source };
    let file = disk.open_read_only(&path).map_err(failed)?;
    let old_length = file.length().map_err(failed)?;
    let window = Window::new(compressed::content_of(file, number).map_err(failed)?, READ_LEN);
    let mut content = read_content(window, &path, &info, &trailer, is_unwanted)?;
    let has_removed = content.removed != Rewritten::default();
    let is_compressed = info.header.is_compressed || form == Form::Compressed;
    if !has_removed && is_compressed == info.header.is_compressed {
        return Ok(content.removed);
    }
    let info = complete(&info, &trailer, &mut content, is_compressed)?;
    let new = directory.join(segment::spare_name(number));
    let failed = |source| RewriteError::Io { path: new.clone(), source };
    let write = || {
        let file = disk.create(&new)?;
        file.write_at(&content.bytes, 0)?;
        file.sync()
    };
    let replace = || catalog.replace_segment(info, has_removed, || disk.rename(&new, &path));
    write().and_then(|()| replace()).map_err(|source| {
        // The space is needed. The error of the write is the one to report.
        let _ = disk.remove(&new);
        failed(source)
    })?;
    disk.sync_directory(directory).map_err(failed)?;
    let bytes = old_length.saturating_sub(content.bytes.len() as u64);
    Ok(Rewritten { bytes, ..content.removed })
}

/// Reads the frames of a segment, and returns them without the unwanted records, after space for the header.
fn read_content(
    mut window: Window,
    path: &Path,
    info: &SegmentInfo,
    trailer: &Trailer,
    is_unwanted: &mut dyn FnMut(&Record<'_>) -> bool,
) -> Result<Content, RewriteError> {
    let place = info.header.place;
    let bytes = vec![0; SEGMENT_HEADER_LEN];
    let mut content = Content { bytes, offsets: Vec::new(), removed: Rewritten::default() };
    let mut at = SEGMENT_HEADER_LEN as u64;
    while at < trailer.end.into() {
        let read = read_frame(&mut window, at, trailer.end.into(), place);
        let read = read.map_err(|source| RewriteError::Io { path: path.to_owned(), source })?;
        let old = read.map_err(|error| damaged(info, at, with_source(&error)))?;
        at += old.bytes().len() as u64;
        let start = content.bytes.len();
        let (new, offsets) =
            without(&old, &mut content.removed, is_unwanted).map_err(|error| damaged(info, at, error))?;
        match new {
            Some(new) => content.bytes.extend_from_slice(&new),
            None => content.bytes.extend_from_slice(old.bytes()),
        }
        // A segment is smaller than 4 GiB.
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        content.offsets.extend(offsets.iter().map(|offset| start + offset));
    }
    Ok(content)
}

/// Returns a frame without its unwanted records, `None` if it has none, and the offset of each event in the result.
fn without(
    old: &Frame,
    removed: &mut Rewritten,
    is_unwanted: &mut dyn FnMut(&Record<'_>) -> bool,
) -> Result<(Option<Vec<u8>>, Vec<u32>), String> {
    let place = old.place();
    let mut bytes = vec![0; FRAME_HEADER_LEN];
    let (mut records, mut is_changed) = (0, false);
    for record in old.batch().records() {
        let record = record.map_err(|error| error.to_string())?;
        match record.body {
            Body::Event(event) if is_unwanted(&record) => {
                let tombstone = TombstoneFields {
                    stream: event.stream,
                    revision: event.revision,
                    id: event.id,
                    recorded_at: event.recorded_at,
                    part: event.part,
                };
                let encoded = Body::Tombstone(tombstone).encode(place.base_time, &mut bytes);
                encoded.map_err(|error| error.to_string())?;
                (is_changed, removed.events) = (true, removed.events + 1);
            }
            Body::Row(_) | Body::Key(_) if is_unwanted(&record) => {
                (is_changed, removed.changes) = (true, removed.changes + 1);
                continue;
            }
            _ => bytes.extend_from_slice(record.bytes),
        }
        records += 1;
    }
    let header = *old.header();
    let kind = if records == 0 { EntryKind::Blank } else { header.kind };
    let commits = if records == 0 { 0 } else { header.commits };
    let header = FrameHeader { records, commits, kind, original: Some(header.link()), ..header };
    let mut offsets = Vec::new();
    frame::complete(&mut bytes, header, &place, &mut offsets).map_err(|error| with_source(&error))?;
    Ok((is_changed.then_some(bytes), offsets))
}

/// Completes the content of a segment with its header and footer, and compresses it. Returns what is known of it.
fn complete(
    info: &SegmentInfo,
    trailer: &Trailer,
    content: &mut Content,
    is_compressed: bool,
) -> Result<SegmentInfo, RewriteError> {
    let Content { bytes, offsets, .. } = content;
    let too_large = || damaged(info, 0, "expected a segment below 4 GiB".to_owned());
    let (header, trailer) = segment::complete(bytes, offsets, info.header, *trailer).map_err(|_| too_large())?;
    if is_compressed {
        *bytes = compressed::compress(bytes, &header).map_err(|_| too_large())?;
    }
    Ok(SegmentInfo { header: SegmentHeader { is_compressed, ..header }, trailer: Some(trailer), ..*info })
}

fn damaged(info: &SegmentInfo, offset: u64, reason: String) -> ReadError {
    let file = segment::file_name(info.header.place.segment);
    ReadError::Damaged(Damage { file, offset, position: None, reason })
}
