//! The wake-ups of unfinished sagas: one durable timer for each.
//!
//! | due | meaning |
//! |---|---|
//! | past | the saga has something to do, or a coordinator is running it |
//! | future | the saga waits for its next attempt or its deadline |
//! | [`never`] | the saga waits for a person |
//! | [`quarantined`] | the saga cannot be run by this program; the note of the timer says why |
//!
//! A finished saga has no timer. Sagas are distributed over slots by a hash of their stream; each slot has a queue of
//! timers and a lease.

use es_core::aggregate::Aggregate;
use es_core::consumer::lease::LeaseRows;
use es_core::consumer::timer::{Timer, TimerQueue};
use es_core::{Commit, EventStore, StoreError, StreamId, Timestamp};
use uuid::Uuid;

use crate::id::SagaId;
use crate::instance::{Phase, SagaInstance};

/// The number of slots. Never changes, because the rows of a saga are found by its slot.
pub(super) const SLOTS: u8 = 4;

/// The number of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u8);

/// The namespace of the hash that distributes sagas.
const SLOT_HASH: Uuid = Uuid::from_u128(0x29b5_8ce3_40d1_5c77_8a06_3f9e_6b14_d02a);

impl Slot {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    pub(super) fn of(stream: &StreamId) -> Self {
        let hash = Uuid::new_v5(&SLOT_HASH, stream.as_str().as_bytes());
        Self(hash.as_bytes()[15] % SLOTS)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn queue(self) -> TimerQueue {
        TimerQueue::new(&self.name())
    }

    pub(super) fn lease(self) -> LeaseRows {
        LeaseRows::named(&self.name())
    }

    fn name(self) -> String {
        format!("sagas-{}", self.0)
    }
}

/// The due time of a saga that waits for a person: the end of the year 9999.
pub(super) fn never() -> Timestamp {
    Timestamp::from_timestamp(253_402_300_799, 0).unwrap_or(Timestamp::MAX_UTC)
}

/// The due time of a saga that this program cannot run, which is after [`never`].
pub(super) fn quarantined() -> Timestamp {
    Timestamp::from_timestamp(253_402_300_800, 0).unwrap_or(Timestamp::MAX_UTC)
}

/// Returns whether the saga of which this one is a step has something to record: this one has ended, or is stuck.
pub(super) fn concerns_parent(state: &SagaInstance) -> bool {
    state.phase().is_final() || matches!(state.phase(), Phase::Stuck(_))
}

/// Makes an unfinished saga due in a commit. A coordinator that runs it at that time gets a conflict on its next
/// commit, and loads it again. A quarantined saga stays quarantined.
pub(super) async fn wake(
    store: &dyn EventStore,
    commit: Commit,
    saga: &SagaId,
    now: Timestamp,
) -> Result<Commit, StoreError> {
    let Ok(stream) = SagaInstance::stream(saga) else { return Ok(commit) };
    let queue = Slot::of(&stream).queue();
    let Some(timer) = queue.get(store, &stream).await?.filter(|timer| timer.note.is_empty()) else {
        return Ok(commit);
    };
    // The timer must change, so that a coordinator which has read the earlier one gets a conflict.
    let due = if timer.due == now { now - chrono::TimeDelta::microseconds(1) } else { now };
    queue.replace(commit, &stream, Some(&timer), Some(&Timer::new(stream.clone(), due)))
}

/// Returns the timer of a saga for which nothing is to be done now.
pub(super) fn idle_timer(stream: &StreamId, state: &SagaInstance) -> Option<Timer> {
    let due = || state.wake_at().unwrap_or_else(never);
    (!state.phase().is_final()).then(|| Timer::new(stream.clone(), due()))
}
