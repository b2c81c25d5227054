//! Retries of store operations of a group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::aggregate::repository::RetryPolicy;
use crate::consumer::group::shared::GroupCore;
use crate::consumer::lifecycle::GroupError;
use crate::model::ErrorChain;
use crate::model::Position;
use crate::model::RecordedEvent;
use crate::store::{LogRead, StoreError};

/// The retry policy for store operations. After the last attempt the group stops.
pub(crate) const STORE_RETRY: RetryPolicy =
    RetryPolicy { attempts: 8, first_pause: Duration::from_millis(20), longest_pause: Duration::from_secs(2) };

impl GroupCore {
    /// Waits for the next attempt. Returns the error if a retry cannot succeed or no attempt is left.
    pub(crate) async fn pause_or_fail(
        &self,
        error: StoreError,
        pauses: &mut (impl Iterator<Item = Duration> + Send),
    ) -> Result<(), GroupError> {
        // Only an I/O error can be transient. A closed, stopped or damaged store does not recover.
        let is_transient = matches!(error, StoreError::Io { .. });
        let Some(pause) = pauses.next().filter(|_| is_transient) else { return Err(self.failed(error)) };
        tracing::warn!(group = self.rows.name(), error = %ErrorChain(&error), "store operation failed; retrying it");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Reads the state row of the group.
    pub(crate) async fn stored_row(&self) -> Result<Option<Bytes>, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.entropy);
        loop {
            match self.rows.state(&*self.store).await {
                Ok(row) => return Ok(row),
                Err(error) => self.pause_or_fail(error, &mut pauses).await?,
            }
        }
    }

    /// Reads the event at a position; `None` if it was removed from the log.
    pub(crate) async fn event_at(&self, position: Position) -> Result<Option<RecordedEvent>, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.entropy);
        loop {
            match self.read_at(position).await {
                Ok(event) => return Ok(event.filter(|event| event.position == position)),
                Err(error) => self.pause_or_fail(error, &mut pauses).await?,
            }
        }
    }

    async fn read_at(&self, position: Position) -> Result<Option<RecordedEvent>, StoreError> {
        let mut events = self.store.read_log(LogRead::all().from(position).limit(1)).await?;
        events.next().await
    }

    pub(crate) fn failed(&self, error: StoreError) -> GroupError {
        GroupError::Store { name: self.name(), source: Arc::new(error) }
    }
}
