//! What decodes bytes that this program did not just write, without RocksDB: records and keys of the store, and the lines
//! and files that `es` imports; with the properties that must hold of them for any bytes.
//!
//! - [`properties`]: the properties, each a function of bytes that panics where it does not hold;
//! - [`seeds`]: inputs to begin with, made and not kept.
//!
//! The sources are those of `es-rocksdb` and `es-cli`, taken in by their paths: they stay private there, and a fuzzer
//! instruments them without a build of RocksDB. Two use this crate: `tests/tests/decoding.rs` runs the properties on every
//! test run, over seeds, changed seeds and random bytes; the targets in `fuzz/` hand them to libFuzzer.

#[path = "../../../es-cli/src/import/commits.rs"]
#[allow(dead_code, reason = "a test does not need all of it")]
mod commits;
#[path = "../../../es-cli/src/import/group.rs"]
mod group;
#[path = "../../../es-rocksdb/src/key.rs"]
#[allow(dead_code, unreachable_pub, reason = "a test does not need all of it")]
mod key;
#[path = "../../../es-cli/src/line.rs"]
pub mod line;
#[path = "../../../es-cli/src/import/lines.rs"]
#[allow(dead_code, reason = "a test does not need all of it")]
mod lines;
pub mod properties;
#[path = "../../../es-rocksdb/src/record/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "a test does not need all of it")]
mod record;
#[path = "../../../es-rocksdb/src/schema.rs"]
#[allow(dead_code, unreachable_pub, reason = "a test does not need all of it")]
mod schema;
pub mod seeds;

/// The version of the storage format that the sources write.
pub const FORMAT_VERSION: u32 = schema::FORMAT_VERSION;
