//! [`KeyStore`]: the interface of a store of keys, and [`DataKey`], a key.

use std::fmt;

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use async_trait::async_trait;
use es_core::model::SubjectId;
use zeroize::Zeroizing;

use crate::error::KeyStoreError;

/// A key of 256 bits. It is overwritten in memory when it is dropped, and `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(Zeroizing<[u8; Self::BYTES]>);

impl DataKey {
    /// The length of a key, in bytes.
    pub const BYTES: usize = 32;

    /// Returns a new random key from the operating system.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        OsRng.fill_bytes(&mut *bytes);
        Self(bytes)
    }

    /// Returns the key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the bytes. Store them only in a key store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// The state of the key of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// The key.
    Present(DataKey),
    /// The key was destroyed. It is never created again.
    Destroyed,
    /// The store never had a key of the subject.
    Missing,
}

/// A store of one key per subject.
///
/// It must be separate from the event store: a backup or an export of the events must not contain the keys.
///
/// An implementation must
///
/// - return from [`get_or_create`](Self::get_or_create) only after a new key is durable, because events that use it may
///   be committed immediately afterwards;
/// - return from [`destroy`](Self::destroy) only after the key can no longer be recovered from the store, also after a
///   crash;
/// - remember which keys were destroyed, and never create them again: a command that runs during an erasure would
///   otherwise store readable data of the erased subject.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the key of a subject.
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be read or is damaged.
    async fn get(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError>;

    /// Returns the key of a subject, and creates it if there is none. Concurrent calls return the same key. Never
    /// returns [`KeyState::Missing`].
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be read or written, or is damaged.
    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError>;

    /// Destroys the key of a subject, and records that it was destroyed, also if there is none. A repeated call has no
    /// effect.
    ///
    /// # Errors
    /// [`KeyStoreError`] if the store cannot be written. Repeat the call.
    async fn destroy(&self, subject: &SubjectId) -> Result<(), KeyStoreError>;
}
