//! What runs in the child: writers that commit until they are killed, or until the store refuses.

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

/// What a child is told to do.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Which child of the directory it is.
    pub run: u32,
    /// When it acknowledges.
    pub durability: Durability,
    /// How many commits each writer makes; 0 for no end.
    pub commits: u32,
}

/// Opens the directory and commits. It says on stdout, a line each:
///
/// - `A run writer number first last`: this commit is acknowledged, at these positions;
/// - `O error`: the store does not open; `E error`: a commit failed, and its writer has stopped;
/// - `T error`, `R events`: when all writers have stopped, what one more commit and a read of the log gave.
///
/// # Panics
/// Where stdout is gone, or an acknowledgement contradicts the commit.
pub async fn write(dir: &Path, task: Task) {
    // NOTE: tables are synced when they are written. Without a sync of its own, the control must not get one of theirs.
    let options = match task.durability {
        Durability::Sync => options(),
        Durability::Buffered => options().write_buffer_bytes(64 << 20),
    };
    let options = options.durability(task.durability).hook(Inline::new(EventsOfStreams::<1>));
    let store = match RocksDbStore::open_with(dir, options).await {
        Ok(store) => store,
        Err(error) => return say(&format!("O {}", ErrorChain(&error))),
    };
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write_as(store.clone(), task, writer))).collect();
    let mut failed = 0;
    for writer in writers {
        failed += usize::from(!writer.await.expect("a writer does not panic"));
    }
    if failed > 0 {
        let last = Name { run: task.run, writer: 0, number: u32::MAX };
        match store.commit(last.commit()).await {
            Ok(_) => say("T acknowledged"),
            Err(error) => say(&format!("T {}", ErrorChain(&error))),
        }
        match count(&store).await {
            Ok(events) => say(&format!("R {events}")),
            Err(error) => say(&format!("R {}", ErrorChain(&error))),
        }
    }
    if let Err(error) = store.close().await {
        say(&format!("C {}", ErrorChain(&error)));
    }
}

/// Commits until the end or a refusal; says whether it came to the end.
async fn write_as(store: RocksDbStore, task: Task, writer: u16) -> bool {
    let mut random = Random::new(u64::from(task.run) << 16 | u64::from(writer));
    for number in 1.. {
        if task.commits > 0 && number > task.commits {
            break;
        }
        let name = Name { run: task.run, writer, number };
        // NOTE: again and again one commit is repeated, which must add nothing and give the same positions.
        let times = if random.once_in(8) { 2 } else { 1 };
        for _ in 0..times {
            if let Err(error) = commit(&store, name).await {
                say(&format!("E {}", ErrorChain(&error)));
                return false;
            }
        }
        if random.once_in(3) {
            tokio::time::sleep(Duration::from_millis(random.below(6))).await;
        }
    }
    true
}

async fn commit(store: &RocksDbStore, name: Name) -> Result<(), CommitError> {
    let committed = store.commit(name.commit()).await?;
    let (Some(first), Some(last)) = (committed.events.first(), committed.events.last()) else {
        panic!("commit {name} gave no events");
    };
    let Name { run, writer, number } = name;
    say(&format!("A {run} {writer} {number} {} {}", first.position, last.position));
    Ok(())
}

async fn count(store: &RocksDbStore) -> Result<usize, es_core::StoreError> {
    Ok(store.read_log(LogRead::all()).await?.collect().await?.len())
}

fn say(line: &str) {
    let line = format!("{}\n", line.replace('\n', " "));
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
}
