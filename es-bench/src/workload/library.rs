//! What is loaded and read: streams of 10, of 100 and of 1,000 events, the same for everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bench::{Bench, Shelf};
use crate::contender::{Append, Contender, Durability, Opened, Selection, Task};
use crate::domain::{Tagging, sample};
use crate::failure::Failure;

/// How long streams are; there are as many of each length.
pub(crate) const LENGTHS: [u64; 3] = [10, 100, 1000];
/// How many tags there are.
pub(crate) const TAGS: u64 = 100;

const WRITERS: usize = 16;
/// How many events a commit has while the library is written.
const PER_COMMIT: u64 = 100;

/// The number of the n-th stream of this length.
pub(crate) fn stream(streams: u64, length: usize, nth: u64) -> u64 {
    length as u64 * streams + nth % streams
}

/// How many events the library has.
pub(crate) fn events(streams: u64) -> u64 {
    LENGTHS.iter().sum::<u64>() * streams
}

/// The library of each contender that offers the task; what is written once serves all workloads.
pub(crate) async fn shelves(bench: &mut Bench, workload: &str, task: Task) -> Result<Vec<Shelf>, Failure> {
    let mut shelves = Vec::new();
    for who in bench.entrants(workload, task) {
        if let Some(shelf) = bench.shelves.iter().find(|shelf| shelf.who.name() == who.name()) {
            shelves.push(shelf.clone());
            continue;
        }
        bench.say(workload, &format!("writing what is read: {}", who.name()));
        match fill(bench, &who).await {
            Ok(shelf) => {
                bench.shelves.push(shelf.clone());
                shelves.push(shelf);
            }
            Err(failure) => bench.failed(workload, "what is read", &who, &failure),
        }
    }
    Ok(shelves)
}

async fn fill(bench: &mut Bench, who: &Arc<dyn Contender>) -> Result<Shelf, Failure> {
    // NOTE: how it was written is not measured; it is written as fast as the contender can.
    let buffered = who.offers(Task::AppendBuffered).is_ok();
    let durability = if buffered { Durability::Buffered } else { Durability::Synced };
    let dir = bench.dir()?;
    let opened = bench.open(who, dir.path(), durability).await?;
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
        task.unwrap_or_else(|error| Err(Failure::caused_by("write what is read", &error)))?;
    }
    // NOTE: once before it is measured: snapshots are taken behind a load.
    if who.offers(Task::LoadSnapshot).is_ok() {
        for number in 0..streams * LENGTHS.len() as u64 {
            opened.load(number, true).await?;
            // NOTE: only so many snapshots may wait to be taken.
            if number % 32 == 31 {
                opened.settle_snapshots().await?;
            }
        }
    }
    opened.settle().await?;
    check(bench, who, &*opened).await?;
    Ok(Shelf { who: Arc::clone(who), opened })
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

/// A contender that reads other events than it was given is not measured.
async fn check(bench: &Bench, who: &Arc<dyn Contender>, opened: &dyn Opened) -> Result<(), Failure> {
    let streams = bench.plan.streams;
    if who.offers(Task::Load).is_ok() {
        for (index, length) in LENGTHS.into_iter().enumerate() {
            let folded = opened.load(stream(streams, index, 0), false).await?;
            if folded.events != length {
                return Err(Failure::new("load", format!("expected {length} events, found {}", folded.events)));
            }
        }
    }
    if who.offers(Task::ReadAll).is_ok() {
        let found = opened.read(Selection::All).await?;
        if found != events(streams) {
            return Err(Failure::new("read", format!("expected {} events, found {found}", events(streams))));
        }
    }
    Ok(())
}
