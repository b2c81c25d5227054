//! Verification of a whole store.
//!
//! ```text
//!   1 log      each segment alone, in parallel: checksums, chain of frames, footers; each event: commit, time;
//!              sums up the index entries that the events need                                         (facts)
//!   2 tail     the events after the tables continue their streams
//!   3 tables   each family, in parallel: sums up its entries; copies without gaps, heads, first revisions (tables)
//!   4 entries  only if the sums of a family differ: looks up each entry, in both directions          (entries)
//!   5 keys     each claim has its entry, a later claim or a release; each entry has its claim          (keys)
//!   6 rows     each row that a frame names has the value of the last frame; no other row, if no frame was rewritten
//!   7 blocks   the checksum of each block of each table, including blocks that RocksDB skips if they are corrupt
//! ```
//!
//! A sum is the number of entries and the sum of their hashes. It does not depend on their order, so that both sides
//! are read once, in their own order. An entry after the tables is compared with the runs in memory, which were made
//! from the log: a process can end after it wrote some tables of a run.

mod blocks;
mod entries;
mod facts;
mod findings;
mod key_parts;
mod keys;
mod tables;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use es_core::store::implement::KeySecret;
use es_core::{Position, Revision, StoreError, StreamId};
use es_log::{Disk, verify_and_visit};

use crate::engine::database::{Database, Tier, place_in};
use crate::engine::layout;
use crate::index::{END, IndexView, decode_head, of_log};
use crate::reader::shared::Core;
use crate::record::codec::LogDecoder;
use crate::retention::Operators;
use crate::schema::Cf;
use blocks::verify_blocks;
use facts::{Facts, Totals};
use tables::FamilySum;

pub use findings::{Damage, Progress, Verification};
pub(crate) use key_parts::{has_table, place_in_stream, split_numbered};

/// The time between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// What is verified.
pub(crate) struct Inputs<'a> {
    pub(crate) core: &'a Core,
    pub(crate) disk: Arc<dyn Disk>,
    /// The directory of the log.
    pub(crate) log_directory: PathBuf,
    /// The options of the database, which have its statistics.
    pub(crate) counts: &'a rocksdb::Options,
}

/// What all threads of a verification read.
struct Context<'a> {
    inputs: &'a Inputs<'a>,
    view: IndexView<'a>,
    database: &'a Database,
    operators: &'a Operators,
    secret: &'a KeySecret,
    /// The position up to which the tables have all events.
    applied: Option<Position>,
    /// The last frame of the snapshot. Another process may have written further ones.
    last_frame: u64,
    /// Whether a scavenge is not complete: entries of removed events may be left then.
    is_scavenging: bool,
    threads: NonZeroUsize,
    /// The number of entries that were verified in the current step.
    processed: AtomicU64,
}

impl Context<'_> {
    fn is_in_tables(&self, position: Position) -> bool {
        Some(position) <= self.applied
    }

    fn count(&self) {
        self.processed.fetch_add(1, Ordering::Relaxed);
    }

    /// Verifies the log, and calls `visit` with each valid frame of the snapshot.
    fn visit_log<V: Default + Send>(
        &self,
        visit: impl Fn(&mut V, &es_log::Frame) + Sync,
    ) -> Result<(es_log::VerifyReport, Vec<V>), StoreError> {
        let visit_known = |value: &mut V, frame: &es_log::Frame| {
            if frame.header().number <= self.last_frame {
                visit(value, frame);
            }
        };
        verify_and_visit(&self.inputs.disk, &self.inputs.log_directory, self.threads, visit_known).map_err(of_log)
    }

    /// Runs a step on other threads, and reports its progress meanwhile.
    fn with_progress<T: Send>(
        &self,
        step: &str,
        total: Option<u64>,
        progress: &mut dyn FnMut(&str, u64, Option<u64>),
        work: impl FnOnce() -> T + Send,
    ) -> T {
        self.processed.store(0, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let (ended, is_ended) = mpsc::channel::<()>();
            let worker = scope.spawn(move || {
                let _ended = ended;
                work()
            });
            while is_ended.recv_timeout(PROGRESS_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                progress(step, self.processed.load(Ordering::Relaxed), total);
            }
            progress(step, self.processed.load(Ordering::Relaxed), total);
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs jobs on as many threads as there are processors. Returns their results in order.
    fn in_parallel<J: Sync, T: Send>(&self, jobs: &[J], run: impl Fn(&J) -> T + Sync) -> Vec<T> {
        let (next, results) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Ok(index) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                && let Some(job) = jobs.get(index)
            {
                let result = run(job);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.get().min(jobs.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// Verifies a store.
pub(crate) fn verify(inputs: &Inputs<'_>, progress: Progress<'_>) -> Result<Verification, StoreError> {
    let (core, publisher) = (inputs.core, &inputs.core.publisher);
    let applied = layout::applied(&publisher.database)?;
    let scavenged = publisher.database.scavenged()?;
    let context = Context {
        inputs,
        view: core.view(END),
        database: &publisher.database,
        operators: &publisher.operators,
        secret: &core.secret,
        applied,
        last_frame: core.log.last_frame(),
        is_scavenging: publisher.operators.all().points().iter().any(|point| Some(point.position) > scavenged),
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        processed: AtomicU64::new(0),
    };
    let head = core.log.head().map(Position::get);
    let visited = context.with_progress("log", head, progress, || {
        context.visit_log(|facts: &mut Facts, frame| facts.frame(&context, frame))
    });
    let (report, facts) = visited?;
    let mut found = Verification::default();
    for damage in &report.damages {
        let place = damage.position.map_or_else(|| damage.file.clone(), crate::engine::database::place_of);
        found.add(place, damage.to_string());
    }
    let is_log_sound = report.is_sound();
    let totals = Totals::of(facts, &mut found)?;
    (found.events, found.removed) = (totals.events, totals.removed);
    let streams_in_memory = tail(&context, &mut found)?;

    let families = [Cf::Streams, Cf::Ids, Cf::Categories, Cf::Types, Cf::Tags, Cf::Keys, Cf::Rows, Cf::Meta];
    let scanned = context.with_progress("index", None, progress, || {
        context.in_parallel(&families, |cf| tables::scan(&context, *cf, &totals, is_log_sound))
    });
    let mut differing = Vec::new();
    for (cf, scan) in families.into_iter().zip(scanned) {
        let FamilySum { found: of_family, sum, entries, streams } = scan?;
        found.merge(of_family);
        found.entries += entries;
        found.streams += streams;
        if sum.is_some_and(|sum| sum != totals.sum(cf)) {
            differing.push((cf, sum.unwrap_or_default(), totals.sum(cf)));
        }
    }
    found.entries += totals.events + totals.removed;
    found.streams += streams_in_memory;
    if !differing.is_empty() {
        let searched = context.with_progress("entries", None, progress, || entries::search(&context, &differing));
        let details = searched?;
        let is_explained = !details.is_sound() || context.is_scavenging || !found.is_sound();
        found.merge(details);
        for (cf, sum, expected) in differing.iter().filter(|_| !is_explained) {
            let detail = format!("expected {} entries, found {} with other contents", expected.count, sum.count);
            found.add(format!("column family {}", cf.name()), detail);
        }
    }
    let step = |done: u64, total: u64| progress("tables", done, Some(total));
    verify_blocks(&publisher.database, inputs.counts, &mut found, step)?;
    Ok(found)
}

/// Checks that the events after the tables continue their streams. Returns the number of streams that begin with them.
fn tail(context: &Context<'_>, found: &mut Verification) -> Result<u64, StoreError> {
    let mut reader = context.inputs.core.log.read_after(context.applied);
    let (mut decoder, mut last, mut begun) = (LogDecoder::default(), HashMap::<StreamId, Revision>::new(), 0);
    // The verification of the log has a finding for a frame that cannot be read.
    while let Ok(Some(batch)) = reader.next_batch() {
        for record in batch.records() {
            let Ok(Some(event)) =
                record.map_err(drop).and_then(|record| decoder.event(&record, batch.bytes()).map_err(drop))
            else {
                continue;
            };
            let expected = match last.get(&event.stream) {
                Some(last) => Some(last.next()),
                None => match context.database.get(Cf::Heads, event.stream.as_str().as_bytes(), Tier::Any)? {
                    // A head can be ahead of the other tables.
                    Some(head) => decode_head(&head)
                        .ok()
                        .and_then(|(revision, position)| context.is_in_tables(position).then(|| revision.next())),
                    None => {
                        begun += 1;
                        Some(Revision::FIRST)
                    }
                },
            };
            if let Some(expected) = expected.filter(|expected| *expected != event.revision) {
                let detail = format!("expected an event, found the next at revision {}", event.revision);
                found.add(place_in(&event.stream, expected), detail);
            }
            last.insert(event.stream, event.revision);
        }
    }
    Ok(begun)
}
