//! The data set for loads and reads: streams of 10, 100 and 1,000 events, equal for all contenders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bench::{Bench, FilledStore};
use crate::contender::{Append, Contender, Durability, Opened, Selection, Task};
use crate::domain::{Tagging, sample};
use crate::failure::Failure;

/// The lengths of the streams; each has the same number of streams.
pub(crate) const LENGTHS: [u64; 3] = [10, 100, 1000];
/// The number of tags.
pub(crate) const TAGS: u64 = 100;

const WRITERS: usize = 16;
/// The number of events in a commit.
const PER_COMMIT: u64 = 100;

/// Returns the number of the n-th stream of this length.
pub(crate) fn stream(streams: u64, length: usize, nth: u64) -> u64 {
    length as u64 * streams + nth % streams
}

/// Returns the number of events in the data set.
pub(crate) fn events(streams: u64) -> u64 {
    LENGTHS.iter().sum::<u64>() * streams
}

/// Returns the data sets of the contenders that offer the task. Each is written once for all workloads.
pub(crate) async fn filled_stores(bench: &mut Bench, workload: &str, task: Task) -> Result<Vec<FilledStore>, Failure> {
    let mut filled_stores = Vec::new();
    for contender in bench.contenders_for(workload, task) {
        if let Some(store) = bench.filled_stores.iter().find(|store| store.contender.name() == contender.name()) {
            filled_stores.push(store.clone());
            continue;
        }
        bench.progress(workload, &format!("writing the data set: {}", contender.name()));
        match fill(bench, &contender).await {
            Ok(store) => {
                bench.filled_stores.push(store.clone());
                filled_stores.push(store);
            }
            Err(failure) => bench.record_failure(workload, "data set", &contender, &failure),
        }
    }
    Ok(filled_stores)
}

async fn fill(bench: &mut Bench, contender: &Arc<dyn Contender>) -> Result<FilledStore, Failure> {
    // Writing is not measured, so the fastest way is used.
    let buffered = contender.offers(Task::AppendBuffered).is_ok();
    let durability = if buffered { Durability::Buffered } else { Durability::Synced };
    let dir = bench.dir()?;
    let opened = bench.open(contender, dir.path(), durability).await?;
    bench.keep(dir);
    let (streams, payload) = (bench.plan.streams, bench.plan.payload);
    let (next, blocks) = (Arc::new(AtomicU64::new(0)), opened.blocks());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (opened, next) = (Arc::clone(&opened), Arc::clone(&next));
        let work = async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(length) = LENGTHS.get(usize::try_from(number / streams).unwrap_or(usize::MAX)) else {
                    return Ok(());
                };
                write_stream(&*opened, number, *length, payload).await?;
            }
        };
        if blocks {
            let runtime = tokio::runtime::Handle::current();
            tasks.spawn_blocking(move || runtime.block_on(work));
        } else {
            tasks.spawn(work);
        }
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap_or_else(|error| Err(Failure::caused_by("write the data set", &error)))?;
    }
    // Loads each stream once: snapshots are taken after a load, in the background.
    if contender.offers(Task::LoadSnapshot).is_ok() {
        for number in 0..streams * LENGTHS.len() as u64 {
            opened.load(number, true).await?;
            // The queue of snapshots is bounded.
            if number % 32 == 31 {
                opened.settle_snapshots().await?;
            }
        }
    }
    opened.settle().await?;
    check(bench, contender, &*opened).await?;
    Ok(FilledStore { contender: Arc::clone(contender), opened })
}

async fn write_stream(opened: &dyn Opened, stream: u64, length: u64, payload: usize) -> Result<(), Failure> {
    let (mut expected, mut seen) = (0, 0);
    while expected < length {
        let until = length.min(expected + PER_COMMIT);
        let events = (expected..until).map(|number| sample(stream, number, payload, Tagging::Spread(TAGS))).collect();
        seen = opened.append(Append { stream, expected, seen, conditional: false, events }).await?;
        expected = until;
    }
    Ok(())
}

/// Checks that the contender reads the events that were written.
async fn check(bench: &Bench, contender: &Arc<dyn Contender>, opened: &dyn Opened) -> Result<(), Failure> {
    let streams = bench.plan.streams;
    if contender.offers(Task::Load).is_ok() {
        for (index, length) in LENGTHS.into_iter().enumerate() {
            let folded = opened.load(stream(streams, index, 0), false).await?;
            if folded.events != length {
                return Err(Failure::new("load", format!("expected {length} events, found {}", folded.events)));
            }
        }
    }
    if contender.offers(Task::ReadAll).is_ok() {
        let found = opened.read(Selection::All).await?;
        if found != events(streams) {
            return Err(Failure::new("read", format!("expected {} events, found {found}", events(streams))));
        }
    }
    Ok(())
}
