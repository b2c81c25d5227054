//! The lease: the exclusive right of one task to a piece of work, such as a projection, with a fencing token.
//!
//! ```text
//!   free, released, expired, or of an earlier opening --acquire--> held --renew--> held
//!                                                                   |
//!                                        release, or taken by another owner: its commits are refused
//! ```
//!
//! Every commit of the holder is conditional on the lease. The store therefore refuses the commits of a holder that
//! lost the lease without noticing it. Clocks only decide when another owner may take the lease; they never decide
//! whether a write is accepted. See "How to do distributed locking" (Kleppmann 2016).
//!
//! A lease names the [opening](EventStore::opening) of the store in which it was acquired. If the store is open in one
//! process only, the processes of earlier openings are dead, so that their leases are taken at once, without a wait for
//! their end.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{Clock, NewEvent, StreamId, Table, Timestamp, reserved};
use crate::store::{
    Commit, CommitError, Conflict, EventReader, EventStore, FailedCheck, StoreError, StoredRow, encode_row,
};

/// The rows of a lease. Two leases with equal rows exclude each other.
#[derive(Debug, Clone)]
pub struct LeaseRows {
    pub(crate) table: Table,
    /// The key of the row with the [`Holder`].
    pub(crate) holder: Bytes,
    /// The key of the row with the [`Heartbeat`].
    pub(crate) heartbeat: Bytes,
}

impl LeaseRows {
    /// Returns the rows of the lease with this name, which all components of a store share.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let key = |kind: u8| [&[kind], name.as_bytes()].concat().into();
        Self { table: Table::well_known(reserved::LEASES), holder: key(b'l'), heartbeat: key(b'h') }
    }
}

/// The holder of a lease. Its row stays after a release, because the fencing token must grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) owner: Uuid,
    /// The fencing token, which grows with every acquisition.
    pub(crate) epoch: u64,
    /// The opening of the store in which the lease was acquired; `None` for a store that may be open in several
    /// processes, and in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opening: Option<u64>,
}

/// The heartbeat of the holder. It has its own row, so that a renewal does not break the conditions of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) owner: Uuid,
    pub(crate) expires_at: Timestamp,
    /// The length of the lease, in milliseconds.
    pub(crate) lease_ms: u64,
}

/// A lease that this process has acquired.
#[derive(Debug, Clone)]
pub struct HeldLease {
    epoch: u64,
    rows: LeaseRows,
    bytes: Bytes,
}

impl HeldLease {
    /// Returns the fencing token, which grows with every acquisition.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds the condition that the lease is still held to a commit.
    #[must_use]
    pub fn expect(&self, commit: Commit) -> Commit {
        commit.expect_row(self.rows.table.clone(), self.rows.holder.clone(), Some(self.bytes.clone()))
    }

    /// Returns whether a conflict means that the lease was lost.
    #[must_use]
    pub fn is_lost_by(&self, conflict: &Conflict) -> bool {
        conflict.failed.iter().any(|check| {
            matches!(check, FailedCheck::Row { table, key, .. }
                if *table == self.rows.table && *key == self.rows.holder)
        })
    }

    /// Returns whether the lease is still held.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails to read.
    pub async fn is_held(&self, store: &dyn EventReader) -> Result<bool, StoreError> {
        Ok(store.row(&self.rows.table, &self.rows.holder).await?.as_ref() == Some(&self.bytes))
    }

    /// Releases the lease, so that the next owner need not wait. Returns `false` if the lease was lost.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn release(&self, store: &dyn EventStore) -> Result<bool, StoreError> {
        let commit = self.expect(Commit::new()).delete_row(self.rows.table.clone(), self.rows.heartbeat.clone());
        is_still_held(store.commit(commit).await)
    }
}

/// The result of an attempt to acquire a lease.
#[derive(Debug)]
pub enum Acquisition {
    /// The lease is held.
    Acquired(HeldLease),
    /// Another owner holds the lease.
    HeldBy(Uuid),
}

/// Measures the age of the holder's last heartbeat with the monotonic clock of this process.
#[derive(Debug, Default)]
pub struct HeartbeatWatch(Option<(Bytes, Duration)>);

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
pub struct LeaseTerms {
    /// The owner: a new UUID for each start of a component.
    pub owner: Uuid,
    /// The time after which another owner may take the lease unless it is renewed.
    pub duration: Duration,
}

impl LeaseTerms {
    fn heartbeat(&self, clock: &dyn Clock) -> Heartbeat {
        let duration = TimeDelta::from_std(self.duration).unwrap_or(TimeDelta::MAX);
        let expires_at = clock.now().checked_add_signed(duration).unwrap_or(Timestamp::MAX_UTC);
        let lease_ms = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        Heartbeat { owner: self.owner, expires_at, lease_ms }
    }

    /// Takes the lease if it is free, has expired, or was acquired in an earlier opening of the store. `watch` must be
    /// the same in all attempts of one owner.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn acquire(
        &self,
        store: &dyn EventStore,
        rows: &LeaseRows,
        clock: &dyn Clock,
        watch: &mut HeartbeatWatch,
    ) -> Result<Acquisition, StoreError> {
        self.acquire_or_take_over(store, rows, clock, watch, None).await
    }

    /// Acquires the lease as [`acquire`](Self::acquire) does. With `takeover` it takes the lease in any case and
    /// appends that event.
    pub(crate) async fn acquire_or_take_over(
        &self,
        store: &dyn EventStore,
        rows: &LeaseRows,
        clock: &dyn Clock,
        watch: &mut HeartbeatWatch,
        takeover: Option<(StreamId, NewEvent)>,
    ) -> Result<Acquisition, StoreError> {
        let held = StoredRow::<Holder>::read(store, &rows.table, rows.holder.clone()).await?;
        let heartbeat = StoredRow::<Heartbeat>::read(store, &rows.table, rows.heartbeat.clone()).await?;
        let holder = held.value.filter(|holder| holder.owner != self.owner);
        let is_unexpired = heartbeat.value.is_some_and(|heartbeat| heartbeat.expires_at > clock.now());
        if let Some(holder) = holder
            && is_unexpired
            && takeover.is_none()
            && !is_of_earlier_opening(holder, store)
            && !watch.is_expired(&heartbeat, clock)
        {
            return Ok(Acquisition::HeldBy(holder.owner));
        }
        let epoch = held.value.map_or(0, |holder| holder.epoch).saturating_add(1);
        let bytes = encode_row(&Holder { owner: self.owner, epoch, opening: store.opening() })?;
        let commit = heartbeat
            .expect(held.expect(Commit::new()))
            .put_row(rows.table.clone(), rows.holder.clone(), bytes.clone())
            .put_row(rows.table.clone(), rows.heartbeat.clone(), encode_row(&self.heartbeat(clock))?);
        let commit = takeover.into_iter().fold(commit, |commit, (stream, event)| commit.append(stream, event));
        match store.commit(commit).await {
            Ok(_) => Ok(Acquisition::Acquired(HeldLease { epoch, rows: rows.clone(), bytes })),
            // Another owner was faster, or the holder renewed its lease.
            Err(CommitError::Conflict(_)) => Ok(Acquisition::HeldBy(holder.map_or(self.owner, |holder| holder.owner))),
            Err(error) => Err(row_error(error)),
        }
    }

    /// Renews the lease. Returns `false` if the lease was lost.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails. The lease may be held until its end.
    pub async fn renew(
        &self,
        store: &dyn EventStore,
        clock: &dyn Clock,
        lease: &HeldLease,
    ) -> Result<bool, StoreError> {
        let LeaseRows { table, heartbeat, .. } = &lease.rows;
        let value = encode_row(&self.heartbeat(clock))?;
        let commit = lease.expect(Commit::new()).put_row(table.clone(), heartbeat.clone(), value);
        is_still_held(store.commit(commit).await)
    }
}

/// Returns whether the process of the holder is dead, because the store was opened again since.
fn is_of_earlier_opening(holder: Holder, store: &dyn EventStore) -> bool {
    // Numbers are compared for equality: a restored or repaired store has rows of openings that it never had.
    holder.opening.zip(store.opening()).is_some_and(|(acquired, current)| acquired != current)
}

fn is_still_held<T>(committed: Result<T, CommitError>) -> Result<bool, StoreError> {
    match committed {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(error) => Err(row_error(error)),
    }
}

/// Converts the error of a commit that cannot violate a limit of the store.
pub(crate) fn row_error(error: CommitError) -> StoreError {
    match error {
        CommitError::Store(error) => error,
        other => StoreError::io("write rows of a background component", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::implement::StoreLayer;
    use crate::store::memory::MemoryStore;
    use crate::testing::ManualClock;

    /// One opening of a store.
    #[derive(Debug)]
    struct OpenedAs {
        store: MemoryStore,
        opening: Option<u64>,
    }

    impl StoreLayer for OpenedAs {
        fn inner(&self) -> &dyn EventStore {
            &self.store
        }

        fn opening(&self) -> Option<u64> {
            self.opening
        }
    }

    /// A store, a clock and the rows of one lease.
    struct Setup {
        store: MemoryStore,
        clock: ManualClock,
        rows: LeaseRows,
    }

    const LEASE: Duration = Duration::from_secs(10);

    impl Setup {
        fn new() -> Self {
            let rows = LeaseRows { table: Table::new("leases").unwrap(), holder: "l".into(), heartbeat: "h".into() };
            let clock = ManualClock::at("2026-01-31T12:00:00Z".parse().unwrap());
            Self { store: MemoryStore::new(), clock, rows }
        }

        /// Tries to acquire the lease in an opening of the store.
        async fn acquire(&self, owner: u128, opening: Option<u64>, watch: &mut HeartbeatWatch) -> Acquisition {
            let opened = OpenedAs { store: self.store.clone(), opening };
            let terms = LeaseTerms { owner: Uuid::from_u128(owner), duration: LEASE };
            terms.acquire(&opened, &self.rows, &self.clock, watch).await.unwrap()
        }

        /// Acquires the lease as owner 1 and returns whether owner 2 can take it at once.
        async fn is_taken_at_once(&self, first: Option<u64>, second: Option<u64>) -> bool {
            let Acquisition::Acquired(held) = self.acquire(1, first, &mut HeartbeatWatch::default()).await else {
                panic!("the lease is free");
            };
            match self.acquire(2, second, &mut HeartbeatWatch::default()).await {
                Acquisition::Acquired(taken) => {
                    assert!(!held.is_held(&self.store).await.unwrap());
                    assert!(taken.epoch > held.epoch, "the fencing token grows");
                    true
                }
                Acquisition::HeldBy(owner) => {
                    assert_eq!(owner, Uuid::from_u128(1));
                    assert!(held.is_held(&self.store).await.unwrap());
                    false
                }
            }
        }
    }

    /// User row 9: after a kill of the process, a projection waited for the end of its lease. The clock of this test
    /// stands still.
    #[tokio::test]
    async fn a_lease_of_an_earlier_opening_is_taken_without_a_wait() {
        assert!(Setup::new().is_taken_at_once(Some(1), Some(2)).await);
        assert!(Setup::new().is_taken_at_once(Some(7), Some(3)).await, "a restored store counts from another number");
        assert!(!Setup::new().is_taken_at_once(Some(2), Some(2)).await, "the other owner is alive");
    }

    /// A store that may be open in several processes has no openings: the holder may be alive.
    #[tokio::test]
    async fn without_openings_a_lease_is_taken_at_its_end() {
        for (first, second) in [(None, None), (Some(1), None), (None, Some(2))] {
            let setup = Setup::new();
            assert!(!setup.is_taken_at_once(first, second).await, "{first:?}, {second:?}");
            setup.clock.advance(LEASE + Duration::from_millis(1));
            let acquired = setup.acquire(2, second, &mut HeartbeatWatch::default()).await;
            assert!(matches!(acquired, Acquisition::Acquired(_)), "{acquired:?}");
        }
    }

    #[tokio::test]
    async fn a_row_of_an_earlier_version_has_no_opening() {
        let stored = r#"{"owner":"00000000-0000-0000-0000-000000000001","epoch":7}"#;
        let holder: Holder = serde_json::from_str(stored).unwrap();
        assert_eq!(holder, Holder { owner: Uuid::from_u128(1), epoch: 7, opening: None });
        assert_eq!(serde_json::to_string(&holder).unwrap(), stored);
    }
}
