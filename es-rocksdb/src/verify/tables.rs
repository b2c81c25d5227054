//! Broken blocks of tables that no read complains of.

use es_core::StoreError;
use rocksdb::statistics::Ticker;

use super::Verifier;
use crate::database::Tier;
use crate::error::of_rocksdb;
use crate::schema::Cf;

impl Verifier<'_> {
    /// Makes RocksDB look at the filter of every table, and names those where it has met a broken block.
    ///
    /// A filter is read when a key is asked for that a table may have by its first and its last key. A block that is broken
    /// does not get into the cache, so that it is met again each time.
    pub(super) fn tables(&mut self, counts: &rocksdb::Options) -> Result<(), StoreError> {
        let broken = || counts.get_ticker_count(Ticker::BlockChecksumMismatchCount);
        let tables = self.database.raw().live_files().map_err(|error| of_rocksdb("list", "the tables", error))?;
        let total = tables.len() as u64;
        for (table, done) in tables.into_iter().zip(1..) {
            let Some(cf) = Cf::ALL.into_iter().find(|cf| cf.name() == table.column_family_name) else { continue };
            let before = broken();
            for key in [table.start_key, table.end_key].into_iter().flatten() {
                // NOTE: a key that is there ends the search at the first table that has it; one that is not goes on to all.
                for key in [[key.as_slice(), &[0]].concat(), key] {
                    let read = self.database.get(cf, &key, Tier::Any).map(drop).map_err(StoreError::from);
                    self.found.note(read)?;
                }
            }
            if broken() > before && self.found.is_sound() {
                let place = format!("column family {}, table {}", cf.name(), table.name.trim_start_matches('/'));
                self.found.add(
                    place,
                    "a block that only saves work, such as a Bloom filter, has another checksum than expected",
                );
            }
            self.tell("tables", done, Some(total));
        }
        if broken() > 0 && self.found.is_sound() {
            let detail = "a block that is not needed for reading has another checksum than expected";
            self.found.add("the tables", detail);
        }
        Ok(())
    }
}
