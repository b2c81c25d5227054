//! [`Decisions`]: the state that decisions on commits read and change. It is locked while the log is locked.

use std::sync::Arc;

use bytes::Bytes;
use es_core::model::{Table, UniqueKey};
use es_core::retention::StreamRetention;
use es_core::store::implement::{CommitDecision, Decider, KeyOwner, KeySecret, LogView};
use es_core::store::{Committed, Query};
use es_core::{CommitError, EventId, Position, RecordedEvent, Revision, StoreError, StreamId, Timestamp};
use es_log::{AppendError, CommitDraft, Log};

use crate::engine::database::{Database, Tier};
use crate::index::postings;
use crate::index::{END, Index, IndexView};
use crate::record::CommitChanges;
use crate::record::codec::{EncodedCommit, LogDecoder};
use crate::retention::{Operators, StreamIndex};
use crate::writer::pending::PendingCommits;

/// The end of a log: the position and the recorded time of its last event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) head: Option<Position>,
    pub(crate) recorded_at: Option<Timestamp>,
}

/// The state of decisions: the log with all commits that were decided, also with those that are not on disk yet.
#[derive(Debug)]
pub(crate) struct Decisions {
    pub(crate) end: LogEnd,
    pub(crate) pending: PendingCommits,
    /// The rules and deletions of all decided commits.
    pub(crate) operators: Operators,
    /// Why no more commits are accepted.
    pub(crate) stopped: Option<String>,
}

/// What a decision reads besides [`Decisions`].
pub(crate) struct DecisionInputs<'a> {
    pub(crate) decider: &'a Decider,
    pub(crate) index: &'a Index,
    pub(crate) database: &'a Database,
    pub(crate) log: &'a Log,
    pub(crate) secret: &'a KeySecret,
}

/// A commit that is in the open frame of the log.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The events. The publisher has dropped them when the commit is answered.
    pub(crate) events: Arc<Vec<RecordedEvent>>,
    /// The number of the commit since the store was opened.
    pub(crate) number: u64,
}

/// A commit that adds nothing to the log.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) answer: Result<Committed, CommitError>,
    /// The number of the last commit that the decision has seen. The answer can name its revisions, so it must be
    /// published first.
    pub(crate) after: u64,
}

impl From<AppendError> for Refused {
    fn from(error: AppendError) -> Self {
        let answer = Err(not_appended(error).into());
        Self { answer, after: 0 }
    }
}

/// Returns the error of a commit that the log has not acknowledged.
pub(crate) fn not_appended(error: AppendError) -> StoreError {
    match error {
        AppendError::Closed => StoreError::Closed,
        AppendError::Size { .. } | AppendError::Record(_) => StoreError::io("write the log", error),
        AppendError::Stalled { source } => {
            StoreError::Stalled { reason: es_core::model::ErrorChain(&*source).to_string() }
        }
        error => StoreError::Stopped { reason: stop_reason(&error) },
    }
}

/// Returns the reason of a store that stopped after an error of its log.
pub(crate) fn stop_reason(error: &AppendError) -> String {
    format!("a write failed: {}", es_core::model::ErrorChain(error))
}

impl Decisions {
    /// Decides on a commit as if all earlier decisions were written, and adds it to the log.
    pub(crate) fn decide(
        &mut self,
        inputs: &DecisionInputs<'_>,
        draft: &mut EncodedCommit,
        log: &mut CommitDraft<'_>,
        now: Timestamp,
    ) -> Result<Accepted, Refused> {
        let after = self.pending.last_number();
        let refused = |answer| Refused { answer, after };
        if let Some(reason) = &self.stopped {
            return Err(refused(Err(StoreError::Stopped { reason: reason.clone() }.into())));
        }
        let view = inputs.index.view(inputs.database, inputs.log, END);
        let mut view = DecisionView { decisions: self, view, secret: inputs.secret };
        let committed = match inputs.decider.decide(&mut draft.commit, &mut view, now) {
            Ok(CommitDecision::Write(committed)) => committed,
            Ok(CommitDecision::Repeat(committed)) => return Err(refused(Ok(committed))),
            Err(error) => return Err(refused(Err(error))),
        };
        let changes = CommitChanges::of(&draft.commit, &committed.events, inputs.secret);
        if committed.events.is_empty() && changes.is_empty() {
            return Err(refused(Ok(committed)));
        }
        draft.append(&committed.events, &changes, log).map_err(|error| refused(Err(error.into())))?;
        // ORDER: nothing can fail from here on, so that a refused commit changes nothing.
        inputs.index.extend(&committed.events);
        if let Some(last) = committed.events.last() {
            self.end = LogEnd { head: Some(last.position), recorded_at: Some(last.recorded_at) };
        }
        if let Err(error) = self.operators.apply(committed.events.iter()) {
            let error = es_core::model::ErrorChain(&error);
            tracing::error!(%error, "an event of a reserved stream could not be applied");
        }
        let events = Arc::new(committed.events);
        let number = self.pending.add(Arc::clone(&events), changes);
        Ok(Accepted { events, number })
    }
}

/// The log after all decided commits.
struct DecisionView<'a> {
    decisions: &'a Decisions,
    view: IndexView<'a>,
    secret: &'a KeySecret,
}

impl DecisionView<'_> {
    fn event_at(&self, position: Position) -> Result<RecordedEvent, StoreError> {
        match self.decisions.pending.event(position) {
            Some(event) => Ok(event.clone()),
            None => Ok(self.view.event(position, Tier::Any, &mut LogDecoder::default())?),
        }
    }

    /// Returns whether an event is visible after all decided commits.
    fn shows(&self, event: &RecordedEvent, now: Timestamp) -> Result<bool, StoreError> {
        if event.is_removed() {
            return Ok(false);
        }
        let retention = self.decisions.operators.of(&event.stream);
        if retention.is_whole() {
            return Ok(true);
        }
        let last = StreamIndex::revision(&self.view, &event.stream, Tier::Any)?;
        Ok(retention.shows(event.revision, event.recorded_at, last, now))
    }
}

impl LogView for DecisionView<'_> {
    fn head(&mut self) -> Result<Option<Position>, StoreError> {
        Ok(self.decisions.end.head)
    }

    fn last_recorded_at(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.decisions.end.recorded_at)
    }

    fn revision(&mut self, stream: &StreamId) -> Result<Option<Revision>, StoreError> {
        Ok(StreamIndex::revision(&self.view, stream, Tier::Any)?)
    }

    fn position_of(&mut self, id: EventId) -> Result<Option<Position>, StoreError> {
        Ok(self.view.position_of(id, Tier::Any)?)
    }

    fn event(&mut self, position: Position) -> Result<RecordedEvent, StoreError> {
        self.event_at(position)
    }

    fn first_match(
        &mut self,
        query: &Query,
        after: Option<Position>,
        now: Timestamp,
    ) -> Result<Option<Position>, StoreError> {
        let head = self.decisions.end.head;
        let is_touched = self.decisions.operators.is_touched();
        let is_visible = |position| match is_touched {
            true => self.shows(&self.event_at(position)?, now),
            false => Ok(true),
        };
        match self.view.newest_after(after) {
            Some(newest) => postings::first_match(&newest, query, after, head, is_visible),
            None => postings::first_match(&self.view, query, after, head, is_visible),
        }
    }

    fn first_left(&mut self, stream: &StreamId) -> Result<Revision, StoreError> {
        match self.decisions.pending.first_left(stream) {
            Some(first) => Ok(first),
            None => Ok(self.view.database.first_left(stream, Tier::Any)?),
        }
    }

    fn retention(&mut self, stream: &StreamId) -> Result<StreamRetention, StoreError> {
        Ok(self.decisions.operators.of(stream))
    }

    fn owner(&mut self, key: &UniqueKey) -> Result<Option<KeyOwner>, StoreError> {
        let hash = self.secret.hash(key);
        match self.decisions.pending.owner(&hash) {
            Some(owner) => Ok(owner.clone()),
            None => Ok(self.view.database.owner(&hash, Tier::Any)?),
        }
    }

    fn row(&mut self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.decisions.pending.row(table, key) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.view.database.row(table, key, Tier::Any)?),
        }
    }
}

/// Reads what a decision on this commit will read, so that the decision finds it in memory. With [`Tier::Cached`] it
/// fails if something is not.
pub(crate) fn prefetch(
    view: &IndexView<'_>,
    secret: &KeySecret,
    draft: &EncodedCommit,
    tier: Tier,
) -> Result<(), crate::engine::database::Fault> {
    let commit = &draft.commit;
    let expected = commit.expectations().iter().map(|(stream, _)| stream);
    let written = commit.events().iter().map(|(stream, _)| stream);
    let mut last = None;
    for stream in expected.chain(written) {
        if last.replace(stream) != Some(stream) {
            StreamIndex::revision(view, stream, tier)?;
        }
    }
    for change in commit.events().iter().flat_map(|(_, event)| &event.data.keys) {
        view.database.owner(&secret.hash(change.key()), tier)?;
    }
    for row in commit.row_conditions() {
        view.database.row(&row.table, &row.key, tier)?;
    }
    Ok(())
}
