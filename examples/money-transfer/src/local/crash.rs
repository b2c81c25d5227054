//! [`CrashPoint`]: the step at which a run crashes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts the steps of a run, and crashes at one of them.
#[derive(Debug, Default)]
pub(crate) struct CrashPoint {
    progress: Mutex<CrashProgress>,
    crashed: Notify,
}

#[derive(Debug, Default)]
struct CrashProgress {
    /// The number of the step to crash at, from 1.
    stop_at: Option<u64>,
    steps: u64,
    place: Option<String>,
}

impl CrashPoint {
    /// Counts from now on, up to the step to crash at.
    pub(crate) fn arm(&self, stop_at: Option<u64>) {
        *self.progress() = CrashProgress { stop_at, ..CrashProgress::default() };
    }

    /// Counts a step. Returns whether the run has crashed, here or at an earlier step.
    pub(crate) fn reach(&self, place: impl FnOnce() -> String) -> bool {
        let mut progress = self.progress();
        progress.steps += 1;
        if Some(progress.steps) == progress.stop_at {
            progress.place = Some(place());
            self.crashed.notify_one();
        }
        progress.place.is_some()
    }

    /// Counts a step, and never returns if the run has crashed.
    pub(crate) async fn pass(&self, place: &str) {
        if self.reach(|| place.to_owned()) {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the crash.
    pub(crate) async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Returns the place of the crash.
    pub(crate) fn place(&self) -> Option<String> {
        self.progress().place.clone()
    }

    fn progress(&self) -> MutexGuard<'_, CrashProgress> {
        // A panic of another thread leaves the counter as it is.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
