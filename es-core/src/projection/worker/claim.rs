//! Who may write a projection: [`Claim`], a lease with a fencing token.
//!
//! Every commit of a worker demands that the claim is still its own, so that one that was taken for dead and is not can write
//! nothing. Time decides only when another may take the claim, never whether a write counts. The reasoning is that of
//! "How to do distributed locking" (Kleppmann 2016).

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::{RowKeys, StoredRow, encode, table};
use crate::model::Clock;
use crate::model::StreamId;
use crate::model::{NewEvent, Timestamp};
use crate::store::{Commit, CommitError, EventReader, EventStore, StoreError};

/// Who may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) owner: Uuid,
    /// The fencing token: it grows with every change of hands.
    pub(crate) epoch: u64,
}

/// A sign of life of who may write. It stands apart from the claim, so that it changes nothing that commits demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) owner: Uuid,
    pub(crate) expires_at: Timestamp,
    /// For how long it was given, in milliseconds.
    pub(crate) lease_ms: u64,
}

/// A claim that is held.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) claim: Claim,
    key: Bytes,
    bytes: Bytes,
}

impl Owned {
    /// Demands that it is still held.
    pub(crate) fn expect(&self, commit: Commit) -> Commit {
        commit.expect_row(table(), self.key.clone(), Some(self.bytes.clone()))
    }

    /// Whether it is still held.
    pub(crate) async fn is_held(&self, store: &dyn EventReader) -> Result<bool, StoreError> {
        Ok(store.row(&table(), &self.key).await?.as_ref() == Some(&self.bytes))
    }
}

/// What an attempt to get a claim gave.
#[derive(Debug)]
pub(crate) enum ClaimOutcome {
    Owned(Owned),
    /// Somebody else has it.
    HeldBy(Uuid),
}

/// What somebody who waits for a claim has seen of its holder.
#[derive(Debug, Default)]
pub(crate) struct Watched(Option<(Bytes, Duration)>);

impl Watched {
    /// Whether the holder has given no sign of life for the time of its lease, as measured here. A clock that was set back
    /// must not make a dead holder live.
    fn is_silent(&mut self, heartbeat: &StoredRow<Heartbeat>, clock: &dyn Clock) -> bool {
        let (Some(bytes), Some(value)) = (&heartbeat.bytes, &heartbeat.value) else { return true };
        match &self.0 {
            Some((seen, since)) if seen == bytes => {
                clock.elapsed().saturating_sub(*since) > Duration::from_millis(value.lease_ms)
            }
            _ => {
                self.0 = Some((bytes.clone(), clock.elapsed()));
                false
            }
        }
    }
}

/// For whom and for how long a claim is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) owner: Uuid,
    pub(crate) lease: Duration,
}

impl Terms {
    fn heartbeat(&self, clock: &dyn Clock) -> Heartbeat {
        let lease = TimeDelta::from_std(self.lease).unwrap_or(TimeDelta::MAX);
        let expires_at = clock.now().checked_add_signed(lease).unwrap_or(Timestamp::MAX_UTC);
        Heartbeat { owner: self.owner, expires_at, lease_ms: u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Takes the claim if nobody has it, or its holder has given no sign of life for too long; by force in any case, with an
    /// event that says so.
    pub(crate) async fn acquire(
        &self,
        store: &dyn EventStore,
        keys: &RowKeys,
        clock: &dyn Clock,
        watched: &mut Watched,
        by_force: Option<(StreamId, NewEvent)>,
    ) -> Result<ClaimOutcome, StoreError> {
        let claim = StoredRow::<Claim>::read(store, keys.claim()).await?;
        let heartbeat = StoredRow::<Heartbeat>::read(store, keys.heartbeat()).await?;
        let holder = claim.value.map(|claim| claim.owner).filter(|owner| *owner != self.owner);
        let is_alive = heartbeat.value.is_some_and(|heartbeat| heartbeat.expires_at > clock.now());
        if let Some(holder) = holder
            && is_alive
            && by_force.is_none()
            && !watched.is_silent(&heartbeat, clock)
        {
            return Ok(ClaimOutcome::HeldBy(holder));
        }
        let epoch = claim.value.map_or(0, |claim| claim.epoch).saturating_add(1);
        let mine = Claim { owner: self.owner, epoch };
        let bytes = encode(&mine)?;
        let commit = heartbeat
            .expect(claim.expect(Commit::new()))
            .put_row(table(), claim.key.clone(), bytes.clone())
            .put_row(table(), heartbeat.key.clone(), encode(&self.heartbeat(clock))?);
        let commit = by_force.into_iter().fold(commit, |commit, (stream, event)| commit.append(stream, event));
        match store.commit(commit).await {
            Ok(_) => Ok(ClaimOutcome::Owned(Owned { claim: mine, key: claim.key, bytes })),
            // NOTE: somebody was faster, or the holder is alive after all.
            Err(CommitError::Conflict(_)) => Ok(ClaimOutcome::HeldBy(holder.unwrap_or(self.owner))),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Gives a sign of life; `false` when the claim was lost.
    pub(crate) async fn renew(
        &self,
        store: &dyn EventStore,
        keys: &RowKeys,
        clock: &dyn Clock,
        owned: &Owned,
    ) -> Result<bool, StoreError> {
        let commit = owned.expect(Commit::new()).put_row(table(), keys.heartbeat(), encode(&self.heartbeat(clock))?);
        still_owned(store.commit(commit).await)
    }
}

/// Gives the claim up, so that the next one need not wait. The token stays, because it must grow.
pub(crate) async fn release(store: &dyn EventStore, keys: &RowKeys, owned: &Owned) -> Result<bool, StoreError> {
    still_owned(store.commit(owned.expect(Commit::new()).delete_row(table(), keys.heartbeat())).await)
}

fn still_owned<T>(committed: Result<T, CommitError>) -> Result<bool, StoreError> {
    match committed {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(error) => Err(store_error(error)),
    }
}

/// A failure of a commit that has neither events nor anything that could break a limit.
pub(crate) fn store_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        other => StoreError::io("write rows of a projection", other),
    }
}
