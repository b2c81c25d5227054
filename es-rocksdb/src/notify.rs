//! Publication: what of the log readers may see.
//!
//! The writer publishes after a batch is written. A read of the log is bounded by the published head, so that it sees
//! neither a part of a batch nor anything of a batch that failed. A point read (a row, a key, an id) sees what RocksDB
//! has, which is a moment ahead of the head; it waits until that is published, too, so that whoever reads in a row of
//! position 10 also finds the event at position 10.

use es_core::store::HeadWatch;
use es_core::store::implement::HeadSender;
use es_core::{Position, StoreError};
use tokio::sync::watch;

/// What readers may see.
#[derive(Debug)]
pub(crate) struct Visible {
    head: HeadSender,
    publication: watch::Sender<Publication>,
}

/// What of RocksDB's changes is published.
#[derive(Debug)]
struct Publication {
    sequence: u64,
    /// Why nothing more will be.
    stopped: Option<String>,
}

impl Visible {
    /// The log up to `head`, as RocksDB has it at `sequence`.
    pub(crate) fn new(head: Option<Position>, sequence: u64) -> Self {
        Self { head: HeadSender::new(head), publication: watch::Sender::new(Publication { sequence, stopped: None }) }
    }

    /// The position of the last event that a read sees.
    pub(crate) fn head(&self) -> Option<Position> {
        self.head.head()
    }

    /// Follows the head.
    pub(crate) fn watch(&self) -> HeadWatch {
        self.head.watch()
    }

    /// Makes a batch visible.
    pub(crate) fn publish(&self, head: Option<Position>, sequence: u64) {
        // ORDER: the head first, so that whoever waits for the sequence finds the head there.
        self.head.publish(head);
        self.publication.send_modify(|publication| publication.sequence = sequence);
    }

    /// Passes a change that adds no event.
    pub(crate) fn advance(&self, sequence: u64) {
        self.publication.send_if_modified(|publication| {
            let is_higher = publication.sequence < sequence;
            publication.sequence = publication.sequence.max(sequence);
            is_higher
        });
    }

    /// Lets nobody wait any longer: after a failed write nothing more will be published.
    pub(crate) fn stop(&self, reason: &str) {
        self.publication.send_modify(|publication| publication.stopped = Some(reason.to_owned()));
    }

    /// Tells those who follow the head that it moves no more.
    pub(crate) fn close(&self) {
        self.head.close();
    }

    /// Waits until what RocksDB had at `sequence` is published. The writer does that right after its write returns, so
    /// that this is a matter of microseconds, and almost always of none.
    ///
    /// # Errors
    /// [`StoreError::Stopped`]: it never will be. A write failed behind which RocksDB has it all the same.
    pub(crate) async fn wait_published(&self, sequence: u64) -> Result<(), StoreError> {
        let outcome = |publication: &Publication| match &publication.stopped {
            _ if publication.sequence >= sequence => Some(Ok(())),
            Some(reason) => Some(Err(StoreError::Stopped { reason: reason.clone() })),
            None => None,
        };
        if let Some(known) = outcome(&self.publication.borrow()) {
            return known;
        }
        // NOTE: an error says that the sender is gone, but it is ours.
        match self.publication.subscribe().wait_for(|publication| outcome(publication).is_some()).await {
            Ok(publication) => outcome(&publication).unwrap_or(Ok(())),
            Err(_) => Ok(()),
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
    async fn nobody_waits_for_a_stopped_writer() {
        let visible = Visible::new(None, 5);
        visible.stop("a write failed");
        assert!(
            matches!(visible.wait_published(6).await, Err(StoreError::Stopped { reason }) if reason == "a write failed")
        );
        visible.wait_published(5).await.unwrap();
    }
}
