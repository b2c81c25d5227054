//! Groups lines into commits.

use std::collections::HashSet;

use es_core::model::{Clock, SystemClock};
use es_core::retention::REMOVED;
use es_core::store::{
    InvalidCommit, MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_KEYS, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_ORIGINS,
    MAX_PAYLOAD_BYTES, MAX_TAGS,
};
use es_core::{Commit, EventId, NewEvent, StreamId, Timestamp};

use es_core::schema::line::{Line, LineFault};

/// How far in the future a `recorded_at` may be. Clocks differ, but the recorded times of a store never go back.
const MAX_AHEAD: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// The lines of a commit that is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Group {
    size: u32,
    recorded_at: Option<Timestamp>,
    /// The position of the last line in the exported log.
    position: Option<u64>,
    events: Vec<(StreamId, NewEvent)>,
    ids: HashSet<EventId>,
    bytes: usize,
    lines: Vec<(u64, Vec<u8>)>,
    lost_claims: u64,
}

/// A commit and its lines.
#[derive(Debug)]
pub(super) struct Grouped {
    pub(super) commit: Commit,
    pub(super) lines: Vec<(u64, Vec<u8>)>,
    /// The number of claims of unique keys that its tombstones cannot make.
    pub(super) lost_claims: u64,
}

fn append(commit: Commit, stream: StreamId, event: NewEvent) -> Commit {
    if event.data.event_type == REMOVED {
        commit.append_removed(stream, event.data.id)
    } else {
        commit.append(stream, event)
    }
}

/// Returns the fault of the event of a line.
pub(super) fn fault(invalid: &InvalidCommit) -> LineFault {
    // The message of the library names the event id, which may be absent from the file. The caller names the line.
    LineFault::new(match invalid {
        InvalidCommit::PayloadTooLarge { found, .. } => {
            format!("expected at most {MAX_PAYLOAD_BYTES} bytes of content, found {found}")
        }
        InvalidCommit::TooManyTags { found, .. } => format!("expected at most {MAX_TAGS} tags, found {found}"),
        InvalidCommit::TooManyKeys { found, .. } => format!("expected at most {MAX_KEYS} unique keys, found {found}"),
        InvalidCommit::TooManyOrigins { found, .. } => {
            format!("expected at most {MAX_ORIGINS} origins in the vector clock of the stamp, found {found}")
        }
        InvalidCommit::VersionZero { .. } => "expected a version from 1, found 0".to_owned(),
        InvalidCommit::ContentTypeLength { found, .. } => {
            format!("expected a content_type of 1 to 255 bytes, found {found}")
        }
        InvalidCommit::Metadata { found, .. } => format!(
            "expected metadata of at most {MAX_METADATA_BYTES} bytes and {MAX_METADATA_DEPTH} levels, without keys \
             that are reserved by serde_json, found {found}"
        ),
        InvalidCommit::Reserved { found, .. } => format!(
            "expected a stream and a type that are not reserved, or a valid event of retention, deletion or \
             projections, found {found}"
        ),
        InvalidCommit::SameIdTwice { id } => format!("expected a unique event id in the commit, found {id} twice"),
        other => other.to_string(),
    })
}

impl Group {
    /// Adds a line. Returns the commit if the line completes it.
    pub(super) fn take(&mut self, number: u64, text: &[u8], line: Line) -> Result<Option<Grouped>, LineFault> {
        let (index, size) = line.part.map_or((0, 1), |part| (part.index, part.size));
        self.check(index, size, &line)?;
        // Each event is validated when its line is read, so that a fault is reported with its line.
        let single = append(Commit::new(), line.stream.clone(), line.event.clone());
        single.validate().map_err(|invalid| fault(&invalid))?;
        self.size = size;
        self.recorded_at = line.recorded_at;
        self.position = line.position;
        self.lost_claims = self.lost_claims.saturating_add(line.claims);
        self.bytes += line.event.data.payload.len();
        self.ids.insert(line.event.data.id);
        self.events.push((line.stream, line.event));
        self.lines.push((number, text.to_vec()));
        if self.events.len() < size as usize {
            return Ok(None);
        }
        let Self { recorded_at, events, lines, lost_claims, .. } = std::mem::take(self);
        let empty = recorded_at.map_or_else(Commit::new, |time| Commit::new().recorded_at(time));
        let commit = events.into_iter().fold(empty, |commit, (stream, event)| append(commit, stream, event));
        Ok(Some(Grouped { commit, lines, lost_claims }))
    }

    /// Whether a line can be the next of the commit.
    fn check(&self, index: u32, size: u32, line: &Line) -> Result<(), LineFault> {
        let expected = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let whole = if expected == 0 { size } else { self.size };
        if index != expected || size != whole || index >= size {
            let of = if expected == 0 { String::new() } else { format!(" of {whole}") };
            return Err(LineFault::new(format!(
                "expected event {expected}{of} of a commit, found event {index} of {size}"
            )));
        }
        if size as usize > MAX_COMMIT_EVENTS {
            return Err(LineFault::new(format!(
                "expected a commit of at most {MAX_COMMIT_EVENTS} events, found {size}"
            )));
        }
        if self.bytes + line.event.data.payload.len() > MAX_COMMIT_BYTES {
            return Err(LineFault::new(format!("expected a commit of at most {MAX_COMMIT_BYTES} bytes, found more")));
        }
        if self.ids.contains(&line.event.data.id) {
            return Err(fault(&InvalidCommit::SameIdTwice { id: line.event.data.id }));
        }
        if expected > 0 && line.recorded_at != self.recorded_at {
            return Err(LineFault::new("expected the same recorded_at in all lines of a commit, found another"));
        }
        // If lines are missing, parts of two commits can look like one commit.
        if let (1.., Some(last), Some(position)) = (expected, self.position, line.position)
            && last.checked_add(1) != Some(position)
        {
            return Err(LineFault::new(format!(
                "expected the position after {last}, the position of the line before in the commit, found {position}"
            )));
        }
        // A line of an export has a position. The store that wrote it had a clock in the future, and its whole log must
        // be imported. In other files, the time is probably a mistake, which every later event would inherit.
        let latest = SystemClock::new().now() + MAX_AHEAD;
        if let Some(time) = line.recorded_at.filter(|time| line.position.is_none() && *time > latest) {
            return Err(LineFault::new(format!(
                "expected a recorded_at that is not in the future, found {time}; a line of an export, which has a \
                 position, may have any"
            )));
        }
        Ok(())
    }

    /// Abandons the incomplete commit and returns its lines.
    pub(super) fn abandon(&mut self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(self).lines
    }
}
