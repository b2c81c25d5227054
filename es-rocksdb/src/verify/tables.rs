//! Scans of the column families of the index.

use std::ops::ControlFlow;

use es_core::store::Direction;
use es_core::{Position, Revision, StoreError, StreamId};
use rocksdb::DBRawIterator;

use super::facts::{RowValues, Sum, Totals, copy_entry, row_key, row_value};
use super::{Context, keys};
use crate::engine::database::{Fault, Tier, bad_key, bad_name, item, place_in, place_of};
use crate::engine::key;
use crate::index::posting_blocks;
use crate::index::{Copied, decode_head};
use crate::record::codec::LogDecoder;
use crate::schema::{Cf, META_FIRST};
use crate::verify::{Verification, has_table, place_in_stream, split_numbered};

/// The result of the scan of one family.
#[derive(Default)]
pub(super) struct FamilySum {
    pub(super) found: Verification,
    /// The sum of the entries up to the last table; `None` if the family is not compared by a sum.
    pub(super) sum: Option<Sum>,
    pub(super) entries: u64,
    pub(super) streams: u64,
}

/// Scans a family. The heads are scanned with the copies in the streams.
pub(super) fn scan(
    context: &Context<'_>,
    cf: Cf,
    totals: &Totals,
    is_log_sound: bool,
) -> Result<FamilySum, StoreError> {
    match cf {
        Cf::Ids => ids(context),
        Cf::Categories | Cf::Types | Cf::Tags => postings(context, cf),
        Cf::Streams => StreamCheck::new(context)?.run(),
        Cf::Keys => each(context, Cf::Keys, &[], |key, value| keys::entry(context, key, value)),
        Cf::Rows => rows(context, totals, is_log_sound),
        Cf::Meta => firsts(context, totals, is_log_sound),
        Cf::Heads => Ok(FamilySum::default()),
    }
}

/// Calls `check` for each entry of a family, also for those that are not in RocksDB.
fn each(
    context: &Context<'_>,
    cf: Cf,
    prefix: &[u8],
    mut check: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<FamilySum, StoreError> {
    let mut result = FamilySum::default();
    let FamilySum { found, entries, .. } = &mut result;
    let mut visit = |key: &[u8], value: &[u8]| {
        context.count();
        *entries += 1;
        found.note(check(key, value))?;
        Ok(ControlFlow::Continue(()))
    };
    let visited = context.database.visit_entries(cf, prefix, (Direction::Forward, None), Tier::Any, &mut visit);
    result.found.note(visited.map_err(StoreError::from))?;
    Ok(result)
}

fn ids(context: &Context<'_>) -> Result<FamilySum, StoreError> {
    let mut sum = Sum::default();
    let result = each(context, Cf::Ids, &[], |key, value| {
        let bad = |error| bad_key(Cf::Ids, key, &error);
        let (id, position) = (key::decode_id(key).map_err(bad)?, key::decode_position(value).map_err(bad)?);
        if context.is_in_tables(position) {
            sum.add((id, position.get()));
        } else if context.view.runs().iter().find_map(|run| run.position_of(id)) != Some(position) {
            let detail = format!("expected the event at position {position}, found none with this id");
            return Err(StoreError::damaged(format!("event id {id}"), detail));
        }
        Ok(())
    })?;
    Ok(FamilySum { sum: Some(sum), ..result })
}

fn postings(context: &Context<'_>, cf: Cf) -> Result<FamilySum, StoreError> {
    let (mut sum, mut positions) = (Sum::default(), Vec::new());
    let result = each(context, cf, &[], |key, value| {
        let (name, first) = split_numbered(key).ok_or_else(|| bad_name(cf, key))?;
        let first = key::decode_position(first).map_err(|error| bad_key(cf, key, &error))?;
        posting_blocks::decode(first, value, &mut positions).map_err(|error| bad_key(cf, key, &error))?;
        for position in &positions {
            if context.is_in_tables(*position) {
                sum.add((name, position.get()));
                continue;
            }
            let seek =
                |run: &std::sync::Arc<_>| crate::index::run::Run::seek(run, cf, name, Direction::Forward, *position);
            if !context.view.runs().iter().any(|run| seek(run) == Some(*position)) {
                let detail = format!("expected the event at position {position} to have it, found one without");
                return Err(bad_key(cf, key, &detail));
            }
        }
        Ok(())
    })?;
    Ok(FamilySum { sum: Some(sum), ..result })
}

/// Checks rows against the values that frames name.
fn rows(context: &Context<'_>, totals: &Totals, is_log_sound: bool) -> Result<FamilySum, StoreError> {
    let mut expected: RowValues = if is_log_sound { totals.rows.clone() } else { RowValues::new() };
    let is_complete = is_log_sound && !totals.is_rewritten;
    let mut result = each(context, Cf::Rows, &[], |key, value| {
        if !has_table(key) {
            return Err(bad_name(Cf::Rows, key));
        }
        match expected.remove(&row_key(key)) {
            Some(named) if named == Some(row_value(value)) => Ok(()),
            None if !is_complete => Ok(()),
            Some(Some(_)) => Err(bad_key(Cf::Rows, key, &"expected the value of the last frame that names it")),
            Some(None) => Err(bad_key(Cf::Rows, key, &"expected no value, because a frame deletes it")),
            None => Err(bad_key(Cf::Rows, key, &"expected a frame that names it, found none")),
        }
    })?;
    let missing = expected.values().filter(|value| value.is_some()).count();
    if missing > 0 {
        let detail = format!("expected {missing} further rows that frames name, found none");
        result.found.add("column family rows", detail);
    }
    Ok(result)
}

/// Checks that the streams lack as many events at their beginnings as the log has tombstones.
fn firsts(context: &Context<'_>, totals: &Totals, is_log_sound: bool) -> Result<FamilySum, StoreError> {
    let prefix = key::prefix(META_FIRST);
    let mut removed = 0_u64;
    let mut result = each(context, Cf::Meta, &prefix, |key, value| {
        let first = key::decode_revision(value).map_err(|error| bad_key(Cf::Meta, key, &error))?;
        // A number from a damaged file can have any value.
        removed = removed.saturating_add(first.get());
        Ok(())
    })?;
    let is_unequal = if context.is_scavenging { removed < totals.removed } else { removed != totals.removed };
    if is_unequal && is_log_sound {
        let detail = format!("expected {removed} events that were removed in the log, found {}", totals.removed);
        result.found.add("beginnings of streams", detail);
    }
    Ok(result)
}

/// The scan of the copies in the streams, and of the heads beside them.
struct StreamCheck<'a> {
    context: &'a Context<'a>,
    heads: DBRawIterator<'a>,
    result: FamilySum,
    sum: Sum,
    decoder: LogDecoder,
}

/// The copies of one stream so far.
struct OneStream {
    stream: StreamId,
    /// The revision of the last copy.
    last: Revision,
    /// The last copy up to the last table.
    last_in_tables: Option<(Revision, Position)>,
}

impl<'a> StreamCheck<'a> {
    fn new(context: &'a Context<'a>) -> Result<Self, StoreError> {
        let mut heads = context.database.iterate(Cf::Heads, Vec::new(), Tier::Any)?;
        heads.seek_to_first();
        let (result, sum, decoder) = (FamilySum::default(), Sum::default(), LogDecoder::default());
        Ok(Self { context, heads, result, sum, decoder })
    }

    fn run(mut self) -> Result<FamilySum, StoreError> {
        let mut copies = self.context.database.iterate(Cf::Streams, Vec::new(), Tier::Any)?;
        copies.seek_to_first();
        let mut current: Option<OneStream> = None;
        let is_complete = loop {
            let entry = item(&copies, Cf::Streams).map_err(StoreError::from);
            let Some(entry) = self.result.found.note(entry)? else { break false };
            let Some((key, value)) = entry else { break true };
            self.context.count();
            self.result.entries += 1;
            if let Some((stream, revision)) = self.result.found.note(place_in_stream(key))? {
                let position = self.copy(&stream, revision, value)?;
                current = Some(self.continue_with(current, stream, revision, position)?);
            }
            copies.next();
        };
        // After a scan that ended at an unreadable block, the last copy need not be the last one of its stream.
        if is_complete {
            if let Some(last) = current {
                self.heads_up_to(Some(&last))?;
            }
            self.heads_up_to(None)?;
        }
        Ok(FamilySum { sum: Some(self.sum), ..self.result })
    }

    /// Verifies a copy. Returns its position.
    fn copy(&mut self, stream: &StreamId, revision: Revision, value: &[u8]) -> Result<Option<Position>, StoreError> {
        let event = self.context.view.copied_event(stream, revision, value, &mut self.decoder);
        let Some(event) = self.result.found.note(event)? else { return Ok(None) };
        let copied = Copied::decode(value).map_err(|error| bad_key(Cf::Streams, value, &error))?;
        if !self.context.is_in_tables(event.position) {
            let in_run = self.context.view.runs().iter().find_map(|run| run.position_in(stream, revision));
            if in_run != Some(event.position) {
                let expected =
                    in_run.map_or_else(|| "no event".to_owned(), |at| format!("the event at {}", place_of(at)));
                let detail = format!("expected {expected}, found that of {}", place_of(event.position));
                self.result.found.add(place_in(stream, revision), detail);
            }
        } else if !event.is_removed() {
            let place = (copied.position, copied.segment);
            self.sum.add(copy_entry((stream.as_str(), revision.get()), place, copied.record));
        }
        Ok(Some(event.position))
    }

    /// Continues with a copy: checks that no revision is missing before it.
    fn continue_with(
        &mut self,
        current: Option<OneStream>,
        stream: StreamId,
        revision: Revision,
        position: Option<Position>,
    ) -> Result<OneStream, StoreError> {
        let in_tables = position.filter(|position| self.context.is_in_tables(*position));
        let here = in_tables.map(|position| (revision, position));
        match current {
            Some(current) if current.stream == stream => {
                if revision != current.last.next() {
                    let detail = format!("expected an event, found the next at revision {revision}");
                    self.result.found.add(place_in(&stream, current.last.next()), detail);
                }
                Ok(OneStream { last: revision, last_in_tables: here.or(current.last_in_tables), ..current })
            }
            before => {
                if let Some(before) = before {
                    self.heads_up_to(Some(&before))?;
                }
                let first = self.context.database.first_left(&stream, Tier::Any).map_err(StoreError::from);
                // Copies before the first revision are those of an incomplete scavenge, or tombstones.
                if let Some(first) = self.result.found.note(first)?.filter(|first| *first < revision) {
                    let detail = format!("expected an event, found the first at revision {revision}");
                    self.result.found.add(place_in(&stream, first), detail);
                }
                Ok(OneStream { stream, last: revision, last_in_tables: here })
            }
        }
    }

    /// Verifies the heads up to that of a stream, whose copies were scanned; the remaining ones for `None`.
    fn heads_up_to(&mut self, copied: Option<&OneStream>) -> Result<(), StoreError> {
        loop {
            let entry = item(&self.heads, Cf::Heads).map_err(StoreError::from);
            let entry = entry.map(|entry| entry.map(|(name, head)| (name.to_vec(), head.to_vec())));
            let Some(Some((name, head))) = self.result.found.note(entry)? else { break };
            if copied.is_some_and(|copied| name.as_slice() > copied.stream.as_str().as_bytes()) {
                break;
            }
            self.heads.next();
            self.context.count();
            self.result.entries += 1;
            let stream = std::str::from_utf8(&name).ok().and_then(|name| StreamId::new(name).ok());
            let stream = stream.ok_or_else(|| bad_name(Cf::Heads, &name));
            let Some(stream) = self.result.found.note(stream)? else { continue };
            self.result.streams += 1;
            let of_stream = copied.filter(|copied| copied.stream == stream);
            let checked = self.head(&stream, &head, of_stream.and_then(|copied| copied.last_in_tables));
            self.result.found.note(checked.map_err(StoreError::from))?;
            if of_stream.is_some() {
                return Ok(());
            }
        }
        if let Some(OneStream { stream, last_in_tables: Some((revision, _)), .. }) = copied {
            let detail = format!("expected revision {revision}, found none");
            self.result.found.add(format!("head of stream {stream:?}"), detail);
        }
        Ok(())
    }

    fn head(&self, stream: &StreamId, head: &[u8], copied: Option<(Revision, Position)>) -> Result<(), Fault> {
        let place = || format!("head of stream {stream:?}");
        let (revision, position) =
            decode_head(head).map_err(|error| StoreError::damaged(place(), error.to_string()))?;
        if !self.context.is_in_tables(position) {
            let in_run = self.context.view.runs().iter().find_map(|run| run.position_in(stream, revision));
            return match in_run == Some(position) {
                true => Ok(()),
                false => Err(StoreError::damaged(place(), format!("found another event at {position}")).into()),
            };
        }
        if copied == Some((revision, position)) {
            return Ok(());
        }
        // All events of a stream can be removed. Its head is then the last one.
        let is_emptied = copied.is_none() && self.context.database.first_left(stream, Tier::Any)? >= revision.next();
        if is_emptied {
            let event = self.context.view.event(position, Tier::Any, &mut LogDecoder::default())?;
            if event.is_removed() && (&event.stream, event.revision) == (stream, revision) {
                return Ok(());
            }
        }
        let expected = copied.map_or_else(|| "an event".to_owned(), |(revision, _)| format!("revision {revision}"));
        Err(StoreError::damaged(place(), format!("expected {expected}, found revision {revision}")).into())
    }
}
