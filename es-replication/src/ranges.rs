//! [`RangeSet`]: a set of sequences as ranges.

/// A set of numbers from 1, as ascending ranges with at least one number between two of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<(u64, u64)>);

impl RangeSet {
    /// Returns the set of the numbers from `first` to `last`; empty if `first` is greater.
    pub(crate) fn of(first: u64, last: u64) -> Self {
        let mut set = Self::default();
        set.insert(first, last);
        set
    }

    /// Returns the ranges, each with its first and its last number.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + DoubleEndedIterator {
        self.0.iter().copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many numbers the set has.
    pub(crate) fn count(&self) -> u64 {
        self.iter().map(|(first, last)| (last - first).saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// Returns the range that contains a number.
    pub(crate) fn range_of(&self, number: u64) -> Option<(u64, u64)> {
        let index = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(index).copied().filter(|(first, _)| *first <= number)
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.range_of(number).is_some()
    }

    /// Adds the numbers from `first` to `last`. Has no effect if `first` is greater.
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // The ranges that overlap the new one or touch it.
        let start = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let end = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        let merged = self.0[start..end].iter().fold((first, last), |(first, last), (begin, end)| {
            (first.min(*begin), last.max(*end)) //
        });
        self.0.splice(start..end, [merged]);
    }

    /// Removes the numbers from `first` to `last`. Has no effect if `first` is greater.
    pub(crate) fn remove(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let start = self.0.partition_point(|(_, end)| *end < first);
        let end = self.0.partition_point(|(begin, _)| *begin <= last);
        let before = self.0.get(start).filter(|(begin, _)| *begin < first).map(|(begin, _)| (*begin, first - 1));
        let after = self.0[start..end].last().filter(|(_, end)| *end > last).map(|(_, end)| (last + 1, *end));
        self.0.splice(start..end, before.into_iter().chain(after));
    }

    /// Removes the numbers of another set.
    pub(crate) fn remove_all(&mut self, other: &Self) {
        other.iter().for_each(|(first, last)| self.remove(first, last));
    }

    /// Returns the numbers that both sets have.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let (mut common, mut others) = (Self::default(), other.iter().peekable());
        for (first, last) in self.iter() {
            while let Some((begin, end)) = others.peek().copied().filter(|(begin, _)| *begin <= last) {
                common.insert(first.max(begin), last.min(end));
                if end > last {
                    break;
                }
                others.next();
            }
        }
        common
    }

    /// Joins the first ranges until at most `max` are left, which adds the numbers between them.
    pub(crate) fn join(&mut self, max: usize) {
        if let Some(extra) = self.0.len().checked_sub(max).filter(|extra| *extra > 0)
            && let Some((_, last)) = self.0.get(extra).copied()
        {
            self.0.drain(1..=extra);
            self.0[0].1 = last;
        }
    }

    /// Returns the distance of each range from the last number of the one before it, then its length less one. The
    /// numbers are small, so that they are short as variable-length integers.
    pub(crate) fn to_deltas(&self) -> impl Iterator<Item = u64> {
        let mut end = 0;
        self.iter().flat_map(move |(first, last)| {
            let distance = first - std::mem::replace(&mut end, last);
            [distance, last - first]
        })
    }

    /// Returns the set with these deltas, or `None` if [`to_deltas`](Self::to_deltas) never returns them.
    pub(crate) fn from_deltas(deltas: &[u64]) -> Option<Self> {
        let (pairs, rest) = deltas.as_chunks::<2>();
        let (mut set, mut end) = (Self::default(), 0_u64);
        for [distance, length] in pairs {
            // Two ranges without a number between them are one.
            if *distance == 0 || *distance == 1 && end > 0 {
                return None;
            }
            let first = end.checked_add(*distance)?;
            end = first.checked_add(*length)?;
            set.0.push((first, end));
        }
        rest.is_empty().then_some(set)
    }

    /// Encodes the deltas as variable-length integers.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for mut delta in self.to_deltas() {
            while delta >= 0x80 {
                bytes.push(delta as u8 | 0x80);
                delta >>= 7;
            }
            bytes.push(delta as u8);
        }
        bytes
    }

    /// Decodes what [`encode`](Self::encode) returns. Returns `None` for other bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut deltas, mut delta, mut shift) = (Vec::new(), 0_u64, 0_u32);
        for byte in bytes {
            let bits = u64::from(byte & 0x7f);
            let shifted = bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            delta |= shifted;
            shift += 7;
            if byte & 0x80 == 0 {
                if *byte == 0 && shift > 7 {
                    return None;
                }
                deltas.push(std::mem::take(&mut delta));
                shift = 0;
            }
        }
        if shift == 0 { Self::from_deltas(&deltas) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The numbers of the tests. Small, so that ranges meet.
    const NUMBERS: std::ops::RangeInclusive<u64> = 1..=40;

    fn range() -> impl Strategy<Value = (u64, u64)> {
        (NUMBERS, 0..6_u64).prop_map(|(first, length)| (first, first + length))
    }

    fn set() -> impl Strategy<Value = RangeSet> {
        vec(range(), 0..8).prop_map(|ranges| {
            let mut set = RangeSet::default();
            ranges.into_iter().for_each(|(first, last)| set.insert(first, last));
            set
        })
    }

    fn numbers(set: &RangeSet) -> BTreeSet<u64> {
        set.iter().flat_map(|(first, last)| first..=last).collect()
    }

    fn is_sound(set: &RangeSet) -> bool {
        set.iter().all(|(first, last)| first <= last && first > 0)
            && set.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_set_behaves_like_a_set_of_numbers(set in set(), (first, last) in range(), other in set()) {
            let (all, others) = (numbers(&set), numbers(&other));
            prop_assert!(is_sound(&set));
            prop_assert_eq!(set.count(), all.len() as u64);
            for number in 0..50 {
                prop_assert_eq!(set.contains(number), all.contains(&number));
            }
            let (mut inserted, mut removed, mut without) = (set.clone(), set.clone(), set.clone());
            inserted.insert(first, last);
            removed.remove(first, last);
            without.remove_all(&other);
            let both = set.intersection(&other);
            for result in [&inserted, &removed, &without, &both] {
                prop_assert!(is_sound(result), "{:?}", result);
            }
            prop_assert_eq!(numbers(&inserted), all.iter().copied().chain(first..=last).collect::<BTreeSet<_>>());
            let left: BTreeSet<u64> = all.iter().copied().filter(|number| !(first..=last).contains(number)).collect();
            prop_assert_eq!(numbers(&removed), left);
            prop_assert_eq!(numbers(&without), all.difference(&others).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(numbers(&both), all.intersection(&others).copied().collect::<BTreeSet<_>>());
        }

        #[test]
        fn joined_ranges_lose_no_number_and_keep_the_last_ones(set in set(), max in 1_usize..6) {
            let mut joined = set.clone();
            joined.join(max);
            prop_assert!(is_sound(&joined) && joined.iter().len() <= max);
            prop_assert!(numbers(&joined).is_superset(&numbers(&set)));
            prop_assert_eq!(joined.iter().next_back(), set.iter().next_back().map(|(first, last)| {
                if joined.iter().len() == 1 { (set.0[0].0, last) } else { (first, last) }
            }));
            if set.iter().len() <= max {
                prop_assert_eq!(joined, set);
            }
        }

        #[test]
        fn an_encoded_set_is_decoded_as_the_same_set(set in set(), offset in 0..u64::MAX - 100) {
            let far = RangeSet(set.iter().map(|(first, last)| (first + offset, last + offset)).collect());
            for set in [set, far] {
                prop_assert_eq!(RangeSet::decode(&set.encode()), Some(set.clone()));
                prop_assert_eq!(RangeSet::from_deltas(&set.to_deltas().collect::<Vec<_>>()), Some(set));
            }
        }

        /// A decoder accepts only what the encoder writes, so there is one encoding of a set.
        #[test]
        fn any_bytes_are_the_encoding_of_a_set_or_refused(bytes in vec(any::<u8>(), 0..30)) {
            if let Some(set) = RangeSet::decode(&bytes) {
                prop_assert!(is_sound(&set));
                prop_assert_eq!(set.encode(), bytes);
            }
        }
    }

    #[test]
    fn the_greatest_number_is_no_special_case() {
        let mut set = RangeSet::of(u64::MAX, u64::MAX);
        set.insert(3, 5);
        set.insert(u64::MAX - 1, u64::MAX);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(3, 5), (u64::MAX - 1, u64::MAX)]);
        assert_eq!(RangeSet::decode(&set.encode()), Some(set.clone()));
        set.remove(4, u64::MAX);
        assert_eq!(set, RangeSet::of(3, 3));
        assert_eq!(RangeSet::of(1, u64::MAX).count(), u64::MAX);
        assert_eq!(RangeSet::from_deltas(&[5, u64::MAX]), None, "the range ends after the last number");
        assert_eq!(RangeSet::of(2, 1), RangeSet::default());
    }
}
