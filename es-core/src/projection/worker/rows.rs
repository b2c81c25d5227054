//! The rows that hold the persistent state of background projections.
//!
//! All rows are stored in one table. The keys of a projection start with its name and a zero byte:
//!
//! | key after the zero byte | value |
//! |---|---|
//! | `c` | [`Control`](super::control::Control): the requests of an operator |
//! | `l` | [`Holder`](crate::consumer::lease::Holder): the holder of the lease |
//! | `h` | [`Heartbeat`](crate::consumer::lease::Heartbeat): the end of the holder's lease |
//! | `k` generation, key | [`ParkedKey`](super::parked::ParkedKey) |
//! | `e` generation, key, position or number in canonical order | [`ParkedEvent`](super::parked::ParkedEvent) |
//! | `r` generation, key | a request to retry a parked key |
//! | `x` generation | [`Retired`]: a generation whose rows are to be removed |
//!
//! Numbers are big-endian. A key is prefixed with its length. Values are JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::consumer::lease::LeaseRows;
use crate::model::Table;
use crate::model::Timestamp;
use crate::model::digest::Fnv;
use crate::model::reserved;
use crate::projection::generation::Generation;
use crate::store::{EventReader, Row, RowScan, StoreError, decode_row};

/// The largest number of bytes of a key that a row key holds. The hash of a longer key follows its first bytes.
const MAX_KEY_BYTES: usize = 1024;

/// The number of rows per page of a scan over these rows.
pub(crate) const PAGE: usize = 256;

/// Returns the table of these rows.
pub(crate) fn table() -> Table {
    Table::well_known(reserved::PROJECTION_WORKERS)
}

/// Returns the table of the workers' rows, and the prefix of the keys of a projection in it.
pub(crate) fn worker_rows(projection: &str) -> (Table, Bytes) {
    (table(), RowKeys::new(projection).prefix)
}

/// A generation whose rows are to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) at: Timestamp,
}

/// Encodes the row keys of one projection.
#[derive(Debug, Clone)]
pub(crate) struct RowKeys {
    prefix: Bytes,
}

impl RowKeys {
    pub(crate) fn new(projection: &str) -> Self {
        let mut prefix = BytesMut::with_capacity(projection.len() + 1);
        prefix.put_slice(projection.as_bytes());
        // A projection name has no control characters, so the zero byte ends it.
        prefix.put_u8(0);
        Self { prefix: prefix.freeze() }
    }

    fn begin(&self, kind: u8) -> BytesMut {
        let mut key = BytesMut::with_capacity(self.prefix.len() + 32);
        key.put_slice(&self.prefix);
        key.put_u8(kind);
        key
    }

    fn of_generation(&self, kind: u8, generation: Generation) -> BytesMut {
        let mut key = self.begin(kind);
        key.put_u64(generation.get());
        key
    }

    fn of_key(&self, kind: u8, generation: Generation, key: &str) -> BytesMut {
        let mut row = self.of_generation(kind, generation);
        let head = &key.as_bytes()[..key.len().min(MAX_KEY_BYTES)];
        // The length comes first, so that a scan for one key does not match a longer key with the same first bytes.
        row.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
        row.put_slice(head);
        if key.len() > MAX_KEY_BYTES {
            row.put_u64(Fnv::of(key.as_bytes()));
        }
        row
    }

    pub(crate) fn control(&self) -> Bytes {
        self.begin(b'c').freeze()
    }

    /// Returns the rows of the lease.
    pub(crate) fn lease(&self) -> LeaseRows {
        LeaseRows { table: table(), holder: self.begin(b'l').freeze(), heartbeat: self.begin(b'h').freeze() }
    }

    /// Returns the prefix of the rows of all parked keys of a generation.
    pub(crate) fn parked_keys(&self, generation: Generation) -> Bytes {
        self.of_generation(b'k', generation).freeze()
    }

    pub(crate) fn parked_key(&self, generation: Generation, key: &str) -> Bytes {
        self.of_key(b'k', generation, key).freeze()
    }

    /// Returns the prefix of the rows of all parked events of a generation.
    pub(crate) fn parked_events(&self, generation: Generation) -> Bytes {
        self.of_generation(b'e', generation).freeze()
    }

    /// Returns the prefix of the rows of the parked events of a key.
    pub(crate) fn parked_events_of(&self, generation: Generation, key: &str) -> Bytes {
        self.of_key(b'e', generation, key).freeze()
    }

    /// Returns the row key of a parked event. `order` is its position, or its number in canonical order.
    pub(crate) fn parked_event(&self, generation: Generation, key: &str, order: u64) -> Bytes {
        let mut row = self.of_key(b'e', generation, key);
        row.put_u64(order);
        row.freeze()
    }

    /// Returns the prefix of the rows of all retry requests of a generation.
    pub(crate) fn requests(&self, generation: Generation) -> Bytes {
        self.of_generation(b'r', generation).freeze()
    }

    pub(crate) fn request(&self, generation: Generation, key: &str) -> Bytes {
        self.of_key(b'r', generation, key).freeze()
    }

    pub(crate) fn retired(&self, generation: Generation) -> Bytes {
        self.of_generation(b'x', generation).freeze()
    }

    /// Returns the prefix of the rows of all retired generations.
    pub(crate) fn all_retired(&self) -> Bytes {
        self.begin(b'x').freeze()
    }

    /// Returns the prefixes of the rows of parked keys, parked events and retry requests of a generation.
    pub(crate) fn parking_rows_of(&self, generation: Generation) -> [Bytes; 3] {
        [b'k', b'e', b'r'].map(|kind| self.of_generation(kind, generation).freeze())
    }

    /// Returns the generation in the row key of a retired generation.
    pub(crate) fn generation_of_retired(&self, key: &[u8]) -> Option<Generation> {
        let number = key.strip_prefix(&self.begin(b'x')[..])?;
        Generation::new(u64::from_be_bytes(number.try_into().ok()?))
    }
}

/// Decodes the value of a row.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    decode_row(&table(), key, value)
}

/// Returns a page of the rows whose keys start with a prefix, after the row `after`.
pub(crate) async fn page(
    store: &dyn EventReader,
    prefix: Bytes,
    after: Option<Bytes>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let scan = RowScan::new(table(), prefix, limit);
    store
        .rows(match after {
            Some(after) => scan.after(after),
            None => scan,
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_one_key_matches_no_row_of_another_key() {
        const FIRST: Generation = Generation::FIRST;
        let keys = RowKeys::new("orders");
        let at = 1;
        assert!(!keys.parked_event(FIRST, "order-12", at).starts_with(&keys.parked_events_of(FIRST, "order-1")));
        assert!(!keys.parked_event(FIRST, "", at).starts_with(&keys.parked_events_of(FIRST, "\0")));
        assert!(keys.parked_event(FIRST, "order-1", at).starts_with(&keys.parked_events_of(FIRST, "order-1")));
        let long = ["x".repeat(2_000) + "a", "x".repeat(2_000) + "b"];
        assert_ne!(keys.parked_key(FIRST, &long[0]), keys.parked_key(FIRST, &long[1]));
        assert!(keys.parked_event(FIRST, &long[0], at).len() < crate::store::MAX_ROW_KEY_BYTES);
    }

    #[test]
    fn the_row_key_of_a_retired_generation_decodes_to_its_number() {
        let keys = RowKeys::new("orders");
        assert_eq!(keys.generation_of_retired(&keys.retired(Generation::FIRST)), Some(Generation::FIRST));
        assert_eq!(keys.generation_of_retired(b"other"), None);
    }
}
