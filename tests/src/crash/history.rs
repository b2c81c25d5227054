//! [`History`]: the acknowledged commits, and their comparison with the content of a store.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use es_core::{EventId, RecordedEvent};

use super::contents::Contents;
use super::work::Name;

/// The acknowledged commits of a directory.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The positions of each acknowledged commit.
    acknowledged: BTreeMap<Name, RangeInclusive<u64>>,
    /// The event ids of the log at the last check.
    checked_log: Vec<EventId>,
}

impl History {
    /// Returns the number of acknowledged commits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Returns whether no commit was acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// Returns the acknowledged commits.
    pub fn acknowledged(&self) -> impl Iterator<Item = Name> {
        self.acknowledged.keys().copied()
    }

    /// Adds the acknowledgements in the output of a child, lines of the form `A run writer number first last`.
    ///
    /// # Errors
    /// A message if a line is malformed, or a commit was acknowledged at different positions.
    pub fn add(&mut self, lines: &[String]) -> Result<(), String> {
        for line in lines.iter().filter_map(|line| line.strip_prefix("A ")) {
            let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
            let &[run, writer, number, first, last] = numbers.as_slice() else {
                return Err(format!("expected an acknowledgement, found {line:?}"));
            };
            let small = |number: u64| u32::try_from(number).map_err(|error| error.to_string());
            let writer = u16::try_from(writer).map_err(|error| error.to_string())?;
            let name = Name { run: small(run)?, writer, number: small(number)? };
            let positions = first..=last;
            if let Some(before) = self.acknowledged.insert(name, positions.clone())
                && before != positions
            {
                return Err(format!("commit {name} was acknowledged at {before:?} and at {positions:?}"));
            }
        }
        Ok(())
    }

    /// Returns the highest acknowledged position; 0 without acknowledgements.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.acknowledged.values().map(|range| *range.end()).max().unwrap_or_default()
    }

    /// Returns the number of acknowledged events that are not in the log.
    #[must_use]
    pub fn lost(&self, contents: &Contents) -> u64 {
        let len = contents.log.len() as u64;
        self.acknowledged.values().map(|range| range.clone().filter(|position| *position > len).count() as u64).sum()
    }

    /// Checks that a store has the acknowledged commits and the log of the last check, and that its indexes agree with
    /// its log.
    ///
    /// # Errors
    /// A message that describes the first difference.
    pub fn check(&mut self, contents: &Contents) -> Result<(), String> {
        check_log(contents)?;
        self.check_acknowledged(contents)?;
        check_commits(contents)?;
        check_streams(contents)?;
        check_postings(contents)?;
        check_points(contents)?;
        self.checked_log = contents.log.iter().map(|event| event.data.id).collect();
        Ok(())
    }

    fn check_acknowledged(&self, contents: &Contents) -> Result<(), String> {
        for (position, (before, now)) in
            self.checked_log.iter().zip(contents.log.iter().map(|event| &event.data.id)).enumerate()
        {
            ensure(before == now, || format!("position {}: expected event {before}, found {now}", position + 1))?;
        }
        let (before, now) = (self.checked_log.len(), contents.log.len());
        ensure(before <= now, || format!("expected at least the {before} events of the last check, found {now}"))?;
        for (name, positions) in &self.acknowledged {
            for (index, position) in (0..).zip(positions.clone()) {
                let found = at(contents, position).map(|event| event.data.id);
                let expected = name.id(index);
                ensure(found == Some(expected), || {
                    format!("lost: expected event {index} of commit {name} at position {position}, found {found:?}")
                })?;
            }
        }
        Ok(())
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn at(contents: &Contents, position: u64) -> Option<&RecordedEvent> {
    contents.log.get(usize::try_from(position).ok()?.checked_sub(1)?)
}

/// Checks that positions are 1, 2, 3 … up to the head.
fn check_log(contents: &Contents) -> Result<(), String> {
    for (expected, event) in (1..).zip(&contents.log) {
        let found = event.position.get();
        ensure(found == expected, || format!("expected position {expected}, found {found}"))?;
    }
    let last = contents.log.last().map(|event| event.position.get());
    ensure(contents.head == last, || format!("expected head {last:?}, found {:?}", contents.head))
}

/// Checks that each commit is in the log once, complete, contiguous and with its original content.
fn check_commits(contents: &Contents) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut remaining = contents.log.as_slice();
    while let Some(first) = remaining.first() {
        let name = Name::of(first.data.id);
        ensure(seen.insert(name), || format!("position {}: duplicate commit {name}", first.position))?;
        let commit = name.commit();
        let (events, after) = remaining.split_at(commit.events().len().min(remaining.len()));
        remaining = after;
        let is_same = events.len() == commit.events().len()
            && events.iter().zip(commit.events()).all(|(found, (stream, event))| found.is_record_of(stream, event));
        ensure(is_same, || format!("position {}: commit {name} is incomplete or altered", first.position))?;
    }
    Ok(())
}

/// Checks that each stream has exactly its events of the log in order, with revisions 0, 1, 2 … up to its head.
fn check_streams(contents: &Contents) -> Result<(), String> {
    for (stream, (events, head)) in &contents.streams {
        let expected = contents.log.iter().filter(|event| event.stream.as_str() == stream);
        ensure(expected.eq(events), || format!("stream {stream}: its events differ from the log"))?;
        for (expected, event) in (0..).zip(events) {
            let found = event.revision.get();
            ensure(found == expected, || format!("stream {stream}: expected revision {expected}, found {found}"))?;
        }
        let last = events.last().map(|event| event.revision.get());
        ensure(*head == last, || format!("stream {stream}: expected head {last:?}, found {head:?}"))?;
    }
    let sum: usize = contents.streams.values().map(|(events, _)| events.len()).sum();
    ensure(sum == contents.log.len(), || format!("expected {} events in streams, found {sum}", contents.log.len()))
}

/// Checks that each index has exactly the positions of its events in the log.
fn check_postings(contents: &Contents) -> Result<(), String> {
    let mut expected: BTreeMap<String, Vec<u64>> =
        contents.postings.keys().map(|name| (name.clone(), vec![])).collect();
    for event in &contents.log {
        let tags = event.data.tags.iter().map(|tag| format!("tag {tag}"));
        let others = [format!("category {}", event.stream.category_str()), format!("type {}", event.data.event_type)];
        for name in tags.chain(others) {
            expected.entry(name).or_default().push(event.position.get());
        }
    }
    for (name, expected) in &expected {
        let found = contents.postings.get(name);
        ensure(found == Some(expected), || format!("{name}: expected {} positions, found {found:?}", expected.len()))?;
    }
    Ok(())
}

/// Checks that lookups by id, unique keys and rows agree with the log.
fn check_points(contents: &Contents) -> Result<(), String> {
    for (id, found) in &contents.found {
        let is_same = found.as_ref().is_some_and(|event| at(contents, event.position.get()) == Some(event));
        ensure(is_same, || format!("id {id}: expected its event in the log, found {found:?}"))?;
    }
    for (name, owner) in &contents.owners {
        let expected = name.commit().expectations().first().map(|(stream, _)| stream.to_string());
        ensure(*owner == expected, || format!("key of commit {name}: expected {expected:?}, found {owner:?}"))?;
    }
    for (writer, row) in &contents.rows {
        let last = contents.log.iter().rev().map(|event| Name::of(event.data.id)).find(|name| name.writer == *writer);
        let expected = last.map(Name::row);
        ensure(*row == expected, || format!("row of writer {writer}: expected {expected:?}, found {row:?}"))?;
    }
    Ok(())
}
