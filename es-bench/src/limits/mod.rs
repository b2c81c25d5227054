//! The limits: what engine and disk give to somebody who does none of the work that makes an event store.

mod direct;
pub(crate) mod file;

pub(crate) use direct::{EachThread, OneThread, ROCKSDB_EACH, ROCKSDB_ONE};
pub(crate) use file::{BARE_FILE, BareFile};
