//! Concurrent writers, each of which waits for an acknowledgement before its next commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::contender::{Append, Opened};
use crate::domain::{Tagging, sample};
use crate::failure::Failure;

/// The number of writers and their commits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writers {
    pub(crate) count: u32,
    /// Events per commit.
    pub(crate) per_commit: u64,
    /// Bytes of a payload.
    pub(crate) payload: usize,
    pub(crate) tagging: Tagging,
    /// Whether each commit requires that no event after the writer's last one has its tag.
    pub(crate) conditional: bool,
    /// The number of events that a writer appends to a stream before it starts another.
    pub(crate) per_stream: u64,
    /// The number of the first stream. This and higher numbers must be unused.
    pub(crate) first_stream: u64,
    /// The number of existing events in the first stream of each writer.
    pub(crate) first_event: u64,
    /// The position of the last existing event.
    pub(crate) first_seen: u64,
}

/// The end of the writers: a deadline or a number of events, whichever comes first.
#[derive(Debug)]
pub(crate) struct Stop {
    deadline: Instant,
    left: AtomicI64,
}

impl Stop {
    pub(crate) fn after(duration: Duration) -> Self {
        Self { deadline: Instant::now() + duration, left: AtomicI64::new(i64::MAX) }
    }

    pub(crate) fn after_events(events: u64, at_most: Duration) -> Self {
        let left = AtomicI64::new(i64::try_from(events).unwrap_or(i64::MAX));
        Self { deadline: Instant::now() + at_most, left }
    }

    /// Reserves up to this number of events and returns how many may be written.
    fn take(&self, events: u64) -> u64 {
        if Instant::now() >= self.deadline {
            return 0;
        }
        let wanted = i64::try_from(events).unwrap_or(i64::MAX);
        let left = self.left.fetch_sub(wanted, Ordering::Relaxed);
        left.clamp(0, wanted).unsigned_abs()
    }

    fn now(&self) {
        self.left.store(0, Ordering::Relaxed);
    }
}

/// The result of all writers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) events: u64,
    pub(crate) elapsed: Duration,
    /// The number of the first stream that is still unused.
    pub(crate) next_stream: u64,
    /// The highest position that a writer received.
    pub(crate) last_seen: u64,
}

impl Measured {
    pub(crate) fn per_second(self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Runs the writers until they stop.
pub(crate) async fn run(opened: &Arc<dyn Opened>, writers: Writers, stop: Stop) -> Result<Measured, Failure> {
    let stop = Arc::new(stop);
    let started = Instant::now();
    let writer = |index| write(Arc::clone(opened), writers, index, Arc::clone(&stop));
    let ended = if opened.blocks() {
        let runtime = tokio::runtime::Handle::current();
        let spawn = |index| {
            let (runtime, writer) = (runtime.clone(), writer(index));
            // A small stack, because there may be thousands of writers.
            std::thread::Builder::new().stack_size(512 * 1024).spawn(move || runtime.block_on(writer))
        };
        let threads: Vec<_> = (0..writers.count).map(spawn).collect();
        let join = move || threads.into_iter().map(joined).collect::<Vec<_>>();
        tokio::task::spawn_blocking(join).await.map_err(|error| Failure::caused_by("join the writers", &error))?
    } else {
        let mut tasks = tokio::task::JoinSet::new();
        (0..writers.count).for_each(|index| drop(tasks.spawn(writer(index))));
        let mut ended = Vec::new();
        while let Some(task) = tasks.join_next().await {
            ended.push(task.unwrap_or_else(|error| Err(Failure::caused_by("join a writer", &error))));
        }
        ended
    };
    let elapsed = started.elapsed();
    let mut measured =
        Measured { events: 0, elapsed, next_stream: writers.first_stream, last_seen: writers.first_seen };
    for written in ended {
        let written = written?;
        measured.events += written.events;
        measured.next_stream = measured.next_stream.max(written.next_stream);
        measured.last_seen = measured.last_seen.max(written.last_seen);
    }
    Ok(measured)
}

/// The result of one writer.
struct Written {
    events: u64,
    /// The first stream number after its own.
    next_stream: u64,
    /// The last position that it received.
    last_seen: u64,
}

fn joined(thread: std::io::Result<std::thread::JoinHandle<Result<Written, Failure>>>) -> Result<Written, Failure> {
    let thread = thread.map_err(|error| Failure::caused_by("start a thread", &error))?;
    thread.join().unwrap_or_else(|_| Err(Failure::new("join a writer", "it panicked")))
}

/// Runs one writer until it stops.
async fn write(opened: Arc<dyn Opened>, writers: Writers, index: u32, stop: Arc<Stop>) -> Result<Written, Failure> {
    let step = u64::from(writers.count);
    let mut stream = writers.first_stream + u64::from(index);
    let (mut in_stream, mut events, mut position) = (writers.first_event, 0, writers.first_seen);
    loop {
        if in_stream >= writers.per_stream {
            (stream, in_stream, position) = (stream + step, 0, 0);
        }
        let count = stop.take(writers.per_commit);
        if count == 0 {
            return Ok(Written { events, next_stream: stream + 1, last_seen: position });
        }
        let event = |number| sample(stream, number, writers.payload, writers.tagging);
        let append = Append {
            stream,
            expected: in_stream,
            seen: position,
            conditional: writers.conditional,
            events: (in_stream..in_stream + count).map(event).collect(),
        };
        position = opened.append(append).await.inspect_err(|_| stop.now())?;
        in_stream += count;
        events += count;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// Records commits and requires the expected revision.
    #[derive(Default)]
    struct Recorder {
        blocks: bool,
        streams: Mutex<HashMap<u64, u64>>,
    }

    #[async_trait]
    impl Opened for Recorder {
        fn blocks(&self) -> bool {
            self.blocks
        }

        async fn append(&self, append: Append) -> Result<u64, Failure> {
            let mut streams = self.streams.lock().unwrap();
            let events = streams.entry(append.stream).or_default();
            assert_eq!(*events, append.expected);
            *events += append.events.len() as u64;
            Ok(*events)
        }
    }

    fn writers(count: u32) -> Writers {
        Writers {
            count,
            per_commit: 3,
            payload: 64,
            tagging: Tagging::PerStream,
            conditional: false,
            per_stream: 9,
            first_stream: 5,
            first_event: 0,
            first_seen: 0,
        }
    }

    #[tokio::test]
    async fn writers_stop_at_the_number_of_events_and_share_no_stream() {
        for blocks in [false, true] {
            let recorder = Arc::new(Recorder { blocks, ..Recorder::default() });
            let opened: Arc<dyn Opened> = Arc::clone(&recorder) as _;
            let stop = Stop::after_events(100, Duration::from_secs(60));
            let measured = run(&opened, writers(4), stop).await.unwrap();
            let streams = recorder.streams.lock().unwrap();
            assert_eq!((measured.events, streams.values().sum::<u64>()), (100, 100));
            assert!(streams.iter().all(|(stream, events)| (5..measured.next_stream).contains(stream) && *events <= 9));
        }
    }

    struct Refuses;

    #[async_trait]
    impl Opened for Refuses {
        async fn append(&self, _: Append) -> Result<u64, Failure> {
            Err(Failure::new("append", "no"))
        }
    }

    #[tokio::test]
    async fn the_failure_of_one_writer_ends_all() {
        let opened: Arc<dyn Opened> = Arc::new(Refuses);
        let failure = run(&opened, writers(2), Stop::after(Duration::from_secs(600))).await;
        assert_eq!(failure.unwrap_err().to_string(), "could not append: no");
    }
}
