//! [`Visible`]: the published head of the log, up to which reads see events.
//!
//! The writer publishes a batch after it is written. A log read is bounded by the published head, so that it sees
//! neither a part of a batch nor a failed batch. A point read (a row, a unique key, an id) sees the state of RocksDB,
//! which can be newer than the head. It waits until that state is published. So a caller that reads position 10 in a
//! row also finds the event at position 10.

use es_core::store::HeadWatch;
use es_core::store::implement::HeadSender;
use es_core::{Position, StoreError};
use tokio::sync::watch;

use crate::sync::switch_threads;

/// The published state of the log.
#[derive(Debug)]
pub(crate) struct Visible {
    head: HeadSender,
    publication: watch::Sender<Publication>,
}

/// The published number of the last commit.
#[derive(Debug, Default)]
struct Publication {
    sequence: u64,
    /// The reason why nothing more will be published, after a failed write.
    stopped: Option<String>,
    /// The reason why nothing is published for now, and why commits are refused.
    stalled: Option<String>,
    /// How many times RocksDB has refused the changes of a frame.
    refusals: u64,
}

impl Visible {
    /// Creates the state of a log whose events up to `head` RocksDB has at `sequence`.
    pub(crate) fn new(head: Option<Position>, sequence: u64) -> Self {
        Self {
            head: HeadSender::new(head),
            publication: watch::Sender::new(Publication { sequence, ..Publication::default() }),
        }
    }

    /// Returns the position of the last published event.
    pub(crate) fn head(&self) -> Option<Position> {
        switch_threads();
        self.head.head()
    }

    /// Returns a watch of the head.
    pub(crate) fn watch(&self) -> HeadWatch {
        self.head.watch()
    }

    /// Publishes a batch.
    pub(crate) fn publish(&self, head: Option<Position>, sequence: u64) {
        // ORDER: the head first, so that a task that waits for the number then finds the head.
        self.head.publish(head);
        switch_threads();
        self.publication.send_modify(|publication| publication.sequence = sequence);
    }

    /// Ends all waits with an error: after a failed write nothing more will be published.
    pub(crate) fn stop(&self, reason: &str) {
        self.publication.send_modify(|publication| publication.stopped = Some(reason.to_owned()));
    }

    /// Checks that more can be published.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] after a failed write.
    pub(crate) fn check_running(&self) -> Result<(), StoreError> {
        let stopped = self.publication.borrow().stopped.clone();
        stopped.map_or(Ok(()), |reason| Err(StoreError::Stopped { reason }))
    }

    /// Sets why nothing is published for now; `None` when that is over.
    pub(crate) fn set_stalled(&self, reason: Option<String>) {
        self.publication.send_modify(|publication| publication.stalled = reason);
    }

    /// Checks that commits are accepted now.
    ///
    /// # Errors
    /// [`StoreError::Stalled`] while a failed write is tried again.
    fn check_not_stalled(&self) -> Result<(), StoreError> {
        let stalled = self.publication.borrow().stalled.clone();
        stalled.map_or(Ok(()), |reason| Err(StoreError::Stalled { reason }))
    }

    /// Waits for a result, but not while a failed write is tried again.
    ///
    /// # Errors
    /// [`StoreError::Stalled`] while a failed write is tried again.
    pub(crate) async fn unless_stalled<T>(&self, result: impl Future<Output = T>) -> Result<T, StoreError> {
        let mut result = std::pin::pin!(result);
        loop {
            self.check_not_stalled()?;
            tokio::select! {
                biased;
                result = &mut result => return Ok(result),
                () = self.stall_begins() => {}
            }
        }
    }

    /// Waits until a failed write is tried again.
    async fn stall_begins(&self) {
        // An error means that the sender was dropped. `self` owns it.
        let _ = self.publication.subscribe().wait_for(|publication| publication.stalled.is_some()).await;
    }

    /// Returns how many times RocksDB has refused the changes of a frame.
    pub(crate) fn refusals(&self) -> u64 {
        self.publication.borrow().refusals
    }

    /// Reports that RocksDB has refused the changes of a frame, which a reader may wait for.
    pub(crate) fn add_refusal(&self) {
        self.publication.send_modify(|publication| publication.refusals += 1);
    }

    /// Notifies the watches of the head that it does not move any more.
    pub(crate) fn close(&self) {
        self.head.close();
    }

    /// Waits until the state of RocksDB at `sequence` is published. The writer publishes right after its write, so this
    /// rarely waits, and then for microseconds.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] if it will never be published: the write failed, but RocksDB has its changes.
    pub(crate) async fn wait_published(&self, sequence: u64) -> Result<(), StoreError> {
        self.wait_published_or_refused(sequence, None).await.map(drop)
    }

    /// Waits as [`wait_published`](Self::wait_published) does, but not if the number of refusals is not `refusals` any
    /// more. RocksDB then may not have had the state at `sequence`. Returns whether it is published.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] if it will never be published.
    pub(crate) async fn wait_published_or_refused(
        &self,
        sequence: u64,
        refusals: Option<u64>,
    ) -> Result<bool, StoreError> {
        let outcome = |publication: &Publication| match &publication.stopped {
            _ if publication.sequence >= sequence => Some(Ok(true)),
            Some(reason) => Some(Err(StoreError::Stopped { reason: reason.clone() })),
            None => refusals.filter(|refusals| *refusals != publication.refusals).map(|_| Ok(false)),
        };
        if let Some(known) = outcome(&self.publication.borrow()) {
            return known;
        }
        // An error means that the sender was dropped. `self` owns it.
        match self.publication.subscribe().wait_for(|publication| outcome(publication).is_some()).await {
            Ok(publication) => outcome(&publication).unwrap_or(Ok(true)),
            Err(_) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_point_read_waits_for_the_head() {
        let visible = std::sync::Arc::new(Visible::new(None, 5));
        visible.wait_published(5).await.unwrap();
        let waiting = tokio::spawn({
            let visible = visible.clone();
            async move {
                visible.wait_published(6).await.unwrap();
                visible.head()
            }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        visible.publish(Some(Position::FIRST), 6);
        assert_eq!(waiting.await.unwrap(), Some(Position::FIRST));
    }

    #[tokio::test]
    async fn a_wait_for_a_stopped_writer_is_an_error() {
        let visible = Visible::new(None, 5);
        visible.stop("a write failed");
        assert!(
            matches!(visible.wait_published(6).await, Err(StoreError::Stopped { reason }) if reason == "a write failed")
        );
        visible.wait_published(5).await.unwrap();
    }
}
