//! [`MemoryKeyStore`]: keys in memory, for tests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use es_core::model::SubjectId;

use crate::error::KeyStoreError;
use crate::key::{DataKey, KeyId};
use crate::key_store::{KeyState, KeyStore};

/// The keys of each subject, in the order of their arrival; `None` if they were destroyed.
type Keys = HashMap<SubjectId, Option<Vec<DataKey>>>;

/// Keys in memory, for tests. They are lost when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    keys: Mutex<Keys>,
}

impl MemoryKeyStore {
    /// Creates a store without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError> {
        Ok(match self.lock().get(subject) {
            Some(Some(keys)) => {
                keys.iter().find(|key| key.id() == *id).cloned().map_or(KeyState::Missing, KeyState::Present)
            }
            Some(None) => KeyState::Destroyed,
            None => KeyState::Missing,
        })
    }

    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        let mut keys = self.lock();
        let keys = keys.entry(subject.clone()).or_insert_with(|| Some(vec![DataKey::random()]));
        Ok(keys.as_ref().and_then(|keys| keys.first()).cloned().map_or(KeyState::Destroyed, KeyState::Present))
    }

    async fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError> {
        let mut keys = self.lock();
        let Some(keys) = keys.entry(subject.clone()).or_insert_with(|| Some(Vec::new())) else {
            return Ok(KeyState::Destroyed);
        };
        if !keys.contains(key) {
            keys.push(key.clone());
        }
        Ok(KeyState::Present(key.clone()))
    }

    async fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        Ok(!matches!(self.lock().insert(subject.clone(), None), Some(None)))
    }
}
