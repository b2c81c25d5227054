//! Verification of the blocks of table files that RocksDB skips without an error.

use es_core::StoreError;
use rocksdb::statistics::Ticker;

use crate::engine::database::{Database, Tier};
use crate::error::of_rocksdb;
use crate::schema::Cf;
use crate::verify::Verification;

/// Makes RocksDB read the filter of each table file, and adds a finding for each table file with a corrupt block.
///
/// RocksDB reads a filter to look up a key between the first and the last key of the table file. It does not cache
/// a corrupt block, so that each read counts it again.
pub(super) fn verify_blocks(
    database: &Database,
    counts: &rocksdb::Options,
    found: &mut Verification,
    mut report: impl FnMut(u64, u64),
) -> Result<(), StoreError> {
    let corrupt_blocks = || counts.get_ticker_count(Ticker::BlockChecksumMismatchCount);
    let tables = database.raw().live_files().map_err(|error| of_rocksdb("list", "the tables", error))?;
    let total = tables.len() as u64;
    for (table, done) in tables.into_iter().zip(1..) {
        let Some(cf) = Cf::ALL.into_iter().find(|cf| cf.name() == table.column_family_name) else { continue };
        let before = corrupt_blocks();
        for key in [table.start_key, table.end_key].into_iter().flatten() {
            // The search for an existing key ends at the first table file that has it. The search for the missing
            // key continues to the last one.
            for key in [[key.as_slice(), &[0]].concat(), key] {
                let read = database.get(cf, &key, Tier::Any).map(drop).map_err(StoreError::from);
                found.note(read)?;
            }
        }
        if corrupt_blocks() > before && found.is_sound() {
            let place = format!("column family {}, table {}", cf.name(), table.name.trim_start_matches('/'));
            found.add(place, "an optional block, such as a Bloom filter, has a wrong checksum");
        }
        report(done, total);
    }
    if corrupt_blocks() > 0 && found.is_sound() {
        let detail = "an optional block has a wrong checksum";
        found.add("the tables", detail);
    }
    Ok(())
}
