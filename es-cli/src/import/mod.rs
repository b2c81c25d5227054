//! Imports JSON Lines into a store, in their order. The import is idempotent for lines with event ids.
//!
//! ```text
//!   file ──► lines ──► parse ──► commits ──► batch, one fsync ──► store
//!                        │          │            │
//!                        └──────────┴─ bad lines ┴──► error, or the file of --skip-bad
//! ```
//!
//! The store recognizes a repeated commit only as a whole. So the boundaries of commits must not depend on the point at
//! which an earlier import was killed, or on the batch size: each line is one commit, unless its `commit` field makes
//! it a part of one.

mod advice;
mod commits;
mod group;
mod lines;
mod skipped;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use es_core::retention::{OperatorEvent, Scope};
use es_core::store::Conflict;
use es_core::store::implement::is_retention_stream;
use es_core::{CommitError, EventStore, NewEvent, RecordedEvent, StoreError, StreamId};
use es_tool::input::{Consumed, Input};
use serde::Serialize;

use crate::answer::print_ahead_note;
use crate::bad_line::BadLine;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::store::{ReplicatedStreams, ahead_of_clock, open_for_writing};
use advice::Advice;
use commits::{Bad, Commits, Found};
use es_core::schema::line::LineFault;
use group::Grouped;
use skipped::Skipped;

/// The maximum length of a line in bytes: the largest payload in base64 and the other fields.
const MAX_LINE_BYTES: usize = 32 * 1024 * 1024;
/// The maximum length of the lines of a batch in bytes; a larger commit is a batch of its own.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// The result of an import.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The number of lines that were read, without empty lines.
    pub lines: u64,
    /// The number of events that were added.
    pub added: u64,
    /// The number of events that the store had already.
    pub repeated: u64,
    /// The number of repeated events that a rule or a deletion hides, or a scavenge removed.
    pub hidden: u64,
    /// The number of unique keys that the exported store held for added tombstones, and that no stream holds here.
    pub lost_claims: u64,
    /// The number of lines that were skipped.
    pub skipped: u64,
    /// The position of the last event of the store.
    pub head: Option<u64>,
}

/// The options of an import.
#[derive(Debug)]
pub struct Import<'a> {
    /// The file; `-` for standard input.
    pub file: &'a Path,
    /// The file that lists bad lines; without it, the import stops at a bad line.
    pub skip_bad: Option<&'a Path>,
    /// The number of commits per fsync.
    pub batch: usize,
}

/// Imports into the store in a directory; creates the store if it does not exist.
///
/// # Errors
/// [`Failure::Stopped`] with the cause and the number of events that were added before it. [`Failure::Open`],
/// [`Failure::InputFile`], [`Failure::OutputFile`] and [`Failure::Usage`] before the first line is read.
pub async fn run(store: &Path, import: &Import<'_>) -> Result<Summary, Failure> {
    // ORDER: the input first, so that a wrong path does not create an empty store.
    let input = Input::open(import.file)?;
    let skipped = import.skip_bad.map(|list| Skipped::create(list, import.file, store)).transpose()?;
    let target = open_for_writing(store, true).await?;
    let replicated = ReplicatedStreams::read(&*target, store).await?;
    let bar = Bar::of_bytes("import", input.length());
    let mut importer = Importer {
        store: target,
        replicated,
        advice: Advice::new(store, &input),
        file: input.name().to_owned(),
        batch_commits: import.batch,
        batch: Vec::new(),
        bytes: 0,
        skipped,
        summary: Summary::default(),
    };
    let consumed = input.consumed();
    let result = importer.import_all(Commits::new(input, MAX_LINE_BYTES), &bar, &consumed).await;
    drop(bar);
    let head = importer.store.head().await;
    let ahead = ahead_of_clock(&*importer.store).await;
    let closed = importer.store.close().await;
    // The list is kept after a failure, too: it has the lines that were skipped before.
    let listed = importer.skipped.map(Skipped::finish).transpose();
    let Summary { added, repeated, .. } = importer.summary;
    result.map_err(|error| Failure::Stopped { source: Box::new(error), added, repeated })?;
    closed?;
    listed?;
    print_ahead_note(ahead);
    Ok(Summary { head: head?.map(es_core::Position::get), ..importer.summary })
}

struct Importer {
    store: Arc<dyn EventStore>,
    replicated: ReplicatedStreams,
    advice: Advice,
    file: PathBuf,
    batch_commits: usize,
    batch: Vec<Grouped>,
    bytes: usize,
    skipped: Option<Skipped>,
    summary: Summary,
}

impl Importer {
    async fn import_all(
        &mut self,
        mut commits: Commits<impl Read>,
        bar: &Bar,
        consumed: &Consumed,
    ) -> Result<(), Failure> {
        while let Some(found) = commits.next().map_err(|source| Failure::io("read", &self.file, source))? {
            match found {
                Found::Commit(commit) => self.add(commit).await?,
                Found::Bad(bad) => self.report(bad).await?,
            }
            bar.set(consumed.bytes());
        }
        self.summary.lines = commits.lines_read();
        self.write().await
    }

    async fn add(&mut self, mut commit: Grouped) -> Result<(), Failure> {
        if let Some(fault) = self.replicated_fault(&commit)
            && let Some((number, text)) = commit.lines.pop()
        {
            return self.report(Bad { number, text, fault, before: commit.lines }).await;
        }
        self.bytes += commit.lines.iter().map(|(_, text)| text.len()).sum::<usize>();
        self.batch.push(commit);
        if self.batch.len() >= self.batch_commits || self.bytes >= BATCH_BYTES { self.write().await } else { Ok(()) }
    }

    /// Reports a bad line, and the lines before it that belong to its commit.
    async fn report(&mut self, Bad { number, text, fault, before }: Bad) -> Result<(), Failure> {
        let fault = if number == 1 { self.advice.for_first_line(&text, fault) } else { fault };
        let bad = self.bad_line(number, fault);
        if self.skipped.is_none() {
            // ORDER: the commits before the bad line are written before the import ends.
            self.write().await?;
            return Err(bad.into());
        }
        for (other, text) in before {
            let fault = LineFault::new(format!("expected a complete commit, found an error in line {number}"));
            self.list(&self.bad_line(other, fault), &text)?;
        }
        self.list(&bad, &text)
    }

    /// Returns the fault of a commit that only the node of the store may write.
    fn replicated_fault(&self, commit: &Grouped) -> Option<LineFault> {
        let node = self.replicated.node()?;
        commit.commit.events().iter().find_map(|(stream, event)| {
            let found = match retention_scope(stream, event) {
                Some(scope) if self.replicated.has(&scope) => format!("a rule or a deletion of {scope}"),
                _ if self.replicated.has_stream(stream) => format!("one of stream {stream:?}"),
                _ if event.data.stamp.is_some() => "one with a stamp".to_owned(),
                _ => return None,
            };
            Some(LineFault::new(format!(
                "expected an event that is not replicated, found {found}: the store is that of node {node:?}, which \
                 pulls such events from its peers"
            )))
        })
    }

    fn bad_line(&self, line: u64, fault: LineFault) -> BadLine {
        BadLine { file: self.file.clone(), line, column: fault.column, message: fault.message, is_conflict: false }
    }

    /// Returns the line of a commit that the store refuses because of its content.
    ///
    /// # Errors
    /// The error of the store, if the commit is not the cause.
    fn refused_line(&self, line: u64, error: CommitError) -> Result<BadLine, CommitError> {
        match error {
            CommitError::Invalid(invalid) => Ok(self.bad_line(line, group::fault(&invalid))),
            CommitError::IdConflict(_) | CommitError::Conflict(_) => {
                Ok(BadLine { is_conflict: true, ..self.bad_line(line, LineFault::new(conflict(&error))) })
            }
            error => Err(error),
        }
    }

    fn list(&mut self, bad: &BadLine, text: &[u8]) -> Result<(), Failure> {
        self.summary.skipped += 1;
        self.skipped.as_mut().map_or(Ok(()), |skipped| skipped.add(bad, text))
    }

    async fn write(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let (lines, commits): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|Grouped { commit, lines, lost_claims }| ((lines, lost_claims), commit)).unzip();
        let answers = self.store.commit_all(commits).await;
        let (mut first, mut failed, mut repeated) = (None, None, Vec::new());
        for ((lines, lost_claims), answer) in lines.into_iter().zip(answers) {
            match answer {
                Ok(committed) if committed.repeated => {
                    self.summary.repeated += committed.events.len() as u64;
                    repeated.extend(committed.events);
                }
                Ok(committed) => {
                    self.summary.added += committed.events.len() as u64;
                    self.summary.lost_claims = self.summary.lost_claims.saturating_add(lost_claims);
                }
                Err(error) => {
                    let Some((number, _)) = lines.first() else { continue };
                    let bad = match self.refused_line(*number, error) {
                        Ok(bad) => bad,
                        Err(error) => {
                            failed.get_or_insert(error);
                            continue;
                        }
                    };
                    if self.skipped.is_none() {
                        first.get_or_insert(bad);
                        continue;
                    }
                    for (number, text) in &lines {
                        self.list(&BadLine { line: *number, ..bad.clone() }, text)?;
                    }
                }
            }
        }
        // ORDER: after all answers are counted, because other commits of the batch are written.
        failed.map_or(Ok(()), |error| Err(Failure::from(error)))?;
        self.summary.hidden += count_hidden(&*self.store, &repeated).await?;
        first.map_or(Ok(()), |bad| Err(bad.into()))
    }
}

/// Returns the scope of a rule or a deletion; `None` for other events.
fn retention_scope(stream: &StreamId, event: &NewEvent) -> Option<Scope> {
    if !is_retention_stream(stream) {
        return None;
    }
    match OperatorEvent::read(stream, &event.data.event_type, &event.data.payload).ok()? {
        OperatorEvent::RuleSet { scope, .. } | OperatorEvent::RuleCleared { scope, .. } => Some(scope),
        OperatorEvent::StreamDeleted { stream, .. } => Some(Scope::Stream(stream)),
        _ => None,
    }
}

/// Returns the number of these stored events that readers do not see. Reads the visible range of each stream once.
pub async fn count_hidden(store: &dyn EventStore, events: &[RecordedEvent]) -> Result<u64, StoreError> {
    let (mut hidden, mut first_visible) = (0, HashMap::new());
    for event in events {
        let first = match first_visible.get(&event.stream) {
            Some(first) => *first,
            None => {
                let first = store.retained(&event.stream).await?.first;
                first_visible.insert(&event.stream, first);
                first
            }
        };
        hidden += u64::from(event.is_removed() || event.revision < first);
    }
    Ok(hidden)
}

/// Returns the message of a conflict.
fn conflict(error: &CommitError) -> String {
    match error {
        // The message of the error advises to reload and decide again, which is for programs.
        CommitError::Conflict(Conflict { failed }) => {
            failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}
