//! The source of the events: the real log if it is available, otherwise generated events of the same shape.

use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use es_core::schema::EncodedEvent;
use es_core::{Commit, Event, EventStore, NewEvent, StreamId};
use es_tool::input::{Input, InputError};

use super::{LoanEvent, Step};
use crate::failure::Failure;

/// The number of events in the real log.
pub(crate) const REAL: usize = 262_200;
const FILE: &str = "loan_applications_2012.csv.gz";
/// The number of events in a commit of the import.
const PER_COMMIT: usize = 512;

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
struct LoanLine {
    case: String,
    at: DateTime<Utc>,
    event: LoanEvent,
}

/// The events to import.
#[derive(Debug)]
pub(crate) struct Log {
    lines: Vec<LoanLine>,
    is_real: bool,
}

impl Log {
    /// Reads the first events of the log in the directory `ES_SHARED_DATA`, by default `../shared/data` next to the
    /// workspace. Generates events if there is no log.
    ///
    /// # Errors
    /// Returns a [`Failure`] if the log exists and cannot be read.
    pub(crate) fn find(events: usize) -> Result<Self, Failure> {
        let dir = std::env::var_os("ES_SHARED_DATA").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
        let path = dir.join(FILE);
        match Input::open_file(&path) {
            Ok(file) => Self::parse(file, events),
            Err(InputError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::generated(events))
            }
            Err(error) => Err(Failure::caused_by(format!("open {}", path.display()), &error)),
        }
    }

    fn parse(text: impl std::io::Read, events: usize) -> Result<Self, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| Failure::caused_by(format!("read {FILE}"), error);
        let mut lines = Vec::new();
        for record in csv::Reader::from_reader(text).into_records().take(events) {
            let record = record.map_err(|error| failed(&error))?;
            let field = |column| record.get(column).map(str::trim).unwrap_or_default();
            let at = DateTime::parse_from_rfc3339(field(0)).map_err(|error| failed(&error))?.to_utc();
            let amount = field(5).parse().map_err(|error| failed(&error))?;
            let [case, activity, transition, resource] = [1, 2, 3, 4].map(|column| field(column).to_owned());
            lines.push(LoanLine { case, at, event: event(Step { activity, transition, resource, amount }) });
        }
        Ok(Self { lines, is_real: true })
    }

    /// Generates events with as many activities, events per application, concurrent applications and events per day as
    /// in the real log.
    pub(crate) fn generated(events: usize) -> Self {
        const CONCURRENT: usize = 2000;
        const PER_APPLICATION: usize = 20;
        const PER_DAY: i64 = 1600;
        let line = |number: usize| {
            // Concurrent applications take turns; when they are complete, as many others follow.
            let round = number / (CONCURRENT * PER_APPLICATION);
            let (case, step) = (round * CONCURRENT + number % CONCURRENT, number / CONCURRENT % PER_APPLICATION);
            let (process, kinds) = [("A", 10), ("W", 6), ("W", 6), ("O", 7), ("W", 6)][step % 5];
            let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(number as i64 * 86_400_000 / PER_DAY);
            let step = Step {
                activity: format!("{process}_MADE ACTIVITY {}", (number / 7) % kinds),
                transition: ["SCHEDULE", "START", "COMPLETE"][number % 3].to_owned(),
                resource: format!("{}", 10_000 + case % 69),
                amount: 1000 * (1 + case as u64 % 50),
            };
            LoanLine { case: format!("{}", 170_000 + case), at, event: event(step) }
        };
        Self { lines: (0..events).map(line).collect(), is_real: false }
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Describes the events, for the report.
    pub(crate) fn about(&self) -> String {
        let events = self.lines.len();
        if self.is_real {
            format!("{events} events of the loan log")
        } else {
            format!(
                "{events} generated events of the shape of the loan log, which was not found: set ES_SHARED_DATA to \
                 its directory"
            )
        }
    }

    /// Writes the events to a store, with a stream for each application.
    pub(crate) async fn import(&self, store: &dyn EventStore) -> Result<(), Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| Failure::caused_by("import the loan log", error);
        for lines in self.lines.chunks(PER_COMMIT) {
            let mut commit = Commit::new();
            for LoanLine { case, at, event } in lines {
                let stream = StreamId::of("loan", case).map_err(|error| failed(&error))?;
                let encoded = event.encode().map_err(|error| failed(&error))?;
                commit = commit.append(stream, recorded(encoded).occurred_at(*at));
            }
            store.commit(commit).await.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

fn recorded(EncodedEvent { event_type, version, content_type, payload, .. }: EncodedEvent) -> NewEvent {
    NewEvent::new(event_type, version, content_type, payload)
}

fn event(step: Step) -> LoanEvent {
    match step.activity.as_bytes().first() {
        Some(b'A') => LoanEvent::Application(step),
        Some(b'O') => LoanEvent::Offer(step),
        _ => LoanEvent::Work(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_becomes_an_event_with_its_time() {
        let text = "timestamp,case,activity,transition,resource,amount_requested\n\
                    2011-10-01T00:38:44.546+02:00,173688,A_SUBMITTED,COMPLETE,112,20000\n\
                    2011-10-01T00:39:00.000+02:00,173688,W_Nabellen offertes,START,,20000\n";
        let log = Log::parse(text.as_bytes(), 10).unwrap();
        assert_eq!((log.len(), log.is_real), (2, true));
        let LoanLine { case, at, event } = &log.lines[0];
        assert_eq!((case.as_str(), at.to_rfc3339().as_str()), ("173688", "2011-09-30T22:38:44.546+00:00"));
        assert!(matches!(event, LoanEvent::Application(step) if step.amount == 20_000 && step.resource == "112"));
        assert!(matches!(&log.lines[1].event, LoanEvent::Work(step) if step.resource.is_empty()));
        assert_eq!(Log::parse(text.as_bytes(), 1).unwrap().len(), 1);
        let wrong = Log::parse(text.replace("20000", "much").as_bytes(), 10).unwrap_err().to_string();
        assert!(wrong.contains("invalid digit"), "{wrong}");
    }

    #[test]
    fn generated_events_have_the_shape_of_the_log() {
        let log = Log::generated(REAL);
        let distinct =
            |of: fn(&LoanLine) -> String| log.lines.iter().map(of).collect::<std::collections::BTreeSet<_>>().len();
        assert!((13_000..15_000).contains(&distinct(|line| line.case.clone())));
        assert!((150..180).contains(&distinct(|line| line.at.date_naive().to_string())));
        assert_eq!(distinct(|line| line.event.step().activity.clone()), 23);
        assert!(log.about().contains("generated"));
    }
}
