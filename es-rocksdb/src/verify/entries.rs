//! Search for the entries of the index that differ from the log, in both directions.

use es_core::store::Direction;
use es_core::{Position, RecordedEvent, StoreError};
use es_log::{Frame, Place, PointReader};

use super::Context;
use super::facts::Sum;
use crate::engine::database::{Tier, bad_key, bad_name, item, missing_event, place_of};
use crate::engine::key;
use crate::index::Copied;
use crate::index::posting_blocks::{self, BlockList};
use crate::index::postings::PostingList;
use crate::record::codec::LogDecoder;
use crate::schema::Cf;
use crate::verify::{Verification, split_numbered};

/// Looks up each entry of the families whose sums differ.
pub(super) fn search(context: &Context<'_>, differing: &[(Cf, Sum, Sum)]) -> Result<Verification, StoreError> {
    let families: Vec<Cf> = differing.iter().map(|(cf, ..)| *cf).collect();
    let mut found = missing(context, &families)?;
    for strays in context.in_parallel(&families, |cf| strays(context, *cf)) {
        found.merge(strays?);
    }
    Ok(found)
}

/// What was missed by the events of one segment.
#[derive(Default)]
struct Missed {
    found: Verification,
    error: Option<StoreError>,
    decoder: LogDecoder,
}

/// Looks up the entries of each event.
fn missing(context: &Context<'_>, families: &[Cf]) -> Result<Verification, StoreError> {
    let (_, missed) = context.visit_log(|missed: &mut Missed, frame| missed.frame(context, families, frame))?;
    let mut found = Verification::default();
    for missed in missed {
        if let Some(error) = missed.error {
            return Err(error);
        }
        found.merge(missed.found);
    }
    Ok(found)
}

impl Missed {
    fn frame(&mut self, context: &Context<'_>, families: &[Cf], frame: &Frame) {
        let batch = frame.batch();
        for record in batch.records() {
            let Ok(record) = record else { return };
            if !context.is_in_tables(record.position) {
                return;
            }
            context.count();
            // The verification of the log has a finding for a record that cannot be decoded.
            let Ok(Some(event)) = self.decoder.event(&record, batch.bytes()) else { continue };
            for cf in families {
                let looked_up = look_up(context, *cf, &event, batch.place(), record.bytes);
                if let Err(error) = self.found.note(looked_up) {
                    self.error.get_or_insert(error);
                }
            }
        }
    }
}

/// Checks that an event has its entries in a family.
fn look_up(
    context: &Context<'_>,
    cf: Cf,
    event: &RecordedEvent,
    place: Place,
    record: &[u8],
) -> Result<(), StoreError> {
    let (database, position) = (context.database, event.position);
    let require = |is_found: bool, what: String| match is_found {
        true => Ok(()),
        false => {
            let detail = format!("expected {what} in the family {}, found another or none", cf.name());
            Err(StoreError::damaged(place_of(position), detail))
        }
    };
    if cf == Cf::Ids {
        let found = database.position_of(event.data.id, Tier::Any)?;
        return require(found == Some(position), format!("its id {}", event.data.id));
    }
    if event.is_removed() {
        return Ok(());
    }
    if cf == Cf::Streams {
        let copy = database.get(cf, &key::in_stream(&event.stream, event.revision), Tier::Any)?;
        let is_same =
            |copy: &Copied<'_>| (copy.position, copy.segment, copy.record) == (position, place.segment, record);
        let is_found = copy.as_ref().and_then(|copy| Copied::decode(copy).ok()).is_some_and(|copy| is_same(&copy));
        return require(is_found, format!("a copy of it in stream {:?}", event.stream));
    }
    let names: Vec<&str> = match cf {
        Cf::Categories => vec![event.stream.category_str()],
        Cf::Types => vec![event.data.event_type.as_str()],
        Cf::Tags => event.data.tags.iter().map(es_core::model::Tag::as_str).collect(),
        _ => Vec::new(),
    };
    for name in names {
        let mut list = BlockList::new(database, cf, name, Direction::Forward, position)?;
        require(list.seek(position)? == Some(position), format!("its entry under {name:?}"))?;
    }
    Ok(())
}

/// Checks that each entry of a family is that of an event.
fn strays(context: &Context<'_>, cf: Cf) -> Result<Verification, StoreError> {
    let mut found = Verification::default();
    let mut points = context.inputs.core.log.point_reader();
    let mut entries = context.database.iterate(cf, Vec::new(), Tier::Any)?;
    entries.seek_to_first();
    // The scan of the family has a finding for a block that cannot be read.
    while let Ok(Some((key, value))) = item(&entries, cf) {
        context.count();
        found.note(stray(context, cf, key, value, &mut points))?;
        entries.next();
    }
    Ok(found)
}

fn stray(context: &Context<'_>, cf: Cf, key: &[u8], value: &[u8], points: &mut PointReader) -> Result<(), StoreError> {
    let bad = |error: &dyn std::fmt::Display| bad_key(cf, key, error);
    let (name, mut positions) = match cf {
        Cf::Ids => ("", vec![key::decode_position(value).map_err(|error| bad(&error))?]),
        Cf::Streams => ("", vec![Copied::decode(value).map_err(|error| bad(&error))?.position]),
        _ => {
            let (name, first) = split_numbered(key).ok_or_else(|| bad_name(cf, key))?;
            let first = key::decode_position(first).map_err(|error| bad(&error))?;
            let mut positions = Vec::new();
            posting_blocks::decode(first, value, &mut positions).map_err(|error| bad(&error))?;
            (name, positions)
        }
    };
    positions.retain(|position| context.is_in_tables(*position));
    for position in positions {
        let record = context.view.record_at(points, position, Tier::Any).map_err(StoreError::from);
        let event = match record.and_then(|record| LogDecoder::default().only_event(position, &record)) {
            Ok(event) => event,
            // The verification of the log has a finding for it.
            Err(StoreError::Damaged { .. }) if context.inputs.core.log.head() >= Some(position) => continue,
            Err(StoreError::Damaged { .. }) => return Err(bad(&missing_event(position))),
            Err(error) => return Err(error),
        };
        let is_confirmed = match cf {
            Cf::Ids => key::decode_id(key).is_ok_and(|id| id == event.data.id),
            // A scavenge removes the entries of an event last. Copies of tombstones are not part of the sum.
            _ if event.is_removed() => context.is_scavenging || is_tombstone_copy(context, cf, value, position),
            Cf::Streams => key == key::in_stream(&event.stream, event.revision).as_slice(),
            Cf::Categories => event.stream.category_str() == name,
            Cf::Types => event.data.event_type == name,
            _ => event.data.tags.contains(name),
        };
        if !is_confirmed {
            return Err(bad(&format!("expected the event at position {position} to have it, found one without")));
        }
    }
    Ok(())
}

/// Returns whether an entry is the copy of a tombstone.
fn is_tombstone_copy(context: &Context<'_>, cf: Cf, value: &[u8], position: Position) -> bool {
    let Some(copied) = Some(value).filter(|_| cf == Cf::Streams).and_then(|value| Copied::decode(value).ok()) else {
        return false;
    };
    let place = Place { segment: copied.segment, ..context.inputs.core.log.place() };
    let batch = es_log::Batch::of_copy(copied.record.to_vec().into(), position, place);
    let event = batch.ok().and_then(|batch| LogDecoder::default().only_event(position, &batch).ok());
    event.is_some_and(|event| event.is_removed())
}
