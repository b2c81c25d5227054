//! [`Names`]: a cache of recently decoded names. Neighboring events share most of their names. A cached name needs
//! neither validation nor an allocation.

use std::borrow::Borrow;

use es_core::model::NameError;

use super::error::RecordError;

/// The initial and the largest number of slots.
const SLOTS: (usize, usize) = (16, 1024);

/// A direct-mapped cache of names. The digest of a text determines its slot, and a new name replaces the name in its
/// slot. So a look-up and an insertion cost one comparison.
#[derive(Debug)]
pub(crate) struct Names<N> {
    slots: Vec<Option<(u64, N)>>,
    /// How many names were replaced since the number of slots last grew.
    replaced: usize,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Self { slots: Vec::new(), replaced: 0 }
    }
}

/// A name that can be cached.
pub(crate) trait Name: Clone + Borrow<str> + for<'a> TryFrom<&'a str, Error = NameError> {}

impl<N: Clone + Borrow<str> + for<'a> TryFrom<&'a str, Error = NameError>> Name for N {}

impl<N: Name> Names<N> {
    /// Returns the name with a text, cached or new. `field` is the field of the record, for errors.
    ///
    /// # Errors
    /// [`RecordError::NotUtf8`], [`RecordError::Name`].
    pub(crate) fn get(&mut self, field: &'static str, text: &[u8]) -> Result<N, RecordError> {
        let digest = digest(text);
        if let Some(Some((known, name))) = self.slots.get(self.slot(digest))
            && *known == digest
            && name.borrow().as_bytes() == text
        {
            return Ok(name.clone());
        }
        let name = N::try_from(std::str::from_utf8(text).map_err(|_| RecordError::NotUtf8 { field })?)?;
        // The cache grows with the number of replaced names, so that a read of few events allocates few slots.
        if self.replaced >= self.slots.len() && self.slots.len() < SLOTS.1 {
            self.grow();
        }
        self.replaced += usize::from(self.insert(digest, name.clone()).is_some());
        Ok(name)
    }

    /// Stores a name in its slot. Returns the name that it replaces.
    fn insert(&mut self, digest: u64, name: N) -> Option<(u64, N)> {
        let slot = self.slot(digest);
        self.slots.get_mut(slot)?.replace((digest, name))
    }

    fn grow(&mut self) {
        let count = (self.slots.len() * 4).clamp(SLOTS.0, SLOTS.1);
        let entries = std::mem::replace(&mut self.slots, std::iter::repeat_with(|| None).take(count).collect());
        self.replaced = 0;
        for (digest, name) in entries.into_iter().flatten() {
            self.insert(digest, name);
        }
    }

    /// Returns the index of the slot of a digest.
    fn slot(&self, digest: u64) -> usize {
        // The number of slots is a power of two, or zero; then the index is 0 and there is no slot.
        (digest >> 32) as usize & self.slots.len().saturating_sub(1)
    }
}

/// Returns a digest of the first and last bytes of a text and of its length. Most names differ there, and this takes a
/// tenth of the time of a hash of the whole text. Texts with the same digest only replace each other.
fn digest(text: &[u8]) -> u64 {
    let first = text.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    // The last byte is the lowest, so that the multiplication spreads it over the bits of the slot.
    let last = text.last_chunk().map_or_else(|| number_of(text), |bytes| u64::from_be_bytes(*bytes));
    // The multiplier of Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
    (first.rotate_left(20) ^ last ^ text.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Returns up to eight bytes as a big-endian number.
fn number_of(text: &[u8]) -> u64 {
    text.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use es_core::model::Tag;

    use super::*;

    #[test]
    fn a_name_has_its_text_after_any_number_of_names() {
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
    fn a_cached_name_is_not_allocated_again() {
        let mut names = Names::<Tag>::default();
        let [first, second] = ["customer:VINET"; 2].map(|text| names.get("tag", text.as_bytes()).unwrap());
        assert_eq!(first.as_str().as_ptr(), second.as_str().as_ptr());
    }

    /// All of them had one slot, so that each look-up built a name.
    #[test]
    fn names_that_differ_in_their_last_characters_have_different_slots() {
        let mut names = Names::<Tag>::default();
        let mut all = || -> Vec<_> {
            let texts = (0..100).map(|number| format!("customer:{number}"));
            texts.map(|text| names.get("tag", text.as_bytes()).unwrap()).collect()
        };
        // The cache grows in the first rounds.
        let [.., before, after] = [all(), all(), all(), all()];
        let is_kept = |(before, after): &(&Tag, &Tag)| before.as_str().as_ptr() == after.as_str().as_ptr();
        assert!(before.iter().zip(&after).filter(is_kept).count() >= 90);
    }

    #[test]
    fn an_invalid_name_is_an_error_each_time() {
        let mut names = Names::<Tag>::default();
        for _ in 0..2 {
            assert!(matches!(names.get("tag", b""), Err(RecordError::Name(NameError::Empty { .. }))));
        }
    }
}
