//! `import`: lines of JSON into a store, in their order, so that a repeat adds nothing twice.
//!
//! ```text
//!   file ── lines ──► parse ──► commits ──► batch, shared waits for the disk ──► store
//!                       │          │          │
//!                       └── bad ───┴── lines ─┴──► end of the import, or the list of --skip-bad
//! ```
//!
//! A commit is what must be repeated whole to be recognized. So its borders must not depend on where an import was
//! killed, or on the size of its batches: a line is a commit of its own unless its `commit` says otherwise.

mod advice;
mod commits;
mod group;
mod input;
mod lines;
mod skipped;

use std::io::Read;
use std::path::{Path, PathBuf};

use es_core::store::Conflict;
use es_core::{CommitError, EventReader, EventStore};
use es_rocksdb::{Options, RocksDbStore};
use serde::Serialize;

use crate::bad_line::BadLine;
use crate::failure::Failure;
use crate::progress::Bar;
use advice::Advice;
use commits::{Bad, Commits, Found};
use group::Grouped;
use input::Input;
use skipped::Skipped;

/// The longest line, in bytes: the largest payload in base64, with room for all else.
const MAX_LINE_BYTES: usize = 32 * 1024 * 1024;
/// The most bytes of lines in a batch, except where one commit has more.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What an import has done.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines that were read, without empty ones.
    pub lines: u64,
    /// Events that were added.
    pub added: u64,
    /// Events that the store had already.
    pub already_there: u64,
    /// The number of unique keys that the exported store held for added tombstones, and that no stream holds here.
    pub lost_claims: u64,
    /// Lines that were left out.
    pub skipped: u64,
    /// The position of the last event of the store.
    pub head: Option<u64>,
}

/// What to import, and how.
#[derive(Debug)]
pub struct Import<'a> {
    /// The file; `-` for standard input.
    pub file: &'a Path,
    /// Where to list what is bad, in place of stopping.
    pub skip_bad: Option<&'a Path>,
    /// How many commits share a wait for the disk.
    pub batch: usize,
}

/// Imports into the store in a directory, which is created where there is none.
///
/// # Errors
/// [`Failure`]; what was written before stays.
pub async fn run(store: &Path, import: &Import<'_>) -> Result<Summary, Failure> {
    // ORDER: the input first, so that a path that is wrong makes no empty store.
    let input = Input::open(import.file)?;
    let skipped = import.skip_bad.map(|list| Skipped::create(list, import.file)).transpose()?;
    let target = Options::new().open(store).await?;
    let bar = Bar::of_bytes("import", input.length);
    let mut importer = Importer {
        store: target,
        advice: Advice::new(store, &input),
        file: input.name.clone(),
        batch_commits: import.batch,
        batch: Vec::new(),
        bytes: 0,
        skipped,
        summary: Summary::default(),
    };
    let done = importer.all(Commits::new(input.reader, MAX_LINE_BYTES), &bar).await;
    drop(bar);
    let head = importer.store.head().await;
    let closed = importer.store.close().await;
    let Summary { added, already_there, .. } = importer.summary;
    done.map_err(|error| Failure::Stopped { source: Box::new(error), added, already_there })?;
    closed?;
    importer.skipped.map(Skipped::finish).transpose()?;
    Ok(Summary { head: head?.map(es_core::Position::get), ..importer.summary })
}

struct Importer {
    store: RocksDbStore,
    advice: Advice,
    file: PathBuf,
    batch_commits: usize,
    batch: Vec<Grouped>,
    bytes: usize,
    skipped: Option<Skipped>,
    summary: Summary,
}

impl Importer {
    async fn all(&mut self, mut commits: Commits<impl Read>, bar: &Bar) -> Result<(), Failure> {
        while let Some(found) = commits.next().map_err(|source| Failure::io("read", &self.file, source))? {
            match found {
                Found::Commit(commit) => self.add(commit).await?,
                Found::Bad(bad) => self.refuse(bad).await?,
            }
            bar.to(commits.bytes_read());
        }
        self.summary.lines = commits.lines_read();
        self.write().await
    }

    async fn add(&mut self, commit: Grouped) -> Result<(), Failure> {
        self.bytes += commit.lines.iter().map(|(_, text)| text.len()).sum::<usize>();
        self.batch.push(commit);
        if self.batch.len() >= self.batch_commits || self.bytes >= BATCH_BYTES { self.write().await } else { Ok(()) }
    }

    /// A line is bad, and with it the lines before it that belong to its commit.
    async fn refuse(&mut self, Bad { number, text, fault, before }: Bad) -> Result<(), Failure> {
        let fault = if number == 1 { self.advice.on_first(&text, fault) } else { fault };
        let bad = self.bad(number, fault.column, fault.message, false);
        if self.skipped.is_none() {
            // ORDER: what stands before it is written before the import ends.
            self.write().await?;
            return Err(bad.into());
        }
        for (other, text) in before {
            let message = format!("expected its commit to be whole, found a fault in line {number}");
            self.list(&self.bad(other, None, message, false), &text)?;
        }
        self.list(&bad, &text)
    }

    fn bad(&self, line: u64, column: Option<usize>, message: String, is_conflict: bool) -> BadLine {
        BadLine { file: self.file.clone(), line, column, message, is_conflict }
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
        let mut first = None;
        for ((lines, lost_claims), answer) in lines.into_iter().zip(answers) {
            match answer {
                Ok(committed) if committed.repeated => self.summary.already_there += committed.events.len() as u64,
                Ok(committed) => {
                    self.summary.added += committed.events.len() as u64;
                    self.summary.lost_claims = self.summary.lost_claims.saturating_add(lost_claims);
                }
                Err(error @ (CommitError::IdConflict(_) | CommitError::Conflict(_))) => {
                    let Some((number, _)) = lines.first() else { continue };
                    let bad = self.bad(*number, None, conflict(&error), true);
                    if self.skipped.is_none() {
                        first.get_or_insert(bad);
                        continue;
                    }
                    for (number, text) in &lines {
                        self.list(&BadLine { line: *number, ..bad.clone() }, text)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        first.map_or(Ok(()), |bad| Err(bad.into()))
    }
}

/// What a store has against a commit.
fn conflict(error: &CommitError) -> String {
    match error {
        // NOTE: its own words advise to reload and to decide again, which is for programs.
        CommitError::Conflict(Conflict { failed }) => {
            failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}
