//! [`PersonalData`]: seals and opens values, and erases subjects.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{ErrorChain, SubjectId};
use es_core::retention::{Erasure, Note};
use es_core::store::{Committed, QueryItem};
use es_core::{Commit, EventReader, EventStore, LogRead, RecordedEvent, StoreError, Subscription};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;
use zeroize::Zeroizing;

use crate::cipher::{self, SealedValue};
use crate::error::{EraseError, KeyStoreError, OpenError, SealError};
use crate::field::{Personal, PersonalField};
use crate::key_store::{KeyState, KeyStore};

/// The subject whose key is the secret of fingerprints.
const FINGERPRINTS: &str = "es.fingerprints";
/// The pause after a failure while erasures are followed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// An opened value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened<T> {
    /// The value.
    Value(T),
    /// The subject was erased: the value can never be read again.
    Erased,
}

impl<T> Opened<T> {
    /// Returns the value, or `None` if the subject was erased.
    #[must_use]
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Erased => None,
        }
    }
}

/// Seals and opens values of personal data with the keys of a [`KeyStore`], and erases subjects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PersonalData {
    keys: Arc<dyn KeyStore>,
}

impl PersonalData {
    /// Creates a [`PersonalData`] that uses the keys of a key store. Call
    /// [`finish_erasures`](Self::finish_erasures) at each start of the service.
    #[must_use]
    pub fn new(keys: Arc<dyn KeyStore>) -> Self {
        Self { keys }
    }

    /// Encrypts a value of a subject. Creates the key of the subject with its first value; the key is durable when this
    /// returns, so that no event refers to a key that a crash can lose.
    ///
    /// # Errors
    /// - [`SealError::Erased`] if the subject was erased.
    /// - [`SealError::Encode`] if the value cannot be encoded as JSON.
    /// - [`SealError::Reserved`] if the name of the subject begins with `es.`.
    /// - [`SealError::Keys`] if the key store fails.
    pub async fn seal<T: Serialize>(
        &self,
        field: &PersonalField<T>,
        subject: &SubjectId,
        value: &T,
    ) -> Result<Personal<T>, SealError> {
        if subject.is_reserved() {
            return Err(SealError::Reserved { subject: subject.clone() });
        }
        let encoded = encode(field, value)?;
        match self.keys.get_or_create(subject).await? {
            KeyState::Present(key) => {
                let sealed = cipher::seal(&key, subject, field.name(), &encoded)?;
                Ok(Personal::new(subject.clone(), sealed))
            }
            KeyState::Destroyed | KeyState::Missing => Err(SealError::Erased { subject: subject.clone() }),
        }
    }

    /// Decrypts a value.
    ///
    /// # Errors
    /// - [`OpenError::Unauthentic`] if the value was changed or moved to another field.
    /// - [`OpenError::NoKey`] if the key store never had the key with which the value was sealed.
    /// - [`OpenError::Malformed`] if it is not a sealed value.
    /// - [`OpenError::Decode`] if a value of another type was sealed.
    /// - [`OpenError::Keys`] if the key store fails.
    pub async fn open<T: DeserializeOwned>(
        &self,
        field: &PersonalField<T>,
        personal: &Personal<T>,
    ) -> Result<Opened<T>, OpenError> {
        let (field, subject) = (field.name(), personal.subject());
        let sealed = SealedValue::decode(subject, field, personal.sealed())?;
        let key = match self.keys.get(subject, &sealed.key_id).await? {
            KeyState::Present(key) => key,
            KeyState::Destroyed => return Ok(Opened::Erased),
            KeyState::Missing => return Err(OpenError::NoKey { subject: subject.clone(), key: sealed.key_id }),
        };
        let value = sealed.open(&key)?;
        let decoded = serde_json::from_slice(&value);
        decoded.map(Opened::Value).map_err(|error: serde_json::Error| {
            let column = error.column();
            OpenError::Decode { field, subject: subject.clone(), column }
        })
    }

    /// Returns a keyed hash of a value, as 64 hexadecimal digits: the same text for the same value of the field. Use it
    /// where the value itself must not be stored but be compared, as in a
    /// [`UniqueKey`](es_core::model::UniqueKey) or a tag.
    ///
    /// Computing it requires the secret in the key store. Erasing the subject does not remove the fingerprint; removing
    /// its event does. Until then, a holder of the secret can test whether a given value was stored.
    ///
    /// # Errors
    /// - [`SealError::Encode`] if the value cannot be encoded as JSON.
    /// - [`SealError::Keys`] if the key store fails.
    pub async fn fingerprint<T: Serialize>(&self, field: &PersonalField<T>, value: &T) -> Result<String, SealError> {
        let encoded = encode(field, value)?;
        let subject = SubjectId::new(FINGERPRINTS).map_err(|_| SealError::TooLong { field: field.name() })?;
        let KeyState::Present(secret) = self.keys.get_or_create(&subject).await? else {
            return Err(SealError::Erased { subject });
        };
        let mut hasher = blake3::Hasher::new_keyed(secret.as_bytes());
        hasher.update(field.name().as_bytes()).update(&[0]).update(&encoded);
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Erases a subject: records the erasure in the log, where projections and reactors receive it, and destroys the
    /// key. Afterwards every copy of its sealed values opens as [`Opened::Erased`].
    ///
    /// The record comes first. If a crash prevents the second step, [`finish_erasures`](Self::finish_erasures) does it.
    /// The erasure runs in a task: if this future is dropped, the erasure continues, and a failure is logged.
    ///
    /// # Errors
    /// - [`EraseError::Record`] if the erasure could not be recorded. Nothing was erased.
    /// - [`EraseError::KeyNotDestroyed`] if the key store failed. The erasure is recorded.
    /// - [`EraseError::Reserved`] if the name of the subject begins with `es.`.
    /// - [`EraseError::Interrupted`] if the runtime was shut down or a store panicked.
    pub async fn erase(
        &self,
        store: Arc<dyn EventStore>,
        subject: &SubjectId,
        note: Note,
    ) -> Result<Committed, EraseError> {
        if subject.is_reserved() {
            return Err(EraseError::Reserved { subject: subject.clone() });
        }
        let erasure = erase(store, Arc::clone(&self.keys), subject.clone(), note);
        // A caller that goes away between the two steps, as an HTTP request does, must not leave a key of a subject
        // whose erasure is recorded.
        let joined = tokio::spawn(erasure.in_current_span()).await;
        joined.unwrap_or_else(|error| Err(EraseError::Interrupted(error.into())))
    }

    /// Destroys the keys of all subjects whose erasure the log records, and returns the number of subjects whose key
    /// was not destroyed yet: after a crash during [`erase`](Self::erase), or after older keys were restored.
    ///
    /// Call it at each start of the service, before other code uses the keys. Reads the erasures of the log. A key that
    /// cannot be destroyed does not stop the destruction of the others.
    ///
    /// # Errors
    /// - [`EraseError::Log`] if the log cannot be read.
    /// - [`EraseError::Keys`] if the key store fails: the first failure; each one is logged. Repeat the call.
    pub async fn finish_erasures(&self, store: &dyn EventReader) -> Result<u64, EraseError> {
        let mut erasures = store.read_log(LogRead::matching(QueryItem::erasures())).await?;
        let mut subjects = BTreeSet::new();
        while let Some(batch) = erasures.next_batch().await? {
            subjects.extend(batch.iter().filter_map(erased_subject));
        }
        let (mut destroyed, mut failure) = (0, None);
        for subject in &subjects {
            match self.keys.destroy(subject).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(%subject, "key of an erased subject destroyed");
                    destroyed += 1;
                }
                Err(error) => {
                    log_failure(subject, &error);
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(destroyed), |error| Err(error.into()))
    }

    /// Destroys the keys of all subjects whose erasure the log records, and of each one whose erasure it records later,
    /// until the store is closed. Run it in the background on every node that replicates: the erasures of the other
    /// nodes arrive in the log. A failure is logged and repeated every second, and holds up no other key.
    ///
    /// Dropping the future stops it. It begins with the first erasure of the log each time, so that it also destroys
    /// the keys that were restored from a backup.
    pub async fn follow_erasures(&self, store: Arc<dyn EventReader>) {
        // The start of the log is in every log.
        let Ok(mut erasures) = Subscription::new(store, QueryItem::erasures(), None) else { return };
        let mut pending = BTreeSet::new();
        loop {
            let wait = if pending.is_empty() { Duration::MAX } else { RETRY_PAUSE };
            match tokio::time::timeout(wait, erasures.next()).await {
                Ok(Ok(batch)) => pending.extend(batch.events.iter().filter_map(erased_subject)),
                Ok(Err(StoreError::Closed)) => return,
                Ok(Err(error)) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::error!(error, "could not read the erasures of the log; tries again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(_) => {}
            }
            self.destroy_pending(&mut pending).await;
        }
    }

    /// Destroys the keys of erased subjects, and keeps the subjects for which it failed.
    async fn destroy_pending(&self, pending: &mut BTreeSet<SubjectId>) {
        for subject in std::mem::take(pending) {
            match self.keys.destroy(&subject).await {
                Ok(false) => {}
                Ok(true) => tracing::info!(%subject, "key of an erased subject destroyed"),
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::error!(%subject, error, "the key of an erased subject was not destroyed; tries again");
                    pending.insert(subject);
                }
            }
        }
    }
}

/// Returns the subject whose keys an event requires to be destroyed.
fn erased_subject(event: &RecordedEvent) -> Option<SubjectId> {
    let subject = Erasure::of(event)?.subject().cloned();
    subject.filter(|subject| !subject.is_reserved())
}

/// Records the erasure of a subject, and destroys its keys.
async fn erase(
    store: Arc<dyn EventStore>,
    keys: Arc<dyn KeyStore>,
    subject: SubjectId,
    note: Note,
) -> Result<Committed, EraseError> {
    let committed = store.commit(Commit::erase_subject(subject.clone(), note)).await?;
    let position = committed.position().unwrap_or(es_core::Position::FIRST);
    match keys.destroy(&subject).await {
        Ok(_) => Ok(committed),
        Err(source) => {
            log_failure(&subject, &source);
            Err(EraseError::KeyNotDestroyed { position, source })
        }
    }
}

fn log_failure(subject: &SubjectId, error: &KeyStoreError) {
    let error = ErrorChain(error).to_string();
    tracing::error!(%subject, error, "the key of an erased subject was not destroyed; call `finish_erasures`");
}

fn encode<T: Serialize>(field: &PersonalField<T>, value: &T) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let mut buffer = WipedBuffer::default();
    match serde_json::to_writer(&mut buffer, value) {
        Ok(()) => Ok(buffer.bytes),
        Err(_) => Err(SealError::Encode { field: field.name() }),
    }
}

/// A buffer that overwrites its memory when it moves to a larger allocation, as a `Vec` does not.
#[derive(Default)]
struct WipedBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl io::Write for WipedBuffer {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len() + written.len();
        if length > self.bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * self.bytes.capacity())));
            larger.extend_from_slice(&self.bytes);
            // The drop of the old allocation overwrites it.
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(written);
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The allocations that a value leaves are overwritten; what is left of it must be the whole value.
    #[test]
    fn a_value_that_grows_is_encoded_as_a_whole() {
        let field = PersonalField::<Vec<String>>::new("notes");
        for count in [0, 1, 10, 1000] {
            let value: Vec<String> = (0..count).map(|number| format!("note \"{number}\"")).collect();
            assert_eq!(*encode(&field, &value).unwrap(), serde_json::to_vec(&value).unwrap(), "{count} notes");
        }
    }
}
