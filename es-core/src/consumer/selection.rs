//! [`Selection`]: the events that a projection or a reactor receives.

use std::collections::BTreeSet;

use crate::model::reserved::is_reserved;
use crate::model::{Category, RecordedEvent};
use crate::retention::Erasure;
use crate::store::{Query, QueryItem};

/// The events of a query, and the [erasures](Erasure) of their streams and of all subjects.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    query: Query,
    with_erasures: Query,
    /// The categories of the query, or `None` if it is not restricted to categories.
    categories: Option<BTreeSet<Category>>,
}

impl Selection {
    pub(crate) fn new(query: Query) -> Self {
        let is_restricted = |items: &&[QueryItem]| items.iter().all(|item| !item.categories.is_empty());
        let categories = query
            .items()
            .filter(is_restricted)
            .map(|items| items.iter().flat_map(|item| item.categories.iter().cloned()).collect());
        Self { with_erasures: query.clone().or(QueryItem::erasures()), query, categories }
    }

    /// Returns the query without erasures.
    pub(crate) const fn query(&self) -> &Query {
        &self.query
    }

    /// Returns the query for reads of the log. It also matches erasures that [`includes`](Self::includes) rejects.
    pub(crate) const fn log_query(&self) -> &Query {
        &self.with_erasures
    }

    /// Returns whether an event that [`log_query`](Self::log_query) matches belongs to the selection.
    pub(crate) fn includes(&self, event: &RecordedEvent) -> bool {
        Erasure::of(event).is_none_or(|erasure| self.concerns(&erasure))
    }

    /// Returns whether an event of the log belongs to the selection.
    pub(crate) fn selects(&self, event: &RecordedEvent) -> bool {
        Erasure::of(event).map_or_else(|| self.query.matches_event(event), |erasure| self.concerns(&erasure))
    }

    fn concerns(&self, erasure: &Erasure) -> bool {
        erasure.stream().is_none_or(|stream| {
            let has_category = |categories: &BTreeSet<Category>| categories.contains(stream.category_str());
            !is_reserved(stream.as_str()) && self.categories.as_ref().is_none_or(has_category)
        })
    }
}

/// Returns the ordering key of an event: `key` for the events of a query, the name of the deleted stream or of the
/// erased subject for an erasure.
pub(crate) fn ordering_key(event: &RecordedEvent, key: impl FnOnce(&RecordedEvent) -> String) -> String {
    match Erasure::of(event) {
        Some(erasure) => erasure.name().to_owned(),
        None => key(event),
    }
}
