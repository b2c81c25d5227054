//! [`Entropy`]: the only source of random numbers in this crate, so that a test can repeat a run from a seed.

use std::fmt;

use uuid::Uuid;

use crate::model::{Clock, CorrelationId, EventId, Timestamp};

/// A source of random numbers: [`SystemEntropy`] in production, [`SeededEntropy`](crate::testing::SeededEntropy) in
/// tests.
pub trait Entropy: fmt::Debug + Send + Sync + 'static {
    /// Returns 64 random bits.
    fn next_u64(&self) -> u64;
}

/// The random numbers of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        // The constant bits of a UUIDv4 (version and variant) are at different offsets in its upper and lower half.
        // Each bit of the result therefore depends on at least one random bit.
        let (upper, lower) = Uuid::new_v4().as_u64_pair();
        upper ^ lower
    }
}

/// The clock and the random numbers from which new ids are generated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdSource<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
}

impl IdSource<'_> {
    pub(crate) fn event_id(self) -> EventId {
        EventId::from_uuid(self.uuid())
    }

    pub(crate) fn correlation_id(self) -> CorrelationId {
        CorrelationId::from_uuid(self.uuid())
    }

    /// Returns a new UUIDv7.
    pub(crate) fn uuid(self) -> Uuid {
        uuid_at(self.clock.now(), self.entropy)
    }
}

/// Returns the id of a new event that is generated at this time.
#[must_use]
pub fn event_id_at(time: Timestamp, entropy: &dyn Entropy) -> EventId {
    EventId::from_uuid(uuid_at(time, entropy))
}

/// Returns a new UUIDv7.
fn uuid_at(time: Timestamp, entropy: &dyn Entropy) -> Uuid {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or(0);
    let bits = u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64());
    let mut random = [0; 10];
    random.copy_from_slice(&bits.to_be_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_the_system_entropy_is_random() {
        let (mut ones, mut zeros) = (0, 0);
        for _ in 0..200 {
            let bits = SystemEntropy.next_u64();
            ones |= bits;
            zeros |= !bits;
        }
        assert_eq!((ones, zeros), (u64::MAX, u64::MAX));
    }
}
