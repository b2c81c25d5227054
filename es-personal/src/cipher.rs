//! Encryption of one value: AES-256-GCM with a random nonce. The key id, the subject and the field are authenticated
//! with it.
//!
//! ```text
//!   sealed text = base64url( version 1 | key id 16 | nonce 12 | ciphertext | tag 16 )
//!   associated data = "es-personal" 0 version key id 0 subject 0 field      (names have no zero bytes)
//! ```

use aes_gcm::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use es_core::model::SubjectId;
use zeroize::Zeroizing;

use crate::error::{OpenError, SealError};
use crate::key::{DataKey, KeyId};

/// The version of the encoding, its first byte.
const VERSION: u8 = 2;
/// The length of a nonce, in bytes.
const NONCE_BYTES: usize = 12;

/// Encrypts a value of a field of a subject.
pub(crate) fn seal(key: &DataKey, subject: &SubjectId, field: &'static str, value: &[u8]) -> Result<String, SealError> {
    let (id, nonce) = (key.id(), Aes256Gcm::generate_nonce(&mut OsRng));
    let aad = associated_data(&id, subject, field);
    let encrypted = Aes256Gcm::new(key.as_bytes().into()).encrypt(&nonce, Payload { msg: value, aad: &aad });
    // The cipher refuses only values of more than 64 GiB.
    let encrypted = encrypted.map_err(|_| SealError::TooLong { field })?;
    Ok(URL_SAFE_NO_PAD.encode([&[VERSION], id.as_bytes().as_slice(), nonce.as_slice(), &encrypted].concat()))
}

/// A sealed value of a field of a subject, whose text was decoded.
#[derive(Debug)]
pub(crate) struct SealedValue<'a> {
    field: &'static str,
    subject: &'a SubjectId,
    /// The id of the key that opens it.
    pub(crate) key_id: KeyId,
    nonce: [u8; NONCE_BYTES],
    encrypted: Vec<u8>,
}

impl<'a> SealedValue<'a> {
    /// Decodes the text of a sealed value.
    pub(crate) fn decode(subject: &'a SubjectId, field: &'static str, sealed: &str) -> Result<Self, OpenError> {
        let malformed = |found| OpenError::Malformed { field, subject: subject.clone(), found };
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| malformed("a text that is not base64"))?;
        let rest = match bytes.split_first() {
            Some((&VERSION, rest)) => rest,
            Some(_) => return Err(malformed("another version")),
            None => return Err(malformed("an empty text")),
        };
        let truncated = || malformed("a truncated text");
        let (key_id, rest) = rest.split_first_chunk().ok_or_else(truncated)?;
        let (nonce, encrypted) = rest.split_first_chunk().ok_or_else(truncated)?;
        let (key_id, encrypted) = (KeyId::from_bytes(*key_id), encrypted.to_vec());
        Ok(Self { field, subject, key_id, nonce: *nonce, encrypted })
    }

    /// Decrypts the value.
    pub(crate) fn open(&self, key: &DataKey) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let aad = associated_data(&self.key_id, self.subject, self.field);
        let cipher = Aes256Gcm::new(key.as_bytes().into());
        let value = cipher.decrypt(Nonce::from_slice(&self.nonce), Payload { msg: &self.encrypted, aad: &aad });
        let unauthentic = |_| OpenError::Unauthentic { field: self.field, subject: self.subject.clone() };
        value.map(Zeroizing::new).map_err(unauthentic)
    }
}

fn associated_data(key_id: &KeyId, subject: &SubjectId, field: &str) -> Vec<u8> {
    let (key_id, subject) = (key_id.as_bytes(), subject.as_str().as_bytes());
    [b"es-personal", &[0, VERSION][..], key_id, &[0], subject, &[0], field.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> SubjectId {
        SubjectId::new(name).unwrap()
    }

    fn open(
        key: &DataKey,
        subject: &SubjectId,
        field: &'static str,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        SealedValue::decode(subject, field, sealed)?.open(key)
    }

    #[test]
    fn a_value_opens_only_with_its_key_its_subject_and_its_field() {
        let (key, ada) = (DataKey::random(), subject("ada"));
        let sealed = seal(&key, &ada, "email", b"value").unwrap();
        assert_eq!(&**open(&key, &ada, "email", &sealed).unwrap(), b"value");
        assert_eq!(SealedValue::decode(&ada, "email", &sealed).unwrap().key_id, key.id());
        let refused = |key: &DataKey, subject: &SubjectId, field, sealed: &str| {
            let error = open(key, subject, field, sealed).expect_err("it does not open");
            assert!(matches!(error, OpenError::Unauthentic { .. }), "{error}");
        };
        refused(&DataKey::random(), &ada, "email", &sealed);
        refused(&key, &subject("bob"), "email", &sealed);
        refused(&key, &ada, "name", &sealed);
    }

    /// Every changed byte is noticed, and every truncated text is an error and not a panic.
    #[test]
    fn changed_and_truncated_values_are_errors() {
        let (key, ada) = (DataKey::random(), subject("ada"));
        let sealed = URL_SAFE_NO_PAD.decode(seal(&key, &ada, "email", b"value").unwrap()).unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            let error = open(&key, &ada, "email", &URL_SAFE_NO_PAD.encode(changed)).expect_err("it was changed");
            let is_expected = match index {
                0 => matches!(error, OpenError::Malformed { found: "another version", .. }),
                _ => matches!(error, OpenError::Unauthentic { .. }),
            };
            assert!(is_expected, "byte {index}: {error}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key, &ada, "email", &URL_SAFE_NO_PAD.encode(&sealed[..length])).is_err(), "{length} bytes");
        }
        assert!(matches!(open(&key, &ada, "email", "ada@example.org"), Err(OpenError::Malformed { .. })));
    }

    #[test]
    fn the_same_value_is_sealed_with_another_nonce_each_time() {
        let (key, ada) = (DataKey::random(), subject("ada"));
        let sealed: std::collections::BTreeSet<String> =
            (0..100).map(|_| seal(&key, &ada, "email", b"value").unwrap()).collect();
        assert_eq!(sealed.len(), 100);
    }
}
