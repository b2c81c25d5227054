//! Search for entries that no event confirms, and verification of the rows.

use es_core::__private::table;
use es_core::{EventId, Position, Revision, StoreError, StreamId};
use uuid::Uuid;

use super::Verifier;
use crate::database::{Database, Tier, bad_name, missing_event};
use crate::key::{self, ID_LEN, NUMBER_LEN, SEPARATOR};
use crate::record::Decoder;
use crate::schema::Cf;

impl Verifier<'_> {
    /// Adds a finding for each entry of a family without a matching event.
    pub(super) fn strays(&mut self, cf: Cf) -> Result<(), StoreError> {
        self.each(cf, |database, key, value| {
            Ok(stray(database, cf, key, value)?.map(|detail| {
                StoreError::damaged(format!("column family {}, key {}", cf.name(), key.escape_ascii()), detail)
            }))
        })
    }

    /// Checks that the key of each row begins with the name of a table. Rows have no other redundancy.
    pub(super) fn rows(&mut self) -> Result<(), StoreError> {
        self.each(Cf::Rows, |_, key, _| Ok((!has_table(key)).then(|| bad_name(Cf::Rows, key))))
    }

    /// Calls `check` for each entry of a family, and adds the finding that it returns.
    pub(super) fn each(
        &mut self,
        cf: Cf,
        check: impl Fn(&Database, &[u8], &[u8]) -> Result<Option<StoreError>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut entries = self.database.iterate(cf, Vec::new(), Tier::Any)?;
        entries.seek_to_first();
        let (mut count, mut last) = (0, None);
        while let Some((key, value)) = self.entry(&entries, cf)? {
            entries.next();
            count += 1;
            self.report(cf.name(), count, None);
            let checked = check(self.database, &key, &value).and_then(|found| found.map_or(Ok(()), Err));
            self.found.note(checked)?;
            last = Some(key);
        }
        if entries.status().is_err() {
            let from = last.map_or_else(|| "all keys".to_owned(), |key| format!("keys after {}", key.escape_ascii()));
            let detail = "cannot be read: unconfirmed entries were not searched from there on";
            self.found.add(format!("column family {}, {from}", cf.name()), detail);
        }
        Ok(())
    }
}

/// Returns whether the key of a row begins with the name of a table.
pub(crate) fn has_table(key: &[u8]) -> bool {
    let Some(end) = key.iter().position(|byte| *byte == SEPARATOR) else { return false };
    let name = key.get(..end).and_then(|name| std::str::from_utf8(name).ok());
    name.is_some_and(|name| table(name).is_ok())
}

/// Returns the reason why an entry is not confirmed; `None` if it is.
fn stray(database: &Database, cf: Cf, key: &[u8], value: &[u8]) -> Result<Option<String>, StoreError> {
    match cf {
        Cf::Heads => {
            let stream = std::str::from_utf8(key).ok().and_then(|name| StreamId::new(name).ok());
            let stream = stream.ok_or_else(|| bad_name(cf, key))?;
            let revision = match key::decode_revision(value) {
                Ok(revision) => revision,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let record = database.get(Cf::Streams, &key::in_stream(&stream, revision), Tier::Any)?;
            let is_emptied = database.first_left(&stream, Tier::Any)? == revision.next();
            Ok((record.is_none() && !is_emptied)
                .then(|| format!("expected an event at revision {revision}, found none")))
        }
        Cf::Streams => {
            let mut decoder = Decoder::default();
            // The verification of the streams has a finding for an invalid record.
            let Ok(event) = decoder.decode(value) else { return Ok(None) };
            let in_log = database.get(Cf::Log, &key::position(event.position), Tier::Any)?;
            let is_same = in_log.is_some_and(|record| *record == *value);
            Ok((!is_same)
                .then(|| format!("expected the same record at position {}, found another or none", event.position)))
        }
        _ => {
            let Some((position, indexed)) = decode_entry(cf, key, value) else {
                return Ok(Some("expected a name and a position, found other bytes".into()));
            };
            let Some(record) = database.get(Cf::Log, &key::position(position), Tier::Any)? else {
                return Ok(Some(missing_event(position).to_string()));
            };
            let Ok(event) = Decoder::default().decode(&record) else { return Ok(None) };
            let is_confirmed = match indexed {
                Indexed::Id(id) => event.data.id == id,
                Indexed::Name(_) if event.is_removed() => false,
                Indexed::Name(name) if cf == Cf::Categories => event.stream.category_str() == name,
                Indexed::Name(name) if cf == Cf::Types => event.data.event_type == name,
                Indexed::Name(name) => event.data.tags.contains(name),
            };
            Ok((!is_confirmed)
                .then(|| format!("expected the event at position {position} to have it, found one without")))
        }
    }
}

/// The property of an event by which an index finds it.
enum Indexed<'a> {
    Id(EventId),
    /// The category, the type or a tag.
    Name(&'a str),
}

/// Returns the position and the property of an index entry.
fn decode_entry<'a>(cf: Cf, key: &'a [u8], value: &[u8]) -> Option<(Position, Indexed<'a>)> {
    if cf == Cf::Ids {
        let id: [u8; ID_LEN] = key.try_into().ok()?;
        return Some((key::decode_position(value).ok()?, Indexed::Id(EventId::from_uuid(Uuid::from_bytes(id)))));
    }
    let (name, number) = split_numbered(key)?;
    Some((key::decode_position(number).ok()?, Indexed::Name(name)))
}

/// Splits a key into its name and its number.
pub(crate) fn split_numbered(key: &[u8]) -> Option<(&str, &[u8])> {
    let (name, number) = key.split_at_checked(key.len().checked_sub(NUMBER_LEN)?)?;
    let (separator, name) = name.split_last()?;
    (*separator == SEPARATOR).then_some((std::str::from_utf8(name).ok()?, number))
}

/// Decodes the stream and the revision of a key.
pub(crate) fn place_in_stream(key: &[u8]) -> Result<(StreamId, Revision), StoreError> {
    let place = split_numbered(key)
        .and_then(|(name, number)| Some((StreamId::new(name).ok()?, key::decode_revision(number).ok()?)));
    place.ok_or_else(|| bad_name(Cf::Streams, key))
}
