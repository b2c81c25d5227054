//! [`Tags`]: the tags of an event.

use std::collections::BTreeSet;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::model::Tag;

/// The number of tags that are stored inline, without an allocation. Most events have one or two tags.
const INLINE: usize = 2;

/// The tags of an event: a sorted set that dereferences to a slice.
///
/// Few tags are stored inline, because a tree would need an allocation for every event that is read.
///
/// ```
/// use es_core::model::{Tag, Tags};
/// let tags: Tags = [Tag::of("order", 7)?, Tag::of("customer", "VINET")?, Tag::of("order", 7)?].into();
/// assert_eq!(*tags, ["customer:VINET", "order:7"]);
/// assert!(tags.contains("order:7"));
/// # Ok::<(), es_core::model::NameError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags(SmallVec<[Tag; INLINE]>);

impl Tags {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tag. Returns `false` if the set already contains it.
    pub fn insert(&mut self, tag: Tag) -> bool {
        // Records store tags in ascending order, so decoding takes this path.
        if self.last().is_none_or(|last| *last < tag) {
            self.0.push(tag);
            return true;
        }
        match self.0.binary_search(&tag) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, tag);
                true
            }
        }
    }

    /// Returns `true` if the set contains the tag with this text.
    #[must_use]
    pub fn contains(&self, tag: &str) -> bool {
        self.binary_search_by(|own| own.as_str().cmp(tag)).is_ok()
    }

    /// Returns `true` if `others` contains all tags of this set.
    #[must_use]
    pub fn is_subset(&self, others: &Self) -> bool {
        self.iter().all(|tag| others.contains(tag.as_str()))
    }
}

impl Deref for Tags {
    type Target = [Tag];
    fn deref(&self) -> &[Tag] {
        &self.0
    }
}

impl Extend<Tag> for Tags {
    fn extend<I: IntoIterator<Item = Tag>>(&mut self, tags: I) {
        for tag in tags {
            self.insert(tag);
        }
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut all: SmallVec<[Tag; INLINE]> = tags.into_iter().collect();
        // Inserting one tag at a time would be quadratic for many unsorted tags, which an imported line may have.
        all.sort_unstable();
        all.dedup();
        Self(all)
    }
}

impl<const N: usize> From<[Tag; N]> for Tags {
    fn from(tags: [Tag; N]) -> Self {
        tags.into_iter().collect()
    }
}

impl From<BTreeSet<Tag>> for Tags {
    fn from(tags: BTreeSet<Tag>) -> Self {
        Self(tags.into_iter().collect())
    }
}

impl IntoIterator for Tags {
    type Item = Tag;
    type IntoIter = smallvec::IntoIter<[Tag; INLINE]>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = &'a Tag;
    type IntoIter = std::slice::Iter<'a, Tag>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Tags {
    /// Accepts tags in any order, and duplicates.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Tag>::deserialize(deserializer).map(Self::from_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: usize) -> Tag {
        Tag::of("tag", number).expect("a tag")
    }

    /// Every way to build a set gives the same result as a `BTreeSet`.
    #[test]
    fn tags_are_a_sorted_set_however_they_are_built() {
        for numbers in [&[][..], &[1], &[2, 1], &[1, 1], &[3, 1, 2, 1, 3], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 1]] {
            let tree: BTreeSet<Tag> = numbers.iter().copied().map(tag).collect();
            let mut inserted = Tags::new();
            let new = numbers.iter().filter(|number| inserted.insert(tag(**number))).count();
            assert_eq!(new, tree.len());
            let mut extended = Tags::new();
            extended.extend(numbers.iter().copied().map(tag));
            let collected: Tags = numbers.iter().copied().map(tag).collect();
            let json = serde_json::to_string(numbers).expect("serializes");
            for tags in [&inserted, &extended, &collected, &Tags::from(tree.clone())] {
                assert!(tags.iter().eq(&tree), "{tags:?}, from {json}");
                assert!(tree.iter().all(|tag| tags.contains(tag.as_str())));
                assert!(!tags.contains("tag:0") && !tags.contains(""));
            }
        }
    }

    #[test]
    fn a_subset_has_no_tag_that_the_other_set_lacks() {
        let of = |numbers: &[usize]| numbers.iter().copied().map(tag).collect::<Tags>();
        assert!(of(&[]).is_subset(&of(&[])) && of(&[2]).is_subset(&of(&[1, 2, 3])));
        assert!(!of(&[1, 4]).is_subset(&of(&[1, 2, 3])) && !of(&[1]).is_subset(&of(&[])));
    }

    #[test]
    fn tags_are_serialized_in_order_and_deserialized_in_any_order() {
        let tags: Tags = serde_json::from_str(r#"["b","a","b"]"#).expect("deserializes");
        assert_eq!(serde_json::to_string(&tags).expect("serializes"), r#"["a","b"]"#);
        assert!(serde_json::from_str::<Tags>(r#"["a",""]"#).is_err());
    }
}
