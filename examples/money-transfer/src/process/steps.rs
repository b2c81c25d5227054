//! [`StopPoint`]: the step at which a service waits for its death.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::process::message::Answer;
use crate::process::standard_streams;

/// How long a service waits to be killed. Without a limit it would remain if the program was killed first.
const WAIT: Duration = Duration::from_secs(60);

/// Counts the steps of a service, and stops it at one of them.
#[derive(Debug)]
pub(crate) struct StopPoint {
    stop_at: Option<u64>,
    steps: AtomicU64,
}

impl StopPoint {
    pub(crate) fn new(stop_at: Option<u64>) -> Self {
        Self { stop_at, steps: AtomicU64::new(0) }
    }

    /// Counts a step. At the step to stop at, it writes a line and blocks the thread. The runtime of a service has one
    /// thread, so nothing happens any more, as if the power had failed.
    pub(crate) fn reach(&self, place: impl FnOnce() -> String) {
        let step = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if Some(step) == self.stop_at {
            if standard_streams::write(&Answer::Reached { step, place: place() }).is_ok() {
                std::thread::sleep(WAIT);
            }
            std::process::exit(1);
        }
    }
}
