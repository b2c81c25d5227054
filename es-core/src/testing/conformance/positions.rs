//! Cases: positions and times that come from outside, and a clock that is set back.

use std::time::Duration;

use super::tools::*;
use crate::model::{AheadOfLog, LogId, LogPosition, Position, PositionError};
use crate::store::{CommitError, Query, StoreError};
use crate::testing::ManualClock;
use crate::{Commit, Subscription};

/// A position is of this log if it has the id of this log, or none, and the log has reached it. The id is the same
/// after a restart.
pub(super) async fn a_position_is_checked_against_the_log(harness: &dyn Harness) {
    let store = harness.open().await;
    check_positions(&store, store.log_id(), None).await;
    let log_id = store.log_id();
    let committed = append(&store, "a-1", &["x", "x", "x"]).await;
    check_positions(&store, log_id, committed.position()).await;
    if let Some(reopened) = harness.reopen(store).await {
        check_positions(&reopened, log_id, committed.position()).await;
    }
}

async fn check_positions(store: &Store, log_id: LogId, head: Option<Position>) {
    let next = head.map_or(Position::FIRST, Position::next);
    let ahead = AheadOfLog { position: next, head };
    for reached in [None, head] {
        assert_eq!(LogPosition::in_log(log_id, reached).resolve(&**store), Ok(reached));
        assert_eq!(LogPosition::from(reached).resolve(&**store), Ok(reached));
        assert!(Subscription::new(store.clone(), Query::all(), reached).is_ok());
    }
    for given in [LogPosition::in_log(log_id, Some(next)), Some(next).into()] {
        assert_eq!(given.resolve(&**store), Err(PositionError::AheadOfLog(ahead)));
    }
    assert_eq!(Subscription::new(store.clone(), Query::all(), Some(next)).map(drop), Err(ahead));
    assert_eq!(store.watch_head().check(Some(next)), Err(ahead));
    let other = LogId::new();
    let expected = PositionError::OtherLog { position: head, given: other, expected: log_id };
    assert_eq!(LogPosition::in_log(other, head).resolve(&**store), Err(expected));
}

/// Recorded times never decrease, although the clock is set back by a day.
pub(super) async fn recorded_times_never_decrease_when_the_clock_is_set_back(harness: &dyn Harness) {
    let (noon, day) = ("2026-01-31T12:00:00Z".parse().expect("a time"), Duration::from_secs(24 * 60 * 60));
    let clock = std::sync::Arc::new(ManualClock::at(noon));
    let Some(store) = harness.open_with_clock(clock.clone()).await else { return };
    let mut recorded = Vec::new();
    for time in [noon, noon - day, noon - day * 2, noon + Duration::from_secs(1)] {
        clock.set(time);
        let committed = commit(&store, Commit::to(&stream("a-1"), Any, events(1))).await;
        recorded.push(committed.events[0].recorded_at);
    }
    assert_eq!(recorded, [noon, noon, noon, noon + Duration::from_secs(1)]);
    let stored: Vec<_> = log(&store).await.iter().map(|event| event.recorded_at).collect();
    assert_eq!(stored, recorded);
}

/// A commit is refused while the clock shows a time before 1970, as after a reset, and the store stays usable.
pub(super) async fn a_clock_before_1970_is_refused(harness: &dyn Harness) {
    let noon = "2026-01-31T12:00:00Z".parse().expect("a time");
    let clock = std::sync::Arc::new(ManualClock::at(noon));
    let Some(store) = harness.open_with_clock(clock.clone()).await else { return };
    append(&store, "a-1", &["x"]).await;
    clock.set("1969-12-31T23:59:59Z".parse().expect("a time"));
    let refused = store.commit(Commit::to(&stream("a-1"), Any, events(1))).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Io { .. }))), "{refused:?}");
    assert_eq!(log(&store).await.len(), 1);
    clock.set(noon);
    append(&store, "a-1", &["x"]).await;
}
