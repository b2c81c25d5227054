//! Applying events to rows: [`BatchApplier`], pure code that every mode of a projection runs.
//!
//! ```text
//!   events --decode once--> BatchApplier --run--> rows that are missing --fetch all--> run again ... --> one ApplyOutcome per event
//! ```

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::aggregate::EventContext;
use crate::model::RecordedEvent;
use crate::model::Table;
use crate::projection::{ApplyError, ProjectedEvent, Projection, Rows};
use crate::schema::Events;
use crate::schema::{DecodeEventError, RawEvent};

/// What becomes of an event that the query of a projection lets through and whose type the projection does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownEvents {
    /// It fails, as an event does that cannot be applied: nothing is left out without a word.
    #[default]
    Fail,
    /// It is left out.
    Skip,
}

/// Why an event was not applied. Nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub enum ApplyFailure {
    /// It could not be read. Each variant of the reason says what to do; with [`UnknownEvents::Skip`] unknown types are left out.
    #[error("the event could not be read: {0}")]
    Decode(#[from] DecodeEventError),
    /// `apply` returned an error.
    #[error("{0}")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// `apply` or `key` panicked. That is a bug in the projection: correct it.
    #[error("the projection panicked: {message}; correct its code")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// `apply` asked for new rows each time it was called, and never ended. It must depend on its arguments alone.
    #[error(
        "the projection asked for rows {MAX_PASSES} times and did not end; `apply` must depend on its arguments alone"
    )]
    Endless,
}

/// How many times rows are fetched for the events of one batch.
pub const MAX_PASSES: u32 = 10_000;

/// What became of an event.
#[derive(Debug)]
pub enum ApplyOutcome {
    /// Its changes count.
    Applied,
    /// Its type is not known, and the projection leaves such events out.
    Skipped,
    /// It was not applied.
    Failed(ApplyFailure),
    /// It was not looked at, because an earlier event of its key has failed.
    Blocked,
}

impl ApplyOutcome {
    /// Why it was not applied, where it failed.
    #[must_use]
    pub const fn failure(&self) -> Option<&ApplyFailure> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }
}

/// What a run over the events gave.
#[derive(Debug)]
pub enum Pass {
    /// These rows must be known first: [`learn`](Rows::learn) them all, then run again.
    Missing(BTreeSet<(Table, Bytes)>),
    /// One outcome for each event; the rows have the changes of those that were applied.
    Done(Vec<ApplyOutcome>),
}

/// A batch of events on its way into rows.
///
/// An event that fails holds back the later events of its key, and nobody else.
#[derive(Debug)]
pub struct BatchApplier<'a, P: Projection> {
    projection: &'a P,
    events: Vec<DecodedEvent<'a, P::Event>>,
    held: &'a BTreeSet<String>,
    passes: u32,
}

#[derive(Debug)]
struct DecodedEvent<'a, E> {
    record: &'a RecordedEvent,
    key: Result<String, ApplyFailure>,
    content: DecodedContent<E>,
}

#[derive(Debug)]
enum DecodedContent<E> {
    Decoded(Events<E>),
    Skipped,
    Unreadable(DecodeEventError),
}

/// What became of an event in one run.
enum Run {
    Applied,
    Missing,
    Failed(ApplyFailure),
    /// Its content or its key could not be read, which is the same in every run.
    Unreadable,
    Blocked,
    Skipped,
}

impl<'a, P: Projection> BatchApplier<'a, P> {
    /// Decodes the events. `held` are the keys that an earlier batch left standing: their events are not applied.
    pub fn new(
        projection: &'a P,
        events: impl IntoIterator<Item = &'a RecordedEvent>,
        held: &'a BTreeSet<String>,
    ) -> Self {
        let unknown = projection.unknown_events();
        let decode = |record: &'a RecordedEvent| DecodedEvent {
            record,
            key: guarded(|| projection.key(record)),
            content: match P::Event::read(RawEvent::from(record)) {
                Ok(events) => DecodedContent::Decoded(events),
                Err(DecodeEventError::UnknownType { .. }) if unknown == UnknownEvents::Skip => DecodedContent::Skipped,
                Err(error) => DecodedContent::Unreadable(error),
            },
        };
        Self { projection, events: events.into_iter().map(decode).collect(), held, passes: 0 }
    }

    /// Applies all events in order, as far as the rows are known. What an earlier run has changed is undone first, so that
    /// each run begins with the same rows.
    ///
    /// After [`Pass::Done`] it is spent.
    pub fn run(&mut self, rows: &mut Rows) -> Pass {
        rows.restart();
        self.passes += 1;
        let mut held = BTreeSet::new();
        let runs: Vec<Run> = self.events.iter().map(|event| self.run_one(event, &mut held, rows)).collect();
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
        event: &'e DecodedEvent<'a, P::Event>,
        held: &mut BTreeSet<&'e str>,
        rows: &mut Rows,
    ) -> Run {
        let Ok(key) = &event.key else { return Run::Unreadable };
        if self.held.contains(key) || held.contains(key.as_str()) {
            return Run::Blocked;
        }
        let run = match &event.content {
            DecodedContent::Decoded(events) => self.apply(event.record, events, rows),
            DecodedContent::Skipped => Run::Skipped,
            DecodedContent::Unreadable(_) => Run::Unreadable,
        };
        if matches!(run, Run::Applied) {
            rows.accept();
        } else {
            rows.discard();
        }
        if matches!(run, Run::Failed(_) | Run::Unreadable) {
            held.insert(key);
        }
        run
    }

    fn apply(&self, record: &RecordedEvent, events: &Events<P::Event>, rows: &mut Rows) -> Run {
        let context = EventContext::new(record);
        let applied =
            guarded(|| events.as_slice().iter().try_for_each(|event| self.projection.apply(event, &context, rows)));
        // NOTE: by what was asked for and not by the error, so that who swallows the error changes nothing.
        if rows.is_short() {
            return if self.passes < MAX_PASSES { Run::Missing } else { Run::Failed(ApplyFailure::Endless) };
        }
        match applied {
            Ok(Ok(())) => match rows.bad_key() {
                None => Run::Applied,
                Some(invalid) => Run::Failed(ApplyFailure::Failed(invalid.into())),
            },
            Ok(Err(error)) => Run::Failed(failed(error)),
            Err(panicked) => Run::Failed(panicked),
        }
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

/// Runs code of a user: a panic is a failure of the event, and not of whoever applies it.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, ApplyFailure> {
    // NOTE: what a panic may leave half done are the changes of the event, which are discarded.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| ApplyFailure::Panicked { message: message_of(panic.as_ref()) })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

/// Applies events to rows that are known, or says which are not. For several runs over the same events use [`BatchApplier`], which
/// decodes them once.
pub fn apply_events<P: Projection>(projection: &P, events: &[RecordedEvent], rows: &mut Rows) -> Pass {
    BatchApplier::new(projection, events, &BTreeSet::new()).run(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CommitPart, ContentType, EventData, EventId, Timestamp};
    use crate::model::{EventType, StreamId};
    use crate::model::{Position, Revision};
    use crate::schema::{EncodeEventError, EncodedEvent, Event, EventSchema, KnownNames};

    /// An instruction to the projection, as text.
    #[derive(Debug, Clone, PartialEq)]
    struct Told(String);

    const SCHEMA: &[EventSchema] = &[EventSchema { name: "told", version: 1, aliases: &[], oldest: 1 }];

    impl Event for Told {
        const SCHEMA: &'static [EventSchema] = SCHEMA;

        fn encode(&self) -> Result<EncodedEvent, EncodeEventError> {
            unreachable!("nothing is written here")
        }

        fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
            if event.event_type != "told" {
                let found = event.event_type.to_owned();
                return Err(DecodeEventError::UnknownType { found, known: KnownNames(SCHEMA) });
            }
            let text = String::from_utf8_lossy(event.payload);
            Ok(text.split(';').filter(|part| !part.is_empty()).map(|part| Self(part.to_owned())).collect())
        }
    }

    struct Teller(UnknownEvents);

    fn rows_table() -> Table {
        Table::new("rows").unwrap()
    }

    /// "add x": adds a letter to row x. "follow x": adds one to the row whose name row x has. "swallow x": asks for row x and
    /// ignores the answer.
    impl Projection for Teller {
        type Event = Told;
        const NAME: &'static str = "teller";

        fn unknown_events(&self) -> UnknownEvents {
            self.0
        }

        fn apply(&self, Told(text): &Told, _: &EventContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            let (verb, name) = text.split_once(' ').unwrap_or((text, ""));
            let mut add = |name: &[u8]| {
                let before = rows.get(&rows_table(), name)?.unwrap_or_default();
                rows.put(&rows_table(), name.to_vec(), [&before[..], b"a"].concat());
                Ok(())
            };
            match verb {
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
                "panic" => panic!("told to"),
                "endless" => rows.get(&rows_table(), EventId::new().as_uuid().as_bytes()).map(drop),
                _ => {
                    add(b"half done")?;
                    Err(ApplyError::new(format!("cannot {verb}")))
                }
            }
        }
    }

    fn record(position: u64, stream: &str, event_type: &str, text: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position).unwrap(),
            stream: StreamId::new(stream).unwrap(),
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

    fn stop_requested(tells: &[(&str, &str)]) -> Vec<RecordedEvent> {
        (1..).zip(tells).map(|(position, (stream, text))| record(position, stream, "told", text)).collect()
    }

    /// Runs to the end over rows that are as given; returns outcomes in short, rows that changed, and the number of runs.
    fn run(events: &[RecordedEvent], held: &[&str], given: &[(&str, &str)]) -> (String, Vec<(String, String)>, usize) {
        let held = held.iter().map(|key| (*key).to_owned()).collect();
        let projection = Teller(UnknownEvents::Fail);
        let mut folder = BatchApplier::new(&projection, events, &held);
        let mut rows = Rows::default();
        for runs in 1.. {
            match folder.run(&mut rows) {
                Pass::Missing(missing) => {
                    for (table, key) in missing {
                        let value = given.iter().find(|(name, _)| name.as_bytes() == key);
                        rows.learn(table, key, value.map(|(_, value)| Bytes::copy_from_slice(value.as_bytes())));
                    }
                }
                Pass::Done(outcomes) => {
                    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                    let changes = rows
                        .changes()
                        .map(|((_, key), value)| (text(key), value.as_ref().map_or_else(String::new, text)));
                    return (outcomes.iter().map(in_short).collect(), changes.collect(), runs);
                }
            }
        }
        unreachable!("it ends")
    }

    fn in_short(outcome: &ApplyOutcome) -> char {
        match outcome {
            ApplyOutcome::Applied => 'a',
            ApplyOutcome::Skipped => 's',
            ApplyOutcome::Failed(_) => 'f',
            ApplyOutcome::Blocked => 'h',
        }
    }

    fn pairs(changes: &[(&str, &str)]) -> Vec<(String, String)> {
        changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn rows_of_the_whole_batch_are_asked_for_at_once_and_events_count_once() {
        let events = stop_requested(&[("a", "add x"), ("b", "add y;add x"), ("c", "add x")]);
        let (outcomes, changes, runs) = run(&events, &[], &[("x", "-")]);
        assert_eq!((outcomes.as_str(), runs), ("aaa", 2));
        assert_eq!(changes, pairs(&[("x", "-aaa"), ("y", "a")]));
    }

    #[test]
    fn a_row_that_is_named_by_another_row_takes_one_more_round() {
        let (outcomes, changes, runs) =
            run(&stop_requested(&[("a", "follow x"), ("b", "follow x")]), &[], &[("x", "z")]);
        assert_eq!((outcomes.as_str(), runs), ("aa", 3));
        assert_eq!(changes, pairs(&[("z", "aa")]));
    }

    #[test]
    fn an_event_that_fails_leaves_nothing_and_holds_its_key_only() {
        let events = stop_requested(&[("a", "add x"), ("a", "add x;fail"), ("b", "add x"), ("a", "add x")]);
        let (outcomes, changes, _) = run(&events, &[], &[]);
        assert_eq!(outcomes, "afah");
        assert_eq!(changes, pairs(&[("x", "aa")]));
        let (outcomes, changes, _) = run(&stop_requested(&[("a", "add x"), ("b", "add x")]), &["a"], &[]);
        assert_eq!((outcomes.as_str(), changes), ("ha", pairs(&[("x", "a")])));
    }

    #[test]
    fn a_panic_is_a_failure_that_says_so() {
        let events = stop_requested(&[("a", "add x;panic"), ("b", "add x")]);
        let mut rows = Rows::default();
        rows.learn(rows_table(), "x".into(), None);
        let Pass::Done(outcomes) = apply_events(&Teller(UnknownEvents::Fail), &events, &mut rows) else {
            panic!("known")
        };
        let failure = outcomes[0].failure().expect("it failed").to_string();
        assert_eq!(failure, "the projection panicked: told to; correct its code");
        assert_eq!(rows.changes().count(), 1);
    }

    #[test]
    fn who_swallows_that_a_row_is_missing_is_run_again_all_the_same() {
        let (outcomes, changes, runs) =
            run(&stop_requested(&[("a", "swallow x"), ("b", "swallow x")]), &[], &[("x", "1")]);
        assert_eq!((outcomes.as_str(), runs), ("aa", 2));
        assert_eq!(changes, pairs(&[("seen", "1")]));
    }

    #[test]
    fn who_asks_for_other_rows_each_time_fails_in_the_end() {
        let (outcomes, changes, runs) = run(&stop_requested(&[("a", "endless"), ("b", "add x")]), &[], &[]);
        assert_eq!((outcomes.as_str(), changes), ("fa", pairs(&[("x", "a")])));
        assert_eq!(runs, MAX_PASSES as usize);
    }

    #[test]
    fn events_of_unknown_types_fail_or_are_left_out_and_retired_ones_change_nothing() {
        let events = [record(1, "a", "other", ""), record(2, "b", "told", "")];
        for (policy, expected) in [(UnknownEvents::Fail, "fa"), (UnknownEvents::Skip, "sa")] {
            let mut rows = Rows::default();
            let Pass::Done(outcomes) = apply_events(&Teller(policy), &events, &mut rows) else {
                panic!("asks nothing")
            };
            assert_eq!(outcomes.iter().map(in_short).collect::<String>(), expected);
            assert_eq!(rows.changes().count(), 0);
        }
    }
}
