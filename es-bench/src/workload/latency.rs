//! Latency from a command to a live subscriber at a constant rate, compared with `fdatasync` at the same rate.
//!
//! The load is open: a command is due at a fixed time, even if earlier commands have not finished, and its latency
//! counts from that time. A slow command therefore delays the commands after it, which avoids coordinated omission.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Workload;
use crate::bench::Bench;
use crate::contender::{Contender, Durability, Opened, Seen, Task};
use crate::domain::{Tagging, sample};
use crate::failure::Failure;
use crate::limits::file;
use crate::report::stats::{Unit, percentile};

pub(crate) const LATENCY: &str = "latency";
pub(crate) const P50: &str = "p50";
pub(crate) const P99: &str = "p99";
/// The limit among the contenders: a small write and `fdatasync` at the same rate.
pub(crate) const FSYNC: &str = "fdatasync";

const PERCENTILES: [(&str, f64); 3] = [(P50, 0.5), (P99, 0.99), ("p99.9", 0.999)];
/// The number of warm-up commands, which are not measured.
pub(super) const WARM: u64 = 100;
/// The time limit for the last event.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Latency;

#[async_trait]
impl Workload for Latency {
    fn name(&self) -> &'static str {
        LATENCY
    }

    fn about(&self) -> &'static str {
        "from a command to a live subscriber at a constant rate: p50, p99, p99.9, compared with fdatasync"
    }

    fn task(&self) -> Task {
        Task::Follow
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        let contenders_for = bench.contenders_for(LATENCY, Task::Follow);
        let duration = bench.plan.seconds * 3;
        for round in 0..bench.plan.rounds {
            bench.progress(LATENCY, &format!("{} commands per second, round {}", bench.plan.rate, round + 1));
            let dir = bench.dir()?;
            let rate = f64::from(bench.plan.rate);
            let bytes = bench.shape.commit + bench.shape.event;
            let syncs = file::syncs(dir.path(), rate, duration, bytes)?;
            note(bench, FSYNC, &syncs);
            for contender in &contenders_for {
                match measure(bench, contender, duration).await {
                    Ok(latencies) => note(bench, contender.name(), &latencies),
                    Err(failure) => bench.record_failure(LATENCY, "", contender, &failure),
                }
            }
        }
        Ok(())
    }
}

fn note(bench: &mut Bench, contender: &str, latencies: &[Duration]) {
    let micros: Vec<f64> = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6).collect();
    for (case, share) in PERCENTILES {
        bench.report.add(LATENCY, case, contender, Unit::Microseconds, percentile(&micros, share));
    }
}

async fn measure(bench: &Bench, contender: &Arc<dyn Contender>, duration: Duration) -> Result<Vec<Duration>, Failure> {
    let dir = bench.dir()?;
    let opened = bench.open(contender, dir.path(), Durability::Synced).await?;
    let seen = Arc::new(Seen::default());
    let follower = {
        let (opened, seen) = (Arc::clone(&opened), Arc::clone(&seen));
        tokio::spawn(async move { opened.follow(&seen).await })
    };
    // A subscriber starts at the end of the log, so it must start before the first command.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let commands = WARM + (f64::from(bench.plan.rate) * duration.as_secs_f64()) as u64;
    let result = paced(&opened, &seen, f64::from(bench.plan.rate), commands, bench.plan.payload).await;
    let result = match result {
        Err(_) if follower.is_finished() => {
            follower.await.unwrap_or_else(|error| Err(Failure::caused_by("follow", &error))).and(result)
        }
        result => {
            follower.abort();
            // The task keeps the store open until it ends.
            let _ = follower.await;
            result
        }
    };
    opened.close().await?;
    result
}

/// Sends each command when it is due, and waits until the subscriber has received all events.
pub(super) async fn paced(
    opened: &Arc<dyn Opened>,
    seen: &Arc<Seen>,
    rate: f64,
    commands: u64,
    payload: usize,
) -> Result<Vec<Duration>, Failure> {
    let started = Instant::now() + Duration::from_millis(20);
    let due = move |number: u64| started + Duration::from_secs_f64(number as f64 / rate);
    let (failures, mut failed) = mpsc::channel::<Failure>(1);
    let stopped = Arc::new(AtomicBool::new(false));
    let pacer = {
        let (opened, runtime, stopped) = (Arc::clone(opened), Handle::current(), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for number in 0..commands {
                wait_until(due(number));
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (opened, failures) = (Arc::clone(&opened), failures.clone());
                runtime.spawn(async move {
                    // A new stream for each command, so that none waits for another.
                    let event = sample(number, number, payload, Tagging::Spread(1000));
                    if let Err(failure) = opened.command(number, event).await {
                        // The first failure is enough; the channel is full or closed for others.
                        let _ = failures.try_send(failure);
                    }
                });
            }
        })
    };
    let deadline = due(commands) + TIMEOUT;
    let result = loop {
        if let Ok(failure) = failed.try_recv() {
            break Err(failure);
        }
        if seen.len() as u64 >= commands {
            let latency = |(number, at): (u64, Instant)| at.saturating_duration_since(due(number));
            break Ok(seen.take().into_iter().filter(|(number, _)| *number >= WARM).map(latency).collect());
        }
        if Instant::now() > deadline {
            let reason = format!("expected {commands} events, received {} in time", seen.len());
            break Err(Failure::new("follow", reason));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    stopped.store(true, Ordering::Relaxed);
    let joined = tokio::task::spawn_blocking(move || pacer.join().is_ok()).await;
    if joined.unwrap_or(false) { result } else { Err(Failure::new("send commands", "the pacing thread panicked")) }
}

/// Sleeps, and spins at the end, because a sleep ends late.
fn wait_until(due: Instant) {
    const SPIN: Duration = Duration::from_micros(100);
    std::thread::sleep(due.saturating_duration_since(Instant::now() + SPIN));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Append;
    use crate::domain::Sample;

    /// Notifies its follower immediately, except for a stall at the first command.
    struct Stalls {
        sender: mpsc::UnboundedSender<Vec<u8>>,
        receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
    }

    #[async_trait]
    impl Opened for Stalls {
        async fn append(&self, _: Append) -> Result<u64, Failure> {
            Err(Failure::new("append", "not asked"))
        }

        async fn command(&self, _: u64, event: Sample) -> Result<(), Failure> {
            self.sender.send(event.payload).map_err(|error| Failure::caused_by("send", &error))
        }

        async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
            let mut receiver = self.receiver.lock().await;
            let mut waiting = true;
            while let Some(payload) = receiver.recv().await {
                if std::mem::take(&mut waiting) {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
                seen.record(&payload);
            }
            Ok(())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_delays_all_commands_that_are_due() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let stalls = Arc::new(Stalls { sender, receiver: tokio::sync::Mutex::new(receiver) });
        let opened: Arc<dyn Opened> = Arc::clone(&stalls) as _;
        let seen = Arc::new(Seen::default());
        let follower = {
            let (opened, seen) = (Arc::clone(&opened), Arc::clone(&seen));
            tokio::spawn(async move { opened.follow(&seen).await })
        };
        // A command is due every millisecond: the measured ones are due during the stall of 400 ms.
        let latencies = paced(&opened, &seen, 1000.0, WARM + 100, 120).await.unwrap();
        follower.abort();
        assert_eq!(latencies.len(), 100);
        let late = latencies.iter().filter(|latency| **latency >= Duration::from_millis(100)).count();
        assert!(late >= 100, "only {late} of 100 commands were late");
    }
}
