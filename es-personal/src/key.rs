//! [`DataKey`], a key, and [`KeyId`], its id.

use std::fmt;

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use zeroize::Zeroizing;

/// The context in which the id of a key is derived. It must not change: sealed values contain the ids.
const ID_CONTEXT: &str = "es-personal 2026-11-30 id of a data key";

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

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = Zeroizing::new(blake3::derive_key(ID_CONTEXT, &*self.0));
        let mut id = [0; KeyId::BYTES];
        id.copy_from_slice(&hash[..KeyId::BYTES]);
        KeyId(id)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// The id of a key: a hash of the key, from which the key cannot be computed. A sealed value contains the id of its
/// key, so that a subject can have several keys, and so that a received key can be checked. `Display` is hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::BYTES]);

impl KeyId {
    /// The length of an id, in bytes.
    pub const BYTES: usize = 16;

    /// Returns the id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ids are part of sealed values, so they must not change.
    #[test]
    fn the_id_of_a_key_is_a_hash_that_stays_the_same() {
        let key = DataKey::from_bytes([7; DataKey::BYTES]);
        assert_eq!(key.id().to_string(), "a0c919be07ec8f68a8d13132f63a9ee9");
        assert_eq!(format!("{:?} {key:?}", key.id()), "KeyId(a0c919be07ec8f68a8d13132f63a9ee9) DataKey");
        assert_eq!(KeyId::from_bytes(*key.id().as_bytes()), key.id());
        assert_ne!(key.id(), DataKey::from_bytes([8; DataKey::BYTES]).id());
    }
}
