//! The writers in the child: they commit until the child is killed or a commit fails.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use es_core::model::ErrorChain;
use es_core::projection::inline::Inline;
use es_core::{CommitError, EventReader, EventStore, LogRead};
use es_rocksdb::{Durability, RocksDbStore};

use super::work::{Name, WRITERS};
use super::{Random, options};
use crate::counted::EventsOfStreams;

/// The parameters of a child.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// The number of the child for this directory.
    pub run: u32,
    /// The durability of commits.
    pub durability: Durability,
    /// Number of commits per writer; 0 for unlimited.
    pub commits: u32,
}

/// Opens the store and commits. Prints these lines to standard output:
///
/// - `A run writer number first last`: the commit is acknowledged at these positions.
/// - `O error`: the store cannot be opened.
/// - `E error`: a commit failed, and its writer has stopped.
/// - `T error`: the result of one more commit after all writers have stopped.
/// - `R events`: the result of a read of the log after all writers have stopped.
/// - `C error`: the store cannot be closed.
///
/// # Panics
/// If standard output is closed, or a commit returns no events.
pub async fn write(dir: &Path, task: Task) {
    // Tables and full segments are synced. With `Buffered`, larger ones avoid this, so that no data is synced.
    let options = match task.durability {
        Durability::Sync => options(),
        Durability::Buffered => {
            options().write_buffer_bytes(64 << 20).index_run(1 << 20, 64 << 20).log_segment_bytes(16 << 20)
        }
    };
    let options = options.durability(task.durability).hook(Inline::new(EventsOfStreams::<1>));
    let store = match RocksDbStore::open_with(dir, options).await {
        Ok(store) => store,
        Err(error) => return print(&format!("O {}", ErrorChain(&error))),
    };
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write_as(store.clone(), task, writer))).collect();
    let mut failed = false;
    for writer in writers {
        failed |= writer.await.expect("a writer does not panic").is_err();
    }
    if failed {
        let last = Name { run: task.run, writer: 0, number: u32::MAX };
        match store.commit(last.commit()).await {
            Ok(_) => print("T acknowledged"),
            Err(error) => print(&format!("T {}", ErrorChain(&error))),
        }
        match count(&store).await {
            Ok(events) => print(&format!("R {events}")),
            Err(error) => print(&format!("R {}", ErrorChain(&error))),
        }
    }
    if let Err(error) = store.close().await {
        print(&format!("C {}", ErrorChain(&error)));
    }
}

/// Commits until the number of commits is reached or a commit fails.
async fn write_as(store: RocksDbStore, task: Task, writer: u16) -> Result<(), CommitError> {
    let mut random = Random::new(u64::from(task.run) << 16 | u64::from(writer));
    for number in 1.. {
        if task.commits > 0 && number > task.commits {
            break;
        }
        let name = Name { run: task.run, writer, number };
        // Some commits are repeated, which must add no events and return the same positions.
        let times = if random.once_in(8) { 2 } else { 1 };
        for _ in 0..times {
            commit(&store, name).await.inspect_err(|error| print(&format!("E {}", ErrorChain(error))))?;
        }
        if random.once_in(3) {
            tokio::time::sleep(Duration::from_millis(random.below(6))).await;
        }
    }
    Ok(())
}

async fn commit(store: &RocksDbStore, name: Name) -> Result<(), CommitError> {
    let committed = store.commit(name.commit()).await?;
    let (Some(first), Some(last)) = (committed.events.first(), committed.events.last()) else {
        panic!("commit {name} returned no events");
    };
    let Name { run, writer, number } = name;
    print(&format!("A {run} {writer} {number} {} {}", first.position, last.position));
    Ok(())
}

async fn count(store: &RocksDbStore) -> Result<usize, es_core::StoreError> {
    Ok(store.read_log(LogRead::all()).await?.collect().await?.len())
}

fn print(line: &str) {
    let line = format!("{}\n", line.replace('\n', " "));
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads standard output");
}
