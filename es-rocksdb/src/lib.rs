//! An embedded, durable event store on RocksDB: [`RocksDbStore`] is an [`EventStore`](es_core::EventStore) in a
//! directory of this machine.
//!
//! It gives
//!
//! - **durability**: what was acknowledged is on the disk, unless the store was opened with [`Durability::Buffered`];
//! - **one order**: one writer at a time, on whichever thread. Positions have no gaps, and become visible in order;
//! - **group commit**: commits that come at the same time share one wait for the disk, and a lone one waits for nobody;
//! - **honest reads**: each record carries a checksum over itself, its position, its stream and its revision, which is
//!   verified whenever it is read; damage is an error that says where;
//! - **retention**: what [rules and deletions](es_core::retention) hide is returned by no read, and a scavenge removes it beside
//!   the running service;
//! - **indexes**: reads by category, type and tag, and the conditions of commits over them, touch only what matches.
//!
//! It is not
//!
//! - a server: one process writes to the directory, under one handle that can be cloned; others may look into it beside
//!   that, with [`ReadOnlyStore`];
//! - a copy: one disk holds it. [`Backups`] make it two;
//! - a projection database: its rows are for snapshots, checkpoints and views small enough to live beside the log.
//!
//! ```
//! use es_core::{Commit, EventReader, EventStore, EventType, ExpectedRevision, NewEvent, StreamId, StreamRead};
//! use es_rocksdb::RocksDbStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let store = RocksDbStore::open(directory.path()).await?;
//!
//! let stream = StreamId::new("order-10248")?;
//! let placed = NewEvent::json(EventType::new("order-placed")?, r#"{"customer":"VINET"}"#);
//! let committed = store.commit(Commit::to(&stream, ExpectedRevision::NoStream, [placed])).await?;
//!
//! let events = store.read_stream(StreamRead::new(stream)).await?.collect().await?;
//! assert_eq!(events, committed.events);
//!
//! store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! How it stands on disk, byte by byte, is drawn in `docs/storage-format.md`. What may be chosen is in [`Options`]; why a
//! store does not open in [`OpenError`]; what goes wrong later in [`StoreError`](es_core::StoreError).

mod acknowledged;
mod ahead;
mod backup;
mod database;
mod draft;
mod error;
mod group;
mod key;
mod log_file;
mod memory;
mod notify;
mod open;
mod options;
mod overlay;
mod postings;
mod queue;
mod read_only;
mod reader;
mod reads;
mod recent;
mod record;
mod recovery;
mod repair;
mod retention;
mod rows;
mod scavenge;
#[cfg(shuttle)]
pub mod schedules;
mod schema;
mod shared;
mod stats;
mod store;
mod sync;
mod tail;
mod verify;
mod writer;

#[cfg(test)]
mod format_document;

pub use backup::{Backup, BackupError, Backups, DamagedBackup};
pub use error::OpenError;
pub use memory::Memory;
pub use options::{Durability, Options};
pub use read_only::{HiddenEvents, ReadOnlyStore};
pub use repair::{Loss, RepairError, Repaired, Report, Salvage, SetAside};
pub use stats::Stats;
pub use store::RocksDbStore;
pub use verify::{Damage, Progress, Verification};
