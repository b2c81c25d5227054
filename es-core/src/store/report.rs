//! Reports on a store for operators. They serialize to the JSON that `es --json` prints and es-http sends.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::model::reserved::RETENTION_CATEGORY;
use crate::model::{Category, LogId, Position, Revision, StreamId, Timestamp};
use crate::retention::{DeleteKind, Note, OperatorEvent, Retained, Retention, Rule, Scope};
use crate::store::{Committed, EventReader, LogRead, StoreError};

/// The number of streams per read.
const PAGE: usize = 1000;

/// The identity, the age and the size of a store. A field is `None` if the kind of store does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreInfo {
    /// The directory of the store. Its JSON form replaces what is not UTF-8.
    #[serde(serialize_with = "serialize_path")]
    pub directory: Option<PathBuf>,
    /// The id of the store, which its backups share.
    pub store_id: Option<Uuid>,
    /// The id of the log.
    pub log_id: LogId,
    /// The time when the store was created.
    pub created: Option<Timestamp>,
    /// The position of the last event; `None` if the log is empty.
    pub head: Option<Position>,
    /// The recorded time of the last event, even if the event is hidden or removed.
    pub last_recorded_at: Option<Timestamp>,
    /// By how many seconds the last event is ahead of the clock, if by more than a minute.
    pub ahead_of_clock_seconds: Option<u64>,
    /// The size of the files in bytes.
    pub bytes_on_disk: Option<u64>,
    /// The number of files.
    pub files: Option<u64>,
    /// The mode of the directory, in octal.
    pub mode: Option<String>,
}

/// Serializes a path as text.
fn serialize_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// A stream with visible events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// The name of the stream.
    pub stream: StreamId,
    /// The revision of the last event.
    pub revision: Revision,
    /// The number of visible events.
    pub events: u64,
}

/// A part of a list of streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPage {
    /// The streams in the byte order of their names. A page that is not the last one can be empty.
    pub streams: Vec<StreamSummary>,
    /// The stream after which the next page continues; `None` after the last page.
    pub next: Option<StreamId>,
}

/// The streams to list. The default selects all streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFilter {
    /// Only streams of this category.
    pub category: Option<Category>,
    /// Only streams whose names have this prefix.
    pub prefix: String,
}

impl StreamFilter {
    /// Reads the next streams after `after`. Streams without visible events are left out. Examines at most 1,000
    /// streams, each with one read of its visible range.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    pub async fn page(
        &self,
        reader: &dyn EventReader,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<StreamPage, StoreError> {
        let limit = limit.clamp(1, PAGE);
        let (mut heads, mut is_last) = (Vec::new(), true);
        // The stream whose name is the category has no `-`. It is the first stream of the category.
        if let (Some(category), None) = (&self.category, after)
            && category.as_str().starts_with(&self.prefix)
            && let Some(head) = stream_of_category(reader, category).await?
        {
            heads.push(head);
        }
        if let Some(prefix) = self.name_prefix() {
            let more = reader.streams(&prefix, after, limit).await?;
            is_last = more.len() < limit;
            heads.extend(more);
        }
        let next = heads.last().filter(|_| !is_last).map(|(stream, _)| stream.clone());
        let mut streams = Vec::with_capacity(heads.len());
        for (stream, revision) in heads {
            let first = reader.retained(&stream).await?.first;
            let events = revision.next().get().saturating_sub(first.get());
            if events > 0 {
                streams.push(StreamSummary { stream, revision, events });
            }
        }
        Ok(StreamPage { streams, next })
    }

    /// Returns the common prefix of the names with a `-` after the category; `None` if no such name has the prefix.
    fn name_prefix(&self) -> Option<String> {
        let Some(category) = &self.category else { return Some(self.prefix.clone()) };
        let of_category = format!("{category}-");
        if self.prefix.starts_with(&of_category) {
            return Some(self.prefix.clone());
        }
        of_category.starts_with(&self.prefix).then_some(of_category)
    }
}

/// Returns the stream whose name is the category, with the revision of its last event.
async fn stream_of_category(
    reader: &dyn EventReader,
    category: &Category,
) -> Result<Option<(StreamId, Revision)>, StoreError> {
    let Ok(stream) = StreamId::new(category) else { return Ok(None) };
    Ok(reader.revision(&stream).await?.map(|revision| (stream, revision)))
}

/// The streams and events in the scope of a rule, and the number of hidden events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The number of streams that have events after their last deletion.
    pub streams: u64,
    /// The number of these events.
    pub events: u64,
    /// The number of these events that are hidden or removed.
    pub hidden: u64,
    /// The revision of the last event of the longest stream.
    #[serde(skip)]
    pub last: Option<Revision>,
}

impl Coverage {
    /// Counts the streams and events of a scope. Reads the head of each stream, and no event.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    pub async fn of(reader: &dyn EventReader, scope: &Scope) -> Result<Self, StoreError> {
        let mut coverage = Self::default();
        let category = match scope {
            Scope::Stream(stream) => {
                if let Some(last) = reader.revision(stream).await? {
                    coverage.add(reader, stream, last).await?;
                }
                return Ok(coverage);
            }
            Scope::Category(category) => category,
        };
        if let Some((stream, last)) = stream_of_category(reader, category).await? {
            coverage.add(reader, &stream, last).await?;
        }
        let (prefix, mut after) = (format!("{category}-"), None);
        loop {
            let page = reader.streams(&prefix, after.as_ref(), PAGE).await?;
            for (stream, last) in &page {
                coverage.add(reader, stream, *last).await?;
            }
            let Some((stream, _)) = page.into_iter().next_back() else { return Ok(coverage) };
            after = Some(stream);
        }
    }

    async fn add(&mut self, reader: &dyn EventReader, stream: &StreamId, last: Revision) -> Result<(), StoreError> {
        let Retained { begins, first, .. } = reader.retained(stream).await?;
        let events = last.next().get().saturating_sub(begins.get());
        self.streams += u64::from(events > 0);
        self.events += events;
        self.last = self.last.max(Some(last));
        self.hidden += first.get().saturating_sub(begins.get());
        Ok(())
    }
}

/// The rules, deletions and scavenges of a log, with the notes of the operators.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// The rules: first those of categories, then those of streams, each sorted by name.
    pub rules: Vec<RuleEntry>,
    /// The last deletion of each deleted stream, sorted by name.
    pub deleted: Vec<DeletionEntry>,
    /// The scavenges in log order.
    pub scavenges: Vec<ScavengeEntry>,
}

/// A rule in a [`RetentionReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEntry {
    /// The streams to which the rule applies.
    #[serde(flatten)]
    pub scope: Scope,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// Who set the rule, and why.
    #[serde(flatten)]
    pub note: Note,
}

/// A deletion in a [`RetentionReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionEntry {
    /// The deleted stream.
    pub stream: StreamId,
    /// The kind of the deletion.
    pub kind: DeleteKind,
    /// The last deleted revision; `None` if the stream had no event.
    pub through: Option<Revision>,
    /// The position of the deletion.
    pub position: Position,
    /// Who deleted the stream, and why.
    #[serde(flatten)]
    pub note: Note,
}

/// A scavenge in a [`RetentionReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScavengeEntry {
    /// The position of the scavenge point.
    pub position: Position,
    /// The time that decides which events are too old.
    pub at: Timestamp,
    /// Who started the scavenge, and why.
    #[serde(flatten)]
    pub note: Note,
}

impl RetentionReport {
    /// Reads the events of all operator actions.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    pub async fn read(reader: &dyn EventReader) -> Result<Self, StoreError> {
        let (mut retention, mut rule_notes) = (Retention::default(), BTreeMap::new());
        let mut notes: BTreeMap<Position, Note> = BTreeMap::new();
        let mut actions = reader.read_log(LogRead::category(Category::well_known(RETENTION_CATEGORY))).await?;
        while let Some(batch) = actions.next_batch().await? {
            for event in &batch {
                retention.apply(event)?;
                match OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload) {
                    Ok(OperatorEvent::RuleSet { scope, note, .. }) => drop(rule_notes.insert(scope, note)),
                    Ok(OperatorEvent::StreamDeleted { note, .. } | OperatorEvent::ScavengePoint { note, .. }) => {
                        notes.insert(event.position, note);
                    }
                    Ok(OperatorEvent::RuleCleared { .. } | OperatorEvent::SubjectErased { .. }) | Err(_) => {}
                }
            }
        }
        let rules = retention.rules().map(|(scope, rule)| {
            let note = rule_notes.remove(&scope).unwrap_or_default();
            RuleEntry { scope, rule, note }
        });
        let rules = rules.collect();
        let deleted = retention.deletions().map(|(stream, deletion)| DeletionEntry {
            stream: stream.clone(),
            kind: deletion.kind,
            through: deletion.through,
            position: deletion.position,
            note: notes.get(&deletion.position).cloned().unwrap_or_default(),
        });
        let deleted = deleted.collect();
        let scavenges = retention.points().iter().map(|point| ScavengeEntry {
            position: point.position,
            at: point.at,
            note: notes.get(&point.position).cloned().unwrap_or_default(),
        });
        Ok(Self { rules, deleted, scavenges: scavenges.collect() })
    }
}

/// A stream that was written and has no visible event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenStream {
    /// The number of events that were written. Some of them may have been removed.
    pub events: u64,
    /// The kind and the position of the deletion that hides them; `None` if a rule hides them.
    pub deletion: Option<(DeleteKind, Position)>,
}

impl HiddenStream {
    /// Returns why a stream has no visible event; `None` if it has one, or was never written. The call is cheap for a
    /// stream with visible events; otherwise it reads the events of all operator actions.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed, damaged, or fails to read.
    pub async fn of(reader: &dyn EventReader, stream: &StreamId) -> Result<Option<Self>, StoreError> {
        let Some(last) = reader.revision(stream).await? else { return Ok(None) };
        let Retained { begins, first, .. } = reader.retained(stream).await?;
        if first <= last {
            return Ok(None);
        }
        let report = RetentionReport::read(reader).await?;
        let deletion = report.deleted.iter().find(|deleted| deleted.stream == *stream && begins > last);
        let deletion = deletion.map(|deleted| (deleted.kind, deleted.position));
        Ok(Some(Self { events: last.next().get(), deletion }))
    }
}

/// The result of the deletion of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedStream {
    /// The stream.
    pub stream: StreamId,
    /// The kind of the deletion.
    pub kind: DeleteKind,
    /// The last deleted revision; `None` if the stream had no event.
    pub through: Option<Revision>,
    /// The position of the deletion.
    pub position: Option<Position>,
    /// Whether an earlier request deleted the stream.
    pub repeated: bool,
    /// Whether the stream is replicated. The other nodes then delete it when they receive the deletion, and the
    /// revision and the position are those of this node.
    #[serde(default)]
    pub is_replicated: bool,
}

impl DeletedStream {
    /// Returns the result of [`delete_stream`](crate::store::delete_stream). It describes the earlier deletion if the
    /// deletion is a repeat.
    #[must_use]
    pub fn of(stream: &StreamId, requested: DeleteKind, committed: &Committed) -> Self {
        let deletion = committed
            .events
            .first()
            .map(|event| OperatorEvent::read(&event.stream, &event.data.event_type, &event.data.payload));
        let (kind, through) = match deletion {
            Some(Ok(OperatorEvent::StreamDeleted { kind, through, .. })) => (kind, through),
            _ => (requested, None),
        };
        let (position, repeated) = (committed.position(), committed.repeated);
        Self { stream: stream.clone(), kind, through, position, repeated, is_replicated: false }
    }
}
