//! The limits of engine and disk, without the work of an event store.

mod direct;
pub(crate) mod file;
mod log;

pub(crate) use direct::{EachThread, OneThread, ROCKSDB_EACH, ROCKSDB_ONE};
pub(crate) use file::{BARE_FILE, BareFile};
pub(crate) use log::BareLog;
