//! Random numbers, and the environment variables of the tests.

/// Pseudorandom numbers from splitmix64: "Fast Splittable Pseudorandom Number Generators", Steele et al. 2014.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Returns an index below `bound`; 0 for a bound of 0.
    pub(crate) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("small")
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Returns the seed in `ES_SEED`, or a random one.
pub(crate) fn seed() -> u64 {
    use std::hash::BuildHasher;
    let given = std::env::var("ES_SEED").ok().map(|text| text.parse().expect("ES_SEED is a number"));
    given.unwrap_or_else(|| std::collections::hash_map::RandomState::new().hash_one(0))
}

/// Returns the number in an environment variable, or a default.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
