//! The rows in which the machinery of projections keeps what must survive it.
//!
//! All stand in one table under the name of their projection, so that one prefix finds them:
//!
//! | key behind the name and a zero byte | value |
//! |---|---|
//! | `c` | [`Control`](super::control::Control): what an operator has asked for, and what is going on |
//! | `l` | [`Claim`](super::claim::Claim): who may write |
//! | `h` | [`Heartbeat`](super::claim::Heartbeat): until when, without another sign of life |
//! | `k` generation, key | [`ParkedKey`](super::parked::ParkedKey) |
//! | `e` generation, key, position | [`ParkedEvent`](super::parked::ParkedEvent) |
//! | `r` generation, key | a parked key that is to be tried again |
//! | `x` generation | [`Retired`]: its rows are to be removed |
//!
//! Numbers are big-endian, a key has its length before it, and values are JSON.

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Position;
use crate::model::Table;
use crate::model::Timestamp;
use crate::model::digest::Fnv;
use crate::model::reserved;
use crate::projection::generation::Generation;
use crate::store::{Commit, EventReader, Row, RowScan, StoreError};

/// The most bytes of a key that stand in the key of a row; of a longer one, its hash stands behind them.
const LONGEST_KEY: usize = 1024;

/// How many rows a look at the machinery's own rows takes at once.
pub(crate) const PAGE: usize = 256;

/// The table of all these rows.
pub(crate) fn table() -> Table {
    Table::well_known(reserved::PROJECTION_WORKERS)
}

/// Returns the table of the rows that the workers of a projection keep for themselves, and the prefix of their keys.
pub(crate) fn worker_rows(projection: &str) -> (Table, Bytes) {
    (table(), RowKeys::new(projection).prefix)
}

/// A generation whose rows are to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) at: Timestamp,
}

/// The rows of one projection.
#[derive(Debug, Clone)]
pub(crate) struct RowKeys {
    prefix: Bytes,
}

impl RowKeys {
    pub(crate) fn new(projection: &str) -> Self {
        let mut prefix = BytesMut::with_capacity(projection.len() + 1);
        prefix.put_slice(projection.as_bytes());
        // NOTE: a name has no control characters.
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
        let short = &key.as_bytes()[..key.len().min(LONGEST_KEY)];
        // NOTE: a key with another length has another prefix, so that no key is found under another one.
        row.put_u32(u32::try_from(key.len()).unwrap_or(u32::MAX));
        row.put_slice(short);
        if key.len() > LONGEST_KEY {
            row.put_u64(Fnv::of(key.as_bytes()));
        }
        row
    }

    pub(crate) fn control(&self) -> Bytes {
        self.begin(b'c').freeze()
    }

    pub(crate) fn claim(&self) -> Bytes {
        self.begin(b'l').freeze()
    }

    pub(crate) fn heartbeat(&self) -> Bytes {
        self.begin(b'h').freeze()
    }

    /// What the keys of all parked keys of a generation begin with.
    pub(crate) fn parked_keys(&self, generation: Generation) -> Bytes {
        self.of_generation(b'k', generation).freeze()
    }

    pub(crate) fn parked_key(&self, generation: Generation, key: &str) -> Bytes {
        self.of_key(b'k', generation, key).freeze()
    }

    /// What the keys of the parked events of a key begin with.
    pub(crate) fn parked_events_of(&self, generation: Generation, key: &str) -> Bytes {
        self.of_key(b'e', generation, key).freeze()
    }

    pub(crate) fn parked_event(&self, generation: Generation, key: &str, position: Position) -> Bytes {
        let mut row = self.of_key(b'e', generation, key);
        row.put_u64(position.get());
        row.freeze()
    }

    /// What the keys of all requests of a generation begin with.
    pub(crate) fn requests(&self, generation: Generation) -> Bytes {
        self.of_generation(b'r', generation).freeze()
    }

    pub(crate) fn request(&self, generation: Generation, key: &str) -> Bytes {
        self.of_key(b'r', generation, key).freeze()
    }

    pub(crate) fn retired(&self, generation: Generation) -> Bytes {
        self.of_generation(b'x', generation).freeze()
    }

    /// What the keys of all retired generations begin with.
    pub(crate) fn all_retired(&self) -> Bytes {
        self.begin(b'x').freeze()
    }

    /// What the keys of everything that stands for a generation begin with, the mark that it is retired left out.
    pub(crate) fn everything_of(&self, generation: Generation) -> [Bytes; 3] {
        [b'k', b'e', b'r'].map(|kind| self.of_generation(kind, generation).freeze())
    }

    /// The generation in the key of a retired generation.
    pub(crate) fn generation_of_retired(&self, key: &[u8]) -> Option<Generation> {
        let number = key.strip_prefix(&self.begin(b'x')[..])?;
        Generation::new(u64::from_be_bytes(number.try_into().ok()?))
    }
}

/// A row of the machinery, as its bytes and as what they say.
#[derive(Debug, Clone)]
pub(crate) struct StoredRow<T> {
    pub(crate) key: Bytes,
    /// `None` where there is no row.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) value: Option<T>,
}

impl<T: DeserializeOwned> StoredRow<T> {
    pub(crate) async fn read(store: &dyn EventReader, key: Bytes) -> Result<Self, StoreError> {
        let bytes = store.row(&table(), &key).await?;
        let value = bytes.as_ref().map(|bytes| decode(&key, bytes)).transpose()?;
        Ok(Self { key, bytes, value })
    }

    /// Demands that the row is still as it was read.
    pub(crate) fn expect(&self, commit: Commit) -> Commit {
        commit.expect_row(table(), self.key.clone(), self.bytes.clone())
    }
}

/// What a row says.
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| {
        StoreError::damaged(format!("row {} of table es.projections", key.escape_ascii()), error.to_string())
    })
}

/// A row that says it.
///
/// # Errors
/// [`StoreError`]: it cannot be written as JSON, which no type here can cause.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| StoreError::io("write a row of a projection", error))
}

/// A page of rows whose keys begin with a prefix.
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
    fn no_row_of_a_key_is_found_under_another_key() {
        const FIRST: Generation = Generation::FIRST;
        let keys = RowKeys::new("orders");
        let at = Position::FIRST;
        assert!(!keys.parked_event(FIRST, "order-12", at).starts_with(&keys.parked_events_of(FIRST, "order-1")));
        assert!(!keys.parked_event(FIRST, "", at).starts_with(&keys.parked_events_of(FIRST, "\0")));
        assert!(keys.parked_event(FIRST, "order-1", at).starts_with(&keys.parked_events_of(FIRST, "order-1")));
        let long = ["x".repeat(2_000) + "a", "x".repeat(2_000) + "b"];
        assert_ne!(keys.parked_key(FIRST, &long[0]), keys.parked_key(FIRST, &long[1]));
        assert!(keys.parked_event(FIRST, &long[0], at).len() < crate::store::MAX_ROW_KEY_BYTES);
    }

    #[test]
    fn a_retired_generation_is_read_back() {
        let keys = RowKeys::new("orders");
        assert_eq!(keys.generation_of_retired(&keys.retired(Generation::FIRST)), Some(Generation::FIRST));
        assert_eq!(keys.generation_of_retired(b"other"), None);
    }
}
