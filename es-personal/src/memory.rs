//! [`MemoryKeyStore`]: keys in memory, for tests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use es_core::model::SubjectId;

use crate::error::KeyStoreError;
use crate::key::{DataKey, KeyState, KeyStore};

/// Keys in memory, for tests. They are lost when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryKeyStore {
    /// The keys, or `None` for a destroyed one.
    keys: Mutex<HashMap<SubjectId, Option<DataKey>>>,
}

impl MemoryKeyStore {
    /// Creates a store without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

fn state(key: Option<&Option<DataKey>>) -> KeyState {
    match key {
        Some(Some(key)) => KeyState::Present(key.clone()),
        Some(None) => KeyState::Destroyed,
        None => KeyState::Missing,
    }
}

#[async_trait]
impl KeyStore for MemoryKeyStore {
    async fn get(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        Ok(state(self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(subject)))
    }

    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state(Some(keys.entry(subject.clone()).or_insert_with(|| Some(DataKey::random())))))
    }

    async fn destroy(&self, subject: &SubjectId) -> Result<(), KeyStoreError> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.clone(), None);
        Ok(())
    }
}
