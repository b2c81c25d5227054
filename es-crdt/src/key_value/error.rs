//! [`KeyValueError`].

use es_core::StoreError;
use es_core::aggregate::repository::{ExecuteError, InfrastructureError, LoadError, Locked};
use es_core::model::NameError;

use super::entry::NotNew;

/// An operation of a [`KeyValueMap`](crate::KeyValueMap) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyValueError {
    /// The key cannot be part of the name of a stream: it is too long, together with the name of the map. Shorten it,
    /// or use a digest of it.
    #[error("key {key:?} is not allowed; shorten it or use a digest of it")]
    Key {
        /// The key.
        key: String,
        /// The reason.
        source: NameError,
    },
    /// The value cannot be encoded as JSON, or its encoding cannot be decoded. Nothing was written.
    #[error("could not encode the value of key {key:?}")]
    Encode {
        /// The key.
        key: String,
        /// The reason.
        source: serde_json::Error,
    },
    /// A stored value of the key is not one of the map's type: another program or version wrote it. Read it with its
    /// type, or put another value, which replaces it.
    #[error("could not decode a value of key {key:?}; put another value, or read it with the type that wrote it")]
    Decode {
        /// The key.
        key: String,
        /// The reason.
        source: serde_json::Error,
    },
    /// The key has changed since it was read, or other writers were faster in every attempt. Nothing was written. Read
    /// the key again.
    #[error("key {key:?} was changed by another writer; read it again")]
    Conflict {
        /// The key.
        key: String,
    },
    /// The entry could not be loaded.
    #[error("could not load the entry of key {key:?}")]
    Load {
        /// The key.
        key: String,
        /// The reason.
        source: Box<LoadError>,
    },
    /// The infrastructure failed during a write, which may have been written. Repeat it.
    #[error("could not write the entry of key {key:?}")]
    Write {
        /// The key.
        key: String,
        /// The reason.
        source: Box<InfrastructureError>,
    },
    /// A distributed transaction locks the entry. Nothing was written. Repeat the write later.
    #[error(transparent)]
    Locked(Locked),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyValueError {
    pub(super) fn of_write(key: &str, error: ExecuteError<NotNew>) -> Self {
        let key = key.to_owned();
        match error {
            ExecuteError::Rejected(NotNew) | ExecuteError::Conflict(_) => Self::Conflict { key },
            ExecuteError::Locked(locked) => Self::Locked(locked),
            // Every node decides on the entries of a map.
            ExecuteError::NotOwner(error) => {
                Self::Write { key, source: InfrastructureError::Rejected(error.into()).into() }
            }
            ExecuteError::Failed(source) => Self::Write { key, source: source.into() },
        }
    }
}
