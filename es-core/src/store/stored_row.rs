//! [`StoredRow`]: a row of the framework, as JSON.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Table;
use crate::store::{Commit, EventReader, StoreError};

/// A row as it was read, with its decoded value.
#[derive(Debug, Clone)]
pub struct StoredRow<T> {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Bytes,
    /// The stored bytes; `None` if the row does not exist.
    pub bytes: Option<Bytes>,
    /// The decoded bytes.
    pub value: Option<T>,
}

impl<T: DeserializeOwned> StoredRow<T> {
    /// Reads a row.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or the value cannot be decoded.
    pub async fn read(store: &dyn EventReader, table: &Table, key: Bytes) -> Result<Self, StoreError> {
        let bytes = store.row(table, &key).await?;
        let value = bytes.as_ref().map(|bytes| decode_row(table, &key, bytes)).transpose()?;
        Ok(Self { table: table.clone(), key, bytes, value })
    }

    /// Adds the condition that the row is unchanged since it was read to a commit.
    #[must_use]
    pub fn expect(&self, commit: Commit) -> Commit {
        commit.expect_row(self.table.clone(), self.key.clone(), self.bytes.clone())
    }
}

/// Decodes the value of a row.
///
/// # Errors
/// [`StoreError::Damaged`] if the value cannot be decoded.
pub fn decode_row<T: DeserializeOwned>(table: &Table, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| {
        StoreError::damaged(format!("row {} of table {}", key.escape_ascii(), table.as_str()), error.to_string())
    })
}

/// Encodes the value of a row.
///
/// # Errors
/// [`StoreError::Io`] if the value cannot be written as JSON, which does not happen for the types of the framework.
pub fn encode_row<T: Serialize>(value: &T) -> Result<Bytes, StoreError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| StoreError::io("write a row", error))
}
