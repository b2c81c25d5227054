//! A log of events in segment files, with checksums, group commit and recovery.
//!
//! - **Durable.** A commit is acknowledged after its frame is on disk: one write and one `fdatasync` for all commits of
//!   a frame. Segments are filled with zeros ahead, so that a sync changes no metadata of the file.
//! - **Verified.** Each record and each frame has a checksum, and each frame has that of the frame before it. Opening
//!   distinguishes a torn end, which was not acknowledged, from damage and from the loss of acknowledged commits.
//! - **Compact.** [`Log::compress`] compresses sealed segments; positions and checksums stay as they were.
//! - **In order.** Positions have no gaps. Readers see a commit after it is on disk.
//!
//! It is not an event store: it does not know the revisions of streams, conditions or indexes. A store decides on a
//! commit inside [`Log::commit`], and keeps its own indexes, as `RocksDbStore` of `es-rocksdb` does.
//!
//! ```
//! use es_core::{EventId, Position, Revision, model::CommitPart};
//! use es_log::{AppendError, Body, ContentCode, EventFields, Log, LogOptions, TagTexts};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let options = LogOptions { first_segment: 1 << 16, ..LogOptions::default() };
//! let log = Log::open(directory.path().join("log"), options)?;
//! let position = log.commit::<_, AppendError>(|commit| {
//!     Ok(commit.push(&Body::Event(EventFields {
//!         stream: b"order-1",
//!         revision: Revision::new(0),
//!         id: EventId::new(),
//!         recorded_at: 1,
//!         occurred_at: 1,
//!         part: CommitPart { index: 0, size: 1 },
//!         event_type: b"order-placed",
//!         version: 1,
//!         content_type: ContentCode::Json,
//!         correlation_id: None,
//!         causation_id: None,
//!         tags: TagTexts::default(),
//!         metadata: b"",
//!         payload: b"{}",
//!         extensions: b"",
//!     }))?)
//! })?;
//! assert_eq!(log.head(), Some(position));
//!
//! let mut reader = log.read(Position::FIRST);
//! while let Some(batch) = reader.next_batch()? {
//!     for record in batch.records() {
//!         println!("{:?}", record?.body);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What survives
//!
//! The disk is expected to keep what it has synced, and to change nothing outside of the range of a write. The file
//! system is [`Disk`], which tests replace.
//!
//! | fault | result |
//! |---|---|
//! | the process is killed, the power fails, a write is torn | No acknowledged commit is lost. A commit is complete or absent. |
//! | a write fails before the sync: no space, no file descriptor | The commits of the frame fail with [`AppendError::NotWritten`]. Later commits succeed when the cause is gone, or fail until the log is opened again, by [`LogOptions::on_write_failure`]. |
//! | a sync fails | The commits of the frame fail with [`AppendError::SyncFailed`]: their outcome is unknown. Later commits fail until the log is opened again. |
//! | a bit of the last segment is flipped | [`Log::open`] fails and names the position. |
//! | a bit of another segment is flipped | A read of the record fails and names its position. [`verify`] reports it. |
//! | the end of the log, or the high-water mark, is removed | [`Log::open`] fails. |
//!
//! One case cannot be decided: a power failure can also lose the high-water mark of the last seconds. If the last frame
//! is damaged as well, it looks torn. After a second without commits a blank frame confirms the last one.
//!
//! # Modules
//!
//! ```text
//!   log --> group --> writer --> active, spare, mark              opening: recovery --> scan
//!    |                  |                                         verify   --> scan
//!    +--> readable --> reader --> catalog (segments, offsets, tail)  bytes: frame --> record
//!            +-------> builder (copies and repaired logs)            salvage --> scan
//!            +-------> rewrite --> compressed, through which all of them read sealed segments
//! ```

mod active;
mod answer;
mod builder;
mod catalog;
mod compressed;
mod disk;
mod error;
#[cfg(test)]
mod format_document;
mod frame;
mod group;
mod layout;
mod log;
mod mark;
mod open_frame;
mod readable;
mod reader;
mod record;
mod recovery;
mod rewrite;
mod salvage;
mod scan;
mod segment;
mod spare;
mod sync;
mod tail;
mod verify;
mod writer;

pub use answer::PendingCommit;
pub use builder::{FrameDraft, LogBuilder};
pub use disk::{DirectoryLock, Disk, DiskFile, SystemDisk};
pub use error::{AppendError, Damage, OpenError, ReadError, RewriteError};
pub use frame::{Batch, EntryKind, Frame, FrameError, FrameHeader, Place};
pub use group::{Follower, Turn};
pub use layout::MARK_FILE;
pub use log::{Log, LogOptions};
pub use open_frame::CommitDraft;
pub use readable::{ReadableLog, SegmentFile};
pub use reader::{LogReader, PointReader};
pub use record::{
    Body, ContentCode, EventFields, KeyFields, Record, RecordError, RowFields, TagTexts, TombstoneFields,
};
pub use rewrite::Rewritten;
pub use salvage::{IntactRecord, LogGap, SalvagedLog, SalvagedPart, inspect, salvage};
pub use verify::{VerifyReport, verify, verify_and_visit};
pub use writer::{Durability, OnWriteFailure};
