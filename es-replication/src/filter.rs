//! [`StreamFilter`]: which streams a node pulls.

use std::collections::BTreeSet;

use es_core::model::{Category, NameError};
use es_core::store::implement::is_replicated_stream;
use es_core::{Aggregate, StreamId};

/// Selects streams by category or by name. A filter selects whole streams, because a state that is folded from some
/// events of a stream would be wrong.
///
/// ```
/// # use es_core::model::Category;
/// # use es_replication::StreamFilter;
/// let filter = StreamFilter::none().category(Category::new("order")?);
/// assert!(filter.selects(&"order-7".parse()?) && !filter.selects(&"customer-7".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFilter(Option<Selection>);

/// The selected streams of a filter that does not select all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selection {
    categories: BTreeSet<Category>,
    streams: BTreeSet<StreamId>,
}

impl StreamFilter {
    /// Returns the filter that selects every stream. It is the default.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Returns the filter that selects no stream, except the one of the membership and the one of the erasures of
    /// subjects, which every filter selects.
    #[must_use]
    pub fn none() -> Self {
        Self(Some(Selection::default()))
    }

    /// Adds the streams of a category.
    #[must_use]
    pub fn category(mut self, category: Category) -> Self {
        self.0.as_mut().map(|selection| selection.categories.insert(category));
        self
    }

    /// Adds the streams of an aggregate.
    ///
    /// # Errors
    /// [`NameError`] if the category is invalid, which the derive rejects.
    pub fn aggregate<A: Aggregate>(self) -> Result<Self, NameError> {
        Ok(self.category(A::category()?))
    }

    /// Adds a stream.
    #[must_use]
    pub fn stream(mut self, stream: StreamId) -> Self {
        self.0.as_mut().map(|selection| selection.streams.insert(stream));
        self
    }

    /// Returns `true` if the filter selects a stream.
    #[must_use]
    pub fn selects(&self, stream: &StreamId) -> bool {
        self.0.as_ref().is_none_or(|Selection { categories, streams }| {
            categories.contains(stream.category_str()) || streams.contains(stream) || is_replicated_stream(stream)
        })
    }

    /// Returns `true` if the filter selects every stream.
    #[must_use]
    pub const fn selects_all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the selected categories; none if the filter selects every stream.
    pub fn categories(&self) -> impl Iterator<Item = &Category> {
        self.0.iter().flat_map(|selection| &selection.categories)
    }

    /// Returns the streams that are selected by name; none if the filter selects every stream.
    pub fn streams(&self) -> impl Iterator<Item = &StreamId> {
        self.0.iter().flat_map(|selection| &selection.streams)
    }

    /// Returns a digest of the filter (FNV-1a); `None` if it selects every stream.
    pub(crate) fn digest(&self) -> Option<u64> {
        self.0.as_ref()?;
        let categories = self.categories().map(|category| (b'c', category.as_str()));
        let streams = self.streams().map(|stream| (b's', stream.as_str()));
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for (kind, name) in categories.chain(streams) {
            let length = (name.len() as u64).to_be_bytes();
            for byte in [kind].iter().chain(&length).chain(name.as_bytes()) {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_differ_in_their_digests_if_they_differ() {
        let category = |name| Category::new(name).expect("a name");
        let stream = |name| StreamId::new(name).expect("a name");
        let filters = [
            StreamFilter::all(),
            StreamFilter::none(),
            StreamFilter::none().category(category("a")),
            StreamFilter::none().category(category("b")),
            StreamFilter::none().category(category("a")).category(category("b")),
            StreamFilter::none().category(category("ab")),
            StreamFilter::none().stream(stream("a")),
            StreamFilter::none().stream(stream("a-1")),
            StreamFilter::none().category(category("a")).stream(stream("b")),
        ];
        let digests: BTreeSet<_> = filters.iter().map(StreamFilter::digest).collect();
        assert_eq!(digests.len(), filters.len());
        let reordered = StreamFilter::none().category(category("b")).category(category("a"));
        assert_eq!(reordered.digest(), filters[4].digest());
        // The digests are stored, so they must not change.
        assert_eq!(
            (filters[1].digest(), filters[2].digest()),
            (Some(0xcbf2_9ce4_8422_2325), Some(0x971f_4e40_0e4d_994c))
        );
        assert_eq!(StreamFilter::all().category(category("a")), StreamFilter::all(), "nothing can be added");
    }
}
