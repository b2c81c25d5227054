//! Memory and disk per event. Each contender is measured in a process of its own, because an allocator does not give back what
//! others have used.

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

/// How many events go into a stream: the shapes are named after it.
const SHAPES: [(&str, u64); 2] = [("1,000 events per stream", 1_000), ("10 events per stream", 10)];

/// What the process of a contender prints.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Grown {
    events: u64,
    /// By how many bytes the resident set grew; nothing where the contender's memory is that of a server.
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
        for who in bench.entrants(FOOTPRINT, Task::Footprint) {
            for (shape, _) in SHAPES {
                bench.say(FOOTPRINT, &format!("{shape}, {}", who.name()));
                match child(bench, who.name(), shape) {
                    Ok(found) => note(bench, who.name(), shape, &found),
                    Err(failure) => bench.failed(FOOTPRINT, shape, &who, &failure),
                }
            }
        }
        Ok(())
    }
}

fn note(bench: &mut Bench, who: &str, shape: &str, found: &Grown) {
    let per_event = |bytes: f64| bytes / found.events.max(1) as f64;
    if let Some(memory) = found.memory {
        bench.report.add(FOOTPRINT, &format!("memory, {shape}"), who, Unit::Bytes, per_event(memory as f64));
    }
    bench.report.add(FOOTPRINT, &format!("disk, {shape}"), who, Unit::Bytes, per_event(found.disk as f64));
}

fn child(bench: &Bench, who: &str, shape: &str) -> Result<Grown, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::caused_by("find this program", &error))?;
    let mut child = Command::new(program);
    child.args(["--footprint", shape, "--contender", who, "--payload", &bench.plan.payload.to_string(), "--dir"]);
    child.arg(bench.home());
    if bench.plan.quick {
        child.arg("--quick");
    }
    let output = child.output().map_err(|error| Failure::caused_by("start this program", &error))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // NOTE: the last line; some contenders print on their own.
    let last = stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).map_err(|_| Failure::new("measure in a process of its own", said.trim()))
}

/// What the process of a contender does: see [`child`].
pub(crate) async fn in_this_process(bench: &Bench, who: &Arc<dyn Contender>, shape: &str) -> Result<String, Failure> {
    let shape = SHAPES.iter().find(|(name, _)| *name == shape);
    let Some((_, per_stream)) = shape else {
        return Err(Failure::new("measure a footprint", "there is no such shape"));
    };
    let buffered = who.offers(Task::AppendBuffered).is_ok();
    let durability = if buffered { Durability::Buffered } else { Durability::Synced };
    let dir = bench.dir()?;
    let opened = bench.open(who, dir.path(), durability).await?;
    let before = profile::resident();
    let elsewhere = opened.bytes_elsewhere().await?;
    let events = write(bench, &opened, *per_stream).await?;
    let memory = before.zip(profile::resident()).map(|(before, after)| after.cast_signed() - before.cast_signed());
    opened.settle().await?;
    let grown = opened.bytes_elsewhere().await?;
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

/// How many bytes the files below a directory take on the disk.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        // NOTE: blocks and not the length: some allocate files before they fill them, and some leave holes.
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
    fn what_the_process_prints_is_read_back() {
        let found = Grown { events: 10, memory: Some(-5), disk: 7 };
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Grown>(&json).unwrap(), found);
    }
}
