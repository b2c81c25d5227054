//! An embedded, durable event store on RocksDB: [`RocksDbStore`] is an [`EventStore`](es_core::EventStore) in a
//! directory of this machine.
//!
//! - **Durable**: a commit returns after its events are on disk, unless the store was opened with
//!   [`Durability::Buffered`].
//! - **One order**: one writer at a time. Positions have no gaps and become visible in order.
//! - **Group commit**: concurrent commits share one sync; a lone commit waits for no other.
//! - **Verified**: each record has a checksum over itself, its position, its stream and its revision, which every
//!   read verifies.
//! - **Indexed**: reads by category, type and tag, and append conditions over them, touch only matching events.
//!
//! It is not
//!
//! - a server: one process has the directory open for writing; others can read it with [`ReadOnlyStore`];
//! - a replica: one disk has the data. [`Backups`] make copies;
//! - a database for large views: its rows are for snapshots, checkpoints and views small enough to be stored beside
//!   the log.
//!
//! # The tour
//!
//! **Open, write, read, close.** A handle can be cloned. See [`RocksDbStore`], and [`es_core::store`] for commits and
//! reads.
//!
//! ```
//! use es_core::{Commit, EventReader, EventStore, EventType, ExpectedRevision, NewEvent, StreamId, StreamRead};
//! use es_rocksdb::RocksDbStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("data");
//! let store = RocksDbStore::open(directory).await?;
//!
//! let stream = StreamId::new("order-10248")?;
//! let placed = NewEvent::json(EventType::new("order-placed")?, r#"{"customer":"VINET"}"#);
//! let committed = store.commit(Commit::to(&stream, ExpectedRevision::NoStream, [placed])).await?;
//! let events = store.read_stream(StreamRead::new(stream)).await?.collect().await?;
//! assert_eq!(events, committed.events);
//!
//! store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Choose durability, memory and hooks.** See [`Options`].
//!
//! ```
//! use es_core::EventStore;
//! use es_rocksdb::{Durability, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("data");
//! let options = Options::new().durability(Durability::Buffered).block_cache_bytes(256 << 20);
//! options.open(directory).await?.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Read beside a service.** A read-only opening shows the store as it was at one moment. See [`ReadOnlyStore`].
//!
//! ```
//! use es_core::{EventReader, EventStore};
//! use es_rocksdb::{ReadOnlyStore, RocksDbStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("data");
//! let store = RocksDbStore::open(&directory).await?;
//! let reader = ReadOnlyStore::open(&directory).await?;
//! assert_eq!(reader.head().await?, store.head().await?);
//! assert!(reader.verify(&mut |_, _, _| {})?.is_sound());
//! # store.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Back up, restore, repair.** A backup is a store of its own. Repair is explicit and writes to a new directory.
//! See [`Backups`] and [`Salvage`].
//!
//! ```
//! use es_core::EventStore;
//! use es_rocksdb::{Backups, RocksDbStore, Salvage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("data");
//! let store = RocksDbStore::open(&directory).await?;
//! let backups = Backups::new(directory.with_extension("backups"));
//! backups.create(&directory, &mut |_, _, _| {}).await?;
//! store.close().await?;
//! assert!(Salvage::survey(&directory, &mut |_, _, _| {})?.report().is_sound());
//! # Ok(())
//! # }
//! ```
//!
//! The book has a chapter on operations. `docs/storage-format.md` documents the format, byte by byte. The variants of
//! [`OpenError`] and [`StoreError`](es_core::StoreError) document how to handle each failure.

mod access;
mod backup;
mod engine;
mod error;
mod executor;
mod index;
mod marker;
mod open;
mod options;
mod reader;
mod record;
mod repair;
mod retag;
mod retention;
mod scavenge;
#[cfg(shuttle)]
pub mod schedules;
mod schema;
mod stats;
mod store;
mod sync;
mod verify;
mod writer;

#[cfg(test)]
mod format_document;

pub use backup::{Backup, BackupError, Backups, DamagedBackup};
pub use engine::memory::Memory;
pub use error::OpenError;
pub use options::{Durability, OnWriteFailure, Options};
pub use repair::{Loss, RepairDraft, RepairError, Repaired, Report, Salvage, SetAside};
pub use retag::{RetagError, Retagged};
pub use retention::HiddenEvents;
pub use stats::Stats;
pub use store::RocksDbStore;
pub use store::read_only::ReadOnlyStore;
pub use verify::{Damage, Progress, Verification};
