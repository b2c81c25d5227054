//! Queries: which events a reader wants, and which must not be there for a conditional commit.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::RecordedEvent;
use crate::model::Tags;
use crate::model::weight::name as name_weight;
use crate::model::{Category, EventType, StreamId, Tag};
use crate::model::{Position, Revision};

/// Which events of the log: those that match any of its items, or all.
///
/// The model is that of dynamic consistency boundaries (<https://dcb.events>), with categories added.
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
    /// Every event.
    #[must_use]
    pub const fn all() -> Self {
        Self(None)
    }

    /// The events that match at least one of the items; without items none.
    #[must_use]
    pub fn any_of(items: impl IntoIterator<Item = QueryItem>) -> Self {
        Self(Some(items.into_iter().collect()))
    }

    /// The items; `None` for the query that matches every event.
    #[must_use]
    pub fn items(&self) -> Option<&[QueryItem]> {
        self.0.as_deref()
    }

    /// Whether an event with these properties matches.
    #[must_use]
    pub fn matches(&self, stream: &StreamId, event_type: &EventType, tags: &Tags) -> bool {
        self.0.as_ref().is_none_or(|items| items.iter().any(|item| item.matches(stream, event_type, tags)))
    }

    /// Whether a recorded event matches.
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

/// One alternative of a [`Query`]: one of these categories, and one of these types, and all of these tags.
///
/// What is left empty does not restrict; an item with nothing set matches every event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueryItem {
    /// The category must be one of these.
    pub categories: BTreeSet<Category>,
    /// The type must be one of these.
    pub event_types: BTreeSet<EventType>,
    /// The event must have all of these.
    pub tags: Tags,
}

impl QueryItem {
    /// An item that matches every event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows events of this category, too.
    #[must_use]
    pub fn category(mut self, category: Category) -> Self {
        self.categories.insert(category);
        self
    }

    /// Allows events of this type, too.
    #[must_use]
    pub fn event_type(mut self, event_type: EventType) -> Self {
        self.event_types.insert(event_type);
        self
    }

    /// Demands this tag, too.
    #[must_use]
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.insert(tag);
        self
    }

    /// Whether nothing is set, so that every event matches.
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

/// In which order events are read.
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
    /// The revision of the first event to return; `None` for the end at which the direction begins.
    pub from: Option<Revision>,
    /// The order.
    pub direction: Direction,
    /// How many events to return at the most; `None` for all.
    pub limit: Option<u64>,
}

impl StreamRead {
    /// The whole stream, forward.
    #[must_use]
    pub fn new(stream: StreamId) -> Self {
        Self { stream, from: None, direction: Direction::Forward, limit: None }
    }

    /// Begins at this revision, which is returned, too.
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

    /// Returns at most this many events.
    #[must_use]
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
    }
}

/// A read of the log, in the order of positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// Which events.
    pub query: Query,
    /// The first position to look at; `None` for the end at which the direction begins.
    pub from: Option<Position>,
    /// The order.
    pub direction: Direction,
    /// How many events to return at the most; `None` for all.
    pub limit: Option<u64>,
}

impl LogRead {
    /// Every event of the log, forward.
    #[must_use]
    pub fn all() -> Self {
        Self::matching(Query::all())
    }

    /// The events that match a query, forward.
    #[must_use]
    pub fn matching(query: impl Into<Query>) -> Self {
        Self { query: query.into(), from: None, direction: Direction::Forward, limit: None }
    }

    /// The events of one category, forward.
    #[must_use]
    pub fn category(category: Category) -> Self {
        Self::matching(QueryItem::new().category(category))
    }

    /// The events of one type, forward.
    #[must_use]
    pub fn event_type(event_type: EventType) -> Self {
        Self::matching(QueryItem::new().event_type(event_type))
    }

    /// The events that have a tag, forward.
    #[must_use]
    pub fn tag(tag: Tag) -> Self {
        Self::matching(QueryItem::new().tag(tag))
    }

    /// Begins at this position, which is looked at, too.
    #[must_use]
    pub fn from(mut self, position: Position) -> Self {
        self.from = Some(position);
        self
    }

    /// Begins behind this position, as a consumer does that has processed everything up to it; `None` begins at the
    /// first event. For a forward read.
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

    /// Returns at most this many events.
    #[must_use]
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
    }

    /// How far this read has looked once it has ended, given the head of the log when it began and all events that it
    /// returned: to its last event where its limit ended it, else to the end of the log in its direction.
    #[must_use]
    pub fn scanned_to<E: Borrow<RecordedEvent>>(&self, head: Option<Position>, returned: &[E]) -> Option<Position> {
        let full = self.limit.is_some_and(|limit| returned.len() as u64 >= limit);
        match self.direction {
            _ if full => returned.last().map(|event| event.borrow().position),
            Direction::Forward => head.filter(|head| self.from.is_none_or(|from| from <= *head)),
            Direction::Backward => head.map(|_| Position::FIRST),
        }
    }
}

/// What a query names, in bytes.
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
    fn an_item_is_any_category_and_any_type_and_all_tags() {
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
