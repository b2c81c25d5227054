//! [`Survey`]: the recoverable data of a damaged store.
//!
//! The index is written again from the log. Of the old one, only the description of the store is needed, the copy of
//! each damaged record, and the rows and unique keys that a compaction has dropped from the log. If the log has all its
//! frames as they were written, its rows and unique keys are complete.
//!
//! The log ends before the first event without an intact record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use chrono::DateTime;
use es_core::model::LogId;
use es_core::store::implement::{KeySecret, key_entries};
use es_core::{Position, StoreError};
use es_log::{Disk, LogBuilder, ReadableLog, SalvagedLog, SystemDisk};
use uuid::Uuid;

use super::aside::AsideCommits;
use super::damaged_log::{self, DamagedLog, KeyRecords, RepairedPart};
use super::scratch::Scratch;
use super::sources::Sources;
use super::{RepairDraft, RepairError, RepairTarget, Repaired, Report, SetAside, io_error, verify_new_store};
use crate::engine::key;
use crate::engine::layout::{INDEX, LOG};
use crate::index::of_log;
use crate::open::of_log_opening;
use crate::open::rebuild::IndexBuilder;
use crate::open::replay::ChangedKey;
use crate::record::codec::LogDecoder;
use crate::schema::{Cf, META_APPLIED, META_CREATED, META_KEY_SECRET, META_STORE_ID};
use crate::verify::{Progress, has_table};

/// The recoverable data of a store.
#[derive(Debug)]
pub(super) struct Survey {
    log: DamagedLog,
    sources: Option<Sources>,
    secret: Option<KeySecret>,
    store_id: Option<Uuid>,
    created: Option<Vec<u8>>,
    /// The position up to which the old index has all changes of rows and unique keys.
    applied: Option<Position>,
    rows: RowSource,
    /// The last known position; 0 if there is none.
    last: u64,
}

/// Where the rows and unique keys of the new store are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowSource {
    /// All frames of the log are as they were written.
    Log,
    /// The old index, and the log after it.
    Index,
    /// What can be read of the old index, and the log.
    ReadableIndex,
}

/// Determines the recoverable data of a damaged store.
pub(super) fn survey(
    directory: &Path,
    report: &mut Report,
    progress: Progress<'_>,
) -> Result<(Survey, Option<Scratch>), RepairError> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let found = es_log::inspect(&disk, &directory.join(LOG));
    let found = found.map_err(of_log).map_err(|error| unreadable(directory, &error))?;
    let SalvagedLog { place: Some(place), acknowledged, opens } = found else {
        let detail = "expected the header of a segment of the log, found none";
        return Err(RepairError::Unreadable { directory: directory.to_owned(), detail: detail.to_owned() });
    };
    if acknowledged.is_none() {
        let note = "the high-water mark is missing or damaged: the last acknowledged commit is not known";
        report.notes.push(note.to_owned());
    }
    let scratch = match directory.join(INDEX).is_dir() {
        true => Some(Scratch::new(directory, &directory.join(INDEX), &mut report.notes)?),
        false => None,
    };
    let sources = scratch.as_ref().and_then(|scratch| scratch.open_index(&mut report.notes));
    let value = |key: &[u8]| sources.as_ref().and_then(|(sources, _)| sources.value(Cf::Meta, key));
    let secret = value(META_KEY_SECRET).and_then(|secret| secret.as_slice().try_into().ok()).map(KeySecret::from_bytes);
    let store_id = value(META_STORE_ID).and_then(|id| Uuid::from_slice(&id).ok());
    let is_time = |created: &Vec<u8>| {
        let micros = created.as_slice().try_into().ok().map(i64::from_be_bytes);
        micros.and_then(DateTime::from_timestamp_micros).is_some()
    };
    let created = value(META_CREATED).filter(is_time);
    let applied = value(META_APPLIED).and_then(|applied| key::decode_position(&applied).ok());
    let is_manifest_whole = sources.as_ref().is_some_and(|(_, is_whole)| *is_whole);
    let sources = sources.map(|(sources, _)| sources);

    let mut log = DamagedLog::read(disk, directory.join(LOG), place, opens)?;
    if let Some(sources) = &sources {
        log.add_copies(sources);
    }
    let rows = match &sources {
        _ if log.is_as_written() => RowSource::Log,
        Some(sources) if is_manifest_whole && applied.is_some() && has_all_rows(sources) => RowSource::Index,
        _ => RowSource::ReadableIndex,
    };
    let last = log.last.max(acknowledged.unwrap_or(0)).max(applied.map_or(0, Position::get));
    let survey = Survey { log, sources, secret, store_id, created, applied, rows, last };
    survey.describe(report, progress)?;
    Ok((survey, scratch))
}

fn unreadable(directory: &Path, error: &StoreError) -> RepairError {
    RepairError::Unreadable { directory: directory.to_owned(), detail: es_core::model::ErrorChain(error).to_string() }
}

fn has_all_rows(sources: &Sources) -> bool {
    [Cf::Rows, Cf::Keys, Cf::Meta].into_iter().all(|cf| sources.scan(cf, |_, _| {}))
}

impl Survey {
    /// Completes the report.
    fn describe(&self, report: &mut Report, progress: Progress<'_>) -> Result<(), RepairError> {
        let kept = self.log.kept;
        (report.head, report.last) = (Position::new(kept), Position::new(self.last));
        report.from_streams = self.log.copies.keys().filter(|position| **position <= kept).count() as u64;
        report.loss.events = self.last.saturating_sub(kept);
        report.loss.unreadable = self.log.unreadable(self.last);
        if report.loss.events > 0 {
            let (mut streams, mut readable) = (BTreeMap::new(), 0);
            self.log.each_part(|part| {
                for event in part.events() {
                    if event.position.get() > kept {
                        readable += 1;
                        *streams.entry(event.stream.clone()).or_insert(0_u64) += 1;
                    }
                }
                progress("lost events", readable, Some(report.loss.events));
                Ok(())
            })?;
            report.loss.set_aside = readable;
            report.loss.more_streams = streams.len().saturating_sub(super::MAX_LISTED) as u64;
            report.loss.streams = streams.into_iter().take(super::MAX_LISTED).collect();
        }
        match self.rows {
            RowSource::Log => {}
            RowSource::Index => {
                if self.log.lost_changes_after(self.applied) {
                    let what = "changes of rows and unique keys in frames after the last index table";
                    report.loss.other.push(what.to_owned());
                }
            }
            RowSource::ReadableIndex => {
                let what = "rows, and unique keys of removed events, that no frame of the log has and that cannot be \
                            read in the index; others may be old";
                report.loss.other.push(what.to_owned());
            }
        }
        if self.secret.is_none() {
            let note = "the secret of the unique keys cannot be read: events claim their keys again with a new one";
            report.notes.push(note.to_owned());
            if self.log.has_removed {
                report.loss.other.push("claims of unique keys by removed events".to_owned());
            }
        }
        Ok(())
    }

    /// Writes the recoverable data to a new store.
    pub(super) fn write(
        &self,
        damaged: &Path,
        target: &Path,
        set_aside: SetAside<'_>,
        progress: Progress<'_>,
    ) -> Result<RepairDraft, RepairError> {
        let target = RepairTarget::create(damaged, target)?;
        let repaired = self.write_and_verify(&target, set_aside, progress)?;
        Ok(RepairDraft { target, repaired })
    }

    fn write_and_verify(
        &self,
        RepairTarget { directory, incomplete, .. }: &RepairTarget,
        set_aside: SetAside<'_>,
        progress: Progress<'_>,
    ) -> Result<Repaired, RepairError> {
        let is_lossless = self.log.kept == self.last;
        // The backups of the damaged store have its secret, and cannot be continued with another secret.
        let kept_id = self.store_id.filter(|_| is_lossless && self.secret.is_some());
        let id = if kept_id.is_some() { self.log.place.log_id } else { LogId::new() };
        self.write_log(&incomplete.join(LOG), id)?;
        let rows = self.write_index(incomplete, kept_id, progress)?;
        verify_new_store(incomplete, progress)?;
        let set_aside = self.set_aside(set_aside)?;
        let (directory, events) = (directory.clone(), self.log.kept);
        let is_new_id = kept_id.is_none();
        Ok(Repaired { directory, id, is_new_id, events, rows, set_aside })
    }

    /// Writes the frames of the log, without those after the first lost event.
    fn write_log(&self, directory: &Path, id: LogId) -> Result<(), RepairError> {
        let io = io_error("write the log in", directory);
        let builder = LogBuilder::create(directory, Arc::new(SystemDisk), id, self.log.place.base_time);
        let mut builder = builder.map_err(&io)?;
        // Without the secret, the hashes of unique keys in the log mean nothing. The events have the keys.
        let keys = if self.secret.is_some() { KeyRecords::Kept } else { KeyRecords::Dropped };
        let mut is_cut = false;
        self.log.each_part(|part| {
            if is_cut {
                return Ok(());
            }
            match part {
                RepairedPart::Segment => builder.begin_segment().map_err(&io),
                RepairedPart::Frame(frame) => match keys.is_kept_in(frame) {
                    true => builder.copy(frame).map_err(&io),
                    false => builder.frame(&damaged_log::without_keys(frame).as_draft()).map_err(&io),
                },
                RepairedPart::Gap(gap) => {
                    is_cut = gap.next.get() > self.log.kept.saturating_add(1);
                    let draft = gap.draft(self.log.kept, self.log.opens, keys);
                    draft.map_or(Ok(()), |draft| builder.frame(&draft.as_draft()).map_err(&io))
                }
            }
        })?;
        if self.rows != RowSource::Log {
            // Rows before a rewritten frame are not compared with the frames that name them.
            builder.frame(&damaged_log::rewritten_blank(self.log.opens).as_draft()).map_err(&io)?;
        }
        builder.finish(self.log.opens).map_err(&io)
    }

    /// Writes the index. Returns the number of rows.
    fn write_index(&self, directory: &Path, id: Option<Uuid>, progress: Progress<'_>) -> Result<u64, RepairError> {
        let mut index = IndexBuilder::create(directory)?;
        let new_secret = KeySecret::random();
        let secret = self.secret.as_ref().unwrap_or(&new_secret);
        index.put(Cf::Meta, META_KEY_SECRET, secret.as_bytes())?;
        index.put(Cf::Meta, META_STORE_ID, id.unwrap_or_else(|| *LogId::new().as_uuid()).as_bytes())?;
        let now = || es_core::model::Clock::now(&es_core::model::SystemClock::new()).timestamp_micros();
        let created = self.created.clone().unwrap_or_else(|| now().to_be_bytes().to_vec());
        index.put(Cf::Meta, META_CREATED, &created)?;
        let sources = self.sources.as_ref().filter(|_| self.rows != RowSource::Log);
        // Beyond the end of the new log, the index has claims of lost events.
        let is_index_ahead = self.applied.map_or(0, Position::get) > self.log.kept;
        let derives_keys = self.secret.is_none() || self.rows == RowSource::ReadableIndex || is_index_ahead;
        let (mut carried, mut carried_keys) = (Ok(()), BTreeSet::new());
        for cf in [Cf::Rows, Cf::Keys] {
            let is_carried = cf == Cf::Rows || !derives_keys;
            if let Some(sources) = sources.filter(|_| is_carried) {
                sources.scan(cf, |key, value| {
                    if carried.is_ok() && (cf == Cf::Keys || has_table(key)) {
                        carried = index.put(cf, key, value);
                        carried_keys.insert((cf, key.to_vec()));
                    }
                });
            }
        }
        carried?;
        progress("index", 0, None);
        let is_newer = |position| self.applied.is_some_and(|applied| position > applied);
        index.fill(&|position, (cf, key, _): &ChangedKey| match self.rows {
            RowSource::Log => true,
            RowSource::Index => is_newer(position),
            // The old index is newer than the frames up to there, if it can be read.
            RowSource::ReadableIndex => is_newer(position) || !carried_keys.contains(&(*cf, key.clone())),
        })?;
        if derives_keys {
            self.claim_keys(directory, secret, &mut index)?;
        }
        let rows = index.count(Cf::Rows)?;
        index.finish()?;
        Ok(rows)
    }

    /// Gives the events their unique keys again, and removed events those that the old index has for them.
    fn claim_keys(&self, directory: &Path, secret: &KeySecret, index: &mut IndexBuilder) -> Result<(), RepairError> {
        index.clear(Cf::Keys)?;
        let log = ReadableLog::open(directory.join(LOG), Arc::new(SystemDisk));
        let log = log.map_err(|error| of_log_opening(directory, error))?;
        let (mut reader, mut decoder, mut firsts) = (log.read_after(None), LogDecoder::default(), BTreeMap::new());
        while let Some(batch) = reader.next_batch().map_err(of_log)? {
            for record in batch.records() {
                let record = record.map_err(|error| StoreError::damaged("the new log", error.to_string()))?;
                let Some(event) = decoder.event(&record, batch.bytes())? else { continue };
                if event.is_removed() {
                    firsts.insert(event.stream, event.revision);
                    continue;
                }
                for (key, owner) in key_entries(&event) {
                    let hash = secret.hash(key);
                    match owner {
                        Some(owner) => index.put(Cf::Keys, hash.as_bytes(), &key::owner(&owner))?,
                        None => index.delete(Cf::Keys, hash.as_bytes())?,
                    }
                }
            }
        }
        let Some(sources) = self.sources.as_ref().filter(|_| self.secret.is_some()) else { return Ok(()) };
        let mut claims = Vec::new();
        sources.scan(Cf::Keys, |hash, owner| {
            let removed = key::decode_owner(owner).ok();
            if removed.is_some_and(|owner| firsts.get(&owner.stream).is_some_and(|last| owner.revision <= *last)) {
                claims.push((hash.to_vec(), owner.to_vec()));
            }
        });
        for (hash, owner) in claims {
            if !index.has(Cf::Keys, &hash)? {
                index.put(Cf::Keys, &hash, &owner)?;
            }
        }
        Ok(())
    }

    /// Passes the readable events after the last kept one to `set_aside`. Returns their number.
    fn set_aside(&self, set_aside: SetAside<'_>) -> Result<u64, RepairError> {
        let mut aside = AsideCommits::new(set_aside);
        if self.log.kept == self.last {
            return Ok(0);
        }
        self.log.each_part(|part| {
            let mut next = None;
            for event in part.events() {
                let position = event.position;
                if next.is_some_and(|next| next != position) {
                    aside.gap()?;
                }
                next = Some(position.next());
                if position.get() > self.log.kept {
                    aside.add(event)?;
                }
            }
            if matches!(part, RepairedPart::Gap(_)) { aside.gap() } else { Ok(()) }
        })?;
        aside.finish()
    }
}

impl From<es_log::ReadError> for RepairError {
    fn from(error: es_log::ReadError) -> Self {
        Self::Store(of_log(error))
    }
}
