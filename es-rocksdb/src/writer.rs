//! The writer: one thread, and the only append path.
//!
//! ```text
//!   queue ──► 1 take what waits ──► 2 decide each ──► 3 one write, one sync ──► 4 publish ──► 5 answer each
//!                    ▲                                                                             │
//!                    └─────────────── meanwhile the next batch fills in the queue ◄────────────────┘
//! ```
//!
//! A lone commit waits for nobody: what waits is taken, be it one commit. A crowd shares one sync (group commit, as in
//! "Implementation Techniques for Main Memory Database Systems", DeWitt et al. 1984).

use std::sync::{Arc, PoisonError};
use std::vec::IntoIter;

use es_core::clock::Clock;
use es_core::retention::is_reserved;
use es_core::store::decide::{Decision, decide};
use es_core::{Commit, CommitError, Committed, RecordedEvent, StoreError};
use rocksdb::WriteBatch;
use tokio::sync::oneshot;

use crate::acknowledged::{Mark, MarkFile};
use crate::database::{Database, place_in};
use crate::key;
use crate::overlay::{BatchView, KnownHeads, LogEnd, Overlay};
use crate::queue::{BatchLimits, Queue, Request};
use crate::record;
use crate::retention::{apart, first_key};
use crate::schema::{Cf, FORMAT_VERSION, META_FORMAT};
use crate::shared::Shared;
use crate::stats::Stats;

/// The one place where a batch goes to the disk; a test puts a failing disk here.
pub(crate) type WriteToDisk = Box<dyn FnMut(WriteBatch) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send>;

/// All state that writing needs. It lives on one thread and is shared with nobody.
pub(crate) struct Writer {
    queue: Arc<Queue>,
    limits: BatchLimits,
    database: Arc<Database>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    disk: WriteToDisk,
    mark: Arc<MarkFile>,
    /// How many times a batch waits for the disk.
    syncs: u64,
    end: LogEnd,
    known: KnownHeads,
    /// Why nothing is written any more.
    stopped: Option<String>,
}

/// What a [`Writer`] is made of.
pub(crate) struct Parts {
    pub(crate) queue: Arc<Queue>,
    pub(crate) limits: BatchLimits,
    pub(crate) database: Arc<Database>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: WriteToDisk,
    pub(crate) mark: Arc<MarkFile>,
    pub(crate) is_synced: bool,
    pub(crate) end: LogEnd,
    pub(crate) cached_heads: usize,
}

/// Who waits for the answer to a commit.
type Asker = oneshot::Sender<Result<Committed, CommitError>>;

/// The answer to a commit, before it is known whether its batch was written.
enum Answer {
    /// The next of what the overlay has committed.
    Written,
    /// Something else: a conflict, a repeat, a commit without events.
    Other(Result<Committed, CommitError>),
}

/// A batch that is decided and not yet written.
struct Pending {
    overlay: Overlay,
    records: Records,
    answers: Vec<(Asker, Answer)>,
    /// How many commits of the batch change anything.
    changing: u64,
}

impl Writer {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { queue, limits, database, shared, clock, disk, mark, is_synced, end, cached_heads } = parts;
        let (syncs, known) = (u64::from(is_synced), KnownHeads::new(cached_heads));
        Self { queue, limits, database, shared, clock, disk, mark, syncs, end, known, stopped: None }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        // NOTE: if this thread should panic, nobody must wait for it.
        let _abandon = AbandonOnDrop(Arc::clone(&self.queue));
        loop {
            let requests = self.queue.take(self.limits);
            if requests.is_empty() {
                return;
            }
            for requests in apart(requests) {
                self.serve(requests);
            }
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let mut pending = Pending {
            overlay: Overlay::new(self.end),
            records: Records::default(),
            answers: Vec::with_capacity(requests.len()),
            changing: 0,
        };
        // NOTE: the room of the requests in the queue is given back when the batch is done, not before.
        let mut rooms = Vec::with_capacity(requests.len());
        for Request { commit, answer, room } in requests {
            rooms.push(room);
            let decided = match &self.stopped {
                Some(reason) => Answer::Other(Err(stopped(reason))),
                None => self.decide(&commit, &mut pending),
            };
            pending.answers.push((answer, decided));
        }
        let shared = Arc::clone(&self.shared);
        let turn = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = if pending.overlay.is_changed() { self.write(&pending) } else { Ok(()) };
        match written {
            // ORDER: write, then publish, then answer: who has an answer finds what it says. This holds for a conflict
            // as well: it may name a revision of this very batch.
            Ok(()) => {
                self.publish(&mut pending);
                drop(turn);
                answer(pending.answers, pending.overlay.committed.into_iter());
            }
            Err(reason) => {
                self.stop(&reason);
                for (asker, _) in pending.answers {
                    // NOTE: an error says that nobody waits any more, here and below.
                    let _ = asker.send(Err(stopped(&reason)));
                }
            }
        }
    }

    /// Decides on a commit as if those before it in the batch had been written.
    fn decide(&mut self, commit: &Commit, pending: &mut Pending) -> Answer {
        let Pending { overlay, records, changing, .. } = pending;
        let written = self.end.head;
        let mut view = BatchView {
            database: &self.database,
            written,
            known: &mut self.known,
            overlay,
            operators: &self.shared.operators,
        };
        let committed = match decide(commit, &mut view, self.clock.now()) {
            Ok(Decision::Write(committed)) => committed,
            Ok(Decision::Repeat(committed)) => return Answer::Other(Ok(committed)),
            Err(error) => return Answer::Other(Err(error)),
        };
        if let Err(error) = records.extend(&committed.events) {
            return Answer::Other(Err(error.into()));
        }
        *changing += u64::from(!(committed.events.is_empty() && commit.keys().is_empty() && commit.rows().is_empty()));
        overlay.change(commit);
        if committed.events.is_empty() {
            return Answer::Other(Ok(committed));
        }
        overlay.append(committed);
        Answer::Written
    }

    fn write(&mut self, pending: &Pending) -> Result<(), String> {
        let batch =
            write_batch(&self.database, &pending.overlay, &pending.records).map_err(|error| error.to_string())?;
        let bytes = batch.size_in_bytes() as u64;
        let (commits, events) = (pending.changing, pending.records.ends.len() as u64);
        tracing::trace!(commits, events, bytes, "writing a batch");
        (self.disk)(batch).map_err(|error| format!("a write failed: {error}"))?;
        self.shared.counters.add(Stats { commits, batches: 1, events, bytes, syncs: self.syncs });
        Ok(())
    }

    fn publish(&mut self, pending: &mut Pending) {
        self.end = pending.overlay.end;
        // ORDER: before it is visible, so that a read that sees the event of an operator does what it says.
        if let Err(error) = self.shared.operators.take_in(pending.overlay.events()) {
            tracing::error!(%error, "an event of a reserved stream could not be taken in");
        }
        self.known.remember(std::mem::take(&mut pending.overlay.heads));
        let sequence = self.database.sequence();
        if self.syncs > 0 {
            // ORDER: behind the sync, because the mark must be true; before the answer, because it must not miss one.
            self.mark.raise(Mark { sequence, head: self.end.head });
        }
        self.shared.visible.publish(self.end.head, sequence);
    }

    /// After a failed write it is unknown what is on the disk: nothing more must be put behind it.
    fn stop(&mut self, reason: &str) {
        tracing::error!(folder = %self.database.folder().display(), reason, "the store takes no more writes");
        self.shared.visible.stop();
        self.stopped = Some(reason.to_owned());
    }
}

fn stopped(reason: &str) -> CommitError {
    StoreError::Stopped { reason: reason.to_owned() }.into()
}

/// Answers the commits of a batch that was written.
fn answer(answers: Vec<(Asker, Answer)>, mut committed: IntoIter<Committed>) {
    for (asker, answer) in answers {
        let answer = match answer {
            Answer::Other(answer) => Some(answer),
            Answer::Written => committed.next().map(Ok),
        };
        if let Some(answer) = answer {
            let _ = asker.send(answer);
        }
    }
}

/// The records of a batch, one behind the other.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    /// Adds the records of a commit, all or none.
    fn extend(&mut self, events: &[RecordedEvent]) -> Result<(), StoreError> {
        let before = (self.bytes.len(), self.ends.len());
        for event in events {
            if let Err(error) = record::encode(event, &mut self.bytes) {
                self.bytes.truncate(before.0);
                self.ends.truncate(before.1);
                return Err(StoreError::io(format!("encode {}", place_in(&event.stream, event.revision)), error));
            }
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default())
    }
}

/// Everything that a batch changes, in every family, as one write.
fn write_batch(database: &Database, overlay: &Overlay, records: &Records) -> Result<WriteBatch, StoreError> {
    let [log, streams, heads, ids, categories, types, tags, keys, rows] = families(database)?;
    let mut batch = WriteBatch::with_capacity_bytes(records.bytes.len().saturating_mul(2).saturating_add(4096));
    if overlay.events().any(|event| event.is_removed() || is_reserved(&event.stream)) {
        batch.put_cf(database.family(Cf::Meta)?, META_FORMAT, FORMAT_VERSION.to_be_bytes());
    }
    for (stream, first) in &overlay.firsts {
        batch.put_cf(database.family(Cf::Meta)?, first_key(stream), key::revision(*first));
    }
    for (event, record) in overlay.events().zip(records.iter()) {
        let position = event.position;
        batch.put_cf(log, key::position(position), record);
        if event.is_removed() {
            batch.put_cf(ids, key::id(event.id), key::position(position));
            continue;
        }
        batch.put_cf(streams, key::in_stream(&event.stream, event.revision), record);
        batch.put_cf(ids, key::id(event.id), key::position(position));
        batch.put_cf(categories, key::posting(event.stream.category_str(), position), []);
        batch.put_cf(types, key::posting(event.event_type.as_str(), position), []);
        for tag in &event.tags {
            batch.put_cf(tags, key::posting(tag.as_str(), position), []);
        }
    }
    for (stream, revision) in &overlay.heads {
        batch.put_cf(heads, stream.as_str(), key::revision(*revision));
    }
    for (unique, owner) in &overlay.owners {
        match owner {
            Some(stream) => batch.put_cf(keys, key::unique(unique), stream.as_str()),
            None => batch.delete_cf(keys, key::unique(unique)),
        }
    }
    for ((table, row), value) in &overlay.rows {
        match value {
            Some(value) => batch.put_cf(rows, key::row(table, row), value),
            None => batch.delete_cf(rows, key::row(table, row)),
        }
    }
    Ok(batch)
}

/// Every family that a batch may change.
fn families(database: &Database) -> Result<[&rocksdb::ColumnFamily; 9], StoreError> {
    let family = |cf| database.family(cf);
    Ok([
        family(Cf::Log)?,
        family(Cf::Streams)?,
        family(Cf::Heads)?,
        family(Cf::Ids)?,
        family(Cf::Categories)?,
        family(Cf::Types)?,
        family(Cf::Tags)?,
        family(Cf::Keys)?,
        family(Cf::Rows)?,
    ])
}

/// Lets go of everybody who waits for a writer that is gone.
struct AbandonOnDrop(Arc<Queue>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests;
