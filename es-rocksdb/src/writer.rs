//! [`Writer`]: decides, writes and publishes commits. It is the only append path.
//!
//! ```text
//!   queue ──► 1 take a batch ──► 2 decide each commit ──► 3 one write, one sync ──► 4 publish ──► 5 answer each
//!                    ▲                                                                                 │
//!                    └───────────────── meanwhile the next batch fills in the queue ◄──────────────────┘
//! ```
//!
//! A batch has all queued commits, up to the limits. A lone commit does not wait for others. Concurrent commits share
//! one sync: group commit, as in "Implementation Techniques for Main Memory Database Systems", DeWitt et al. 1984.
//! [`group`](crate::group) documents on which thread the writer runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::vec::IntoIter;

use es_core::model::{Clock, ErrorChain};
use es_core::store::Committed;
use es_core::store::implement::{CommitDecision, Decider};
use es_core::{CommitError, StoreError};
use rocksdb::WriteBatch;
use tokio::sync::oneshot;

use crate::acknowledged::{Mark, MarkFile};
use crate::database::Database;
use crate::draft::{Draft, EncodedRecords};
use crate::group::Turn;
use crate::key;
use crate::overlay::{BatchView, KnownHeads, LogEnd, Overlay};
use crate::queue::{Queue, Request, split_by_operator};
use crate::recent::RecentIds;
use crate::retention::first_key;
use crate::schema::Cf;
use crate::shared::Shared;
use crate::stats::Stats;
use crate::sync::PoisonError;
use crate::tail::Segment;

/// Writes a batch to the disk. Tests replace it with a disk that fails.
pub(crate) type WriteToDisk = Box<dyn FnMut(WriteBatch) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Send>;

/// The state of writing. A store has one writer, which one thread at a time uses.
pub(crate) struct Writer {
    database: Arc<Database>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    disk: WriteToDisk,
    mark: Arc<MarkFile>,
    decider: Arc<Decider>,
    /// The number of syncs of each batch: 0 or 1.
    syncs: u64,
    end: LogEnd,
    known: KnownHeads,
    recent: RecentIds,
}

/// The parts of a new [`Writer`].
pub(crate) struct WriterParts {
    pub(crate) database: Arc<Database>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: WriteToDisk,
    pub(crate) mark: Arc<MarkFile>,
    pub(crate) decider: Arc<Decider>,
    pub(crate) is_synced: bool,
    pub(crate) end: LogEnd,
    pub(crate) cached_heads: usize,
    pub(crate) recent: RecentIds,
}

/// The sender of the answer to a commit.
type AnswerSender = oneshot::Sender<Result<Committed, CommitError>>;

/// The answer to a commit, before it is known whether its batch was written.
enum Answer {
    /// The next commit of the overlay.
    Written,
    /// An answer that is already known: a conflict, an error, a repeated commit, a commit without events.
    Other(Result<Committed, CommitError>),
}

/// A batch that is decided but not written yet.
struct Pending {
    overlay: Overlay,
    /// The records of each commit of the overlay.
    records: Vec<EncodedRecords>,
    answers: Vec<(AnswerSender, Answer)>,
    /// The number of commits with events or changed rows.
    changing: u64,
}

impl Writer {
    pub(crate) fn new(parts: WriterParts) -> Self {
        let WriterParts { database, shared, clock, disk, mark, decider, is_synced, end, cached_heads, recent } = parts;
        let (syncs, known) = (u64::from(is_synced), KnownHeads::new(cached_heads));
        Self { database, shared, clock, disk, mark, decider, syncs, end, known, recent }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        for group in split_by_operator(requests) {
            self.serve_group(group);
        }
    }

    fn serve_group(&mut self, requests: Vec<Request>) {
        let shared = Arc::clone(&self.shared);
        // A poisoned lock is consistent: a scavenge has no code that can panic while it holds the lock, and after a
        // panic of the writer there is no writer.
        let mut turn = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = Pending {
            overlay: Overlay::new(self.end),
            records: Vec::with_capacity(requests.len()),
            answers: Vec::with_capacity(requests.len()),
            changing: 0,
        };
        // Holds the room of the requests in the queue until the batch is done.
        let mut rooms = Vec::with_capacity(requests.len());
        for Request { draft, answer, room } in requests {
            rooms.push(room);
            let decided = match &*turn {
                Err(reason) => Answer::Other(Err(stopped(reason))),
                Ok(()) => self.decide(draft, &mut pending),
            };
            pending.answers.push((answer, decided));
        }
        let written = if pending.overlay.is_changed() { self.write(&pending) } else { Ok(()) };
        match written {
            // ORDER: write, then publish, then answer, so that a caller with an answer can read its events. Conflicts
            // are answered then, too, because a conflict can name a revision of the same batch.
            Ok(()) => {
                let evicted = self.publish(&mut pending);
                drop(turn);
                answer(pending.answers, pending.overlay.committed.into_iter());
                drop(evicted);
            }
            Err(reason) => {
                shared.stop(&self.database, &mut turn, &reason);
                drop(turn);
                for (sender, _) in pending.answers {
                    // An error means that the future of the commit was dropped, here and below.
                    let _ = sender.send(Err(stopped(&reason)));
                }
            }
        }
    }

    /// Decides a commit as if the earlier commits of the batch were written.
    fn decide(&mut self, Draft { mut commit, mut records }: Draft, pending: &mut Pending) -> Answer {
        let Pending { overlay, changing, .. } = pending;
        let mut view = BatchView {
            database: &self.database,
            written: self.end.head,
            known: &mut self.known,
            recent: &self.recent,
            overlay,
            operators: &self.shared.operators,
            secret: &self.shared.secret,
        };
        let committed = match self.decider.decide(&mut commit, &mut view, self.clock.now()) {
            Ok(CommitDecision::Write(committed)) => committed,
            Ok(CommitDecision::Repeat(committed)) => return Answer::Other(Ok(committed)),
            Err(error) => return Answer::Other(Err(error)),
        };
        if commit.has_changed_events() {
            records = match Draft::reencode(&committed.events) {
                Ok(records) => records,
                Err(error) => return Answer::Other(Err(error.into())),
            };
        }
        *changing += u64::from(!(committed.events.is_empty() && commit.rows().is_empty()));
        overlay.change(&commit);
        if committed.events.is_empty() {
            return Answer::Other(Ok(committed));
        }
        records.number(&committed.events);
        pending.records.push(records);
        overlay.append(committed, &self.shared.secret);
        Answer::Written
    }

    fn write(&mut self, pending: &Pending) -> Result<(), String> {
        let batch = write_batch(&self.database, &pending.overlay, &pending.records)
            .map_err(|error| ErrorChain(&error).to_string())?;
        let bytes = batch.size_in_bytes() as u64;
        let (commits, events) = (pending.changing, pending.overlay.events().count() as u64);
        tracing::trace!(commits, events, bytes, "writing a batch");
        // ORDER: before and after the write. If the directory was replaced, RocksDB would write into files of another
        // store. If it was removed during the write, the commit must not be acknowledged.
        let in_place = || self.mark.check_in_place().map_err(|error| format!("a write failed: {error}"));
        in_place()?;
        (self.disk)(batch).map_err(|error| format!("a write failed: {error}"))?;
        in_place()?;
        self.shared.counters.add(Stats { commits, batches: 1, events, bytes, syncs: self.syncs, ..Stats::default() });
        Ok(())
    }

    /// Makes the batch visible to readers. Returns the segments that the tail evicted, for the caller to drop.
    fn publish(&mut self, pending: &mut Pending) -> Vec<Arc<Segment>> {
        self.end = pending.overlay.end;
        self.shared.set_last_recorded(self.end.recorded_at);
        // ORDER: before the batch is visible, so that a read that returns a retention event also applies its rule.
        if let Err(error) = self.shared.operators.apply(pending.overlay.events()) {
            tracing::error!(error = %ErrorChain(&error), "an event of a reserved stream could not be applied");
        }
        self.known.remember(std::mem::take(&mut pending.overlay.heads));
        for event in pending.overlay.events() {
            self.recent.remember(event.data.id, event.position);
        }
        let sequence = self.database.sequence();
        if self.syncs > 0 {
            // ORDER: after the sync, because the mark must not be ahead of the disk; before the answers, because the
            // mark must include each acknowledged commit.
            self.mark.raise(Mark { sequence, head: self.end.head });
        }
        // ORDER: the tail before the head, so that a notified follower finds the event in the tail.
        let evicted =
            self.shared.tail.push(pending.overlay.events(), pending.records.iter().map(EncodedRecords::bytes).sum());
        self.shared.visible.publish(self.end.head, sequence);
        evicted
    }
}

fn stopped(reason: &str) -> CommitError {
    StoreError::Stopped { reason: reason.to_owned() }.into()
}

/// Answers the commits of a written batch.
fn answer(answers: Vec<(AnswerSender, Answer)>, mut committed: IntoIter<Committed>) {
    for (sender, answer) in answers {
        let answer = match answer {
            Answer::Other(answer) => Some(answer),
            Answer::Written => committed.next().map(Ok),
        };
        if let Some(answer) = answer {
            let _ = sender.send(answer);
        }
    }
}

/// Returns all changes of a batch, in all column families, as one write.
fn write_batch(database: &Database, overlay: &Overlay, records: &[EncodedRecords]) -> Result<WriteBatch, StoreError> {
    let [log, streams, heads, ids, categories, types, tags, keys, rows] = families(database)?;
    let bytes: usize = records.iter().map(EncodedRecords::bytes).sum();
    let mut batch = WriteBatch::with_capacity_bytes(bytes.saturating_mul(2).saturating_add(4096));
    for (stream, first) in &overlay.firsts {
        batch.put_cf(database.family(Cf::Meta)?, first_key(stream), key::revision(*first));
    }
    for (event, record) in overlay.events().zip(records.iter().flat_map(EncodedRecords::iter)) {
        let position = event.position;
        batch.put_cf(log, key::position(position), record);
        if event.is_removed() {
            batch.put_cf(ids, key::id(event.data.id), key::position(position));
            continue;
        }
        batch.put_cf(streams, key::in_stream(&event.stream, event.revision), record);
        batch.put_cf(ids, key::id(event.data.id), key::position(position));
        batch.put_cf(categories, key::posting(event.stream.category_str(), position), []);
        batch.put_cf(types, key::posting(event.data.event_type.as_str(), position), []);
        for tag in &event.data.tags {
            batch.put_cf(tags, key::posting(tag.as_str(), position), []);
        }
    }
    for (stream, revision) in &overlay.heads {
        batch.put_cf(heads, stream.as_str(), key::revision(*revision));
    }
    for (hash, owner) in &overlay.owners {
        match owner {
            Some(owner) => batch.put_cf(keys, hash.as_bytes(), key::owner(owner)),
            None => batch.delete_cf(keys, hash.as_bytes()),
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

/// Returns the column families that a batch can change, except [`Cf::Meta`].
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

/// Runs the writer thread: serves turns until the queue is closed and empty.
pub(crate) fn run(queue: &Queue<Writer>) {
    while let Some(turn) = queue.next_turn() {
        turn.serve(Writer::serve);
    }
}

/// Serves a turn on the thread of the caller.
pub(crate) fn serve_on_caller(turn: Turn<'_, Request, Writer>) {
    // A panic of the writer must not become a panic of the caller, which gets an error instead. This is unwind-safe:
    // the turn drops the writer, so that no state of the panicked batch is used again.
    let served = catch_unwind(AssertUnwindSafe(|| turn.serve(Writer::serve)));
    if served.is_err() {
        tracing::error!("the writer panicked; this is a bug, and the message of the panic has its location");
    }
}

#[cfg(test)]
mod tests;
