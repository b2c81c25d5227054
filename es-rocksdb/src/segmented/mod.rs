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
//!     +--> open --> seal (tables of full runs) --> publish, layout, signal
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
mod posting_blocks;
mod publish;
mod reads;
mod run;
mod run_ids;
mod scavenge;
mod seal;
mod shared_store;
mod signal;
mod store;
mod stream_buffers;

pub use store::SegmentedStore;
