//! The files of `es import`: each line is in a commit or is an error.

use std::io::{self, Read};
use std::ops::Range;

use arbitrary::{Result, Unstructured};
use chrono::DateTime;
use es_core::model::CommitPart;
use es_core::{EventId, NewEvent, Position, RecordedEvent, StreamId};
use uuid::Uuid;

use super::generated;
use crate::commits::{Commits, Found};
use es_core::schema::line::{self, Line};

/// The properties of files:
///
/// - each line that is not empty is either in one commit or in one error, in the order of the file;
/// - a commit has exactly the events of its lines, and a store accepts it;
/// - the end of a commit depends neither on the size of the reads nor on later lines, so that a repeated import finds
///   the commits that it has already appended;
/// - an exported file is imported as the same commits. Missing and additional lines affect only their own commits.
pub fn imports(data: &[u8]) {
    let (longest, file) = data.split_first().map_or((0, data), |(first, file)| (usize::from(*first) * 8 + 1, file));
    any_file(file, longest);
    any_file(data, data.len());
    // An error means that the bytes do not generate a valid event.
    let _ = check_exported(data);
}

/// The result for some lines, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Commit(Vec<u64>),
    Bad { before: Vec<u64>, number: u64, fault: line::LineFault },
}

impl Fate {
    fn numbers(&self) -> Vec<u64> {
        match self {
            Self::Commit(numbers) => numbers.clone(),
            Self::Bad { before, number, .. } => before.iter().chain([number]).copied().collect(),
        }
    }

    /// Whether the error is the end of the file.
    fn is_end(&self) -> bool {
        matches!(self, Self::Bad { fault, .. } if fault.message.ends_with("found the end of the file"))
    }
}

fn found(reader: impl Read, longest: usize) -> Vec<Found> {
    let mut commits = Commits::new(reader, longest);
    std::iter::from_fn(|| commits.next().expect("memory can be read")).collect()
}

fn numbers(lines: &[(u64, Vec<u8>)]) -> Vec<u64> {
    lines.iter().map(|(number, _)| *number).collect()
}

fn fates(found: &[Found]) -> Vec<Fate> {
    let fate = |found: &Found| match found {
        Found::Commit(commit) => Fate::Commit(numbers(&commit.lines)),
        Found::Bad(bad) => Fate::Bad { before: numbers(&bad.before), number: bad.number, fault: bad.fault.clone() },
    };
    found.iter().map(fate).collect()
}

fn any_file(file: &[u8], longest: usize) {
    let all = found(file, longest);
    let fates = fates(&all);
    let taken: Vec<u64> = fates.iter().flat_map(Fate::numbers).collect();
    let expected: Vec<u64> =
        (1..).zip(lines_of(file)).filter(|(_, line)| !line.is_ignored(longest)).map(|(n, _)| n).collect();
    assert_eq!(taken, expected, "each line that is not empty has one result, in order: {fates:?}");
    all.iter().for_each(|found| check_lines(found, file, longest));

    let step = file.len() % 7 + 1;
    assert_eq!(self::fates(&found(Pieces { rest: file, step }, longest)), fates, "in reads of {step} bytes");
    let ends: Vec<usize> = (1..).zip(file).filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end).collect();
    let Some(end) = ends.get(file.len() % ends.len().max(1)) else { return };
    let mut begun = self::fates(&found(&file[..*end], longest));
    if begun.last().is_some_and(Fate::is_end) {
        begun.pop();
    }
    assert_eq!(begun, fates[..begun.len()], "the first {end} bytes give different commits than the whole file");
}

/// A line of a file without the line feed, and without the byte order mark of the file.
struct Raw<'a> {
    bytes: &'a [u8],
    has_mark: bool,
}

impl Raw<'_> {
    fn is_too_long(&self, longest: usize) -> bool {
        let mark = if self.has_mark { 3 } else { 0 };
        self.bytes.strip_suffix(b"\r").unwrap_or(self.bytes).len() + mark > longest
    }

    fn is_ignored(&self, longest: usize) -> bool {
        self.bytes.trim_ascii().is_empty() && !self.is_too_long(longest)
    }
}

fn lines_of(file: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let without_mark = file.strip_prefix(b"\xef\xbb\xbf");
    let lines = without_mark.unwrap_or(file).split(|byte| *byte == b'\n');
    (0..).zip(lines).map(move |(at, bytes)| Raw { bytes, has_mark: at == 0 && without_mark.is_some() })
}

fn check_lines(found: &Found, file: &[u8], longest: usize) {
    let raw =
        |number: u64| lines_of(file).nth(usize::try_from(number - 1).expect("small")).expect("a line of the file");
    match found {
        Found::Bad(bad) => {
            let is_in_line = |column| (1..=bad.text.len() + 1).contains(&column);
            assert!(bad.fault.column.is_none_or(is_in_line), "{bad:?}");
            assert!(!bad.fault.message.contains(char::is_control), "{bad:?}");
            for (number, text) in bad.before.iter().chain([&(bad.number, bad.text.clone())]) {
                let raw = raw(*number);
                assert!(raw.bytes.starts_with(text), "line {number}: {bad:?}");
                assert!(raw.is_too_long(longest) || raw.bytes.trim_ascii_end() == text, "line {number}: {bad:?}");
            }
        }
        Found::Commit(commit) => {
            assert_eq!(commit.commit.validate(), Ok(()));
            assert_eq!(commit.commit.events().len(), commit.lines.len());
            let mut claims = 0_u64;
            for (index, ((number, text), event)) in (0..).zip(commit.lines.iter().zip(commit.commit.events())) {
                let raw = raw(*number);
                assert!(!raw.is_too_long(longest), "line {number} is too long");
                assert_eq!(raw.bytes.trim_ascii_end(), text, "line {number}");
                let line = line::parse(text).expect("a line of a commit is valid");
                claims = claims.saturating_add(line.claims);
                assert_eq!(line.part.unwrap_or(CommitPart { index: 0, size: 1 }).index, index);
                assert_eq!(line.part.map_or(1, |part| part.size) as usize, commit.lines.len());
                assert_eq!(line.recorded_at, commit.commit.recorded_time());
                // A line without an id gets a new random id each time.
                let Line { stream, event: parsed, has_id, .. } = line;
                let parsed = if has_id { parsed } else { parsed.with_id(event.1.data.id) };
                assert_eq!((stream, as_appended(parsed)), *event, "line {number}");
            }
            assert_eq!(commit.lost_claims, claims);
        }
    }
}

/// Returns the event as it is in a commit: a removed event has no content.
fn as_appended(event: NewEvent) -> NewEvent {
    if event.data.event_type == es_core::retention::REMOVED {
        let stream = StreamId::new("-").expect("a valid stream id");
        let commit = es_core::Commit::new().append_removed(stream, event.data.id);
        return commit.events()[0].1.clone();
    }
    event
}

/// Returns at most `step` bytes per read.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (now, later) = self.rest.split_at(self.step.min(self.rest.len()).min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        self.rest = later;
        Ok(now.len())
    }
}

/// Generates commits of recorded events with different ids.
fn generate_commits(from: &mut Unstructured<'_>) -> Result<Vec<Vec<RecordedEvent>>> {
    let mut number = 0_u64;
    let mut commits = Vec::new();
    for _ in 0..from.int_in_range(1..=4)? {
        let size = from.int_in_range(1..=3)?;
        // Before the year 2005, because times in the future are rejected.
        let recorded_at = DateTime::from_timestamp(i64::from(from.arbitrary::<u32>()? >> 2), 0).expect("in range");
        let mut events = Vec::new();
        for index in 0..size {
            number += 1;
            let event = generated::event(from)?;
            let part = CommitPart { index, size };
            let (id, position) =
                (EventId::from_uuid(Uuid::from_u128(number.into())), Position::new(number).expect("from 1"));
            let mut event = RecordedEvent { position, part, recorded_at, ..event };
            event.data.id = id;
            events.push(event);
        }
        commits.push(events);
    }
    Ok(commits)
}

/// Imports generated commits from a file with or without a byte order mark, empty lines and carriage returns.
fn check_exported(data: &[u8]) -> Result<()> {
    let mut choices = Unstructured::new(data);
    let from = &mut choices;
    let end: &[u8] = if from.arbitrary()? { b"\n" } else { b" \r\n" };
    let mark: &[u8] = if from.arbitrary()? { b"\xef\xbb\xbf" } else { b"" };
    let is_spaced = from.arbitrary()?;
    let cut: usize = from.arbitrary()?;
    let commits = generate_commits(from)?;
    let lines: Vec<Vec<u8>> = commits.iter().flatten().map(super::line::written).collect();
    let file = |lines: &[Vec<u8>]| {
        let ended = lines.iter().flat_map(|line| [line.as_slice(), end, if is_spaced { end } else { b"" }]);
        std::iter::once(mark).chain(ended).flatten().copied().collect::<Vec<u8>>()
    };
    let written = file(&lines);
    let read = found(written.as_slice(), written.len());
    assert_eq!(read.len(), commits.len(), "{read:?}");
    read.iter().zip(&commits).for_each(|(found, events)| check_commit(found, events));

    let at = cut % (lines.len() + 1);
    let mut more = lines.clone();
    more.insert(at, b"not an event".to_vec());
    // A line before the first line of a commit does not affect the commit.
    check_other_commits(&file(&more), &commits, |lines| (lines.start + 1..lines.end).contains(&at));
    // One or two lines are missing. If these are the last line of a commit and the first of the next, the remaining
    // lines can look like one commit.
    let first = cut % lines.len();
    let missing = first..(first + 1 + cut / 8 % 2).min(lines.len());
    let mut less = lines;
    less.drain(missing.clone());
    check_other_commits(&file(&less), &commits, |lines| lines.start < missing.end && missing.start < lines.end);
    Ok(())
}

/// Checks that exactly the unaffected commits are found. `is_affected` gets the numbers of the lines of a commit, from
/// 0.
fn check_other_commits(file: &[u8], commits: &[Vec<RecordedEvent>], is_affected: impl Fn(Range<usize>) -> bool) {
    let read = found(file, file.len());
    let mut whole = read.iter().filter(|found| matches!(found, Found::Commit(_)));
    let mut first = 0;
    for events in commits {
        let lines = first..first + events.len();
        first = lines.end;
        if !is_affected(lines) {
            check_commit(whole.next().expect("an unaffected commit is found"), events);
        }
    }
    assert!(whole.next().is_none(), "{read:?}");
}

fn check_commit(found: &Found, events: &[RecordedEvent]) {
    let Found::Commit(commit) = found else { panic!("expected a commit of {events:?}, found {found:?}") };
    assert_eq!(commit.commit.recorded_time(), events.first().map(|event| event.recorded_at));
    let expected: Vec<_> =
        events.iter().map(|event| (event.stream.clone(), as_appended(generated::as_new(event)))).collect();
    assert_eq!(commit.commit.events(), expected);
}
