//! Queries: the events that a read selects, or that must not exist for a conditional append.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::RecordedEvent;
use crate::model::Tags;
use crate::model::reserved::{DELETED, STREAM_DELETED, SUBJECT_ERASED};
use crate::model::weight::name as name_weight;
use crate::model::{Category, EventType, StreamId, Tag};
use crate::model::{Position, Revision};

/// A selection of events: all events, or the events that match at least one item.
///
/// The model is that of dynamic consistency boundaries (<https://dcb.events>), extended with categories.
///
/// ```
/// use es_core::model::Tag;
/// use es_core::store::{Query, QueryItem};
/// use es_core::EventType;
/// let query = Query::any_of([
///     QueryItem::new().event_type(EventType::new("course-booked")?).tag(Tag::new("course:42")?),
///     QueryItem::new().tag(Tag::new("student:7")?),
/// ]);
/// # assert_eq!(query.items().expect("it is not the query for all").len(), 2);
/// # Ok::<(), es_core::model::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Query(Option<Vec<QueryItem>>);

impl Query {
    /// Returns the query that matches every event.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// Returns the query that matches an event if at least one item does. Without items it matches no event.
    #[must_use]
    pub fn any_of(items: impl IntoIterator<Item = QueryItem>) -> Self {
        Self(Some(items.into_iter().collect()))
    }

    /// Returns the query that matches the events of this query and those of the item.
    #[must_use]
    pub fn or(self, item: QueryItem) -> Self {
        Self(self.0.map(|items| items.into_iter().chain([item]).collect()))
    }

    /// Returns the items, or `None` for the query that matches every event.
    #[must_use]
    pub fn items(&self) -> Option<&[QueryItem]> {
        self.0.as_deref()
    }

    /// Returns `true` if an event with these properties matches.
    #[must_use]
    pub fn matches(&self, stream: &StreamId, event_type: &EventType, tags: &Tags) -> bool {
        self.0.as_ref().is_none_or(|items| items.iter().any(|item| item.matches(stream, event_type, tags)))
    }

    /// Returns `true` if a recorded event matches.
    #[must_use]
    pub fn matches_event(&self, event: &RecordedEvent) -> bool {
        self.matches(&event.stream, &event.data.event_type, &event.data.tags)
    }
}

impl From<QueryItem> for Query {
    fn from(item: QueryItem) -> Self {
        Self::any_of([item])
    }
}

/// One alternative of a [`Query`]: an event matches if it has one of the categories, one of the types, and all of the
/// tags.
///
/// An empty field does not restrict; an empty item matches every event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueryItem {
    /// The allowed categories.
    pub categories: BTreeSet<Category>,
    /// The allowed event types.
    pub event_types: BTreeSet<EventType>,
    /// The required tags.
    pub tags: Tags,
}

impl QueryItem {
    /// Returns an item that matches every event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an allowed category.
    #[must_use]
    pub fn category(mut self, category: Category) -> Self {
        self.categories.insert(category);
        self
    }

    /// Adds an allowed event type.
    #[must_use]
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.event_types.insert(event_type);
        self
    }

    /// Adds a required tag. An event has the tags that were recorded with it: if its field became a tag later, it does
    /// not match. [`of_events`](Self::of_events) detects that.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.insert(tag);
        self
    }

    /// Returns an item that matches the [erasures](crate::retention::Erasure) in the log.
    #[must_use]
    pub fn erasures() -> Self {
        // No category: a replicated stream is deleted in the stream itself. No other event has one of these types.
        Self::new()
            .event_type(EventType::well_known(STREAM_DELETED))
            .event_type(EventType::well_known(SUBJECT_ERASED))
            .event_type(EventType::well_known(DELETED))
    }

    /// Returns `true` if no field is set, so that every event matches.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.categories.is_empty() && self.event_types.is_empty() && self.tags.is_empty()
    }

    fn matches(&self, stream: &StreamId, event_type: &EventType, tags: &Tags) -> bool {
        (self.categories.is_empty() || self.categories.iter().any(|category| category == stream.category_str()))
            && (self.event_types.is_empty() || self.event_types.contains(event_type))
            && self.tags.is_subset(tags)
    }
}

/// The order in which events are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the oldest to the newest.
    #[default]
    Forward,
    /// From the newest to the oldest.
    Backward,
}

/// A read of one stream, in the order of its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRead {
    /// The stream.
    pub stream: StreamId,
    /// The revision of the first event to return. `None` starts at the first event of a forward read, and at the last
    /// event of a backward read.
    pub from: Option<Revision>,
    /// The order.
    pub direction: Direction,
    /// The maximum number of events to return, or `None` for no limit.
    pub limit: Option<u64>,
}

impl StreamRead {
    /// Returns a forward read of a whole stream.
    #[must_use]
    pub fn new(stream: StreamId) -> Self {
        Self { stream, from: None, direction: Direction::Forward, limit: None }
    }

    /// Sets the revision of the first event to return.
    #[must_use]
    pub fn from(mut self, revision: Revision) -> Self {
        self.from = Some(revision);
        self
    }

    /// Reads from the newest to the oldest.
    #[must_use]
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// Sets the maximum number of events to return.
    #[must_use]
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
    }
}

/// A read of the log, in the order of positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// The query that selects the events.
    pub query: Query,
    /// The first position to scan. `None` starts at the first event of a forward read, and at the last event of a
    /// backward read.
    pub from: Option<Position>,
    /// The order.
    pub direction: Direction,
    /// The maximum number of events to return, or `None` for no limit.
    pub limit: Option<u64>,
}

impl LogRead {
    /// Returns a forward read of every event.
    #[must_use]
    pub fn all() -> Self {
        Self::matching(Query::all())
    }

    /// Returns a forward read of the events that match a query.
    #[must_use]
    pub fn matching(query: impl Into<Query>) -> Self {
        Self { query: query.into(), from: None, direction: Direction::Forward, limit: None }
    }

    /// Returns a forward read of the events of one category.
    #[must_use]
    pub fn category(category: Category) -> Self {
        Self::matching(QueryItem::new().category(category))
    }

    /// Returns a forward read of the events of one type.
    #[must_use]
    pub fn event_type(event_type: EventType) -> Self {
        Self::matching(QueryItem::new().event_type(event_type))
    }

    /// Returns a forward read of the events that have a tag.
    #[must_use]
    pub fn tag(tag: Tag) -> Self {
        Self::matching(QueryItem::new().tag(tag))
    }

    /// Sets the first position to scan.
    #[must_use]
    pub fn from(mut self, position: Position) -> Self {
        self.from = Some(position);
        self
    }

    /// Starts a forward read after this position, which is the last one that a consumer has processed. `None` starts at
    /// the first event.
    #[must_use]
    pub fn after(mut self, position: Option<Position>) -> Self {
        self.from = position.map(Position::next);
        self
    }

    /// Reads from the newest to the oldest.
    #[must_use]
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// Sets the maximum number of events to return.
    #[must_use]
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
    }

    /// Returns the last position that this read has scanned when it ends, given the head of the log when it was opened
    /// and the events that it returned: its last event if the limit ended it, otherwise the end of the log in its
    /// direction.
    #[must_use]
    pub fn scanned_to<E: Borrow<RecordedEvent>>(&self, head: Option<Position>, returned: &[E]) -> Option<Position> {
        let is_full = self.limit.is_some_and(|limit| returned.len() as u64 >= limit);
        match self.direction {
            _ if is_full => returned.last().map(|event| event.borrow().position),
            Direction::Forward => head.filter(|head| self.from.is_none_or(|from| from <= *head)),
            Direction::Backward => head.map(|_| Position::FIRST),
        }
    }
}

/// Returns the memory use of the names in a query, in bytes.
pub(crate) fn weight_of_query(query: &Query) -> usize {
    let items = query.items().unwrap_or_default().iter().map(|item| {
        let categories = item.categories.iter().map(Category::as_str);
        let types = item.event_types.iter().map(EventType::as_str);
        categories.chain(types).chain(item.tags.iter().map(Tag::as_str)).map(name_weight).sum::<usize>()
            + size_of_val(item)
    });
    items.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_matches_any_category_any_type_and_all_tags() {
        let tags = |texts: &[&str]| texts.iter().map(|t| Tag::new(t).expect("valid")).collect::<Tags>();
        let stream = StreamId::new("order-1").expect("valid");
        let placed = EventType::new("placed").expect("valid");
        let item = QueryItem {
            categories: [Category::new("order").expect("valid"), Category::new("cart").expect("valid")].into(),
            event_types: [placed.clone(), EventType::new("approved").expect("valid")].into(),
            tags: tags(&["a", "b"]),
        };
        let query = Query::from(item);
        assert!(query.matches(&stream, &placed, &tags(&["a", "b", "c"])));
        assert!(!query.matches(&stream, &placed, &tags(&["a", "c"])));
        assert!(!query.matches(&stream, &EventType::new("shipped").expect("valid"), &tags(&["a", "b"])));
        assert!(!query.matches(&StreamId::new("orders-1").expect("valid"), &placed, &tags(&["a", "b"])));
        assert!(Query::from(QueryItem::new()).matches(&stream, &placed, &tags(&[])));
        assert!(!Query::any_of([]).matches(&stream, &placed, &tags(&["a"])));
        assert!(Query::all().matches(&stream, &placed, &tags(&[])));
    }
}
