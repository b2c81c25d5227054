//! Group commit: the queued requests, and the turns of the one writer.
//!
//! ```text
//!   push ──► queued: [ request, request, ... ] ──► Turn: the writer and a batch ──► the writer is returned
//! ```
//!
//! The writer is a single value. The thread that takes it may write; the group keeps it while no thread writes.
//!
//! - A lone caller takes the writer and writes its own request, which saves two thread switches.
//! - Concurrent requests are left to the writer thread: while it waits for the disk, the next batch fills. A caller
//!   that writes serves only its own batch; the writer thread serves the requests that were queued meanwhile.
//!
//! This is similar to the leader and the followers in the write queues of LevelDB and RocksDB. The lock is held only to
//! move values, never during a write.

use std::collections::VecDeque;

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The number of consecutive lone batches after which a caller may write. On a busy machine, one of several concurrent
/// callers can find the queue empty for a moment; if it wrote, it would block the tasks of other callers on its thread.
#[cfg(not(shuttle))]
const LONE_BATCHES: u8 = 8;
/// One, so that the short schedules of the checker also cover the change back to callers.
#[cfg(shuttle)]
const LONE_BATCHES: u8 = 1;

/// The largest batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
}

/// A request with a size.
pub(crate) trait Weigh {
    /// Returns the bytes that count for [`BatchLimits::bytes`].
    fn bytes(&self) -> usize;
}

/// The group is closed and rejects requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// The queued requests `T` and the one writer `W`.
#[derive(Debug)]
pub(crate) struct Group<T, W> {
    state: Mutex<State<T, W>>,
    wake: Condvar,
    limits: BatchLimits,
}

#[derive(Debug)]
struct State<T, W> {
    queued: VecDeque<T>,
    /// The writer, while no thread has it.
    writer: Option<W>,
    /// The number of consecutive batches that had one request and left the queue empty, up to [`LONE_BATCHES`].
    lone_batches: u8,
    /// Whether the writer thread waits for a wake-up.
    is_thread_asleep: bool,
    is_closed: bool,
    /// Whether the writer is gone for good.
    has_ended: bool,
    /// Whether the writer was lost in a panic.
    is_abandoned: bool,
}

impl<T: Weigh, W> Group<T, W> {
    pub(crate) fn new(limits: BatchLimits, writer: W) -> Self {
        let (queued, writer) = (VecDeque::new(), Some(writer));
        let state = State {
            queued,
            writer,
            lone_batches: LONE_BATCHES,
            is_thread_asleep: false,
            is_closed: false,
            has_ended: false,
            is_abandoned: false,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), limits }
    }

    /// Adds a request for the writer thread.
    pub(crate) fn push(&self, request: T) -> Result<(), Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        state.queued.push_back(request);
        self.wake_thread(state);
        Ok(())
    }

    /// Adds requests for the writer thread in their order, without others between them.
    pub(crate) fn push_all(&self, requests: impl IntoIterator<Item = T>) -> Result<(), Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        state.queued.extend(requests);
        self.wake_thread(state);
        Ok(())
    }

    /// Returns whether a caller could now write its own request. A caller that needs a preparation to block its thread
    /// calls this before it prepares.
    pub(crate) fn would_be_alone(&self) -> bool {
        self.state().would_be_alone()
    }

    /// Adds a request. Returns the turn to serve it if it is a lone request; otherwise the writer thread serves it.
    pub(crate) fn push_or_lead(&self, request: T) -> Result<Option<Turn<'_, T, W>>, Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        let writer = if state.would_be_alone() { state.writer.take() } else { None };
        state.queued.push_back(request);
        match writer {
            Some(writer) => Ok(Some(self.turn(state, writer))),
            None => {
                self.wake_thread(state);
                Ok(None)
            }
        }
    }

    /// Waits until a request is queued and no caller writes, and returns the next turn of the writer thread. Returns
    /// `None` if there will be no more turns: the group is closed and the queue is empty, or the writer was lost.
    pub(crate) fn next_turn(&self) -> Option<Turn<'_, T, W>> {
        let mut state = self.state();
        while !state.has_ended {
            let has_work = !state.queued.is_empty();
            if has_work || state.is_closed {
                match state.writer.take() {
                    Some(writer) if has_work => return Some(self.turn(state, writer)),
                    Some(writer) => {
                        state.has_ended = true;
                        // ORDER: drops the writer after the lock is released, because the drop can take long.
                        drop(state);
                        drop(writer);
                        return None;
                    }
                    // A caller writes. It wakes the thread when it returns the writer.
                    None => {}
                }
            }
            state.is_thread_asleep = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.is_thread_asleep = false;
        }
        None
    }

    /// Rejects further requests. Queued requests are still served.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        self.wake_thread(state);
    }

    /// Returns whether the writer was lost in a panic.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().is_abandoned
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().queued.len()
    }

    fn turn<'a>(&'a self, mut state: MutexGuard<'_, State<T, W>>, writer: W) -> Turn<'a, T, W> {
        let batch = state.take(self.limits);
        Turn { group: self, batch, writer: Some(writer) }
    }

    fn return_writer(&self, writer: W, served: usize) {
        let mut state = self.state();
        state.writer = Some(writer);
        let is_lone = served == 1 && state.queued.is_empty();
        state.lone_batches = if is_lone { LONE_BATCHES.min(state.lone_batches + 1) } else { 0 };
        if state.is_closed || !state.queued.is_empty() {
            self.wake_thread(state);
        }
    }
}

impl<T, W> Group<T, W> {
    /// Closes the group after the writer was lost, and drops the queued requests, so that their callers stop waiting.
    fn abandon(&self) {
        let mut state = self.state();
        (state.is_closed, state.has_ended, state.is_abandoned) = (true, true, true);
        let queued = std::mem::take(&mut state.queued);
        self.wake_thread(state);
        drop(queued);
    }

    fn wake_thread(&self, mut state: MutexGuard<'_, State<T, W>>) {
        // A notification costs a system call, also if it has no effect. With concurrent requests most would have none.
        let has_turn = state.writer.is_some() || state.has_ended;
        let must_wake = has_turn && std::mem::take(&mut state.is_thread_asleep);
        drop(state);
        if must_wake {
            self.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, W>> {
        // No code that can panic runs between two changes of the state, so a poisoned state is consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, W> State<T, W> {
    fn would_be_alone(&self) -> bool {
        self.lone_batches == LONE_BATCHES && self.queued.is_empty() && self.writer.is_some()
    }
}

impl<T: Weigh, W> State<T, W> {
    /// Removes the next batch from the queue, up to the limits. A larger first request is a batch of its own.
    fn take(&mut self, limits: BatchLimits) -> Vec<T> {
        let mut taken = Vec::new();
        let mut bytes = 0usize;
        while let Some(next) = self.queued.front() {
            bytes = bytes.saturating_add(next.bytes());
            if !taken.is_empty() && (taken.len() >= limits.commits || bytes > limits.bytes) {
                break;
            }
            taken.extend(self.queued.pop_front());
        }
        taken
    }
}

/// A turn to write: the writer and its next batch.
///
/// A turn that ends in a panic drops the writer, whose state may then be inconsistent, and closes the group.
#[derive(Debug)]
pub(crate) struct Turn<'a, T: Weigh, W> {
    group: &'a Group<T, W>,
    batch: Vec<T>,
    writer: Option<W>,
}

impl<T: Weigh, W> Turn<'_, T, W> {
    /// Serves the batch, and returns the writer to the group.
    pub(crate) fn serve(mut self, serve: impl FnOnce(&mut W, Vec<T>)) {
        let batch = std::mem::take(&mut self.batch);
        let served = batch.len();
        if let Some(writer) = &mut self.writer {
            serve(writer, batch);
        }
        if let Some(writer) = self.writer.take() {
            self.group.return_writer(writer, served);
        }
    }
}

impl<T: Weigh, W> Drop for Turn<'_, T, W> {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.group.abandon();
            drop(writer);
        }
    }
}

#[cfg(test)]
mod tests;
