//! Cost while one store grows: one long stream, many short streams, and ten thousand tags on one category. With
//! `--scale 50000000` there are a stream of one million events and one million streams.
//!
//! The workload runs in a child process, so that its memory is that of this store only. After each step the store is
//! reopened, and loads and reads by a tag are measured over the whole log, which does not fit a bounded cache.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::Workload;
use super::footprint::bytes_below;
use crate::bench::Bench;
use crate::contender::{Contender, Durability, Opened, Selection, Task};
use crate::domain::Tagging;
use crate::drive::{self, Stop, Writers};
use crate::failure::Failure;
use crate::ours::{ES_ROCKSDB, EsRocksDb};
use crate::profile;
use crate::report::Report;
use crate::report::stats::{Unit, median};

pub(crate) const SCALE: &str = "scale";

/// The number of steps in which the log grows.
const STEPS: u64 = 10;
/// The number of the long stream.
const LONG: u64 = 0;
/// The long stream has one event of this number.
const LONG_PART: u64 = 50;
/// The number of events in a short stream and in a commit to it.
const SHORT_EVENTS: u64 = 49;
const SHORT_COMMIT: u64 = 7;
const TAGS: u64 = 10_000;
/// The approximate number of short streams to load after each step.
const LOADS: u64 = 500;
/// The time limit for a step.
const TIMEOUT: Duration = Duration::from_secs(1800);

pub(crate) struct Scale;

/// The growing store.
struct GrowingStore {
    opened: Arc<dyn Opened>,
    /// The number of all events, and of events in the long stream.
    events: u64,
    long: u64,
    /// The position of the last event of the long stream.
    seen: u64,
    /// The number of the next short stream.
    next: u64,
}

/// The measurements after a step.
struct StepResult {
    appended: f64,
    memory: Option<u64>,
    disk: f64,
    opening: f64,
    load: f64,
    /// Events per second of a load of the long stream.
    long: f64,
    tag: f64,
}

#[async_trait]
impl Workload for Scale {
    fn name(&self) -> &'static str {
        SCALE
    }

    fn about(&self) -> &'static str {
        "one store that grows to --scale events: a stream of a fiftieth, short streams, 10,000 tags; the last step to \
         the first"
    }

    fn task(&self) -> Task {
        Task::Volume
    }

    fn is_ours_only(&self) -> bool {
        true
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        if !bench.is_selected(ES_ROCKSDB) {
            return Ok(());
        }
        if !bench.plan.is_scale_process {
            return run_in_child(bench);
        }
        let dir = bench.dir()?;
        let contender: Arc<dyn Contender> = Arc::new(EsRocksDb);
        let opened = bench.open(&contender, dir.path(), Durability::Buffered).await?;
        let mut store = GrowingStore { opened, events: 0, long: 0, seen: 0, next: LONG + 1 };
        let mut results = Vec::new();
        for step in 0..STEPS {
            let appended = store.grow(bench, bench.plan.scale / STEPS).await?;
            let memory = profile::resident();
            store.opened.close().await?;
            let started = Instant::now();
            store.opened = bench.open(&contender, dir.path(), Durability::Buffered).await?;
            let opening = started.elapsed().as_secs_f64() * 1e6;
            let (load, long, tag) = (store.load().await?, store.load_long().await?, store.read_tag(step).await?);
            let disk = bytes_below(dir.path()) as f64 / store.events as f64;
            results.push(StepResult { appended, memory, disk, opening, load, long, tag });
            bench.progress(SCALE, &summary(&store, results.last()));
        }
        store.opened.close().await?;
        add_figures(bench, &results);
        Ok(())
    }
}

/// Runs this workload in a child process and adds its figures to the report.
fn run_in_child(bench: &mut Bench) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::caused_by("find this program", &error))?;
    let mut child = Command::new(program);
    child
        .args(["--scale-process", "--only", SCALE, "--contender", ES_ROCKSDB, "--json", "-", "--dir"])
        .arg(bench.home());
    child.args(["--scale", &bench.plan.scale.to_string(), "--payload", &bench.plan.payload.to_string()]);
    // The progress of the child is printed.
    let output = child.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::caused_by("start this program", &error))?;
    let report = serde_json::from_slice::<Report>(&output.stdout);
    let report = report.map_err(|error| Failure::caused_by("measure in a child process", &error))?;
    bench.report.figures.extend(report.figures);
    Ok(())
}

fn summary(store: &GrowingStore, last: Option<&StepResult>) -> String {
    let Some(StepResult { appended, memory, disk, opening, load, long, tag }) = last else { return String::new() };
    let memory = memory.unwrap_or_default() as f64 / f64::from(1 << 20);
    format!(
        "{} events, {} streams, the longest of {}: {appended:.0} events/s appended, {memory:.0} MiB resident, \
         {disk:.0} bytes on disk per event, opened in {:.0} ms, {load:.0} µs for a load of {SHORT_EVENTS} events, \
         {long:.0} events/s of the longest, {tag:.0} events/s by a tag",
        store.events,
        store.next,
        store.long,
        opening / 1e3
    )
}

/// Reports the figures of the last step, the maximum of memory, and the last step relative to the first.
fn add_figures(bench: &mut Bench, results: &[StepResult]) {
    let mut add = |case: &str, unit, value: f64| bench.report.add(SCALE, case, ES_ROCKSDB, unit, value);
    let ([first, .., last] | [first @ last]) = results else { return };
    add("appended", Unit::EventsPerSecond, last.appended);
    add("appended, last to first", Unit::Flatness, last.appended / first.appended);
    add("load of 49 events", Unit::Microseconds, last.load);
    add("load of 49 events, last to first", Unit::Flatness, first.load / last.load);
    add("load of the longest stream", Unit::EventsPerSecond, last.long);
    add("load of the longest stream, last to first", Unit::Flatness, last.long / first.long);
    add("by one tag of 10,000", Unit::EventsPerSecond, last.tag);
    add("by one tag of 10,000, last to first", Unit::Flatness, last.tag / first.tag);
    add("opening", Unit::Microseconds, last.opening);
    add("disk per event", Unit::Bytes, last.disk);
    if let Some(most) = results.iter().filter_map(|result| result.memory).max() {
        add("memory, resident at the most", Unit::Bytes, most as f64);
    }
}

impl GrowingStore {
    /// Appends events and returns the rate per second.
    async fn grow(&mut self, bench: &Bench, events: u64) -> Result<f64, Failure> {
        let long = Writers {
            count: 1,
            per_commit: 100,
            payload: bench.plan.payload,
            tagging: Tagging::Spread(TAGS),
            conditional: false,
            per_stream: u64::MAX,
            first_stream: LONG,
            first_event: self.long,
            first_seen: self.seen,
        };
        let short = Writers {
            count: 64,
            per_commit: SHORT_COMMIT,
            per_stream: SHORT_EVENTS,
            first_stream: self.next,
            first_event: 0,
            first_seen: 0,
            ..long
        };
        let in_long = drive::run(&self.opened, long, Stop::after_events(events / LONG_PART, TIMEOUT)).await?;
        (self.long, self.seen) = (self.long + in_long.events, in_long.last_seen);
        let left = events - in_long.events;
        let in_short = drive::run(&self.opened, short, Stop::after_events(left, TIMEOUT)).await?;
        self.next = in_short.next_stream;
        self.events += in_long.events + in_short.events;
        Ok((in_long.events + in_short.events) as f64 / (in_long.elapsed + in_short.elapsed).as_secs_f64())
    }

    /// Returns the median time to load a short stream in microseconds, over streams of the whole log.
    async fn load(&self) -> Result<f64, Failure> {
        let (mut times, mut stream) = (Vec::new(), 0_u64);
        for _ in 0..2 * LOADS {
            // A stride that avoids simple fractions of the number of streams, so that neighbours are not loaded in
            // sequence.
            stream = (stream + 0x9E37_79B9) % (self.next - 1);
            let started = Instant::now();
            let folded = self.opened.load(LONG + 1 + stream, false).await?;
            // The last stream of each writer in a step is shorter.
            if folded.events == SHORT_EVENTS {
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
        }
        match times.is_empty() {
            true => Err(Failure::new("load", format!("expected streams of {SHORT_EVENTS} events, found none"))),
            false => Ok(median(&times)),
        }
    }

    /// Returns the events per second of a load of the long stream.
    async fn load_long(&self) -> Result<f64, Failure> {
        let started = Instant::now();
        let folded = self.opened.load(LONG, false).await?;
        if folded.events != self.long {
            return Err(Failure::new("load", format!("expected {} events, found {}", self.long, folded.events)));
        }
        Ok(folded.events as f64 / started.elapsed().as_secs_f64())
    }

    /// Reads the events of one tag in the whole log and returns the rate per second.
    async fn read_tag(&self, step: u64) -> Result<f64, Failure> {
        // A small log does not have all tags and streams.
        for tag in 0..TAGS {
            let tag = Tagging::Spread(TAGS).tag(LONG + 1 + step * 997 % self.next, tag);
            let started = Instant::now();
            let events = self.opened.read(Selection::Tag(tag)).await?;
            if events > 0 {
                return Ok(events as f64 / started.elapsed().as_secs_f64());
            }
        }
        Err(Failure::new("read by a tag", "expected events with any tag, found none"))
    }
}
