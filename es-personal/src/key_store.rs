//! [`KeyStore`]: the interface of a store of keys.

use std::fmt;

use async_trait::async_trait;
use es_core::model::SubjectId;

use crate::error::KeyStoreError;
use crate::key::{DataKey, KeyId};

/// The state of a key of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// The key.
    Present(DataKey),
    /// The keys of the subject were destroyed. None is ever created or stored again.
    Destroyed,
    /// The store never had the key.
    Missing,
}

/// A store of the keys of subjects.
///
/// A subject has one key, unless several stores created keys of the subject and one of them received a key of another:
/// see [`insert`](Self::insert). All of them are destroyed together.
///
/// It must be separate from the event store: a backup or an export of the events must not contain the keys.
///
/// An implementation must
///
/// - return from [`get_or_create`](Self::get_or_create) and [`insert`](Self::insert) only after the key is durable,
///   because events that use it may be committed immediately afterwards;
/// - return from [`destroy`](Self::destroy) only after the keys can no longer be recovered from the store, also after a
///   crash;
/// - remember which subjects were destroyed, and never create or store a key of them again: a command that runs during
///   an erasure would otherwise store readable data of the erased subject, and a key that another node sends late would
///   undo the erasure.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the key of a subject with an id.
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be read or is damaged.
    async fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError>;

    /// Returns the first key of a subject, with which values are sealed, and creates it if the subject has none.
    /// Concurrent calls return the same key. Never returns [`KeyState::Missing`].
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be read or written, or is damaged.
    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError>;

    /// Stores a key of a subject that another store created, beside the keys that the subject has. Returns the key, or
    /// [`KeyState::Destroyed`] if the keys of the subject were destroyed: it is not stored then. A repeated call has no
    /// effect.
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be read or written, or is damaged. Repeat the call.
    async fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError>;

    /// Destroys all keys of a subject, and records that they were destroyed, also if there is none. Returns `true`
    /// unless that was recorded before. A repeated call destroys what an interrupted one left.
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be written. Repeat the call.
    async fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError>;
}
