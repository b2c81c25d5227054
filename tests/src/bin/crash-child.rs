//! The child of the crash harness: `crash-child DIRECTORY RUN sync|buffered COMMITS`.
//! See `es_tests::crash`.

use std::path::PathBuf;

use es_rocksdb::Durability;
use es_tests::crash::writers::{Task, write};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, run, durability, commits] = arguments.as_slice() else {
        panic!("expected DIRECTORY RUN sync|buffered COMMITS, found {arguments:?}");
    };
    let durability = if durability == "sync" { Durability::Sync } else { Durability::Buffered };
    let number = |text: &String| text.parse().expect("a number");
    let (dir, task) = (PathBuf::from(dir), Task { run: number(run), durability, commits: number(commits) });
    write(&dir, task).await;
}
