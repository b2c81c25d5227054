//! Commits of the tests, and [`History`], which compares a log with them.

use std::path::Path;
use std::sync::Arc;

use es_core::model::CommitPart;
use es_core::{EventId, Position, Revision};
use es_log::{AppendError, Body, ContentCode, EventFields, Log, LogOptions, ReadError, RowFields, TagTexts};
use uuid::Uuid;

use super::SimDisk;

/// The directory on a simulated disk.
pub(crate) const DIRECTORY: &str = "/log";

/// Returns the options for a log on a simulated disk: small segments, no threads.
pub(crate) fn options(disk: &SimDisk) -> LogOptions {
    LogOptions {
        first_segment: 2048,
        largest_segment: 8192,
        tail_bytes: 1024,
        blank_after: None,
        has_threads: false,
        disk: Arc::new(disk.clone()),
        ..LogOptions::default()
    }
}

/// Returns the options for a log with real files: small segments.
pub(crate) fn real_options() -> LogOptions {
    LogOptions { first_segment: 1 << 16, largest_segment: 1 << 18, ..LogOptions::default() }
}

/// Returns an event of a commit. The payload has the number of the commit.
pub(crate) fn event<'a>(payload: &'a [u8], number: u64, index: u32, size: u32) -> EventFields<'a> {
    let id = Uuid::from_u128(u128::from(number) << 32 | u128::from(index));
    EventFields {
        stream: b"order-1",
        revision: Revision::new(number),
        id: EventId::from_uuid(id),
        recorded_at: 1_000_000,
        occurred_at: 1_000_000,
        part: CommitPart { index, size },
        event_type: b"order-placed",
        version: 1,
        content_type: ContentCode::Json,
        correlation_id: None,
        causation_id: None,
        tags: TagTexts::default(),
        metadata: b"",
        payload,
        extensions: b"",
    }
}

/// Adds a commit with this number and size: events with the number as payload, and a row. Returns the first position.
pub(crate) fn append(commit: &mut es_log::CommitDraft<'_>, number: u64, size: u32) -> Result<u64, AppendError> {
    let payload = number.to_string().repeat(1 + (number % 7) as usize);
    let payload = format!("{number}:{payload}");
    let first = commit.next_position().get();
    for index in 0..size {
        commit.push(&Body::Event(event(payload.as_bytes(), number, index, size)))?;
    }
    let key = number.to_be_bytes();
    commit.push(&Body::Row(RowFields { table: "numbers", key: &key, value: Some(payload.as_bytes()) }))?;
    Ok(first)
}

/// Commits and waits. Returns the first position.
pub(crate) fn commit(log: &Log, number: u64, size: u32) -> Result<u64, AppendError> {
    log.commit(|draft| append(draft, number, size))
}

/// A part of a commit as it was read: its number, the index of the event, and the size of the commit.
pub(crate) type Part = (u64, u32, u32);

/// Returns the part of each event of the log, from position 1 on, and checks positions and rows.
pub(crate) fn read_all(log: &Log) -> Result<Vec<Part>, ReadError> {
    read_from(log, 1)
}

fn read_from(log: &Log, from: u64) -> Result<Vec<Part>, ReadError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut rows = 0;
    let mut reader = log.read(Position::new(from).expect("a position"));
    while let Some(batch) = reader.next_batch()? {
        for record in batch.records() {
            let record = record.expect("a verified record can be decoded");
            match record.body {
                Body::Event(event) => {
                    assert_eq!(record.position.get(), from + parts.len() as u64, "positions have no gaps");
                    let text = std::str::from_utf8(event.payload).expect("UTF-8");
                    let (number, _) = text.split_once(':').expect("the number of the commit");
                    parts.push((number.parse().expect("a number"), event.part.index, event.part.size));
                }
                Body::Row(row) => {
                    rows += 1;
                    let number = u64::from_be_bytes(row.key.try_into().expect("eight bytes"));
                    if let Some((last, ..)) = parts.last() {
                        assert_eq!(number, *last, "the row of a commit follows its events");
                    }
                }
                other => panic!("expected an event or a row, found {other:?}"),
            }
        }
    }
    if from == 1 {
        let commits = parts.iter().filter(|(_, index, size)| index + 1 == *size).count();
        assert_eq!(rows, commits, "each commit has its row");
    }
    Ok(parts)
}

/// Returns the numbers of the commits of the log, after a check that each commit is complete.
pub(crate) fn payloads(log: &Log) -> Result<Vec<u64>, ReadError> {
    let parts = read_all(log)?;
    let mut commits = Vec::new();
    let mut rest = parts.as_slice();
    while let Some((number, _, size)) = rest.first() {
        for index in 0..*size {
            assert_eq!(rest.get(index as usize), Some(&(*number, index, *size)), "a commit is complete");
        }
        commits.push(*number);
        rest = &rest[*size as usize..];
    }
    Ok(commits)
}

/// The acknowledged commits of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// The first position, the number and the size of each acknowledged commit.
    acknowledged: Vec<(u64, u64, u32)>,
    /// The numbers of commits that must not be in the log.
    refused: Vec<u64>,
}

impl History {
    pub(crate) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn acknowledge(&mut self, position: u64, number: u64, size: u32) {
        self.acknowledged.push((position, number, size));
    }

    pub(crate) fn refuse(&mut self, number: u64) {
        self.refused.push(number);
    }

    /// Reads a log. Returns a message if an acknowledged commit is missing, or a refused one is there.
    pub(crate) fn check(&self, log: &Log) -> Result<(), String> {
        let parts = read_all(log).map_err(|error| format!("read: {error}"))?;
        self.check_parts(&parts)
    }

    fn check_parts(&self, parts: &[Part]) -> Result<(), String> {
        for (position, number, size) in &self.acknowledged {
            for index in 0..*size {
                let at = usize::try_from(*position - 1).expect("small") + index as usize;
                let (expected, found) = ((*number, index, *size), parts.get(at));
                if found != Some(&expected) {
                    return Err(format!("lost: expected {expected:?} at position {}, found {found:?}", at + 1));
                }
            }
        }
        match parts.iter().find(|(number, ..)| self.refused.contains(number)) {
            Some(found) => Err(format!("expected no refused commit, found {found:?}")),
            None => Ok(()),
        }
    }

    /// Opens the log on a disk and checks it. Returns the error of opening apart.
    pub(crate) fn open_and_check(&self, options: LogOptions) -> Result<Result<(), String>, es_log::OpenError> {
        let log = Log::open(Path::new(DIRECTORY), options)?;
        Ok(self.check(&log))
    }
}
