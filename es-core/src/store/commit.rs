//! [`Commit`]: the one write primitive. Events for one or more streams, the conditions under which they may be
//! written and the rows that must change with them happen wholly or not at all.

use bytes::Bytes;

use crate::model::reserved::check_audit;
use crate::model::weight::beside_payload;
use crate::model::{ContentType, EventId, NewEvent, RecordedEvent};
use crate::model::{EventType, StreamId, Table, UniqueKey};
use crate::model::{ExpectedRevision, Position, Revision};
use crate::retention;
use crate::store::query::weight_of_query;
use crate::store::{InvalidCommit, Query};

/// The most events of one commit.
pub const MAX_COMMIT_EVENTS: usize = 100_000;
/// The largest payload of one event, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;
/// The most bytes of one commit: of payloads, of keys and values of rows, also of those that are expected, and of unique keys.
///
/// NOTE: metadata, tags and names have limits of their own for each event. They do not count here, because a log may hold commits
/// that have more of them together, and each must be taken again by a copy.
pub const MAX_COMMIT_BYTES: usize = 64 * 1024 * 1024;
/// The most tags of one event.
pub const MAX_TAGS: usize = 256;
/// The most bytes of the annotations of one event, written as JSON.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// How deep lists and objects may be nested in the annotations of an event.
pub const MAX_METADATA_DEPTH: usize = 32;
/// The longest key of a row, in bytes.
pub const MAX_ROW_KEY_BYTES: usize = 2048;

/// What is to be written, and under which conditions.
///
/// ```
/// use es_core::{Commit, EventType, ExpectedRevision, NewEvent, Revision, StreamId};
/// let (from, to) = (StreamId::new("account-1")?, StreamId::new("account-2")?);
/// let event = |name| Ok::<_, es_core::NameError>(NewEvent::json(EventType::new(name)?, r#"{"amount":5}"#));
/// let transfer = Commit::new()
///     .expect(from.clone(), ExpectedRevision::Exact(Revision::new(3)))
///     .append(from, event("withdrawn")?)
///     .append(to, event("deposited")?);
/// # assert_eq!(transfer.events().len(), 2);
/// # Ok::<(), es_core::NameError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    pub(crate) expectations: Vec<(StreamId, ExpectedRevision)>,
    pub(crate) absences: Vec<Absence>,
    pub(crate) events: Vec<(StreamId, NewEvent)>,
    pub(crate) keys: Vec<KeyChange>,
    pub(crate) row_conditions: Vec<RowCondition>,
    pub(crate) rows: Vec<RowChange>,
    /// Whether [`Commit::append_removed`] made events of it.
    pub(crate) has_removed: bool,
}

/// A condition: nothing may match `query` behind `after`. The append condition of dynamic consistency boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// What must not be there.
    pub query: Query,
    /// Up to where the writer has seen the log; `None` says that nothing in the whole log may match.
    pub after: Option<Position>,
}

/// What becomes of a unique key. A claim that its stream holds already, and a release of a key that nobody holds, change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// The key belongs to the stream from now on; refused when another stream holds it.
    Claim(UniqueKey, StreamId),
    /// The stream gives the key up; refused when another stream holds it.
    Release(UniqueKey, StreamId),
}

/// A condition: the row is as the writer has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCondition {
    /// The table.
    pub table: Table,
    /// The key of the row.
    pub key: Bytes,
    /// The value that it must have; `None` when there must be no row.
    pub value: Option<Bytes>,
}

/// What becomes of a row of a side table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: Table,
    /// The key of the row, 1 to [`MAX_ROW_KEY_BYTES`] bytes.
    pub key: Bytes,
    /// Its new value; `None` removes the row.
    pub value: Option<Bytes>,
}

impl RowChange {
    /// How many bytes its key and its value have.
    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Commit {
    /// A commit that changes nothing, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Events for one stream under one expectation.
    #[must_use]
    pub fn to(stream: &StreamId, expected: ExpectedRevision, events: impl IntoIterator<Item = NewEvent>) -> Self {
        events
            .into_iter()
            .fold(Self::new().expect(stream.clone(), expected), |commit, event| commit.append(stream.clone(), event))
    }

    /// Demands that a stream is as expected, whether or not this commit writes to it. Of a stream without a demand
    /// nothing is demanded. Several demands on one stream must all be met.
    #[must_use]
    pub fn expect(mut self, stream: StreamId, expected: ExpectedRevision) -> Self {
        self.expectations.push((stream, expected));
        self
    }

    /// Demands that nothing matches `query` behind `after`. Events of this commit itself do not count.
    #[must_use]
    pub fn unless(mut self, query: impl Into<Query>, after: Option<Position>) -> Self {
        self.absences.push(Absence { query: query.into(), after });
        self
    }

    /// Adds an event. Events of several streams keep the order in which they were added.
    #[must_use]
    pub fn append(mut self, stream: StreamId, event: NewEvent) -> Self {
        self.events.push((stream, event));
        self
    }

    /// Adds what stands in the place of an event that was [removed](crate::retention), so that a log can be copied with its
    /// positions and revisions. No read returns it; its id is known. It is refused where the stream has an event before it that
    /// was not removed.
    #[must_use]
    pub fn append_removed(mut self, stream: StreamId, id: EventId) -> Self {
        let event = NewEvent::json(EventType::well_known(retention::REMOVED), Bytes::new()).with_id(id);
        self.events.push((stream, event));
        self.has_removed = true;
        self
    }

    /// Claims a unique key for a stream.
    #[must_use]
    pub fn claim(mut self, key: UniqueKey, owner: StreamId) -> Self {
        self.keys.push(KeyChange::Claim(key, owner));
        self
    }

    /// Gives a unique key of a stream up.
    #[must_use]
    pub fn release(mut self, key: UniqueKey, owner: StreamId) -> Self {
        self.keys.push(KeyChange::Release(key, owner));
        self
    }

    /// Demands that a row has this value, or that there is none.
    #[must_use]
    pub fn expect_row(mut self, table: Table, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        self.row_conditions.push(RowCondition { table, key: key.into(), value });
        self
    }

    /// Sets a row.
    #[must_use]
    pub fn put_row(mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.rows.push(RowChange { table, key: key.into(), value: Some(value.into()) });
        self
    }

    /// Removes a row; nothing happens where there is none.
    #[must_use]
    pub fn delete_row(mut self, table: Table, key: impl Into<Bytes>) -> Self {
        self.rows.push(RowChange { table, key: key.into(), value: None });
        self
    }

    /// The events with their streams, in order.
    #[must_use]
    pub fn events(&self) -> &[(StreamId, NewEvent)] {
        &self.events
    }

    /// The demands on streams.
    #[must_use]
    pub fn expectations(&self) -> &[(StreamId, ExpectedRevision)] {
        &self.expectations
    }

    /// The demands that nothing matches a query.
    #[must_use]
    pub fn absences(&self) -> &[Absence] {
        &self.absences
    }

    /// The changes of unique keys, in order.
    #[must_use]
    pub fn keys(&self) -> &[KeyChange] {
        &self.keys
    }

    /// The demands on rows.
    #[must_use]
    pub fn row_conditions(&self) -> &[RowCondition] {
        &self.row_conditions
    }

    /// The changes of rows, in order: the last change of a row counts.
    #[must_use]
    pub fn rows(&self) -> &[RowChange] {
        &self.rows
    }

    /// How many bytes of payloads, of keys and values of rows and row conditions, and of unique keys the commit has; what
    /// [`MAX_COMMIT_BYTES`] bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let payloads: usize = self.events.iter().map(|(_, event)| event.data.payload.len()).sum();
        let value = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let rows: usize = self.rows.iter().map(RowChange::bytes).sum();
        let expected: usize = self.row_conditions.iter().map(|row| row.key.len() + value(&row.value)).sum();
        let keys = self.keys.iter().map(|(KeyChange::Claim(key, _) | KeyChange::Release(key, _))| key);
        payloads + rows + expected + keys.map(|key| key.scope().len() + key.value().len()).sum::<usize>()
    }

    /// The commit as stores take it: checked and weighed once, and never again.
    ///
    /// # Errors
    /// [`InvalidCommit`], as of [`validate`](Self::validate).
    pub fn validated(self) -> Result<ValidCommit, InvalidCommit> {
        self.validate()?;
        Ok(ValidCommit { weight: weight_of(&self), commit: self })
    }

    /// Checks what no store may write, whatever it holds.
    ///
    /// # Errors
    /// [`InvalidCommit`]: the commit breaks a limit. Correct it; nothing was written.
    pub fn validate(&self) -> Result<(), InvalidCommit> {
        if self.events.len() > MAX_COMMIT_EVENTS {
            return Err(InvalidCommit::TooManyEvents { found: self.events.len() });
        }
        if self.bytes() > MAX_COMMIT_BYTES {
            return Err(InvalidCommit::TooManyBytes { found: self.bytes() });
        }
        let mut ids = std::collections::HashSet::new();
        for (stream, event) in &self.events {
            // NOTE: most commits have one event, and most streams of events are commits of one.
            if self.events.len() > 1 && !ids.insert(event.data.id) {
                return Err(InvalidCommit::SameIdTwice { id: event.data.id });
            }
            validate_event(event)?;
            validate_reserved(stream, event, self.has_removed)?;
        }
        let row_keys = self.rows.iter().map(|row| &row.key);
        for key in row_keys.chain(self.row_conditions.iter().map(|row| &row.key)) {
            if key.is_empty() || key.len() > MAX_ROW_KEY_BYTES {
                return Err(InvalidCommit::RowKeyLength { found: key.len() });
            }
        }
        Ok(())
    }
}

/// What each demand or change of a commit weighs beside its bytes.
const PART_WEIGHT: usize = 64;

/// A commit that breaks no limit: what [`decide`](crate::store::decide::decide) takes. See [`Commit::validated`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidCommit {
    commit: Commit,
    weight: usize,
}

impl ValidCommit {
    /// About how many bytes of memory the commit holds: its [`bytes`](Commit::bytes), its events with their names, tags and
    /// metadata, what its absences name, and something for each other part. What bounds how much waits is to count this.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Adds what inline projections change. They have looked at the limits.
    pub(crate) fn also_change(&mut self, rows: Vec<RowChange>) {
        self.weight += rows.iter().map(|row| row.bytes() + PART_WEIGHT).sum::<usize>();
        self.commit.rows.extend(rows);
    }
}

/// The weight of a commit. The nesting of its metadata must have a bound.
fn weight_of(commit: &Commit) -> usize {
    let event = |(stream, event): &(StreamId, NewEvent)| {
        size_of::<(StreamId, NewEvent)>() + beside_payload(stream, &event.data)
    };
    let events: usize = commit.events.iter().map(event).sum();
    let absences: usize = commit.absences.iter().map(|absence| weight_of_query(&absence.query)).sum();
    let parts = commit.absences.len()
        + commit.expectations.len()
        + commit.keys.len()
        + commit.row_conditions.len()
        + commit.rows.len();
    commit.bytes() + events + absences + parts * PART_WEIGHT
}

impl std::ops::Deref for ValidCommit {
    type Target = Commit;
    fn deref(&self) -> &Commit {
        &self.commit
    }
}

fn validate_event(event: &NewEvent) -> Result<(), InvalidCommit> {
    let id = event.data.id;
    if event.data.payload.len() > MAX_PAYLOAD_BYTES {
        return Err(InvalidCommit::PayloadTooLarge { id, found: event.data.payload.len() });
    }
    if event.data.tags.len() > MAX_TAGS {
        return Err(InvalidCommit::TooManyTags { id, found: event.data.tags.len() });
    }
    if event.data.version == 0 {
        return Err(InvalidCommit::VersionZero { id });
    }
    validate_metadata(event)?;
    let media_type = event.data.content_type.as_str();
    if media_type.is_empty() || media_type.len() > ContentType::MAX_BYTES {
        return Err(InvalidCommit::ContentTypeLength { id, found: media_type.len() });
    }
    Ok(())
}

/// What is reserved takes only what the functions of [`retention`] and the operators of projections say.
fn validate_reserved(stream: &StreamId, event: &NewEvent, may_be_removed: bool) -> Result<(), InvalidCommit> {
    let refused = |found| Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found });
    if event.data.event_type == retention::REMOVED {
        let is_removed = may_be_removed && event.data.payload.is_empty() && !retention::is_reserved(stream);
        return if is_removed { Ok(()) } else { refused(format!("the event type {:?}", retention::REMOVED)) };
    }
    if !retention::is_reserved(stream) {
        return check_audit(stream, event).or_else(refused);
    }
    match retention::OperatorEvent::read(stream, &event.data.event_type, &event.data.payload) {
        Ok(_) => Ok(()),
        Err(found) => refused(found),
    }
}

fn validate_metadata(event: &NewEvent) -> Result<(), InvalidCommit> {
    if event.data.metadata.is_empty() {
        return Ok(());
    }
    let refused = |found| Err(InvalidCommit::Metadata { id: event.data.id, found });
    // ORDER: before it is written, because writing what is nested without a bound needs a stack without a bound.
    if event.data.metadata.iter().any(|(_, value)| !is_nested_at_most(MAX_METADATA_DEPTH, value)) {
        return refused("more levels".to_owned());
    }
    if event.data.metadata.iter().any(|(_, value)| has_reserved_key(value)) {
        return refused(format!("a key that begins with {RESERVED_KEYS:?}"));
    }
    match serde_json::to_vec(&event.data.metadata) {
        Ok(json) if json.len() > MAX_METADATA_BYTES => refused(format!("{} bytes", json.len())),
        Ok(_) => Ok(()),
        Err(error) => refused(error.to_string()),
    }
}

/// Under such keys serde_json hides values of its own in objects, so that an object that has one is read back as another
/// value, or not at all. Found by fuzzing.
const RESERVED_KEYS: &str = "$serde_json::private::";

/// Whether an object has a reserved key. The keys of the metadata itself are no object's.
fn has_reserved_key(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(has_reserved_key),
        serde_json::Value::Object(fields) => {
            fields.iter().any(|(key, field)| key.starts_with(RESERVED_KEYS) || has_reserved_key(field))
        }
        _ => false,
    }
}

fn is_nested_at_most(levels: usize, value: &serde_json::Value) -> bool {
    let Some(below) = levels.checked_sub(1) else { return false };
    match value {
        serde_json::Value::Array(items) => items.iter().all(|item| is_nested_at_most(below, item)),
        serde_json::Value::Object(fields) => fields.values().all(|field| is_nested_at_most(below, field)),
        _ => true,
    }
}

/// What a commit gave: its events as they stand in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The recorded events in the order of the commit; none where the commit had none.
    pub events: Vec<RecordedEvent>,
    /// Whether the commit had been written before, so that this time nothing was.
    pub repeated: bool,
}

impl Committed {
    /// The position of the last event; `None` where the commit had none.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.events.last().map(|event| event.position)
    }

    /// The revision of the last event of a stream in this commit; `None` where it had none of that stream.
    #[must_use]
    pub fn revision(&self, stream: &StreamId) -> Option<Revision> {
        self.events.iter().rev().find(|event| event.stream == *stream).map(|event| event.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Metadata;

    fn event() -> NewEvent {
        NewEvent::json(EventType::new("placed").expect("valid"), "{}")
    }

    fn stream() -> StreamId {
        StreamId::new("order-1").expect("valid")
    }

    /// Only payloads and values that are put were counted, so that a limit of bytes bounded neither what a commit removes nor what it
    /// expects, and what waits was not bounded at all where metadata is most of it.
    #[test]
    fn whatever_takes_memory_weighs() {
        let weight = |commit: Commit| commit.validated().expect("valid").weight();
        let table = Table::new("t").expect("valid");
        let plain = weight(Commit::to(&stream(), ExpectedRevision::Any, [event()]));
        let large = "x".repeat(1000);
        let note = Metadata::new().with("note", vec![large.clone()]);
        let tag = crate::model::Tag::new("x".repeat(200)).expect("valid");
        for heavier in [event().with_metadata(note), event().tagged(tag)] {
            assert!(weight(Commit::to(&stream(), ExpectedRevision::Any, [heavier])) >= plain + 200);
        }
        let many = vec![serde_json::json!([]); 100];
        let nested = event().with_metadata(Metadata::new().with("note", many));
        assert!(
            weight(Commit::to(&stream(), ExpectedRevision::Any, [nested]))
                >= plain + 100 * size_of::<serde_json::Value>()
        );
        let absent = crate::store::QueryItem::new().tag(crate::model::Tag::new("x".repeat(200)).expect("valid"));
        assert!(weight(Commit::new().unless(absent, None)) >= 200);
        let key = UniqueKey::new("scope", "x".repeat(200)).expect("valid");
        let keyed = Commit::new().claim(key.clone(), stream());
        assert!(keyed.bytes() >= 200 && Commit::new().release(key, stream()).bytes() == keyed.bytes());
        assert_eq!(Commit::new().delete_row(table.clone(), large.clone()).bytes(), 1000);
        assert_eq!(Commit::new().put_row(table.clone(), large.clone(), "v").bytes(), 1001);
        assert_eq!(Commit::new().expect_row(table.clone(), large, Some("v".into())).bytes(), 1001);
        let deletes =
            (0..1000u32).fold(Commit::new(), |commit, n| commit.delete_row(table.clone(), n.to_be_bytes().to_vec()));
        assert!(weight(deletes) >= 1000 * PART_WEIGHT);
    }

    /// What is demanded of rows is held in memory like what is put there.
    #[test]
    fn what_is_expected_of_rows_counts_for_the_limit() {
        let (table, value) = (Table::new("t").expect("valid"), Bytes::from(vec![0; MAX_COMMIT_BYTES / 4]));
        let expects = |commit: Commit, n: u8| commit.expect_row(table.clone(), vec![n], Some(value.clone()));
        assert_eq!((1..4).fold(Commit::new(), expects).validate(), Ok(()));
        let refused = (1..6).fold(Commit::new(), expects).validate();
        assert!(matches!(refused, Err(InvalidCommit::TooManyBytes { .. })), "{refused:?}");
    }
}
