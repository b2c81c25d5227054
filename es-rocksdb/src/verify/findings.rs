//! [`Verification`]: the findings of the verification of a store.

use std::collections::HashMap;

use es_core::StoreError;

/// Receives the progress: the name of the current step, the number of processed entries, and the total if it is known.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

/// The maximum number of described findings. Further findings are only counted.
const MAX_DAMAGE: usize = 1000;

/// A finding of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Damage {
    /// The location: a position, a stream or an entry of an index.
    pub place: String,
    /// The expected and the found data.
    pub detail: String,
}

/// The result of [`ReadOnlyStore::verify`](crate::ReadOnlyStore::verify).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// The number of readable events.
    pub events: u64,
    /// The number of [removed](es_core::retention) events.
    pub removed: u64,
    /// The number of streams.
    pub streams: u64,
    /// The number of verified entries of all kinds.
    pub entries: u64,
    /// The distinct findings, at most the first thousand. [`findings`](Self::findings) returns their frequencies, too.
    pub damage: Vec<Damage>,
    /// The number of further findings, including repeated ones.
    pub more_damage: u64,
    /// The frequency of each finding.
    times: Vec<u64>,
    /// The index of each finding in `damage`.
    places: HashMap<Damage, usize>,
}

impl Verification {
    /// Returns `true` if no damage was found.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// Returns each finding with its frequency: every read of a corrupt block repeats its finding.
    pub fn findings(&self) -> impl Iterator<Item = (&Damage, u64)> {
        self.damage.iter().zip(self.times.iter().copied().chain(std::iter::repeat(1)))
    }

    pub(crate) fn add(&mut self, place: impl Into<String>, detail: impl Into<String>) {
        self.add_times(Damage { place: place.into(), detail: detail.into() }, 1);
    }

    fn add_times(&mut self, damage: Damage, count: u64) {
        // ORDER: before the limit, so that the repeated finding of one corrupt block does not displace other findings.
        if let Some(times) = self.places.get(&damage).and_then(|place| self.times.get_mut(*place)) {
            *times = times.saturating_add(count);
        } else if self.damage.len() < MAX_DAMAGE {
            self.places.insert(damage.clone(), self.damage.len());
            self.times.push(count);
            self.damage.push(damage);
        } else {
            self.more_damage = self.more_damage.saturating_add(count);
        }
    }

    /// Adds the findings of another part of the store.
    pub(crate) fn merge(&mut self, other: Self) {
        self.more_damage = self.more_damage.saturating_add(other.more_damage);
        for (damage, times) in other.damage.into_iter().zip(other.times) {
            self.add_times(damage, times);
        }
    }

    /// Records damage. Returns other results and errors.
    pub(crate) fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::Damaged { place, detail }) => {
                self.add(place, detail);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
