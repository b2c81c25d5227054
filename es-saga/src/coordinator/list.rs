//! The lists of [`SagaAdmin`], and the details of one saga.

use std::fmt;
use std::str::FromStr;

use es_core::aggregate::{Aggregate, LoadError};
use es_core::consumer::timer::Timer;
use es_core::model::ErrorChain;
use es_core::{StoreError, Timestamp};
use serde::{Deserialize, Serialize};

use crate::coordinator::admin::SagaAdmin;
use crate::coordinator::wake::Slot;
use crate::id::{ParseSagaIdError, SagaId};
use crate::instance::{Phase, SagaInstance};
use crate::show::{SagaDetails, SagaSummary};

/// An unfinished saga in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedSaga {
    /// The id.
    pub id: SagaId,
    /// The time at which it has something to do: in the past while it runs, the end of the year 9999 or later while it
    /// waits for a person.
    pub due: Timestamp,
    /// The reason why the program cannot run it, if there is one.
    pub quarantine: Option<String>,
    timer: Timer,
    slot: Slot,
}

/// A page of unfinished sagas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SagaList {
    /// The sagas.
    pub sagas: Vec<SagaSummary>,
    /// The place from which the next page continues, or `None` after the last one.
    pub next: Option<SagaCursor>,
}

/// A place in the list of unfinished sagas. Written as text, so that a client can send it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SagaCursor {
    due: i64,
    id: SagaId,
}

impl fmt::Display for SagaCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.due, self.id)
    }
}

impl FromStr for SagaCursor {
    type Err = ParseSagaIdError;

    fn from_str(text: &str) -> Result<Self, ParseSagaIdError> {
        let unknown = || ParseSagaIdError { text: text.to_owned() };
        let (due, id) = text.split_once(':').ok_or_else(unknown)?;
        Ok(Self { due: due.parse().map_err(|_| unknown())?, id: id.parse()? })
    }
}

impl From<SagaCursor> for String {
    fn from(cursor: SagaCursor) -> Self {
        cursor.to_string()
    }
}

impl TryFrom<String> for SagaCursor {
    type Error = ParseSagaIdError;

    fn try_from(text: String) -> Result<Self, ParseSagaIdError> {
        text.parse()
    }
}

impl SagaCursor {
    /// Returns the timer that is listed last before this place, with its slot.
    fn timer(&self) -> Option<(Slot, Timer)> {
        let stream = SagaInstance::stream(&self.id).ok()?;
        let due = Timestamp::from_timestamp_micros(self.due)?;
        Some((Slot::of(&stream), Timer::new(stream, due)))
    }
}

impl SagaAdmin {
    /// Returns at most `limit` unfinished sagas after the saga `after` of an earlier call. The order is that of their
    /// due times within each of a few partitions.
    ///
    /// # Errors
    /// [`StoreError`] if the rows cannot be read.
    pub async fn unfinished(
        &self,
        after: Option<&UnfinishedSaga>,
        limit: usize,
    ) -> Result<Vec<UnfinishedSaga>, StoreError> {
        let mut found = Vec::new();
        let first = after.map_or(0, |after| after.slot.index());
        for slot in Slot::all().skip(first) {
            let after = after.filter(|after| after.slot == slot).map(|after| &after.timer);
            let left = limit.saturating_sub(found.len());
            if left == 0 {
                break;
            }
            let timers = slot.queue().scan(&*self.store, after, left).await?;
            found.extend(timers.into_iter().filter_map(|timer| {
                let id = SagaInstance::id_of(&timer.stream)?;
                let quarantine = Some(timer.note.clone()).filter(|note| !note.is_empty());
                Some(UnfinishedSaga { id, due: timer.due, quarantine, timer, slot })
            }));
        }
        Ok(found)
    }

    /// Returns a page of at most `limit` unfinished sagas with their phases, in the order of [`unfinished`]. A saga
    /// that changes while the pages are read may be listed twice or not at all. Each saga is loaded.
    ///
    /// [`unfinished`]: Self::unfinished
    ///
    /// # Errors
    /// [`StoreError`] if the store fails. A saga that cannot be read is listed as `unreadable`.
    pub async fn list(&self, after: Option<&SagaCursor>, limit: usize) -> Result<SagaList, StoreError> {
        let after = after.and_then(|cursor| {
            let (slot, timer) = cursor.timer()?;
            Some(UnfinishedSaga { id: cursor.id.clone(), due: timer.due, quarantine: None, timer, slot })
        });
        let unfinished = self.unfinished(after.as_ref(), limit).await?;
        let last = unfinished.last().filter(|_| unfinished.len() == limit);
        let next = last.map(|last| SagaCursor { due: last.due.timestamp_micros(), id: last.id.clone() });
        let mut sagas = Vec::with_capacity(unfinished.len());
        for saga in unfinished {
            let summary = match self.repository.load(&saga.id).await {
                Ok(loaded) => SagaSummary::of(&loaded.state),
                Err(LoadError::Store(error)) if !matches!(error, StoreError::Damaged { .. }) => return Err(error),
                Err(error) => SagaSummary::unreadable(saga.id, ErrorChain(&error).to_string()),
            };
            sagas.push(summary.with_quarantine(saga.quarantine));
        }
        Ok(SagaList { sagas, next })
    }

    /// Returns the graph of an instance with the states, the attempts and the timings of its steps, or `None` if it was
    /// never created.
    ///
    /// # Errors
    /// [`LoadError`] if the instance cannot be read.
    pub async fn show(&self, id: &SagaId) -> Result<Option<SagaDetails>, LoadError> {
        let state = self.repository.load(id).await?.state;
        if state.phase() == Phase::Missing {
            return Ok(None);
        }
        let mut details = SagaDetails::of(&state);
        details.summary.quarantine = self.quarantine_of(id).await?;
        Ok(Some(details))
    }

    async fn quarantine_of(&self, id: &SagaId) -> Result<Option<String>, StoreError> {
        let Ok(stream) = SagaInstance::stream(id) else { return Ok(None) };
        let timer = Slot::of(&stream).queue().get(&*self.store, &stream).await?;
        Ok(timer.map(|timer| timer.note).filter(|note| !note.is_empty()))
    }
}
