//! The decoders without RocksDB, and the properties that they must have for any bytes. They decode the lines and files
//! that `es` imports, frames and records of es-log, and frames of es-replication. One property is about a whole session
//! of a replica with a hostile peer.
//!
//! - [`properties`]: the properties. Each is a function of bytes that panics if the property does not hold;
//! - [`seeds`]: generated inputs.
//!
//! The sources are those of `es-cli` and `es-replication`, included by their paths. There they stay
//! private, and a fuzzer instruments them without a build of RocksDB. `tests/tests/decoding.rs` checks the properties
//! on seeds, mutated seeds and random bytes. The targets in `fuzz/` check them with libFuzzer.

#[path = "../../../es-cli/src/import/commits.rs"]
#[allow(dead_code, reason = "the properties do not use everything")]
mod commits;
mod command {
    //! What the included source `wire` imports from its crate.
    pub(crate) use es_replication::{CommandAnswer, CommandOutcome, ForwardedCommand};
}
mod filter {
    //! What the included source `wire` imports from its crate.
    pub(crate) use es_replication::StreamFilter;
}
#[path = "../../../es-cli/src/import/group.rs"]
mod group;
mod keys {
    //! What the included source `wire` imports from its crate.
    pub(crate) use es_replication::KeyRequest;
}
mod knowledge {
    //! What the included source `wire` imports from its crate.
    pub(crate) use es_replication::Knowledge;
}
#[path = "../../../es-cli/src/import/lines.rs"]
#[allow(dead_code, reason = "the properties do not use everything")]
mod lines;
mod page {
    //! What the included source `wire` imports from its crate.
    pub(crate) use es_replication::{
        Claim, Confirmation, ForeignEvent, GapReason, Item, MemberReport, Page, Pull, Sender,
    };
}
mod promise {
    //! What the included source `wire` imports from its crate.
    pub(crate) use es_replication::Promise;
}
pub mod properties;
pub mod seeds;
#[path = "../../../es-replication/src/wire/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the properties do not use everything")]
mod wire;
