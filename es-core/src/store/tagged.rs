//! Queries by tag that know whether the log has the tag on all events: [`QueryItem::of_events`].
//!
//! A tag is recorded with its event. If a field becomes a tag later, the events before have no such tag, and a query by
//! the tag does not select them. The check decodes each event of the types that declare the tag, computes the tags that
//! the current code gives it, and compares them with the recorded tags. A row of the table [`TAGS`] has the position up
//! to which the events were checked, so that each event is checked once.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::digest::Fnv;
use crate::model::reserved::TAGS;
use crate::model::{Category, EventType, EventView, LogId, NameError, Position, Table, Tag, Tags};
use crate::schema::{CurrentTagsError, Event, EventSchema, current_tags};
use crate::store::{Commit, CommitError, EventStore, LogRead, QueryItem, StoreError, encode_row, head_not_reached};

/// The number of positions after which the checked position is stored again.
const ROW_INTERVAL: u64 = 1_024;
/// The number of events that one visit checks before it yields to other tasks.
const EVENTS_PER_VISIT: usize = 1_024;

impl QueryItem {
    /// Restricts the item to the events of `E`, after a check that the log has the tags of the item on all events that
    /// should have them.
    ///
    /// The event types of the item become the wire names of `E` that declare the keys of all of its tags, and their
    /// aliases. If the item has event types already, the others are removed. Use the item for a read, a subscription or
    /// an append condition.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use es_core::model::Tag;
    /// use es_core::prelude::*;
    /// use es_core::store::{LogRead, QueryItem, memory::MemoryStore};
    ///
    /// #[derive(Serialize, Deserialize, Event)]
    /// #[event(name = "course-booked")]
    /// struct Booked {
    ///     #[event(tag)]
    ///     course: u64,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::new();
    /// let booked = QueryItem::new().tag(Tag::of("course", 42)?).of_events::<Booked>(&store).await?;
    /// let events = store.read_log(LogRead::matching(booked)).await?.collect().await?;
    /// # assert!(events.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// - [`TagError::Incomplete`] if an event should have a tag with one of the keys and does not have it. Copy the log
    ///   with the tag: `es retag`, or `ReadOnlyStore::retag` of es-rocksdb.
    /// - [`TagError::Undeclared`] if no wire name of `E` declares all of the keys.
    /// - [`TagError::Event`] if the tags of an event cannot be computed, because the code cannot decode it. If another
    ///   aggregate has events of the same wire name, add the [`category`](Self::category) first.
    /// - [`TagError::Name`] if a wire name is not a valid name, which the derive rejects.
    /// - [`TagError::Store`] or [`TagError::Commit`] if the infrastructure fails.
    ///
    /// # Cost
    /// The first call for a key and a set of categories decodes all events of the types that declare the key. Later
    /// calls decode the events since the last check, and write a row after each 1,024 positions. After a change of the
    /// version of an event, the next call begins again.
    ///
    /// # Limits
    /// The check is not a part of a commit: a process that runs older code can append an event without the tag after
    /// it. Stop such processes before you rely on a new tag. A tag whose value changes under the same version of the
    /// event is not detected on events that were checked before; the [golden
    /// corpus](crate::testing::golden) detects the change.
    pub async fn of_events<E: Event>(mut self, store: &dyn EventStore) -> Result<Self, TagError> {
        let event_types = CheckedTags::default().check::<E>(store, &self).await?;
        if event_types.is_empty() {
            return Err(TagError::Undeclared { tags: self.tags, event: std::any::type_name::<E>() });
        }
        self.event_types = event_types;
        Ok(self)
    }
}

/// The positions up to which the tags of events were checked, by the key of their row.
#[derive(Debug, Default)]
pub(crate) struct CheckedTags(Mutex<HashMap<Vec<u8>, Progress>>);

/// The progress of one check.
#[derive(Debug, Clone, Copy)]
struct Progress {
    checked: Option<Position>,
    /// The position in the row.
    stored: Option<Position>,
}

impl CheckedTags {
    /// Checks that the events of `E` that an item selects without its tags have the tags of the item, if their types
    /// declare the keys. Returns the wire names of these types.
    pub(crate) async fn check<E: Event>(
        &self,
        store: &dyn EventStore,
        item: &QueryItem,
    ) -> Result<BTreeSet<EventType>, TagError> {
        let mut event_types = BTreeSet::new();
        for schema in E::SCHEMA.iter().filter(|schema| schema.version > 0) {
            let Some(keys) = declared_keys(schema, &item.tags) else { continue };
            let mut names = names(schema)?;
            names.retain(|name| item.event_types.is_empty() || item.event_types.contains(name));
            if names.is_empty() {
                continue;
            }
            let categories = item.categories.clone();
            let events = QueryItem { event_types: names.clone(), tags: Tags::new(), categories };
            for key in keys {
                Check { store, events: &events, schema, key, progress: self }.run::<E>().await?;
            }
            event_types.append(&mut names);
        }
        Ok(event_types)
    }

    fn progress(&self, row: &[u8]) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(row).copied()
    }

    fn set(&self, row: Vec<u8>, progress: Progress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(row, progress);
    }
}

/// Returns the declared keys of the tags, or `None` if one of the tags has another key.
fn declared_keys(schema: &EventSchema, tags: &Tags) -> Option<Vec<&'static str>> {
    tags.iter().map(|tag| schema.tags.iter().copied().find(|key| has_key(tag, key))).collect()
}

fn has_key(tag: &Tag, key: &str) -> bool {
    tag.as_str().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
}

/// Returns the wire name and its aliases.
fn names(schema: &EventSchema) -> Result<BTreeSet<EventType>, NameError> {
    std::iter::once(&schema.name).chain(schema.aliases).map(|name| EventType::new(*name)).collect()
}

/// The value of a row: the events of one type up to a position have all tags with one key.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Checked {
    /// The events, and the key of the tags.
    events: QueryItem,
    key: String,
    /// The log. A repair that loses events chooses another id.
    log: LogId,
    /// The version of the event type whose tags were compared.
    version: u32,
    position: Position,
}

impl Checked {
    /// Returns whether a check up to `now` can begin after this one.
    fn precedes(&self, now: &Self) -> bool {
        let Self { events, key, log, version, position } = self;
        *events == now.events
            && *key == now.key
            && *log == now.log
            && *version == now.version
            && *position <= now.position
    }
}

/// The check of the events of one type for the tags with one key.
struct Check<'a> {
    store: &'a dyn EventStore,
    /// Selects the events.
    events: &'a QueryItem,
    schema: &'a EventSchema,
    key: &'static str,
    progress: &'a CheckedTags,
}

impl Check<'_> {
    /// Checks the events since the last check.
    async fn run<E: Event>(&self) -> Result<(), TagError> {
        let Some(head) = self.store.head().await? else { return Ok(()) };
        let row = self.row();
        let before = match self.progress.progress(&row) {
            Some(progress) => progress,
            None => self.stored(&row, head).await?,
        };
        let mut checked = before.checked;
        while checked < Some(head) {
            let next = self.run_after::<E>(checked).await?;
            if next <= checked {
                return Err(head_not_reached(head).into());
            }
            checked = next;
        }
        let mut stored = before.stored;
        if stored.is_none_or(|stored| stored.get() + ROW_INTERVAL <= head.get()) {
            let value = encode_row(&self.checked_up_to(head))?;
            self.store.commit(Commit::new().put_row(Table::well_known(TAGS), row.clone(), value)).await?;
            stored = Some(head);
        }
        self.progress.set(row, Progress { checked: Some(head), stored });
        Ok(())
    }

    /// Reads the row of an earlier check, if it is of the same log, version and events.
    async fn stored(&self, row: &[u8], head: Position) -> Result<Progress, TagError> {
        let value = self.store.row(&Table::well_known(TAGS), row).await?;
        // A row that cannot be decoded costs a check of all events, and is replaced.
        let stored = value.and_then(|value| serde_json::from_slice::<Checked>(&value).ok());
        let now = self.checked_up_to(head);
        let position = stored.filter(|stored| stored.precedes(&now)).map(|stored| stored.position);
        Ok(Progress { checked: position, stored: position })
    }

    fn checked_up_to(&self, position: Position) -> Checked {
        Checked {
            events: self.events.clone(),
            key: self.key.to_owned(),
            log: self.store.log_id(),
            version: self.schema.version,
            position,
        }
    }

    /// Returns the key of the row, with a digest of names that can be longer than a key. The value has the names.
    fn row(&self) -> Vec<u8> {
        let mut digest = Fnv::new();
        let categories = self.events.categories.iter().map(Category::as_str);
        let types = self.events.event_types.iter().map(EventType::as_str);
        for name in [self.key, "types"].into_iter().chain(types).chain(["categories"]).chain(categories) {
            digest.write(name.as_bytes());
            // Names have no control characters.
            digest.write(&[0]);
        }
        [self.schema.name.as_bytes(), &[0], &digest.value().to_be_bytes()].concat()
    }

    /// Checks up to [`EVENTS_PER_VISIT`] events after a position. Returns the last position that was checked.
    async fn run_after<E: Event>(&self, after: Option<Position>) -> Result<Option<Position>, TagError> {
        let (mut events, mut failed) = (0, None);
        let mut visit = |event: EventView<'_>| {
            events += 1;
            failed = check_event::<E>(event, self.key).err();
            if failed.is_some() || events == EVENTS_PER_VISIT {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let read = LogRead::matching(self.events.clone()).after(after);
        let scanned = self.store.visit_log(read, &mut visit).await?;
        failed.map_or(Ok(scanned), Err)
    }
}

fn check_event<E: Event>(event: EventView<'_>, key: &'static str) -> Result<(), TagError> {
    let position = event.position();
    let tags = current_tags::<E>(event).map_err(|source| TagError::Event { position, source })?;
    match tags.iter().find(|tag| has_key(tag, key) && !event.tags().contains(tag.as_str())) {
        None => Ok(()),
        Some(tag) => Err(TagError::Incomplete { event_type: event.event_type().clone(), position, tag: tag.clone() }),
    }
}

/// The tags of recorded events could not be checked, or are incomplete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// An event was recorded before its field became a tag, so a query by the tag does not select it. Copy the log with
    /// the tag, and run the service on the copy.
    #[error(
        "event {event_type:?} at position {position} has no tag {tag:?}, which its type declares now, so a query by \
         the tag is incomplete; copy the log with the tag: `es --store DIR retag --to NEWDIR`"
    )]
    Incomplete {
        /// The recorded wire name.
        event_type: EventType,
        /// The position of the first such event.
        position: Position,
        /// The missing tag.
        tag: Tag,
    },
    /// No event of the type has tags with these keys. Correct the keys, or add `#[event(tag)]` to a field.
    #[error("no event of {event} declares the keys of all of the tags {tags:?}; correct the keys, or declare the tags")]
    Undeclared {
        /// The tags.
        tags: Tags,
        /// The Rust type.
        event: &'static str,
    },
    /// The tags of an event cannot be computed.
    #[error("could not compute the tags of the event at position {position}")]
    Event {
        /// The position of the event.
        position: Position,
        /// The error of decoding or encoding.
        source: CurrentTagsError,
    },
    /// A wire name of the event type is not a valid name. The derive rejects such a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The checked position could not be written.
    #[error("could not write the position up to which tags were checked")]
    Commit(#[from] CommitError),
}
