//! Scans of side tables.

use bytes::Bytes;
use es_core::StoreError;
use es_core::store::implement::Locks;
use es_core::store::{Direction, Row, RowScan};

use crate::database::{Database, Fault, Tier, bad_key, item};
use crate::key;
use crate::schema::Cf;

/// How many rows an executor reads itself when they are in memory.
pub(crate) const INLINE_ROWS: usize = 128;

/// The rows of a scan.
pub(crate) fn scan(database: &Database, scan: &RowScan, tier: Tier) -> Result<Vec<Row>, Fault> {
    let prefix = key::row(&scan.table, &scan.prefix);
    let after = scan.after.as_ref().map(|after| key::row(&scan.table, after));
    let mut keys = database.iterate(Cf::Rows, prefix.clone(), tier)?;
    match (scan.direction, &after) {
        (Direction::Forward, Some(after)) => keys.seek(after.max(&prefix)),
        (Direction::Forward, None) => keys.seek(&prefix),
        (Direction::Backward, Some(after)) => keys.seek_for_prev(after),
        (Direction::Backward, None) => keys.seek_to_last(),
    }
    let mut rows = Vec::new();
    while rows.len() < scan.limit {
        let Some((key, value)) = item(&keys, Cf::Rows)? else { break };
        if after.as_deref() != Some(key) {
            let row_key = key::decode_row(key, &scan.table).map_err(|error| bad_key(Cf::Rows, key, &error))?;
            rows.push(Row { key: row_key, value: Bytes::copy_from_slice(value) });
        }
        match scan.direction {
            Direction::Forward => keys.next(),
            Direction::Backward => keys.prev(),
        }
    }
    Ok(rows)
}

/// Reads the streams that prepared transactions lock.
pub(crate) fn locks(database: &Database) -> Result<Locks, StoreError> {
    let rows = scan(database, &RowScan::new(Locks::rows_table(), "", usize::MAX), Tier::Any)?;
    Locks::from_rows(rows.into_iter().map(|row| (row.key, row.value)))
}
