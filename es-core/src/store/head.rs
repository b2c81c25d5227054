//! The moving end of the log, for those who follow it: [`HeadWatch`], and [`HeadSender`] for stores.

use tokio::sync::watch;

use crate::model::Position;
use crate::store::StoreError;

/// Where the log ends, and whether it can still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    head: Option<Position>,
    is_closed: bool,
}

/// Follows the head of a store: see [`EventStore::watch_head`](crate::EventReader::watch_head).
///
/// It holds one position and no events, so that a follower that is slow, or that never looks, costs nobody anything.
/// Dropping it ends it. It does not keep the store open.
#[derive(Debug, Clone)]
pub struct HeadWatch(watch::Receiver<End>);

impl HeadWatch {
    /// The position of the last event that a read sees; `None` for an empty log.
    #[must_use]
    pub fn current(&self) -> Option<Position> {
        self.0.borrow().head
    }

    /// Waits until there is an event behind `position` (`None` for any event at all), and returns the head then.
    /// Returns at once where there is one already; several commits may have come together.
    ///
    /// # Errors
    /// [`StoreError::Closed`]: the store was closed, and the log ends at `position` or before. Open it again.
    pub async fn wait_after(&mut self, position: Option<Position>) -> Result<Position, StoreError> {
        // NOTE: an error says that the store is gone, which is one way to be closed.
        let end = self.0.wait_for(|end| end.head > position || end.is_closed).await.map_err(|_| StoreError::Closed)?;
        end.head.filter(|head| Some(*head) > position).ok_or(StoreError::Closed)
    }
}

/// Says where the log ends. For those who write a store.
#[derive(Debug)]
pub struct HeadSender(watch::Sender<End>);

impl HeadSender {
    /// The log ends at `head`.
    #[must_use]
    pub fn new(head: Option<Position>) -> Self {
        Self(watch::Sender::new(End { head, is_closed: false }))
    }

    /// What was published last.
    #[must_use]
    pub fn head(&self) -> Option<Position> {
        self.0.borrow().head
    }

    /// The log ends at `head` now: wakes those who wait for it, and nobody where nothing has changed.
    pub fn publish(&self, head: Option<Position>) {
        self.0.send_if_modified(|end| std::mem::replace(&mut end.head, head) != head);
    }

    /// Returns whether the store was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }

    /// The store was closed: whoever waits gets [`StoreError::Closed`].
    pub fn close(&self) {
        self.0.send_if_modified(|end| !std::mem::replace(&mut end.is_closed, true));
    }

    /// Follows the head.
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
    async fn who_is_behind_does_not_wait_and_gets_the_newest() {
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
    async fn a_closed_store_still_gives_what_it_has() {
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
