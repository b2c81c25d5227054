//! Verification of the index of unique keys against the claims and releases of events, as for a `RocksDbStore`.
//!
//! An entry is the last claim of its key that no later event released. Therefore each claim has its entry, the entry of
//! a later claim, or a later release. A claim that was freed by a deletion needs no entry. An entry of a removed event
//! cannot be verified.

use std::collections::{HashMap, HashSet};

use es_core::store::implement::{KeyHash, KeyOwner, key_entries};
use es_core::{Position, RecordedEvent, StoreError};

use super::Context;
use crate::engine::database::{Tier, bad_key, place_in, place_of};
use crate::engine::key;
use crate::record::codec::LogDecoder;
use crate::retention::StreamIndex;
use crate::schema::Cf;
use crate::verify::Verification;

/// What the events of one segment say of the unique keys without an entry.
#[derive(Default)]
pub(super) struct KeyFacts {
    /// The claims that no event of the segment has released later, with their positions.
    unindexed: HashMap<KeyHash, Position>,
    released: HashSet<KeyHash>,
}

impl KeyFacts {
    /// Checks that the index agrees with the claims and releases of an event.
    pub(super) fn event(
        &mut self,
        context: &Context<'_>,
        event: &RecordedEvent,
        found: &mut Verification,
    ) -> Result<(), StoreError> {
        for (key, claim) in key_entries(event) {
            let hash = context.secret.hash(key);
            let entry = context.database.owner(&hash, Tier::Any).map_err(StoreError::from);
            let Some(entry) = found.note(entry)? else { continue };
            let Some(entry) = entry else {
                let Some(claim) = claim else {
                    self.unindexed.remove(&hash);
                    self.released.insert(hash);
                    continue;
                };
                let begins = context.operators.of(&claim.stream).begins();
                if claim.holder(begins).is_some() {
                    self.unindexed.insert(hash, event.position);
                }
                continue;
            };
            if is_earlier(context, &entry, event)? {
                let expected = if claim.is_some() { "its claim" } else { "no earlier claim" };
                let place = place_in(&entry.stream, entry.revision);
                let detail =
                    format!("expected {expected} of unique key {hash} in the family keys, found that of {place}");
                found.add(place_of(event.position), detail);
            }
        }
        Ok(())
    }

    /// Adds what the next segment says.
    pub(super) fn merge(&mut self, later: Self) {
        for hash in &later.released {
            self.unindexed.remove(hash);
        }
        self.unindexed.extend(later.unindexed);
    }

    /// Adds a finding for each claim without an entry or a release.
    pub(super) fn add_to(self, found: &mut Verification) {
        let mut unindexed: Vec<_> = self.unindexed.into_iter().collect();
        unindexed.sort_unstable_by_key(|(hash, position)| (*position, *hash));
        for (hash, position) in unindexed {
            let detail = format!("expected its claim of unique key {hash} in the family keys, found none");
            found.add(place_of(position), detail);
        }
    }
}

/// Checks that an entry is a claim of the event that it names.
pub(super) fn entry(context: &Context<'_>, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let bad = |error| bad_key(Cf::Keys, key, &error);
    let (hash, owner) = (key::decode_hash(key).map_err(bad)?, key::decode_owner(value).map_err(bad)?);
    let found = match event_of(context, &owner) {
        Ok(Some(event)) if event.is_removed() => return Ok(()),
        Ok(Some(event)) => {
            let last = key_entries(&event).filter(|(key, _)| context.secret.hash(key) == hash).last();
            match last {
                Some((_, Some(_))) => return Ok(()),
                _ => "an event that does not claim it",
            }
        }
        Ok(None) => match StreamIndex::revision(&context.view, &owner.stream, Tier::Any)? {
            Some(last) if last >= owner.revision => return Ok(()),
            _ => "none",
        },
        // Another step has a finding for the record.
        Err(StoreError::Damaged { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let place = place_in(&owner.stream, owner.revision);
    Err(StoreError::damaged(place, format!("expected a claim of unique key {hash}, found {found}")))
}

fn event_of(context: &Context<'_>, owner: &KeyOwner) -> Result<Option<RecordedEvent>, StoreError> {
    let mut decoder = LogDecoder::default();
    Ok(context.view.event_in(&owner.stream, owner.revision, Tier::Any, &mut decoder)?)
}

/// Returns whether an entry names an event before another one; `false` if its event cannot be read.
fn is_earlier(context: &Context<'_>, entry: &KeyOwner, event: &RecordedEvent) -> Result<bool, StoreError> {
    if entry.stream == event.stream {
        return Ok(entry.revision < event.revision);
    }
    match event_of(context, entry) {
        Ok(named) => Ok(named.is_some_and(|named| named.position < event.position)),
        Err(StoreError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
