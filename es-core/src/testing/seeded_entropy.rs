//! [`SeededEntropy`]: repeatable random numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Entropy;

/// A source of random numbers with a seed. The same seed yields the same numbers.
///
/// The algorithm is splitmix64 of "Fast Splittable Pseudorandom Number Generators" (Steele et al. 2014).
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Creates a source with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Draws an index into a list with this many elements; 0 if it is empty.
    pub(super) fn index(&self, len: usize) -> usize {
        self.next_u64().checked_rem(len as u64).and_then(|index| usize::try_from(index).ok()).unwrap_or(0)
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        let state = self.0.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, IdSource};
    use crate::testing::ManualClock;

    #[test]
    fn ids_start_with_the_time_and_are_equal_for_equal_seeds() {
        let clock = ManualClock::at("2026-01-31T12:00:00.123Z".parse().expect("a time"));
        let ids = |seed| {
            let entropy = SeededEntropy::new(seed);
            let source = IdSource { clock: &clock, entropy: &entropy };
            [source.event_id(), source.event_id()]
        };
        let [first, second] = ids(7);
        assert_ne!(first, second);
        assert_eq!(ids(7), [first, second]);
        assert_ne!(ids(8), [first, second]);
        let uuid = first.as_uuid();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.as_u128() >> 80, u128::from(clock.now().timestamp_millis().unsigned_abs()));
    }
}
