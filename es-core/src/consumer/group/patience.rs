//! What a group does when its store fails: it asks again, for a while.

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

/// How often a failing store is asked again before the group ends.
pub(crate) const STORE_RETRY: RetryPolicy =
    RetryPolicy { attempts: 8, first_pause: Duration::from_millis(20), longest_pause: Duration::from_secs(2) };

impl GroupCore {
    /// Waits until it is time to ask again; the error, where that is in vain.
    pub(crate) async fn pause_or_fail(
        &self,
        error: StoreError,
        pauses: &mut (impl Iterator<Item = Duration> + Send),
    ) -> Result<(), GroupError> {
        // NOTE: a store that is closed, stopped or damaged stays so; what the system or the engine refused may pass.
        let may_pass = matches!(error, StoreError::Io { .. });
        let Some(pause) = pauses.next().filter(|_| may_pass) else { return Err(self.failed(error)) };
        tracing::warn!(group = self.rows.name(), error = %ErrorChain(&error), "the store failed; trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Where the group is, as it stands in the store.
    pub(crate) async fn stored_row(&self) -> Result<Option<Bytes>, GroupError> {
        let mut pauses = STORE_RETRY.pauses(&*self.entropy);
        loop {
            match self.rows.state(&*self.store).await {
                Ok(row) => return Ok(row),
                Err(error) => self.pause_or_fail(error, &mut pauses).await?,
            }
        }
    }

    /// The event at a position; `None` where the log has it no more.
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
