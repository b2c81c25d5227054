//! [`Claim`]: the exclusive right to write a projection, a lease with a fencing token.
//!
//! Every commit of a worker is conditional on its claim. The store therefore refuses the commits of a worker that lost
//! the claim without noticing it. Clocks only decide when another process may take the claim; they never decide whether
//! a write is accepted. See "How to do distributed locking" (Kleppmann 2016).

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

/// The holder of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) owner: Uuid,
    /// The fencing token, which grows with every acquisition.
    pub(crate) epoch: u64,
}

/// The heartbeat of the holder. It has its own row, so that a renewal does not break the conditions of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) owner: Uuid,
    pub(crate) expires_at: Timestamp,
    /// The lease, in milliseconds.
    pub(crate) lease_ms: u64,
}

/// A claim that this process has acquired.
#[derive(Debug, Clone)]
pub(crate) struct HeldClaim {
    pub(crate) epoch: u64,
    key: Bytes,
    bytes: Bytes,
}

impl HeldClaim {
    /// Adds the condition that the claim is still held to a commit.
    pub(crate) fn expect(&self, commit: Commit) -> Commit {
        commit.expect_row(table(), self.key.clone(), Some(self.bytes.clone()))
    }

    /// Returns whether the claim is still held.
    pub(crate) async fn is_held(&self, store: &dyn EventReader) -> Result<bool, StoreError> {
        Ok(store.row(&table(), &self.key).await?.as_ref() == Some(&self.bytes))
    }
}

/// The result of an attempt to acquire a claim.
#[derive(Debug)]
pub(crate) enum ClaimOutcome {
    Acquired(HeldClaim),
    /// Another process holds the claim.
    HeldBy(Uuid),
}

/// Measures the age of the holder's last heartbeat with the monotonic clock of this process.
#[derive(Debug, Default)]
pub(crate) struct HeartbeatWatch(Option<(Bytes, Duration)>);

impl HeartbeatWatch {
    /// Returns whether the heartbeat has not changed for the length of the lease. Without this check, a wall clock that
    /// was set back would make a dead holder appear alive.
    fn is_expired(&mut self, heartbeat: &StoredRow<Heartbeat>, clock: &dyn Clock) -> bool {
        let (Some(bytes), Some(value)) = (&heartbeat.bytes, &heartbeat.value) else { return true };
        match &self.0 {
            Some((last, since)) if last == bytes => {
                clock.elapsed().saturating_sub(*since) > Duration::from_millis(value.lease_ms)
            }
            _ => {
                self.0 = Some((bytes.clone(), clock.elapsed()));
                false
            }
        }
    }
}

/// The owner and the length of a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseTerms {
    pub(crate) owner: Uuid,
    pub(crate) duration: Duration,
}

impl LeaseTerms {
    fn heartbeat(&self, clock: &dyn Clock) -> Heartbeat {
        let duration = TimeDelta::from_std(self.duration).unwrap_or(TimeDelta::MAX);
        let expires_at = clock.now().checked_add_signed(duration).unwrap_or(Timestamp::MAX_UTC);
        let lease_ms = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        Heartbeat { owner: self.owner, expires_at, lease_ms }
    }

    /// Takes the claim if it is free or its lease has expired. With `takeover` it takes the claim in any case and
    /// appends that event.
    pub(crate) async fn acquire(
        &self,
        store: &dyn EventStore,
        keys: &RowKeys,
        clock: &dyn Clock,
        watch: &mut HeartbeatWatch,
        takeover: Option<(StreamId, NewEvent)>,
    ) -> Result<ClaimOutcome, StoreError> {
        let claim = StoredRow::<Claim>::read(store, keys.claim()).await?;
        let heartbeat = StoredRow::<Heartbeat>::read(store, keys.heartbeat()).await?;
        let holder = claim.value.map(|claim| claim.owner).filter(|owner| *owner != self.owner);
        let is_alive = heartbeat.value.is_some_and(|heartbeat| heartbeat.expires_at > clock.now());
        if let Some(holder) = holder
            && is_alive
            && takeover.is_none()
            && !watch.is_expired(&heartbeat, clock)
        {
            return Ok(ClaimOutcome::HeldBy(holder));
        }
        let epoch = claim.value.map_or(0, |claim| claim.epoch).saturating_add(1);
        let bytes = encode(&Claim { owner: self.owner, epoch })?;
        let commit = heartbeat
            .expect(claim.expect(Commit::new()))
            .put_row(table(), claim.key.clone(), bytes.clone())
            .put_row(table(), heartbeat.key.clone(), encode(&self.heartbeat(clock))?);
        let commit = takeover.into_iter().fold(commit, |commit, (stream, event)| commit.append(stream, event));
        match store.commit(commit).await {
            Ok(_) => Ok(ClaimOutcome::Acquired(HeldClaim { epoch, key: claim.key, bytes })),
            // Another process was faster, or the holder renewed its lease.
            Err(CommitError::Conflict(_)) => Ok(ClaimOutcome::HeldBy(holder.unwrap_or(self.owner))),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Renews the lease. Returns `false` if the claim was lost.
    pub(crate) async fn renew(
        &self,
        store: &dyn EventStore,
        keys: &RowKeys,
        clock: &dyn Clock,
        claim: &HeldClaim,
    ) -> Result<bool, StoreError> {
        let commit = claim.expect(Commit::new()).put_row(table(), keys.heartbeat(), encode(&self.heartbeat(clock))?);
        is_still_held(store.commit(commit).await)
    }
}

/// Releases the claim, so that the next process need not wait. The claim row stays, because the fencing token must
/// grow.
pub(crate) async fn release(store: &dyn EventStore, keys: &RowKeys, claim: &HeldClaim) -> Result<bool, StoreError> {
    is_still_held(store.commit(claim.expect(Commit::new()).delete_row(table(), keys.heartbeat())).await)
}

fn is_still_held<T>(committed: Result<T, CommitError>) -> Result<bool, StoreError> {
    match committed {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(error) => Err(store_error(error)),
    }
}

/// Converts the error of a commit that cannot violate a limit of the store.
pub(crate) fn store_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        other => StoreError::io("write rows of a projection", other),
    }
}
