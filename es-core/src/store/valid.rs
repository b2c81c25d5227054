//! [`ValidCommit`]: a commit within the limits that every store enforces.

use bytes::Bytes;

use crate::model::ContentType;
use crate::model::reserved::{
    AUDIT_STREAM_PREFIX, ERASED, check_audit, check_membership, check_transaction_log, is_replicated_stream,
    is_reserved,
};
use crate::model::weight::beside_payload;
use crate::model::{NewEvent, Stamp, StreamId};
use crate::retention::{self, ReplicatedDeletion, ReplicatedErasure};
use crate::store::commit::{
    Commit, MAX_COMMIT_BYTES, MAX_COMMIT_EVENTS, MAX_KEYS, MAX_METADATA_BYTES, MAX_ORIGINS, MAX_PAYLOAD_BYTES,
    MAX_ROW_KEY_BYTES, MAX_TAGS, RowChange,
};
use crate::store::error::InvalidCommit;
use crate::store::home::HandOver;
use crate::store::locks::prepared_events;
use crate::store::query::weight_of_query;
use crate::store::transaction::{TransactionEvent, is_transaction_event};

impl Commit {
    /// Validates the commit and computes its size once, so that stores need not do it again.
    ///
    /// # Errors
    /// The errors of [`validate`](Self::validate).
    pub fn validated(self) -> Result<ValidCommit, InvalidCommit> {
        self.validate()?;
        Ok(ValidCommit::new(self))
    }

    /// Checks the limits that do not depend on the contents of the log.
    ///
    /// # Errors
    /// [`InvalidCommit`] if the commit exceeds a limit.
    pub fn validate(&self) -> Result<(), InvalidCommit> {
        if self.events.len() > MAX_COMMIT_EVENTS {
            return Err(InvalidCommit::TooManyEvents { found: self.events.len() });
        }
        if self.bytes() > MAX_COMMIT_BYTES {
            return Err(InvalidCommit::TooManyBytes { found: self.bytes() });
        }
        // The commit of the outcome has one more event for each stream.
        let committed: usize = prepared_events(self).iter().map(|(_, prepared)| prepared.events.len() + 1).sum();
        if committed > MAX_COMMIT_EVENTS {
            return Err(InvalidCommit::TooManyEvents { found: committed });
        }
        self.validate_foreign()?;
        self.validate_erasure()?;
        self.validate_ids()?;
        for (stream, event) in &self.events {
            validate_event(event)?;
            validate_reserved(stream, event, self.has_removed)?;
        }
        let mut row_keys = self.rows.iter().map(|row| &row.key).chain(self.row_conditions.iter().map(|row| &row.key));
        row_keys.try_for_each(check_row_key)
    }

    /// Checks that no id occurs twice.
    fn validate_ids(&self) -> Result<(), InvalidCommit> {
        let ids = || self.events.iter().map(|(_, event)| event.data.id);
        // Ids that were created one after another ascend, so that most commits need no set.
        if ids().is_sorted_by(|before, after| before < after) {
            return Ok(());
        }
        let mut seen = std::collections::HashSet::new();
        match ids().find(|id| !seen.insert(*id)) {
            Some(id) => Err(InvalidCommit::SameIdTwice { id }),
            None => Ok(()),
        }
    }

    /// Checks that the erasure of a replicated stream is alone, so that it deletes everything that its stream has.
    fn validate_erasure(&self) -> Result<(), InvalidCommit> {
        let erasure = self.events.iter().find(|(_, event)| event.data.event_type == ERASED);
        match erasure.filter(|_| self.events.len() > 1) {
            Some((stream, event)) => {
                let found = "an erasure beside other events".to_owned();
                Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found })
            }
            None => Ok(()),
        }
    }

    /// Checks that a foreign commit has no conditions, that its events have stamps, and that none of its streams is
    /// reserved, except those that are replicated.
    fn validate_foreign(&self) -> Result<(), InvalidCommit> {
        if !self.is_foreign {
            return Ok(());
        }
        let found = [
            ("an expected revision", self.expectations.is_empty()),
            ("an append condition", self.append_conditions.is_empty()),
            ("a change of a unique key", self.events.iter().all(|(_, event)| event.data.keys.is_empty())),
        ];
        if let Some((found, _)) = found.into_iter().find(|(_, is_absent)| !is_absent) {
            return Err(InvalidCommit::ForeignCondition { found });
        }
        for (stream, event) in &self.events {
            let id = event.data.id;
            if event.data.stamp.is_none() {
                return Err(InvalidCommit::ForeignWithoutStamp { id });
            }
            if is_transaction_event(&event.data.event_type) {
                let found = "a foreign event of a transaction".to_owned();
                return Err(InvalidCommit::Reserved { id, stream: stream.clone(), found });
            }
            if is_reserved(stream.category_str()) && !is_replicated_stream(stream) {
                let found = "a foreign event for a reserved stream".to_owned();
                return Err(InvalidCommit::Reserved { id, stream: stream.clone(), found });
            }
        }
        Ok(())
    }
}

fn check_row_key(key: &Bytes) -> Result<(), InvalidCommit> {
    if key.is_empty() || key.len() > MAX_ROW_KEY_BYTES {
        return Err(InvalidCommit::RowKeyLength { found: key.len() });
    }
    Ok(())
}

/// The memory use of a condition or a row change, in bytes, in addition to its keys and values.
const PART_WEIGHT: usize = 64;

/// A commit within all limits: the argument of the [decision](crate::store::implement::Decider). See
/// [`Commit::validated`].
///
/// A [hook](crate::store::implement::DecisionHook) changes it through methods that check the limits again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidCommit {
    commit: Commit,
    bytes: usize,
    weight: usize,
    events: EventsState,
}

/// The state of the events of a commit during its decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventsState {
    /// The events are those of the caller.
    AsGiven,
    /// A hook changed the events.
    Changed,
    /// The events are numbered and can no longer be changed.
    Numbered { was_changed: bool },
}

impl ValidCommit {
    fn new(commit: Commit) -> Self {
        let (bytes, weight) = (commit.bytes(), weight_of(&commit));
        Self { commit, bytes, weight, events: EventsState::AsGiven }
    }

    /// Returns the approximate memory use of the commit in bytes: its [`bytes`](Commit::bytes), its events with their
    /// names, tags and metadata, the names in its append conditions, and a constant for each other part. Stores limit
    /// their queues by it.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// Returns `true` if a hook changed the events, so that records encoded before the decision are stale.
    #[must_use]
    pub const fn has_changed_events(&self) -> bool {
        matches!(self.events, EventsState::Changed | EventsState::Numbered { was_changed: true })
    }

    /// Keeps the events for which `keep` returns `true`. The other parts of the commit do not change.
    ///
    /// # Errors
    /// [`InvalidCommit::Numbered`] after the shared decision.
    pub fn retain_events(&mut self, mut keep: impl FnMut(&StreamId, &NewEvent) -> bool) -> Result<(), InvalidCommit> {
        self.change_events(|commit| {
            let before = commit.events.len();
            commit.events.retain(|(stream, event)| keep(stream, event));
            commit.events.len() != before
        })
    }

    /// Adds events after those of the caller. They are not replicated.
    ///
    /// # Errors
    /// - [`InvalidCommit::Numbered`] after the shared decision.
    /// - [`InvalidCommit::TooManyEvents`] and [`InvalidCommit::TooManyBytes`] if the commit would exceed a limit.
    /// - The errors of [`Commit::validate`] for a single event.
    pub fn add_local_events(&mut self, events: Vec<(StreamId, NewEvent)>) -> Result<(), InvalidCommit> {
        for (stream, event) in &events {
            validate_event(event)?;
            validate_reserved(stream, event, false)?;
        }
        self.change_events(|commit| {
            let is_changed = !events.is_empty();
            commit.events.extend(events);
            is_changed
        })?;
        if self.commit.events.len() > MAX_COMMIT_EVENTS {
            return Err(InvalidCommit::TooManyEvents { found: self.commit.events.len() });
        }
        if self.bytes > MAX_COMMIT_BYTES { Err(InvalidCommit::TooManyBytes { found: self.bytes }) } else { Ok(()) }
    }

    /// Sets the stamps of events. `stamp` returns the new stamp of an event, or `None` to keep its current one.
    ///
    /// # Errors
    /// - [`InvalidCommit::Numbered`] after the shared decision.
    /// - [`InvalidCommit::TooManyOrigins`] if the vector clock of a stamp has more than [`MAX_ORIGINS`] origins.
    pub fn stamp_events(
        &mut self,
        mut stamp: impl FnMut(&StreamId, &NewEvent) -> Option<Stamp>,
    ) -> Result<(), InvalidCommit> {
        self.change_events(|commit| {
            let mut is_changed = false;
            for (stream, event) in &mut commit.events {
                if let Some(stamp) = stamp(stream, event) {
                    event.data.stamp = Some(Box::new(stamp));
                    is_changed = true;
                }
            }
            is_changed
        })?;
        self.commit.events.iter().try_for_each(|(_, event)| validate_event(event))
    }

    /// Adds row changes after those of the caller. The commit does not change if this fails.
    ///
    /// # Errors
    /// - [`InvalidCommit::TooManyBytes`] if the commit would have more than [`MAX_COMMIT_BYTES`] bytes.
    /// - [`InvalidCommit::RowKeyLength`] if a key is empty or longer than [`MAX_ROW_KEY_BYTES`].
    pub fn add_rows(&mut self, rows: Vec<RowChange>) -> Result<(), InvalidCommit> {
        rows.iter().try_for_each(|row| check_row_key(&row.key))?;
        let added = rows.iter().map(RowChange::bytes).sum::<usize>();
        let bytes = self.bytes + added;
        if bytes > MAX_COMMIT_BYTES {
            return Err(InvalidCommit::TooManyBytes { found: bytes });
        }
        self.bytes = bytes;
        self.weight += added + rows.len() * PART_WEIGHT;
        self.commit.rows.extend(rows);
        Ok(())
    }

    /// Takes the events, which get numbers, and prevents further changes of them.
    pub(crate) fn take_events(&mut self) -> Vec<(StreamId, NewEvent)> {
        self.events = EventsState::Numbered { was_changed: self.has_changed_events() };
        std::mem::take(&mut self.commit.events)
    }

    /// Changes the events with a function that returns `true` if it changed any.
    fn change_events(&mut self, change: impl FnOnce(&mut Commit) -> bool) -> Result<(), InvalidCommit> {
        if matches!(self.events, EventsState::Numbered { .. }) {
            return Err(InvalidCommit::Numbered);
        }
        if change(&mut self.commit) {
            (self.bytes, self.weight) = (self.commit.bytes(), weight_of(&self.commit));
            self.events = EventsState::Changed;
        }
        Ok(())
    }
}

/// Returns the memory use of a commit. The nesting depth of its metadata must be bounded.
fn weight_of(commit: &Commit) -> usize {
    let event = |(stream, event): &(StreamId, NewEvent)| {
        size_of::<(StreamId, NewEvent)>() + beside_payload(stream, &event.data)
    };
    let events: usize = commit.events.iter().map(event).sum();
    let append_conditions: usize =
        commit.append_conditions.iter().map(|condition| weight_of_query(&condition.query)).sum();
    let parts =
        commit.append_conditions.len() + commit.expectations.len() + commit.row_conditions.len() + commit.rows.len();
    commit.bytes() + events + append_conditions + parts * PART_WEIGHT
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
    if event.data.keys.len() > MAX_KEYS {
        return Err(InvalidCommit::TooManyKeys { id, found: event.data.keys.len() });
    }
    if event.data.version == 0 {
        return Err(InvalidCommit::VersionZero { id });
    }
    let origins = event.data.stamp.as_ref().and_then(|stamp| stamp.seen.as_ref()).map_or(0, |seen| seen.iter().len());
    if origins > MAX_ORIGINS {
        return Err(InvalidCommit::TooManyOrigins { id, found: origins });
    }
    validate_metadata(event)?;
    let media_type = event.data.content_type.as_str();
    if media_type.is_empty() || media_type.len() > ContentType::MAX_BYTES {
        return Err(InvalidCommit::ContentTypeLength { id, found: media_type.len() });
    }
    Ok(())
}

/// Checks that only the framework writes events of a reserved type or in a reserved stream.
fn validate_reserved(stream: &StreamId, event: &NewEvent, may_be_removed: bool) -> Result<(), InvalidCommit> {
    let rejected = |found| Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found });
    let event_type = event.data.event_type.as_str();
    let is_of_framework = is_reserved(event_type) || retention::is_reserved(stream);
    if is_of_framework && !event.data.keys.is_empty() {
        return rejected("a claim or a release of a unique key".to_owned());
    }
    if retention::is_reserved(stream) {
        return match retention::OperatorEvent::read(stream, &event.data.event_type, &event.data.payload) {
            Ok(_) => Ok(()),
            Err(found) => rejected(found),
        };
    }
    if is_transaction_event(&event.data.event_type) {
        return validate_transaction_event(stream, event);
    }
    match framework_event(event) {
        Ok(Some(found)) if is_reserved(stream.category_str()) => {
            return rejected(format!("{found} in the category {:?}", stream.category_str()));
        }
        Ok(Some(_)) => return Ok(()),
        Ok(None) => {}
        Err(found) => return rejected(found),
    }
    if is_reserved(event_type) {
        let is_tombstone = event_type == retention::REMOVED && may_be_removed && event.data.payload.is_empty();
        return if is_tombstone { Ok(()) } else { rejected(format!("the event type {event_type:?}")) };
    }
    if stream.as_str().starts_with(AUDIT_STREAM_PREFIX) {
        return check_audit(stream, event).or_else(rejected);
    }
    if let Some(checked) = check_transaction_log(stream, event).or_else(|| check_membership(stream, event)) {
        return checked.or_else(rejected);
    }
    if is_reserved(stream.category_str()) {
        rejected(format!("the category {:?}", stream.category_str()))
    } else {
        Ok(())
    }
}

/// Returns a description of an event that the framework writes to a stream of an aggregate, if it is one.
fn framework_event(event: &NewEvent) -> Result<Option<&'static str>, String> {
    let (event_type, payload) = (&event.data.event_type, &event.data.payload);
    if HandOver::read(event_type, payload)?.is_some() {
        return Ok(Some("a hand-over"));
    }
    if ReplicatedDeletion::read(event_type, payload)?.is_some() {
        return Ok(Some("a deletion"));
    }
    Ok(ReplicatedErasure::read(event_type, payload)?.map(|_| "an erasure"))
}

/// Checks an event of a transaction, and the decided events in it.
fn validate_transaction_event(stream: &StreamId, event: &NewEvent) -> Result<(), InvalidCommit> {
    let rejected = |found| Err(InvalidCommit::Reserved { id: event.data.id, stream: stream.clone(), found });
    if is_reserved(stream.category_str()) {
        return rejected(format!("an event of a transaction in the category {:?}", stream.category_str()));
    }
    match TransactionEvent::read(stream, &event.data.event_type, &event.data.payload) {
        Ok(Some(TransactionEvent::Prepared(prepared))) => prepared.events.iter().try_for_each(validate_event),
        Ok(_) => Ok(()),
        Err(found) => rejected(found),
    }
}

fn validate_metadata(event: &NewEvent) -> Result<(), InvalidCommit> {
    if event.data.metadata.is_empty() {
        return Ok(());
    }
    let rejected = |found| Err(InvalidCommit::Metadata { id: event.data.id, found });
    if let Some(reason) = event.data.metadata.iter().find_map(|(_, value)| value.invalid()) {
        return rejected(reason.to_owned());
    }
    match serde_json::to_vec(&event.data.metadata) {
        Ok(json) if json.len() > MAX_METADATA_BYTES => rejected(format!("{} bytes", json.len())),
        Ok(_) => Ok(()),
        Err(error) => rejected(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventType, ExpectedRevision, Metadata, Table, UniqueKey};

    fn event() -> NewEvent {
        NewEvent::json(EventType::new("placed").expect("valid"), "{}")
    }

    fn stream() -> StreamId {
        StreamId::new("order-1").expect("valid")
    }

    /// Regression: only payloads and new row values were counted. The limits then bounded neither deleted and expected
    /// rows, nor queues of commits that consist mostly of metadata.
    #[test]
    fn every_part_of_a_commit_counts_for_its_weight() {
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
        assert!(weight(Commit::to(&stream(), ExpectedRevision::Any, [nested])) >= plain + 100 * "[],".len());
        let absent = crate::store::QueryItem::new().tag(crate::model::Tag::new("x".repeat(200)).expect("valid"));
        assert!(weight(Commit::new().append_if_none(absent, None)) >= 200);
        let key = UniqueKey::new("scope", "x".repeat(200)).expect("valid");
        for keyed in [event().claiming(key.clone()), event().releasing(key.clone())] {
            assert!(weight(Commit::to(&stream(), ExpectedRevision::Any, [keyed])) >= plain + 200);
        }
        assert_eq!(Commit::new().delete_row(table.clone(), large.clone()).bytes(), 1000);
        assert_eq!(Commit::new().put_row(table.clone(), large.clone(), "v").bytes(), 1001);
        assert_eq!(Commit::new().expect_row(table.clone(), large, Some("v".into())).bytes(), 1001);
        let deletes =
            (0..1000u32).fold(Commit::new(), |commit, n| commit.delete_row(table.clone(), n.to_be_bytes().to_vec()));
        assert!(weight(deletes) >= 1000 * PART_WEIGHT);
    }

    /// Expected rows use memory like written rows.
    #[test]
    fn expected_rows_count_for_the_byte_limit() {
        let (table, value) = (Table::new("t").expect("valid"), Bytes::from(vec![0; MAX_COMMIT_BYTES / 4]));
        let expects = |commit: Commit, n: u8| commit.expect_row(table.clone(), vec![n], Some(value.clone()));
        assert_eq!((1..4).fold(Commit::new(), expects).validate(), Ok(()));
        let rejected = (1..6).fold(Commit::new(), expects).validate();
        assert!(matches!(rejected, Err(InvalidCommit::TooManyBytes { .. })), "{rejected:?}");
    }
}
