//! The log without a store: es-log with its records, frames and group commit, but no decision and no index.

use std::path::Path;

use async_trait::async_trait;
use chrono::Utc;
use es_core::model::CommitPart;
use es_core::{EventId, Revision};
use es_log::{AppendError, Body, CommitDraft, ContentCode, EventFields, Log, LogOptions, TagTexts};

use crate::contender::{Append, Contender, Durability, Opened, Role, Setup, Task};
use crate::domain::CATEGORY;
use crate::failure::Failure;

const ES_LOG: &str = "es-log";

pub(crate) struct BareLog;

#[async_trait]
impl Contender for BareLog {
    fn name(&self) -> &'static str {
        ES_LOG
    }

    fn about(&self) -> String {
        "the log of this project without a store: no decision, no index".into()
    }

    fn role(&self) -> Role {
        Role::Limit
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::Append | Task::AppendBuffered | Task::Volume => Ok(()),
            _ => Err("a log without indexes"),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        let durability = match setup.durability {
            Durability::Synced => es_log::Durability::Sync,
            Durability::Buffered => es_log::Durability::Buffered,
        };
        let options = LogOptions { base_time: Utc::now().timestamp_micros(), durability, ..LogOptions::default() };
        let log = Log::open(dir, options).map_err(|error| Failure::caused_by("open the log", &error))?;
        Ok(Box::new(OpenedLog(log)))
    }
}

struct OpenedLog(Log);

#[async_trait]
impl Opened for OpenedLog {
    fn blocks(&self) -> bool {
        true
    }

    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let appended = self.0.commit(|commit| push(commit, &append));
        appended.map_err(|error| Failure::caused_by("append", &error))
    }

    async fn close(&self) -> Result<(), Failure> {
        self.0.close().map_err(|error| Failure::caused_by("close the log", &error))
    }
}

/// Adds the records of a commit. Returns the position of the last one.
fn push(commit: &mut CommitDraft<'_>, append: &Append) -> Result<u64, AppendError> {
    let stream = format!("{CATEGORY}-{}", append.stream);
    let now = Utc::now().timestamp_micros();
    let size = u32::try_from(append.events.len()).unwrap_or(u32::MAX);
    let mut tags = Vec::new();
    let mut last = 0;
    for (index, event) in (0..).zip(&append.events) {
        let position = commit.push(&Body::Event(EventFields {
            stream: stream.as_bytes(),
            revision: Revision::new(append.expected + u64::from(index)),
            id: EventId::new(),
            recorded_at: now,
            occurred_at: now,
            part: CommitPart { index, size },
            event_type: event.event_type.as_bytes(),
            version: 1,
            content_type: ContentCode::Json,
            correlation_id: None,
            causation_id: None,
            tags: TagTexts::encode_into([event.tag.as_bytes()], &mut tags)?,
            metadata: b"",
            payload: &event.payload,
            extensions: b"",
        }))?;
        last = position.get();
    }
    Ok(last)
}
