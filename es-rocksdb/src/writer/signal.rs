//! [`SealSignal`]: wakes the thread that writes tables, and the commits that wait for it.

use std::time::Duration;

use es_core::StoreError;

use crate::sync::{Condvar, Mutex, PoisonError};

/// The pause after a failure, such as a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Wakes the thread that writes tables, and the commits that wait for it.
#[derive(Debug, Default)]
pub(crate) struct SealSignal {
    state: Mutex<SignalState>,
    changed: Condvar,
    /// Not notified of work, which each published frame reports as long as a run is full.
    closed: Condvar,
    /// Wakes commits that wait until a run has left the memory, or until that has failed.
    pub(crate) sealed: tokio::sync::Notify,
    /// Why the last run could not be written; `None` if it was.
    failure: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct SignalState {
    has_work: bool,
    is_closed: bool,
}

impl SealSignal {
    pub(crate) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).has_work = true;
        self.changed.notify_one();
    }

    /// Ends the waits for a run, which was written or could not be.
    pub(crate) fn finished(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        self.sealed.notify_waiters();
    }

    /// Returns an error while runs cannot be written, so that nothing waits for free space on the disk.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        failure.map_or(Ok(()), |failure| Err(StoreError::io("write the index of earlier commits", failure)))
    }

    /// Ends the thread after the run that it writes now.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.changed.notify_all();
        self.closed.notify_all();
        self.sealed.notify_waiters();
    }

    /// Waits for work; `false` if there will be none.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.is_closed {
                return false;
            }
            if std::mem::take(&mut state.has_work) {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for work, at most as long as after a failure; `false` if there will be none.
    pub(crate) fn wait_briefly(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.has_work && !state.is_closed {
            state = self.changed.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.has_work = false;
        !state.is_closed
    }

    /// Waits before a failed write is tried again; `false` if the thread should end.
    pub(crate) fn pause(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_closed {
            state = self.closed.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
        !state.is_closed
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    /// Regression: each published frame ended the pause, so that a thread on a full disk wrote tables without end.
    #[test]
    fn a_pause_is_not_ended_by_work() {
        let signal = Arc::new(SealSignal::default());
        let (frames, is_over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let working = {
            let (signal, frames, is_over) = (Arc::clone(&signal), Arc::clone(&frames), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    signal.wake();
                    frames.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            })
        };
        assert!(signal.pause());
        is_over.store(true, Ordering::Relaxed);
        working.join().unwrap();
        let frames = frames.load(Ordering::Relaxed);
        assert!(frames > 20, "the pause ended after {frames} frames");
        signal.close();
        assert!(!signal.pause());
    }
}
