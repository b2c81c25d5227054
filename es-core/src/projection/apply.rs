//! [`BatchApplier`]: applies a batch of events to rows. All modes of a projection share it; it performs no I/O.
//!
//! ```text
//!   records --decode once--> BatchApplier --run--> Pass::Missing(rows) --fetch them--> run again
//!                                           +----> Pass::Done: one ApplyOutcome per event
//! ```
//!
//! Not in this module: stores, checkpoints, retries.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::aggregate::source::SourceEvents;
use crate::aggregate::{EventOf, Source};
use crate::consumer::selection::ordering_key;
use crate::model::RecordedEvent;
use crate::model::panic::panic_message;
use crate::projection::ProjectedContext;
use crate::projection::kept::is_replicated_deletion;
use crate::projection::{ApplyError, Missing, Projection, Rows};
use crate::retention::Erasure;
use crate::schema::DecodeEventError;

/// The policy for events that the query of a projection selects and its source does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownEvents {
    /// The event fails like one that cannot be applied.
    #[default]
    Fail,
    /// The event is skipped.
    Skip,
}

/// An event was not applied. All its changes are discarded.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFailure {
    /// The event could not be decoded. To skip events of unknown types instead, use [`UnknownEvents::Skip`].
    #[error("the event could not be decoded")]
    Decode(#[from] DecodeEventError),
    /// `apply` returned an error.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// `apply`, `erased` or `key` panicked. This is a bug in the projection.
    #[error("the projection panicked: {message}; correct its code")]
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// `apply` requested a row that was not loaded in every pass. It must depend only on its arguments.
    #[error(
        "the projection requested new rows in each of {MAX_PASSES} passes; `apply` must depend only on its arguments"
    )]
    Endless,
}

/// The largest number of passes over one batch.
pub(crate) const MAX_PASSES: u32 = 10_000;

/// The result of applying one event.
#[derive(Debug)]
pub(crate) enum ApplyOutcome {
    /// The event was applied. The rows contain its changes.
    Applied,
    /// The source does not know its type, and the projection skips such events.
    Skipped,
    /// The event was not applied.
    Failed(ApplyFailure),
    /// The event was not tried, because an earlier event of its key failed.
    Blocked,
}

impl ApplyOutcome {
    /// Returns the failure, if the event failed.
    pub(crate) const fn failure(&self) -> Option<&ApplyFailure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

/// The result of one pass over the events.
#[derive(Debug)]
pub(crate) enum Pass {
    /// These must be added with [`learn`](Rows::learn), [`learn_state`](Rows::learn_state) and
    /// [`learn_kept`](Rows::learn_kept) before the next run.
    Missing(Missing),
    /// One outcome for each event. The rows contain the changes of the applied events.
    Done(Vec<ApplyOutcome>),
}

/// Applies a batch of events to rows.
///
/// A failed event blocks the later events of its key and no others.
pub(crate) struct BatchApplier<'a, P: Projection> {
    projection: &'a P,
    events: Vec<DecodedEvent<'a, EventOf<P::Source>>>,
    blocked: &'a BTreeSet<String>,
    passes: u32,
}

struct DecodedEvent<'a, E> {
    record: &'a RecordedEvent,
    key: Result<String, ApplyFailure>,
    content: DecodedContent<'a, E>,
}

enum DecodedContent<'a, E> {
    Decoded(SourceEvents<'a, E>),
    Erasure(Erasure),
    Skipped,
    Unreadable(DecodeEventError),
}

/// The result of one event in one pass.
enum Run {
    Applied,
    Missing,
    Failed(ApplyFailure),
    /// The content or the key could not be determined; this is the same in every pass.
    Unreadable,
    Blocked,
    Skipped,
}

impl<'a, P: Projection> BatchApplier<'a, P> {
    /// Decodes the events. Events whose key is in `blocked` are not applied.
    pub(crate) fn new(
        projection: &'a P,
        events: impl IntoIterator<Item = &'a RecordedEvent>,
        blocked: &'a BTreeSet<String>,
    ) -> Self {
        let unknown = projection.unknown_events();
        let decode = |record: &'a RecordedEvent| DecodedEvent {
            record,
            key: guarded(|| ordering_key(record, |record| projection.key(record))),
            content: content::<P::Source>(record, unknown),
        };
        Self { projection, events: events.into_iter().map(decode).collect(), blocked, passes: 0 }
    }

    /// Applies all events in order, as far as their rows are loaded. Each pass first discards the changes of the
    /// previous one.
    ///
    /// Must not be called after [`Pass::Done`].
    pub(crate) fn run(&mut self, rows: &mut Rows) -> Pass {
        rows.restart();
        self.passes += 1;
        let mut blocked = BTreeSet::new();
        let runs: Vec<Run> = self.events.iter().map(|event| self.run_one(event, &mut blocked, rows)).collect();
        let missing = rows.take_missing();
        if !missing.is_empty() && self.passes < MAX_PASSES {
            return Pass::Missing(missing);
        }
        Pass::Done(
            std::mem::take(&mut self.events).into_iter().zip(runs).map(|(event, run)| outcome(event, run)).collect(),
        )
    }

    fn run_one<'e>(
        &'e self,
        event: &'e DecodedEvent<'a, EventOf<P::Source>>,
        blocked: &mut BTreeSet<&'e str>,
        rows: &mut Rows,
    ) -> Run {
        let Ok(key) = &event.key else { return Run::Unreadable };
        if self.blocked.contains(key) || blocked.contains(key.as_str()) {
            return Run::Blocked;
        }
        let run = match &event.content {
            DecodedContent::Decoded(events) => self.apply(event.record, rows, |context, rows| {
                events.as_slice().iter().try_for_each(|event| self.projection.apply(event, context, rows))
            }),
            DecodedContent::Erasure(erasure) => {
                self.apply(event.record, rows, |context, rows| self.erase(event.record, erasure, context, rows))
            }
            DecodedContent::Skipped => Run::Skipped,
            DecodedContent::Unreadable(_) => Run::Unreadable,
        };
        if matches!(run, Run::Applied) {
            rows.accept();
        } else {
            rows.discard();
        }
        if matches!(run, Run::Failed(_) | Run::Unreadable) {
            blocked.insert(key);
        }
        run
    }

    /// Deletes the rows of erased content, and applies the events again that the deletion of a replicated stream keeps.
    fn erase(
        &self,
        record: &RecordedEvent,
        erasure: &Erasure,
        context: &ProjectedContext<'_>,
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        self.projection.erased(erasure, context, rows)?;
        // A projection that deletes nothing has the rows of the kept events already.
        if !is_replicated_deletion(record.into()) || !rows.is_changed_by_event() {
            return Ok(());
        }
        let query = self.projection.query();
        for kept in rows.kept_by(record)?.iter().filter(|kept| query.matches_event(kept)) {
            let context = ProjectedContext::new(kept);
            match content::<P::Source>(kept, self.projection.unknown_events()) {
                DecodedContent::Decoded(events) => {
                    events.as_slice().iter().try_for_each(|event| self.projection.apply(event, &context, rows))?;
                }
                DecodedContent::Unreadable(error) => return Err(error.into()),
                DecodedContent::Erasure(_) | DecodedContent::Skipped => {}
            }
        }
        Ok(())
    }

    /// Calls the projection for a record, as far as its rows are loaded.
    fn apply(
        &self,
        record: &RecordedEvent,
        rows: &mut Rows,
        call: impl FnOnce(&ProjectedContext<'_>, &mut Rows) -> Result<(), ApplyError>,
    ) -> Run {
        let context = ProjectedContext::new(record);
        let applied = guarded(|| call(&context, rows));
        // The rows are checked and not the error, because a projection may ignore the error.
        if rows.is_row_missing() {
            return if self.passes < MAX_PASSES { Run::Missing } else { Run::Failed(ApplyFailure::Endless) };
        }
        match applied {
            Ok(Ok(())) => match rows.invalid_key() {
                None => Run::Applied,
                Some(invalid) => Run::Failed(ApplyFailure::Failed(invalid.into())),
            },
            Ok(Err(error)) => Run::Failed(failed(error)),
            Err(panicked) => Run::Failed(panicked),
        }
    }
}

fn content<S: Source>(record: &RecordedEvent, unknown: UnknownEvents) -> DecodedContent<'_, S::Event> {
    if let Some(erasure) = Erasure::of(record) {
        return DecodedContent::Erasure(erasure);
    }
    match S::decode(record) {
        Ok(events) => DecodedContent::Decoded(events),
        Err(DecodeEventError::UnknownType { .. }) if unknown == UnknownEvents::Skip => DecodedContent::Skipped,
        Err(error) => DecodedContent::Unreadable(error),
    }
}

fn failed(error: ApplyError) -> ApplyFailure {
    let text = error.to_string();
    ApplyFailure::Failed(error.into_reason().unwrap_or_else(|| text.into()))
}

fn outcome<E>(event: DecodedEvent<'_, E>, run: Run) -> ApplyOutcome {
    match (run, event.key, event.content) {
        (Run::Unreadable, Err(failure), _) => ApplyOutcome::Failed(failure),
        (Run::Unreadable, _, DecodedContent::Unreadable(error)) => ApplyOutcome::Failed(error.into()),
        (Run::Failed(failure), ..) => ApplyOutcome::Failed(failure),
        (Run::Blocked, ..) => ApplyOutcome::Blocked,
        (Run::Skipped, ..) => ApplyOutcome::Skipped,
        (Run::Applied | Run::Missing | Run::Unreadable, ..) => ApplyOutcome::Applied,
    }
}

/// Calls user code and converts a panic into an error.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, ApplyFailure> {
    // A panic can leave only the changes of the current event incomplete, and these are discarded.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| ApplyFailure::Panicked { message: panic_message(&*panic) })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::aggregate::Aggregate;
    use crate::model::{CommitPart, ContentType, EventData, EventId, Local, Timestamp};
    use crate::model::{EventType, StreamId, Table};
    use crate::model::{Position, Revision};
    use crate::schema::{EncodeEventError, EncodedEvent, Event, EventSchema, Events, KnownNames, RawEvent};

    /// Instructions to the projection, as text.
    #[derive(Debug, Clone, PartialEq)]
    struct Text(String);

    const SCHEMA: &[EventSchema] = &[EventSchema { name: "text", version: 1, aliases: &[], oldest: 1, tags: &[] }];

    impl Event for Text {
        const SCHEMA: &'static [EventSchema] = SCHEMA;

        fn encode(&self) -> Result<EncodedEvent, EncodeEventError> {
            unreachable!("the tests do not encode events")
        }

        fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
            if event.event_type != "text" {
                let found = event.event_type.to_owned();
                return Err(DecodeEventError::UnknownType { found, known: KnownNames(SCHEMA) });
            }
            let text = String::from_utf8_lossy(event.payload);
            Ok(text.split(';').filter(|part| !part.is_empty()).map(|part| Self(part.to_owned())).collect())
        }
    }

    /// The aggregate of the events.
    #[derive(Clone)]
    struct Script;

    impl Aggregate for Script {
        const CATEGORY: &'static str = "script";
        type Id = String;
        type Event = Text;
        type Level = Local;
    }

    struct Interpreter(UnknownEvents);

    fn rows_table() -> Table {
        Table::new("rows").unwrap()
    }

    /// "add x" appends a letter to row x. "follow x" appends a letter to the row that row x names. "swallow x" reads
    /// row x and ignores the error.
    impl Projection for Interpreter {
        type Source = Script;
        const NAME: &'static str = "interpreter";

        fn unknown_events(&self) -> UnknownEvents {
            self.0
        }

        fn apply(&self, Text(text): &Text, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            let (instruction, name) = text.split_once(' ').unwrap_or((text, ""));
            let mut add = |name: &[u8]| {
                let before = rows.get(&rows_table(), name)?.unwrap_or_default();
                rows.put(&rows_table(), name.to_vec(), [&before[..], b"a"].concat());
                Ok(())
            };
            match instruction {
                "add" => add(name.as_bytes()),
                "follow" => {
                    let next = rows.get(&rows_table(), name.as_bytes())?.unwrap_or_default();
                    let before = rows.get(&rows_table(), &next)?.unwrap_or_default();
                    rows.put(&rows_table(), next, [&before[..], b"a"].concat());
                    Ok(())
                }
                "swallow" => {
                    let seen = rows.get(&rows_table(), name.as_bytes()).unwrap_or_default();
                    rows.put(&rows_table(), "seen", seen.unwrap_or_else(|| "nothing".into()));
                    Ok(())
                }
                "panic" => panic!("requested by the event"),
                "endless" => rows.get(&rows_table(), EventId::new().as_uuid().as_bytes()).map(drop),
                _ => {
                    add(b"incomplete")?;
                    Err(ApplyError::new(format!("cannot {instruction}")))
                }
            }
        }
    }

    fn stream_of(id: &str) -> StreamId {
        StreamId::of("script", id).unwrap()
    }

    fn record(position: u64, stream: &str, event_type: &str, text: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position).unwrap(),
            stream: stream_of(stream),
            revision: Revision::new(position),
            recorded_at: Timestamp::UNIX_EPOCH,
            occurred_at: Timestamp::UNIX_EPOCH,
            part: CommitPart { index: 0, size: 1 },
            data: EventData::new(
                EventType::new(event_type).unwrap(),
                1,
                ContentType::Json,
                Bytes::copy_from_slice(text.as_bytes()),
            ),
        }
    }

    fn texts(texts: &[(&str, &str)]) -> Vec<RecordedEvent> {
        (1..).zip(texts).map(|(position, (stream, text))| record(position, stream, "text", text)).collect()
    }

    /// Runs all passes over the stored rows. Returns one letter for each outcome, the changed rows, and the number of
    /// passes.
    fn run(
        events: &[RecordedEvent],
        blocked: &[&str],
        stored: &[(&str, &str)],
    ) -> (String, Vec<(String, String)>, usize) {
        let blocked = blocked.iter().map(|id| stream_of(id).as_str().to_owned()).collect();
        let projection = Interpreter(UnknownEvents::Fail);
        let mut applier = BatchApplier::new(&projection, events, &blocked);
        let mut rows = Rows::default();
        for runs in 1.. {
            match applier.run(&mut rows) {
                Pass::Missing(missing) => {
                    for (table, key) in missing.rows {
                        let value = stored.iter().find(|(name, _)| name.as_bytes() == key);
                        rows.learn(table, key, value.map(|(_, value)| Bytes::copy_from_slice(value.as_bytes())));
                    }
                }
                Pass::Done(outcomes) => {
                    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                    let changes = rows
                        .changes()
                        .map(|((_, key), value)| (text(key), value.as_ref().map_or_else(String::new, text)));
                    return (outcomes.iter().map(letter).collect(), changes.collect(), runs);
                }
            }
        }
        unreachable!("a run ends within MAX_PASSES")
    }

    fn letter(outcome: &ApplyOutcome) -> char {
        match outcome {
            ApplyOutcome::Applied => 'a',
            ApplyOutcome::Skipped => 's',
            ApplyOutcome::Failed(_) => 'f',
            ApplyOutcome::Blocked => 'b',
        }
    }

    fn pairs(changes: &[(&str, &str)]) -> Vec<(String, String)> {
        changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn one_pass_requests_the_rows_of_the_whole_batch_and_each_event_is_applied_once() {
        let events = texts(&[("a", "add x"), ("b", "add y;add x"), ("c", "add x")]);
        let (outcomes, changes, runs) = run(&events, &[], &[("x", "-")]);
        assert_eq!((outcomes.as_str(), runs), ("aaa", 2));
        assert_eq!(changes, pairs(&[("x", "-aaa"), ("y", "a")]));
    }

    #[test]
    fn a_row_that_another_row_names_takes_one_more_pass() {
        let (outcomes, changes, runs) = run(&texts(&[("a", "follow x"), ("b", "follow x")]), &[], &[("x", "z")]);
        assert_eq!((outcomes.as_str(), runs), ("aa", 3));
        assert_eq!(changes, pairs(&[("z", "aa")]));
    }

    #[test]
    fn an_event_that_fails_changes_nothing_and_blocks_only_its_key() {
        let events = texts(&[("a", "add x"), ("a", "add x;fail"), ("b", "add x"), ("a", "add x")]);
        let (outcomes, changes, _) = run(&events, &[], &[]);
        assert_eq!(outcomes, "afab");
        assert_eq!(changes, pairs(&[("x", "aa")]));
        let (outcomes, changes, _) = run(&texts(&[("a", "add x"), ("b", "add x")]), &["a"], &[]);
        assert_eq!((outcomes.as_str(), changes), ("ba", pairs(&[("x", "a")])));
    }

    #[test]
    fn a_panic_fails_the_event_with_its_message() {
        let events = texts(&[("a", "add x;panic"), ("b", "add x")]);
        let mut rows = Rows::default();
        rows.learn(rows_table(), "x".into(), None);
        let Pass::Done(outcomes) =
            BatchApplier::new(&Interpreter(UnknownEvents::Fail), &events, &BTreeSet::new()).run(&mut rows)
        else {
            panic!("all rows are loaded")
        };
        let failure = outcomes[0].failure().expect("the first event failed").to_string();
        assert_eq!(failure, "the projection panicked: requested by the event; correct its code");
        assert_eq!(rows.changes().count(), 1);
    }

    #[test]
    fn an_event_that_ignores_the_error_of_a_missing_row_is_applied_again() {
        let (outcomes, changes, runs) = run(&texts(&[("a", "swallow x"), ("b", "swallow x")]), &[], &[("x", "1")]);
        assert_eq!((outcomes.as_str(), runs), ("aa", 2));
        assert_eq!(changes, pairs(&[("seen", "1")]));
    }

    #[test]
    fn an_event_that_requests_new_rows_in_every_pass_fails() {
        let (outcomes, changes, runs) = run(&texts(&[("a", "endless"), ("b", "add x")]), &[], &[]);
        assert_eq!((outcomes.as_str(), changes), ("fa", pairs(&[("x", "a")])));
        assert_eq!(runs, MAX_PASSES as usize);
    }

    #[test]
    fn events_of_unknown_types_fail_or_are_skipped_and_retired_ones_change_nothing() {
        let events = [record(1, "a", "other", ""), record(2, "b", "text", "")];
        for (policy, expected) in [(UnknownEvents::Fail, "fa"), (UnknownEvents::Skip, "sa")] {
            let mut rows = Rows::default();
            let Pass::Done(outcomes) =
                BatchApplier::new(&Interpreter(policy), &events, &BTreeSet::new()).run(&mut rows)
            else {
                panic!("the events read no rows")
            };
            assert_eq!(outcomes.iter().map(letter).collect::<String>(), expected);
            assert_eq!(rows.changes().count(), 0);
        }
    }
}
