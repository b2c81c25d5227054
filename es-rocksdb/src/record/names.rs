//! Names that were read lately. Events that stand near each other share most of theirs; a name that is known needs neither
//! a check nor memory of its own.

use std::borrow::Borrow;

use es_core::model::NameError;

use super::error::RecordError;

/// How many names are remembered at first, and at the most.
const SLOTS: (usize, usize) = (16, 1024);

/// Some of the names that were read last. Each has one slot where it can stand, which a digest of its text says: a name that
/// comes to a taken slot takes it over. So neither a look nor a change costs more than one comparison.
#[derive(Debug)]
pub(super) struct Names<N> {
    slots: Vec<Option<(u64, N)>>,
    /// How many names were taken over since there are this many slots.
    lost: usize,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self { slots: Vec::new(), lost: 0 }
    }
}

/// What is remembered here.
pub(super) trait Name: Clone + Borrow<str> + for<'a> TryFrom<&'a str, Error = NameError> {}

impl<N: Clone + Borrow<str> + for<'a> TryFrom<&'a str, Error = NameError>> Name for N {}

impl<N: Name> Names<N> {
    /// The name of a text: the one that is remembered, else a new one. `field` is where it stands.
    pub(super) fn get(&mut self, field: &'static str, text: &[u8]) -> Result<N, RecordError> {
        let digest = digest(text);
        if let Some(Some((known, name))) = self.slots.get(self.slot(digest))
            && *known == digest
            && name.borrow().as_bytes() == text
        {
            return Ok(name.clone());
        }
        let name = N::try_from(std::str::from_utf8(text).map_err(|_| RecordError::NotUtf8 { field })?)?;
        // NOTE: it grows with what is lost, so that a read of few events pays for few slots.
        if self.lost >= self.slots.len() && self.slots.len() < SLOTS.1 {
            self.grow();
        }
        self.lost += usize::from(self.put(digest, name.clone()).is_some());
        Ok(name)
    }

    fn put(&mut self, digest: u64, name: N) -> Option<(u64, N)> {
        let at = self.slot(digest);
        self.slots.get_mut(at)?.replace((digest, name))
    }

    fn grow(&mut self) {
        let count = (self.slots.len() * 4).clamp(SLOTS.0, SLOTS.1);
        let known = std::mem::replace(&mut self.slots, std::iter::repeat_with(|| None).take(count).collect());
        self.lost = 0;
        for (digest, name) in known.into_iter().flatten() {
            self.put(digest, name);
        }
    }

    /// Where a text with this digest stands if it is known.
    fn slot(&self, digest: u64) -> usize {
        // NOTE: their number is a power of two or zero; there is no slot then, and none is found.
        (digest >> 32) as usize & self.slots.len().saturating_sub(1)
    }
}

/// Of the ends of a text and its length: names differ there, and it takes a tenth of the time of a hash of all of it. Texts
/// that share one only take each other's slot.
fn digest(text: &[u8]) -> u64 {
    let first = text.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let last = text.last_chunk().map_or_else(|| short(text), |bytes| u64::from_le_bytes(*bytes));
    // NOTE: the multiplier of Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
    (first.rotate_left(20) ^ last ^ text.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The number that up to eight bytes are.
fn short(text: &[u8]) -> u64 {
    text.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use es_core::model::Tag;

    use super::*;

    #[test]
    fn a_name_is_that_of_its_text_however_many_were_read() {
        let mut names = Names::<Tag>::default();
        for round in 0..3 {
            for number in 0..3 * SLOTS.1 {
                let text = format!("customer:{}", number / (1 + round));
                assert_eq!(names.get("tag", text.as_bytes()).unwrap(), text.as_str());
                assert!(names.slots.len() <= SLOTS.1);
            }
        }
    }

    #[test]
    fn a_known_name_is_not_made_again() {
        let mut names = Names::<Tag>::default();
        let [first, second] = ["customer:VINET"; 2].map(|text| names.get("tag", text.as_bytes()).unwrap());
        assert_eq!(first.as_str().as_ptr(), second.as_str().as_ptr());
    }

    #[test]
    fn what_is_no_name_is_an_error_each_time() {
        let mut names = Names::<Tag>::default();
        for _ in 0..2 {
            assert!(matches!(names.get("tag", b""), Err(RecordError::Name(NameError::Empty { .. }))));
        }
    }
}
