//! Profiling: samples the stacks of all threads while a workload runs, and assigns them to parts of the work.
//!
//! Only processor time is sampled, not the wait for the disk. A profiled round is additional and not part of the
//! figures, because sampling takes time.

use std::collections::BTreeMap;

use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Samples per second of processor time; the tick of the kernel is the maximum.
const FREQUENCY: i32 = 250;
/// Clock ticks per second in `/proc`, a constant for programs on Linux.
const TICKS: f64 = 100.0;

/// The parts of the work, with parts of function names: a stack belongs to the first part that has one of its
/// functions. C++ names are mangled, with the length of each component.
const PARTS: &[(&str, &[&str])] = &[
    ("RocksDB: flush and compaction", &["8FlushJob", "13CompactionJob", "6DBImpl22BackgroundCallFlush"]),
    ("RocksDB: memtable", &["16MemTableInserter", "8MemTable3Add"]),
    ("RocksDB: write-ahead log and its sync", &["6DBImpl10WriteToWAL", "3log6Writer", "6DBImpl7SyncWAL"]),
    ("JSON and fold", &["serde_json::de", "serde_json::read", "core::codec::"]),
    ("checksums of records", &["crc32c::"]),
    (
        "RocksDB: reading",
        &["10ArenaWrappedDBIter", "6DBIter", "rocksdb_iter_", "rocksdb_get", "6DBImpl8MultiGet", "11BlockBasedTable"],
    ),
    ("RocksDB: else", &["N7rocksdb", "NK7rocksdb", "rocksdb_"]),
    ("records to events, and back to memory", &["es_rocksdb::record", "es_rocksdb::database::decode", "RecordedEvent"]),
    (
        "the store's writer",
        &["es_rocksdb::writer", "es_rocksdb::draft", "es_core::store::decide", "es_core::projection::inline"],
    ),
    ("the store, else", &["es_rocksdb", "es_core"]),
    ("the events to append", &["es_bench::domain"]),
    ("tasks and threads", &["tokio::", "std::sys::", "es_bench"]),
];
const OTHER: &str = "other";

/// Processor time of a part of the work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) contender: String,
    pub(crate) case: String,
    pub(crate) part: String,
    /// The share of all processor time, from 0 to 1.
    pub(crate) share: f64,
    /// Microseconds of processor time per event.
    pub(crate) per_event: f64,
}

/// A running sampler.
pub(crate) struct Sampler {
    guard: ProfilerGuard<'static>,
    used: f64,
}

impl Sampler {
    pub(crate) fn start() -> Result<Self, Failure> {
        // pprof cannot unwind a stack through these libraries.
        let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&["libgcc", "vdso"]).build();
        Ok(Self { guard: guard.map_err(failed)?, used: processor_seconds() })
    }

    /// Stops and returns the processor time of each part per event, in descending order.
    pub(crate) fn end(self, contender: &str, case: &str, events: u64) -> Result<Vec<Used>, Failure> {
        let per_event = (processor_seconds() - self.used) * 1e6 / events.max(1) as f64;
        let report = self.guard.report().build().map_err(failed)?;
        let mut samples = BTreeMap::<&'static str, f64>::new();
        for (stack, count) in &report.data {
            let names = stack.frames.iter().flatten().map(pprof::Symbol::name);
            *samples.entry(part(&names.collect::<Vec<_>>())).or_default() += *count as f64;
        }
        let all: f64 = samples.values().sum();
        let mut used: Vec<_> = samples
            .into_iter()
            .map(|(part, count)| Used {
                contender: contender.to_owned(),
                case: case.to_owned(),
                part: part.to_owned(),
                share: count / all,
                per_event: per_event * count / all,
            })
            .collect();
        used.sort_by(|one, other| other.share.total_cmp(&one.share));
        Ok(used)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
fn failed(error: pprof::Error) -> Failure {
    Failure::caused_by("sample stacks", &error)
}

/// Returns the part of a stack.
fn part(stack: &[String]) -> &'static str {
    let is_of = |names: &[&str]| stack.iter().any(|function| names.iter().any(|name| function.contains(name)));
    PARTS.iter().find(|(_, names)| is_of(names)).map_or(OTHER, |(part, _)| part)
}

/// Returns the processor time of this process in seconds, including ended threads; zero without `/proc`.
fn processor_seconds() -> f64 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| parse(&stat)).unwrap_or_default()
}

/// Parses utime and stime of `1234 (name) S ...`.
fn parse(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?) / TICKS)
}

/// Returns the resident set of this process in bytes; `None` without `/proc`.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_parsed() {
        assert_eq!(parse("42 (a (x) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20"), Some(2.0));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_stack_belongs_to_the_first_part_with_one_of_its_functions() {
        let of = |stack: &[&str]| part(&stack.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&["malloc", "es_rocksdb::record::Decoder::decode", "tokio::run"]),
            "records to events, and back to memory"
        );
        assert_eq!(of(&["crc32c::hw::crc32c", "es_rocksdb::record::Checked::new"]), "checksums of records");
        let inserted =
            ["_ZNK7rocksdb10Comparator7CompareE", "_ZN7rocksdb8MemTable3AddEm", "es_rocksdb::writer::Writer::write"];
        assert_eq!(of(&inserted), "RocksDB: memtable");
        assert_eq!(of(&["_ZN7rocksdb6crc32c6ExtendE"]), "RocksDB: else");
        assert_eq!(of(&["main"]), OTHER);
    }

    /// A busy loop in a function of this crate is assigned to it.
    #[test]
    fn a_busy_loop_is_found() {
        let sampler = Sampler::start().unwrap();
        let started = std::time::Instant::now();
        let mut number = 1_u64;
        while started.elapsed().as_millis() < 400 {
            number = std::hint::black_box(crate::domain::sample(number, 1, 2000, crate::domain::Tagging::PerStream))
                .payload
                .len() as u64;
        }
        let used = sampler.end("us", "turning", 1).unwrap();
        assert!((used.iter().map(|used| used.share).sum::<f64>() - 1.0).abs() < 1e-6, "{used:?}");
        assert!(used.iter().any(|used| used.part == "the events to append" && used.per_event > 1e4), "{used:?}");
    }
}
