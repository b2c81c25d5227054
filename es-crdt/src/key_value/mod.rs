//! [`KeyValueMap`]: values under keys, which every node reads and writes.
//!
//! - `entry`: the aggregate of one key, and the name of its stream.
//! - `resolution`: what a reader gets from concurrent values.

mod entry;
mod error;
mod resolution;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use es_core::__private::value_digest;
use es_core::aggregate::repository::Loaded;
use es_core::model::Version;
use es_core::{Aggregate, Repository, StreamId};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use entry::KeyValueEntry;
pub use error::KeyValueError;
pub use resolution::{KeepSiblings, LastWriterWins, Merge, Resolution};

use entry::{EntryId, Put, Remove};

/// The number of streams that a scan lists at once.
const PAGE: usize = 256;

/// A map that every node of a group reads and writes, also while it does not reach the others (eventually consistent).
///
/// Each key is one stream of the aggregate [`KeyValueEntry`], whose state is an [`MvRegister`](crate::MvRegister). A
/// node declares this aggregate, and may have several maps, each with its own name.
///
/// - A **put** replaces the values that its node has. Values that nodes put without knowing of each other are
///   siblings, as in Dynamo (DeCandia et al. 2007) and Riak, until a put that has seen them.
/// - A **remove** removes the values that its node has. A value that another node puts at the same time remains.
/// - [`get`](Self::get) returns what the [`Resolution`] of the map chooses from the siblings: [`LastWriterWins`],
///   [`KeepSiblings`], [`Merge`] or your own. It is computed for each read, and nothing is written. All nodes must use
///   the same one; nodes with equal events then return equal values.
/// - **Anti-entropy** is the pull of es-replication: a node sends its peer what it knows, and gets the events that it
///   lacks, whatever was lost or cut before. The map adds no second protocol, and needs no read repair.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use es_core::prelude::*;
/// # use es_core::store::memory::MemoryStore;
/// # use es_replication::{LocalPeer, Replica, ReplicaOptions};
/// use es_crdt::{KeepSiblings, KeyValueEntry, KeyValueMap, LastWriterWins};
///
/// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
/// let open = async |name: &str| {
///     let options = ReplicaOptions::new(name).aggregate::<KeyValueEntry>()?;
///     let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new().with_hook(options.hook()).await?);
///     Ok::<_, Box<dyn std::error::Error>>((Replica::new(Arc::clone(&store))?, Arc::new(Repository::new(store))))
/// };
/// let (paris, entries_of_paris) = open("paris").await?;
/// let (oslo, entries_of_oslo) = open("oslo").await?;
/// let in_paris = KeyValueMap::<String, _>::new(Arc::clone(&entries_of_paris), "settings", LastWriterWins);
/// let in_oslo = KeyValueMap::<String, _>::new(entries_of_oslo, "settings", LastWriterWins);
///
/// in_paris.put("color", &"red".to_owned()).await?;
/// in_oslo.put("color", &"blue".to_owned()).await?;
/// paris.pull(&LocalPeer::new("oslo", oslo.source()), Duration::ZERO).await?;
/// oslo.pull(&LocalPeer::new("paris", paris.source()), Duration::ZERO).await?;
/// assert_eq!(in_paris.get("color").await?, in_oslo.get("color").await?);
///
/// // The same map, read with another resolution.
/// let siblings = KeyValueMap::<String, _>::new(entries_of_paris, "settings", KeepSiblings);
/// assert_eq!(siblings.get("color").await?.map(|values| values.len()), Some(2));
///
/// // A put replaces both values; a condition protects it from a put in between.
/// let seen = in_paris.siblings("color").await?;
/// in_paris.put_at("color", &seen.values.join("-"), seen.version).await?;
/// assert_eq!(siblings.get("color").await?.map(|values| values.len()), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Keys are any texts, also empty ones and such with control characters. The name of the map and the key together have
/// at most about 500 bytes. Values are stored as JSON.
///
/// # Cost
/// A read is the load of an aggregate: the cached state, or a snapshot and the puts after it. Every put and removal
/// stays in the log, and a removed key keeps its stream, which a [scan](Self::entries) passes.
///
/// # Consistency
/// A node reads its own writes at once, and those of others after a pull. A write changes one key. A client
/// that changes the node reads its writes in a session of es-replication.
pub struct KeyValueMap<V, R> {
    entries: Arc<Repository<KeyValueEntry>>,
    name: Arc<str>,
    resolution: R,
    of: PhantomData<fn(V) -> V>,
}

/// The values of a key that no later put has replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings<V> {
    /// The values in canonical order: the last one is that of the last writer. Empty if the key has no value.
    pub values: Vec<V>,
    /// Identifies what was read, for [`KeyValueMap::put_at`]; `None` if the key never had a value.
    pub version: Option<Version>,
}

impl<V, R> fmt::Debug for KeyValueMap<V, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValueMap").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<V: Serialize + DeserializeOwned, R: Resolution<V>> KeyValueMap<V, R> {
    /// Returns the map with this name. All maps of a program share one repository.
    #[must_use]
    pub fn new(entries: Arc<Repository<KeyValueEntry>>, name: &str, resolution: R) -> Self {
        Self { entries, name: name.into(), resolution, of: PhantomData }
    }

    /// Returns what the resolution chooses from the values of a key; `None` if the key has no value.
    ///
    /// # Errors
    /// - [`KeyValueError::Decode`] if one of the values cannot be decoded: put another one.
    /// - [`KeyValueError::Key`] if the key is too long.
    /// - [`KeyValueError::Load`] if the entry cannot be loaded.
    pub async fn get(&self, key: &str) -> Result<Option<R::Output>, KeyValueError> {
        let loaded = self.load(key).await?;
        self.resolve(key, &loaded.state)
    }

    /// Returns all values of a key that no later put has replaced, whatever the resolution of the map is.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get).
    pub async fn siblings(&self, key: &str) -> Result<Siblings<V>, KeyValueError> {
        let loaded = self.load(key).await?;
        Ok(Siblings { values: decode(key, &loaded.state)?, version: loaded.version() })
    }

    /// Puts a value, which replaces all values that this node has.
    ///
    /// # Errors
    /// - [`KeyValueError::Encode`] if the value cannot be encoded, or its encoding is that of another value.
    /// - [`KeyValueError::Key`] if the key is too long.
    /// - [`KeyValueError::Conflict`] if other writers were faster in every attempt.
    /// - [`KeyValueError::Write`] if the infrastructure fails.
    pub async fn put(&self, key: &str, value: &V) -> Result<(), KeyValueError> {
        let (id, put) = (self.id(key)?, Put { value: encode(key, value)?, must_be_new: false });
        self.entries.execute(&id, put).await.map(drop).map_err(|error| KeyValueError::of_write(key, error))
    }

    /// Puts a value if this node has the same values as when they were [read](Self::siblings), so that no value is
    /// replaced that the caller has not seen.
    ///
    /// The condition is checked on this node. A put of another node at the same time results in siblings.
    ///
    /// # Errors
    /// - [`KeyValueError::Conflict`] if the key has changed: read it again.
    /// - The errors of [`put`](Self::put).
    pub async fn put_at(&self, key: &str, value: &V, seen: Option<Version>) -> Result<(), KeyValueError> {
        let (id, put) = (self.id(key)?, Put { value: encode(key, value)?, must_be_new: seen.is_none() });
        let put = self.entries.execute(&id, put);
        let result = match seen {
            Some(version) => put.at_version(version).await,
            None => put.await,
        };
        result.map(drop).map_err(|error| KeyValueError::of_write(key, error))
    }

    /// Removes all values of a key that this node has. Has no effect if it has none.
    ///
    /// # Errors
    /// - [`KeyValueError::Key`] if the key is too long.
    /// - [`KeyValueError::Conflict`] if other writers were faster in every attempt.
    /// - [`KeyValueError::Write`] if the infrastructure fails.
    pub async fn remove(&self, key: &str) -> Result<(), KeyValueError> {
        let id = self.id(key)?;
        self.entries.execute(&id, Remove).await.map(drop).map_err(|error| KeyValueError::of_write(key, error))
    }

    /// Returns at most `limit` keys that begin with `prefix`, have a value and follow the key `after`. The order is
    /// that of the bytes of the keys, except that control characters sort like `%`.
    ///
    /// # Cost
    /// The index of stream names has the keys, so the log is not read. Each listed key costs a load, as does each
    /// removed key in between.
    ///
    /// # Errors
    /// - [`KeyValueError::Key`] if `prefix` or `after` is too long.
    /// - [`KeyValueError::Load`] if an entry cannot be loaded.
    /// - [`KeyValueError::Store`] if the store fails.
    pub async fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, KeyValueError> {
        let has_value = |key: String, entry: &KeyValueEntry| Ok(entry.values().next().map(|_| key));
        self.scan(prefix, after, limit, has_value).await
    }

    /// Returns the [keys](Self::keys) that begin with `prefix`, each with its value as [`get`](Self::get) returns it.
    ///
    /// # Errors
    /// - [`KeyValueError::Decode`] if a value cannot be decoded.
    /// - The errors of [`keys`](Self::keys).
    pub async fn entries(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, R::Output)>, KeyValueError> {
        let resolved = |key: String, entry: &KeyValueEntry| Ok(self.resolve(&key, entry)?.map(|value| (key, value)));
        self.scan(prefix, after, limit, resolved).await
    }

    /// Returns at most `limit` results of `item` for the entries whose keys begin with `prefix` and follow `after`.
    async fn scan<T>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        item: impl Fn(String, &KeyValueEntry) -> Result<Option<T>, KeyValueError>,
    ) -> Result<Vec<T>, KeyValueError> {
        let names = self.stream(prefix)?;
        let mut after = after.map(|key| self.stream(key)).transpose()?;
        let mut items = Vec::new();
        while items.len() < limit {
            let page = self.entries.store().streams(names.as_str(), after.as_ref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            for (stream, _) in &page {
                // A stream that no key has was written by another program.
                let Some(EntryId { key, .. }) = KeyValueEntry::id_of(stream) else { continue };
                let loaded = self.load(&key).await?;
                items.extend(item(key, &loaded.state)?);
                if items.len() == limit {
                    return Ok(items);
                }
            }
            if is_last {
                break;
            }
            after = page.into_iter().next_back().map(|(stream, _)| stream);
        }
        Ok(items)
    }

    async fn load(&self, key: &str) -> Result<Loaded<KeyValueEntry>, KeyValueError> {
        let id = self.id(key)?;
        self.entries
            .load(&id)
            .await
            .map_err(|source| KeyValueError::Load { key: key.to_owned(), source: source.into() })
    }

    fn resolve(&self, key: &str, entry: &KeyValueEntry) -> Result<Option<R::Output>, KeyValueError> {
        let mut values = decode(key, entry)?.into_iter();
        Ok(values.next().map(|first| self.resolution.resolve(key, first, values.collect())))
    }

    /// Returns the id of a key whose stream has a valid name.
    fn id(&self, key: &str) -> Result<EntryId, KeyValueError> {
        let id = EntryId { map: Arc::clone(&self.name), key: key.to_owned() };
        match KeyValueEntry::stream(&id) {
            Ok(_) => Ok(id),
            Err(source) => Err(KeyValueError::Key { key: id.key, source }),
        }
    }

    /// Returns the name of the stream of a key. The name of a prefix is the prefix of the names.
    fn stream(&self, key: &str) -> Result<StreamId, KeyValueError> {
        let id = EntryId { map: Arc::clone(&self.name), key: key.to_owned() };
        KeyValueEntry::stream(&id).map_err(|source| KeyValueError::Key { key: id.key, source })
    }
}

/// Returns the value as JSON. Rejects a value that could not be read back. The values are compared, because two values
/// can have one encoding: `Some(None)` and `None` are `null`, and so is a float that is not finite.
fn encode<V: Serialize + DeserializeOwned>(key: &str, value: &V) -> Result<serde_json::Value, KeyValueError> {
    let failed = |source| KeyValueError::Encode { key: key.to_owned(), source };
    let encoded = serde_json::to_value(value).map_err(failed)?;
    let decoded: V = serde_json::from_value(encoded.clone()).map_err(failed)?;
    let is_unchanged = match value_digest(value) {
        Some(digest) => value_digest(&decoded) == Some(digest),
        None => serde_json::to_value(decoded).map_err(failed)? == encoded,
    };
    match is_unchanged {
        true => Ok(encoded),
        false => Err(failed(<serde_json::Error as serde::ser::Error>::custom("the encoding is that of another value"))),
    }
}

/// Returns the values of an entry in canonical order.
fn decode<V: DeserializeOwned>(key: &str, entry: &KeyValueEntry) -> Result<Vec<V>, KeyValueError> {
    let decoded = entry.values().map(|value| V::deserialize(value));
    decoded.collect::<Result<_, _>>().map_err(|source| KeyValueError::Decode { key: key.to_owned(), source })
}
