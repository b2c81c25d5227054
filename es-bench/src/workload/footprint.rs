//! Memory and disk per event. Each contender is measured in a child process, because an allocator does not return the
//! memory of others to the system.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Workload;
use crate::bench::Bench;
use crate::contender::{Contender, Durability, Opened, Task};
use crate::domain::Tagging;
use crate::drive::{self, Stop, Writers};
use crate::failure::Failure;
use crate::profile;
use crate::report::stats::Unit;

pub(crate) const FOOTPRINT: &str = "footprint";

/// The shapes: names and numbers of events in a stream.
const SHAPES: [(&str, u64); 2] = [("1,000 events per stream", 1_000), ("10 events per stream", 10)];

/// The output of the child process.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Grown {
    events: u64,
    /// The growth of the resident set in bytes; `None` if the contender's memory is that of a server.
    memory: Option<i64>,
    disk: u64,
}

pub(crate) struct Footprint;

#[async_trait]
impl Workload for Footprint {
    fn name(&self) -> &'static str {
        FOOTPRINT
    }

    fn about(&self) -> &'static str {
        "growth of the resident set and bytes on disk per event, for long and for short streams"
    }

    fn task(&self) -> Task {
        Task::Footprint
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        for contender in bench.contenders_for(FOOTPRINT, Task::Footprint) {
            for (shape, _) in SHAPES {
                bench.progress(FOOTPRINT, &format!("{shape}, {}", contender.name()));
                match child(bench, contender.name(), shape) {
                    Ok(found) => note(bench, contender.name(), shape, &found),
                    Err(failure) => bench.record_failure(FOOTPRINT, shape, &contender, &failure),
                }
            }
        }
        Ok(())
    }
}

fn note(bench: &mut Bench, contender: &str, shape: &str, found: &Grown) {
    let per_event = |bytes: f64| bytes / found.events.max(1) as f64;
    if let Some(memory) = found.memory {
        bench.report.add(FOOTPRINT, &format!("memory, {shape}"), contender, Unit::Bytes, per_event(memory as f64));
    }
    bench.report.add(FOOTPRINT, &format!("disk, {shape}"), contender, Unit::Bytes, per_event(found.disk as f64));
}

fn child(bench: &Bench, contender: &str, shape: &str) -> Result<Grown, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::caused_by("find this program", &error))?;
    let mut child = Command::new(program);
    child.args(["--footprint", shape, "--contender", contender, "--payload", &bench.plan.payload.to_string(), "--dir"]);
    child.arg(bench.home());
    if bench.plan.quick {
        child.arg("--quick");
    }
    let output = child.output().map_err(|error| Failure::caused_by("start this program", &error))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // The last line, because some contenders print messages.
    let last = stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).map_err(|_| Failure::new("measure in a child process", said.trim()))
}

/// Measures a contender in this process, the child of [`child`].
pub(crate) async fn in_this_process(
    bench: &Bench,
    contender: &Arc<dyn Contender>,
    shape: &str,
) -> Result<String, Failure> {
    let shape = SHAPES.iter().find(|(name, _)| *name == shape);
    let Some((_, per_stream)) = shape else {
        return Err(Failure::new("measure a footprint", format!("unknown shape {shape:?}")));
    };
    let buffered = contender.offers(Task::AppendBuffered).is_ok();
    let durability = if buffered { Durability::Buffered } else { Durability::Synced };
    let dir = bench.dir()?;
    let opened = bench.open(contender, dir.path(), durability).await?;
    let before = profile::resident();
    let elsewhere = opened.bytes_outside_directory().await?;
    let events = write(bench, &opened, *per_stream).await?;
    let memory = before.zip(profile::resident()).map(|(before, after)| after.cast_signed() - before.cast_signed());
    opened.settle().await?;
    opened.compact().await?;
    let grown = opened.bytes_outside_directory().await?;
    opened.close().await?;
    drop(opened);
    let found = Grown {
        events,
        memory: memory.filter(|_| grown == 0),
        disk: bytes_below(dir.path()) + grown.saturating_sub(elsewhere),
    };
    serde_json::to_string(&found).map_err(|error| Failure::caused_by("write JSON", &error))
}

async fn write(bench: &Bench, opened: &Arc<dyn Opened>, per_stream: u64) -> Result<u64, Failure> {
    let writers = Writers {
        count: 16,
        per_commit: 10,
        payload: bench.plan.payload,
        tagging: Tagging::Spread(1000),
        conditional: false,
        per_stream,
        first_stream: 0,
        first_event: 0,
        first_seen: 0,
    };
    let (events, at_most) = if bench.plan.quick { (50_000, 2) } else { (500_000, 60) };
    let stop = Stop::after_events(events, Duration::from_secs(at_most));
    drive::run(opened, writers, stop).await.map(|measured| measured.events)
}

/// Returns the disk usage of the files below a directory in bytes.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        // Blocks, not the length: some contenders preallocate files or leave holes.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_files_below_a_directory_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/one"), vec![1; 8192]).unwrap();
        std::fs::write(dir.path().join("two"), vec![2; 4096]).unwrap();
        assert!(bytes_below(dir.path()) >= 8192 + 4096);
        assert_eq!(bytes_below(&dir.path().join("nowhere")), 0);
    }

    #[test]
    fn the_output_of_the_child_is_parsed() {
        let found = Grown { events: 10, memory: Some(-5), disk: 7 };
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Grown>(&json).unwrap(), found);
    }
}
