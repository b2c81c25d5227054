//! The head of the log: [`HeadWatch`] for followers, [`HeadSender`] for stores, and the checks of given positions and
//! times against it.

use tokio::sync::watch;

use crate::model::{AheadOfLog, Clock, LogPosition, Position, PositionError, TimeAheadOfLog, Timestamp};
use crate::store::{EventReader, LogRead, StoreError};

/// The end of the log, and whether the store is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    head: Option<Position>,
    is_closed: bool,
}

/// Watches the head of a store: see [`EventReader::watch_head`](crate::EventReader::watch_head).
///
/// A watch holds one position and no events, so a slow follower costs nothing. It does not keep the store open.
#[derive(Debug, Clone)]
pub struct HeadWatch(watch::Receiver<End>);

impl HeadWatch {
    /// Returns the position of the last event that reads scan, or `None` if the log is empty.
    #[must_use]
    pub fn current(&self) -> Option<Position> {
        self.0.borrow().head
    }

    /// Checks that the log has reached a position. A position that a commit or a read of this log returned passes.
    ///
    /// # Errors
    /// [`AheadOfLog`] if the position is after the head.
    pub fn check(&self, position: Option<Position>) -> Result<(), AheadOfLog> {
        AheadOfLog::check(position, self.current())
    }

    /// Waits until the log has an event after `position`, or any event if `position` is `None`. Returns the head, which
    /// may be several commits later.
    ///
    /// # Errors
    /// [`StoreError::Closed`] if the store was closed and the log has no event after `position`.
    pub async fn wait_after(&mut self, position: Option<Position>) -> Result<Position, StoreError> {
        // The sender is dropped with the store, so an error also means that the store is closed.
        let end = self.0.wait_for(|end| end.head > position || end.is_closed).await.map_err(|_| StoreError::Closed)?;
        end.head.filter(|head| Some(*head) > position).ok_or(StoreError::Closed)
    }
}

impl LogPosition {
    /// Returns the position in the log of a store.
    ///
    /// A position without a log id is taken for one of this log if the log has reached it. It may be of another history
    /// of the log nevertheless.
    ///
    /// # Errors
    /// [`PositionError::OtherLog`] if it belongs to another log, [`PositionError::AheadOfLog`] if it is after the head.
    pub fn resolve(self, store: &dyn EventReader) -> Result<Option<Position>, PositionError> {
        let (Self { log_id, position }, expected) = (self, store.log_id());
        match log_id {
            Some(given) if given != expected => Err(PositionError::OtherLog { position, given, expected }),
            _ => Ok(store.watch_head().check(position).map(|()| position)?),
        }
    }
}

/// Returns the error for a store whose reads do not reach its head. Without it, a caller that reads up to the head
/// would loop without waiting.
pub(crate) fn head_not_reached(head: Position) -> StoreError {
    StoreError::damaged(format!("position {head}"), "expected a read to reach the head of the log")
}

/// Checks that a recorded time is not after the clock and the last recorded event. A log whose last event was recorded
/// by a clock in the future includes times up to that event.
pub(crate) async fn check_recorded_time(
    store: &dyn EventReader,
    clock: &dyn Clock,
    time: Timestamp,
) -> Result<Result<(), TimeAheadOfLog>, StoreError> {
    let now = clock.now();
    if time <= now {
        return Ok(Ok(()));
    }
    let last = store.read_log(LogRead::all().backward().limit(1)).await?.next().await?;
    let last_recorded = last.map(|last| last.recorded_at);
    Ok(if last_recorded >= Some(time) { Ok(()) } else { Err(TimeAheadOfLog { time, now, last_recorded }) })
}

/// Publishes the head of the log, for stores.
#[derive(Debug)]
pub struct HeadSender(watch::Sender<End>);

impl HeadSender {
    /// Returns a sender for a log that ends at `head`.
    #[must_use]
    pub fn new(head: Option<Position>) -> Self {
        Self(watch::Sender::new(End { head, is_closed: false }))
    }

    /// Returns the head that was published last.
    #[must_use]
    pub fn head(&self) -> Option<Position> {
        self.0.borrow().head
    }

    /// Publishes a new head. Wakes the waiting followers if it differs from the last one.
    pub fn publish(&self, head: Option<Position>) {
        self.0.send_if_modified(|end| std::mem::replace(&mut end.head, head) != head);
    }

    /// Returns `true` if the store was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }

    /// Marks the store as closed. Waiting followers get [`StoreError::Closed`].
    pub fn close(&self) {
        self.0.send_if_modified(|end| !std::mem::replace(&mut end.is_closed, true));
    }

    /// Returns a new watch on the head.
    #[must_use]
    pub fn watch(&self) -> HeadWatch {
        HeadWatch(self.0.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Position {
        Position::new(position).expect("not zero")
    }

    #[tokio::test]
    async fn a_slow_follower_does_not_wait_and_gets_the_newest_head() {
        let sender = HeadSender::new(None);
        let mut watch = sender.watch();
        sender.publish(Some(at(3)));
        sender.publish(Some(at(5)));
        assert_eq!(watch.wait_after(None).await.unwrap(), at(5));
        assert_eq!(watch.wait_after(Some(at(4))).await.unwrap(), at(5));
        let waiting = tokio::spawn(async move { watch.wait_after(Some(at(5))).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.publish(Some(at(6)));
        assert_eq!(waiting.await.unwrap().unwrap(), at(6));
    }

    #[tokio::test]
    async fn a_closed_store_still_returns_the_events_it_has() {
        let sender = HeadSender::new(Some(at(2)));
        let mut watch = sender.watch();
        sender.close();
        assert_eq!(watch.wait_after(Some(at(1))).await.unwrap(), at(2));
        assert!(matches!(watch.wait_after(Some(at(2))).await, Err(StoreError::Closed)));
        drop(sender);
        assert!(matches!(watch.wait_after(Some(at(2))).await, Err(StoreError::Closed)));
        assert_eq!(watch.current(), Some(at(2)));
    }
}
