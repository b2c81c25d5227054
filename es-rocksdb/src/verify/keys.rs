//! Verification of the index of unique keys against the claims and releases of events.
//!
//! An entry is the last claim of its key that no later event released. Therefore each claim has its entry, the entry of
//! a later claim, or a later release; and there is no entry of a claim before a release. A claim that was freed by a
//! deletion needs no entry. An entry of a removed event cannot be verified.

use es_core::store::implement::{KeyOwner, key_entries};
use es_core::{RecordedEvent, StoreError};

use super::Verifier;
use crate::database::{Database, Tier, bad_key, place_in, place_of};
use crate::key;
use crate::record::Decoder;
use crate::schema::Cf;

impl Verifier<'_> {
    /// Checks that the index agrees with the claims and releases of an event.
    pub(super) fn keys_of(&mut self, event: &RecordedEvent) -> Result<(), StoreError> {
        for (key, claim) in key_entries(event) {
            let hash = self.secret.hash(key);
            let entry = self.database.owner(&hash, Tier::Any).map_err(StoreError::from);
            let Some(entry) = self.found.note(entry)? else { continue };
            if claim.is_none() {
                self.unindexed.remove(&hash);
            }
            let Some(entry) = entry else {
                let begins = claim.as_ref().map(|claim| self.operators.of(&claim.stream).begins());
                if let (Some(claim), Some(begins)) = (claim, begins)
                    && claim.holder(begins).is_some()
                {
                    self.unindexed.insert(hash, event.position);
                }
                continue;
            };
            if is_earlier(self.database, &entry, event)? {
                let expected = if claim.is_some() { "its claim" } else { "no earlier claim" };
                let found = place_in(&entry.stream, entry.revision);
                let detail =
                    format!("expected {expected} of unique key {hash} in the family keys, found that of {found}");
                self.found.add(place_of(event.position), detail);
            }
        }
        Ok(())
    }

    /// Adds a finding for each claim without an entry or a release.
    pub(super) fn unindexed(&mut self) {
        let mut unindexed: Vec<_> = std::mem::take(&mut self.unindexed).into_iter().collect();
        unindexed.sort_unstable_by_key(|(hash, position)| (*position, *hash));
        for (hash, position) in unindexed {
            let detail = format!("expected its claim of unique key {hash} in the family keys, found none");
            self.found.add(place_of(position), detail);
        }
    }

    /// Checks that each entry of the index is a claim of the event that it names.
    pub(super) fn key_entries(&mut self) -> Result<(), StoreError> {
        let secret = self.secret.clone();
        self.each(Cf::Keys, |database, key, value| {
            let bad = |error| bad_key(Cf::Keys, key, &error);
            let (hash, owner) = (key::decode_hash(key).map_err(bad)?, key::decode_owner(value).map_err(bad)?);
            let claims = |event: &RecordedEvent| {
                let last = key_entries(event).filter(|(key, _)| secret.hash(key) == hash).last();
                matches!(last, Some((_, Some(_))))
            };
            let place = place_in(&owner.stream, owner.revision);
            let last = database.revision(&owner.stream, Tier::Any)?;
            let found = match record_of(database, &owner)? {
                Named::Event(event) if claims(&event) => return Ok(None),
                Named::Event(_) => "an event that does not claim it",
                // The verification of the streams has a finding for the record.
                Named::Unreadable => return Ok(None),
                Named::Removed if last.is_some_and(|last| last >= owner.revision) => return Ok(None),
                Named::Removed => "none",
            };
            let detail = format!("expected a claim of unique key {hash}, found {found}");
            Ok(Some(StoreError::damaged(place, detail)))
        })
    }
}

/// The event that an entry names.
enum Named {
    Event(Box<RecordedEvent>),
    Unreadable,
    Removed,
}

fn record_of(database: &Database, owner: &KeyOwner) -> Result<Named, StoreError> {
    let record = database.get(Cf::Streams, &key::in_stream(&owner.stream, owner.revision), Tier::Any)?;
    let Some(record) = record else { return Ok(Named::Removed) };
    Ok(Decoder::default().decode(&record).map_or(Named::Unreadable, |event| Named::Event(Box::new(event))))
}

/// Returns whether an entry names an event before another one; `false` if its event cannot be read.
fn is_earlier(database: &Database, entry: &KeyOwner, event: &RecordedEvent) -> Result<bool, StoreError> {
    if entry.stream == event.stream {
        return Ok(entry.revision < event.revision);
    }
    match record_of(database, entry)? {
        Named::Event(named) => Ok(named.position < event.position),
        Named::Unreadable | Named::Removed => Ok(false),
    }
}
