//! A store whose events are in a log of segments, with RocksDB as the index of the log.
//!
//! ```text
//!   commit: draft -> decide, add to the open frame -> | write + sync of the frame | -> publish -> answer
//!           caller   caller, while the log is locked  | meanwhile the next fills  |
//!   events: log <- runs in memory -> tables in RocksDB      rows, keys: in the frame, then RocksDB's memtables
//!
//!   store --> reads --> frame_source, copy_source --> shared_store --> publish --> index --> run --> run_ids
//!     |         ^                                        ^    |          |           +--> posting_blocks
//!     |         |                                        |    +--> stream_buffers
//!     +--> scavenge -------------------------------------+               +--> decide --> pending, codec
//!     +--> open --> replay --> seal (tables of full runs) --> publish, layout, signal
//!            ^        ^
//!            |        +---- rebuild (the index of a repaired store)
//!            +--------+---- snapshot (a store that is only read) --> store, pinned_disk, whole_log, verify
//! ```
//!
//! RocksDB has no write-ahead log here: its content is a function of the log up to the position `applied`, which is
//! written last. Opening the store reads the log from there.

mod codec;
mod copy_source;
mod decide;
mod frame_source;
mod index;
mod layout;
mod open;
mod pending;
mod pinned_disk;
mod posting_blocks;
mod publish;
mod reads;
mod rebuild;
mod replay;
mod run;
mod run_ids;
mod scavenge;
mod seal;
mod shared_store;
mod signal;
mod snapshot;
mod store;
mod stream_buffers;
mod verify;
mod whole_log;

pub(crate) use codec::LogDecoder;
pub(crate) use index::{Copied, of_log};
pub(crate) use layout::{INDEX, LOG, META_APPLIED, is_segmented};
pub(crate) use open::of_log_opening;
pub(crate) use rebuild::IndexBuilder;
pub(crate) use replay::ChangedKey;
pub(crate) use snapshot::{PinnedLog, SegmentedReader, manifests};
pub use store::SegmentedStore;
