//! Scans of side tables.

use std::ops::ControlFlow;

use bytes::Bytes;
use es_core::StoreError;
use es_core::store::implement::Locks;
use es_core::store::{Row, RowScan};

use crate::engine::database::{Database, Fault, Tier, bad_key};
use crate::engine::key;
use crate::schema::Cf;

/// How many rows an executor reads itself when they are in memory.
pub(crate) const INLINE_ROWS: usize = 128;

/// The rows of a scan.
pub(crate) fn scan(database: &Database, scan: &RowScan, tier: Tier) -> Result<Vec<Row>, Fault> {
    let prefix = key::row(&scan.table, &scan.prefix);
    let after = scan.after.as_ref().map(|after| key::row(&scan.table, after));
    let mut rows = Vec::new();
    if scan.limit == 0 {
        return Ok(rows);
    }
    let mut add = |key: &[u8], value: &[u8]| {
        if after.as_deref() != Some(key) {
            let row_key = key::decode_row(key, &scan.table).map_err(|error| bad_key(Cf::Rows, key, &error))?;
            rows.push(Row { key: row_key, value: Bytes::copy_from_slice(value) });
        }
        Ok(if rows.len() < scan.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    };
    database.visit_entries(Cf::Rows, &prefix, (scan.direction, after.as_deref()), tier, &mut add)?;
    Ok(rows)
}

/// Reads the streams that prepared transactions lock.
pub(crate) fn locks(database: &Database) -> Result<Locks, StoreError> {
    let rows = scan(database, &RowScan::new(Locks::rows_table(), "", usize::MAX), Tier::Any)?;
    Locks::from_rows(rows.into_iter().map(|row| (row.key, row.value)))
}
