//! [`RecoverableEvents`]: finds the intact records of a damaged store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use es_core::{Position, RecordedEvent, Revision, StreamId};

use super::claims::RemovedClaims;
use super::sources::{Lookup, Sources, visit_readable};
use super::{Loss, Report};
use crate::acknowledged::Mark;
use crate::database::{Tier, decode_at, decode_in};
use crate::key;
use crate::record::{self, Decoder};
use crate::schema::{Cf, META_FIRST};
use crate::verify::{Progress, place_in_stream};

/// The maximum number of listed positions or streams in a report.
const MAX_LISTED: usize = 100;
const PROGRESS_INTERVAL: u64 = 1024;

/// A record with a correct checksum, and its event.
pub(super) struct IntactRecord {
    pub(super) event: RecordedEvent,
    pub(super) record: Vec<u8>,
}

/// The events that can be recovered.
#[derive(Debug, Default)]
pub(super) struct RecoverableEvents {
    /// The last known position; 0 if there is none.
    pub(super) last: u64,
    /// The last position of the new store; 0 if there is none.
    pub(super) kept: u64,
    /// The streams and revisions of the records that only the stream family has, by position.
    in_streams: BTreeMap<u64, (StreamId, Revision)>,
    /// The first remaining revision of each stream with removed events.
    firsts: BTreeMap<StreamId, Revision>,
    /// Whether the stream family has unreadable records, which the log may lack as well.
    pub(super) has_unreadable_records: bool,
    /// The claims of unique keys by removed events.
    pub(super) claims: RemovedClaims,
}

impl RecoverableEvents {
    pub(super) fn first_left(&self, stream: &StreamId) -> Revision {
        self.firsts.get(stream).copied().unwrap_or(Revision::FIRST)
    }

    fn note_removed(&mut self, event: &RecordedEvent) {
        let first = self.firsts.entry(event.stream.clone()).or_insert(Revision::FIRST);
        *first = event.revision.next().max(*first);
    }

    /// Replaces a removed event by its tombstone. Damage can expose an older copy of a removed event.
    fn without_removed(&self, found: IntactRecord) -> Option<IntactRecord> {
        if found.event.is_removed() || found.event.revision >= self.first_left(&found.event.stream) {
            return Some(found);
        }
        let (event, mut record) = (found.event.without_content(), Vec::new());
        record::encode_tombstone(&event, &mut record).ok()?;
        Some(IntactRecord { event, record })
    }
}

impl Sources {
    fn in_log(&self, position: Position, decoder: &mut Decoder) -> Lookup<IntactRecord> {
        self.look_up(Cf::Log, &key::position(position), |record| {
            let event = decode_at(position, record, decoder).ok()?;
            Some(IntactRecord { event, record: record.to_vec() })
        })
    }

    fn in_stream_family(&self, stream: &StreamId, revision: Revision, decoder: &mut Decoder) -> Lookup<IntactRecord> {
        self.look_up(Cf::Streams, &key::in_stream(stream, revision), |record| {
            let event = decode_in(stream, revision, record, decoder).ok()?;
            Some(IntactRecord { event, record: record.to_vec() })
        })
    }

    /// Returns the record of a position, from the log or from its stream.
    pub(super) fn record(
        &self,
        survey: &RecoverableEvents,
        position: u64,
        decoder: &mut Decoder,
    ) -> Option<IntactRecord> {
        let in_log = self.in_log(Position::new(position)?, decoder).intact();
        let found = in_log.or_else(|| {
            let (stream, revision) = survey.in_streams.get(&position)?;
            self.in_stream_family(stream, *revision, decoder).intact()
        });
        survey.without_removed(found?)
    }

    /// Finds the events that can be recovered, and adds the loss to the report.
    pub(super) fn survey(&self, mark: Option<Mark>, report: &mut Report, progress: Progress<'_>) -> RecoverableEvents {
        let known = mark.and_then(|mark| mark.head).map_or(0, Position::get);
        let last_scanned = known.max(self.last_in_log());
        let mut survey =
            RecoverableEvents { last: last_scanned, firsts: self.firsts(), ..RecoverableEvents::default() };
        let mut missing = BTreeSet::new();
        let mut decoder = Decoder::default();
        for position in (1..=last_scanned).filter_map(Position::new) {
            match self.in_log(position, &mut decoder).intact() {
                None => drop(missing.insert(position.get())),
                Some(IntactRecord { event, .. }) if event.is_removed() => survey.note_removed(&event),
                Some(_) => {}
            }
            report_progress(progress, "salvage", position.get(), Some(last_scanned));
        }
        // Without a mark, the log may end too early.
        if !missing.is_empty() || !report.loss.other.is_empty() || mark.is_none() {
            self.search(&mut survey, &missing, progress);
        }
        if let Some(last) = self.record(&survey, survey.last, &mut decoder) {
            // Commits are atomic: a commit with a first event also had a last one.
            let part = last.event.part;
            survey.last += u64::from(part.size.saturating_sub(part.index).saturating_sub(1));
        }
        let is_lost = |position: u64| {
            let is_in_log = position <= last_scanned && !missing.contains(&position);
            !is_in_log && !survey.in_streams.contains_key(&position)
        };
        let first_lost = (1..=survey.last).find(|position| is_lost(*position)).unwrap_or(survey.last + 1);
        survey.kept = self.end_of_commit(&survey, first_lost - 1, &mut decoder);
        report.from_streams = survey.in_streams.range(..=survey.kept).count() as u64;
        (report.head, report.last) = (Position::new(survey.kept), Position::new(survey.last));
        self.measure_loss(&survey, &mut report.loss, is_lost, progress);
        survey.claims = RemovedClaims::read(self, |stream| survey.first_left(stream));
        if !survey.firsts.is_empty() {
            survey.claims.add_to(&mut report.loss);
        }
        survey
    }

    /// Returns the last position with an intact record in the log family; 0 if there is none.
    fn last_in_log(&self) -> u64 {
        let (mut last, mut decoder) = (0, Decoder::default());
        let mut visit = |key: &[u8], record: &[u8]| {
            // A key without an intact record is ignored: a damaged one could have any position, and all positions up to
            // the last one are scanned.
            let position = key::decode_position(key).ok();
            let event = position.and_then(|position| decode_at(position, record, &mut decoder).ok());
            last = last.max(event.as_ref().map_or(0, |event| event.position.get()));
            event.is_some()
        };
        for database in &self.databases {
            let Ok(mut log) = database.iterate(Cf::Log, Vec::new(), Tier::Any) else { continue };
            log.seek_to_last();
            if !log.item().is_some_and(|(key, record)| visit(key, record)) {
                visit_readable(&mut log, &mut |key, record| {
                    visit(key, record);
                });
            }
        }
        last
    }

    /// Searches the known streams for missing records.
    fn search(&self, survey: &mut RecoverableEvents, missing: &BTreeSet<u64>, progress: Progress<'_>) {
        let (in_log, mut last) = (survey.last, survey.last);
        let heads = self.streams(survey);
        let (total, mut decoder) = (heads.len() as u64, Decoder::default());
        for ((stream, head), done) in heads.into_iter().zip(1..) {
            report_progress(progress, "streams", done, Some(total));
            let mut beyond = 0;
            for revision in (survey.first_left(&stream).get()..).map(Revision::new) {
                match self.in_stream_family(&stream, revision, &mut decoder) {
                    Lookup::Intact(IntactRecord { event, .. }) => {
                        let position = event.position.get();
                        if position > in_log || missing.contains(&position) {
                            last = last.max(position);
                            survey.in_streams.insert(position, (stream.clone(), revision));
                        }
                    }
                    Lookup::Absent if revision > head => break,
                    Lookup::Absent => {}
                    Lookup::Damaged => survey.has_unreadable_records = true,
                }
                // A stream has at most as many revisions after its known head as records are missing.
                beyond += usize::from(revision > head);
                if beyond > missing.len() {
                    break;
                }
            }
        }
        survey.last = last;
    }

    /// Returns the first remaining revision of each stream with removed events.
    fn firsts(&self) -> BTreeMap<StreamId, Revision> {
        let mut firsts = BTreeMap::<StreamId, Revision>::new();
        let prefix = key::prefix(META_FIRST);
        self.scan(Cf::Meta, |key, value| {
            let name = key.strip_prefix(prefix.as_slice()).and_then(|name| std::str::from_utf8(name).ok());
            let stream = name.and_then(|name| StreamId::new(name).ok());
            if let (Some(stream), Ok(revision)) = (stream, key::decode_revision(value)) {
                let first = firsts.entry(stream).or_insert(revision);
                *first = revision.max(*first);
            }
        });
        firsts
    }

    /// Returns all streams that the heads, the stream family or the log have, with their last known revisions.
    fn streams(&self, survey: &RecoverableEvents) -> HashMap<StreamId, Revision> {
        let (mut heads, mut decoder) = (HashMap::<StreamId, Revision>::new(), Decoder::default());
        let mut raise = |stream: StreamId, revision: Revision| {
            let head = heads.entry(stream).or_insert(revision);
            *head = revision.max(*head);
        };
        let is_complete = self.scan(Cf::Heads, |key, value| {
            let stream = std::str::from_utf8(key).ok().and_then(|name| StreamId::new(name).ok());
            if let (Some(stream), Ok(revision)) = (stream, key::decode_revision(value)) {
                // A head without a record in its stream is ignored: a damaged one could have any revision, and all
                // revisions up to the last one are searched. A stream without remaining events is confirmed by its
                // first revision.
                let is_wrong = survey.first_left(&stream) != revision.next()
                    && matches!(self.in_stream_family(&stream, revision, &mut decoder), Lookup::Absent);
                raise(stream, if is_wrong { Revision::FIRST } else { revision });
            }
        });
        self.scan(Cf::Streams, |key, record| {
            if let Ok((stream, revision)) = place_in_stream(key)
                && decode_in(&stream, revision, record, &mut decoder).is_ok()
            {
                raise(stream, revision);
            }
        });
        if !is_complete {
            for position in (1..=survey.last).filter_map(Position::new) {
                if let Lookup::Intact(IntactRecord { event, .. }) = self.in_log(position, &mut decoder) {
                    raise(event.stream, event.revision);
                }
            }
        }
        heads
    }

    /// Returns the position of the last event up to `position` that ends a commit.
    fn end_of_commit(&self, survey: &RecoverableEvents, position: u64, decoder: &mut Decoder) -> u64 {
        match self.record(survey, position, decoder) {
            Some(IntactRecord { event, .. }) if !event.part.is_last() => {
                position.saturating_sub(u64::from(event.part.index) + 1)
            }
            _ => position,
        }
    }

    /// Adds the lost events to the loss.
    fn measure_loss(
        &self,
        survey: &RecoverableEvents,
        loss: &mut Loss,
        is_lost: impl Fn(u64) -> bool,
        progress: Progress<'_>,
    ) {
        loss.events = survey.last - survey.kept;
        if loss.events == 0 {
            return;
        }
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let (mut decoder, mut unreadable) = (Decoder::default(), 0);
        let mut after_cut = HashMap::<StreamId, u64>::new();
        for position in survey.kept + 1..=survey.last {
            if is_lost(position) {
                unreadable += 1;
                match ranges.last_mut() {
                    Some((_, end)) if *end + 1 == position => *end = position,
                    _ => ranges.push((position, position)),
                }
            } else if let Some(IntactRecord { event, .. }) = self.record(survey, position, &mut decoder) {
                *after_cut.entry(event.stream).or_default() += 1;
            }
        }
        loss.set_aside = loss.events - unreadable;
        let ends = ranges.into_iter().filter_map(|(from, to)| Some((Position::new(from)?, Position::new(to)?)));
        loss.unreadable = ends.take(MAX_LISTED).collect();
        let mut streams = self.count_lost_events(survey, after_cut, progress);
        loss.more_streams = streams.len().saturating_sub(MAX_LISTED) as u64;
        streams.truncate(MAX_LISTED);
        loss.streams = streams;
    }

    /// Returns the number of lost events of each stream: the readable events after the last kept position, or more if
    /// the head of the stream shows that it had more events.
    fn count_lost_events(
        &self,
        survey: &RecoverableEvents,
        after_cut: HashMap<StreamId, u64>,
        progress: Progress<'_>,
    ) -> Vec<(StreamId, u64)> {
        let mut decoder = Decoder::default();
        // The number of events that each stream had, and the number of kept ones.
        let mut known = HashMap::<StreamId, (u64, u64)>::new();
        for (stream, head) in self.streams(survey) {
            let last = self.in_stream_family(&stream, head, &mut decoder).intact();
            if last.is_none_or(|last| last.event.position.get() > survey.kept) {
                known.insert(stream, (head.get().saturating_add(1), 0));
            }
        }
        for position in 1..=survey.kept {
            report_progress(progress, "streams", position, Some(survey.kept));
            if let Some(IntactRecord { event, .. }) = self.record(survey, position, &mut decoder)
                && let Some((_, kept)) = known.get_mut(&event.stream)
            {
                *kept += 1;
            }
        }
        let mut lost: BTreeMap<StreamId, u64> = after_cut.into_iter().collect();
        for (stream, (had, kept)) in known {
            let at_least = lost.entry(stream).or_default();
            *at_least = had.saturating_sub(kept).max(*at_least);
        }
        lost.into_iter().filter(|(_, events)| *events > 0).collect()
    }
}

pub(super) fn report_progress(progress: Progress<'_>, what: &str, done: u64, total: Option<u64>) {
    if done.is_multiple_of(PROGRESS_INTERVAL) {
        progress(what, done, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_older_copy_of_a_removed_event_is_replaced_by_its_tombstone() {
        let stream = StreamId::new("a-1").unwrap();
        let (time, part) = ("2026-01-01T00:00:00Z".parse().unwrap(), es_core::model::CommitPart { index: 0, size: 1 });
        let id = es_core::EventId::from_uuid(uuid::Uuid::from_u128(7));
        let intact = |revision: u64| {
            let removed =
                RecordedEvent::removed(Position::FIRST, stream.clone(), Revision::new(revision), id, time, part);
            let mut event = removed;
            event.data.event_type = es_core::EventType::new("t").unwrap();
            IntactRecord { event, record: vec![1] }
        };
        let mut survey = RecoverableEvents { last: 9, ..RecoverableEvents::default() };
        assert_eq!(survey.without_removed(intact(0)).unwrap().record, [1]);
        survey.note_removed(&intact(3).event.without_content());
        survey.note_removed(&intact(2).event.without_content());
        assert_eq!(survey.without_removed(intact(4)).unwrap().record, [1], "it was not removed");
        let IntactRecord { event, record } = survey.without_removed(intact(3)).unwrap();
        assert!(event.is_removed());
        assert_eq!(decode_at(Position::FIRST, &record, &mut Decoder::default()).unwrap(), event);
    }
}
