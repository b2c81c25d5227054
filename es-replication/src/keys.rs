//! Requests of other nodes for keys of personal data: [`KeyRequest`], and what a node answers.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use es_core::model::{SubjectId, Table};
use es_core::{EventStore, StoreError};
use es_personal::{KeyId, KeyState, KeyStore};

use crate::error::AnswerError;
use crate::frontiers::Frontiers;
use crate::group::MemberState;
use crate::rows;

/// Counts the answers to requests for keys, by what was answered.
const ANSWERS: &str = "es_replication_key_answers_total";

/// A request for a key of a subject of personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The node that asks.
    pub node: String,
    /// The subject.
    pub subject: SubjectId,
    /// The key.
    pub key: KeyId,
}

/// What a source answers to requests for keys, once [`Replica::share_keys`] was called.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyAnswerer(Arc<RwLock<Option<SharedStore>>>);

/// The keys that a node shares, and the store that knows the members.
#[derive(Clone)]
pub(crate) struct SharedStore {
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) table: Table,
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl KeyAnswerer {
    /// Answers from these keys from now on.
    pub(crate) fn share(&self, shared: SharedStore) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(shared);
    }

    /// Returns the state of a key on this node.
    pub(crate) async fn answer(&self, request: &KeyRequest, frontiers: &Frontiers) -> Result<KeyState, AnswerError> {
        let shared = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = match shared {
            Some(shared) => shared.answer(request, frontiers).await,
            None => Err(AnswerError::NoKeys),
        };
        let name = match &answer {
            Ok(KeyState::Present(_)) => "sent",
            Ok(KeyState::Destroyed) => "destroyed",
            Ok(KeyState::Missing) => "missing",
            Err(_) => "refused",
        };
        metrics::counter!(ANSWERS, "answer" => name).increment(1);
        answer
    }
}

impl SharedStore {
    async fn answer(&self, request: &KeyRequest, frontiers: &Frontiers) -> Result<KeyState, AnswerError> {
        let KeyRequest { node, subject, key } = request;
        // Keys are for members only. An operator who declares a node dead may have a reason not to trust it.
        if !matches!(self.state(node, frontiers).await?, Some(MemberState::Joined | MemberState::Leaving)) {
            return Err(AnswerError::NotAMember { node: node.clone() });
        }
        if subject.is_reserved() {
            return Ok(KeyState::Missing);
        }
        let state = self.keys.get(subject, key).await?;
        tracing::debug!(node, %subject, %key, ?state, "answered a request for a key");
        Ok(state)
    }

    /// Returns the state of a node in the membership, as this node knows it.
    async fn state(&self, node: &str, frontiers: &Frontiers) -> Result<Option<MemberState>, StoreError> {
        let group = frontiers.group(&*self.store).await?;
        if group.is_founded() {
            return Ok(group.state(node));
        }
        let is_declared = rows::declared_members(&*self.store, &self.table).await?.contains(node);
        Ok(is_declared.then_some(MemberState::Joined))
    }
}
