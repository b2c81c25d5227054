//! Group commit: what waits to be written, and whose turn it is to write.
//!
//! ```text
//!   push ──► waiting: [ request, request, ... ] ──► Turn: the writer and a batch ──► the writer is given back
//! ```
//!
//! The writer is a value, and there is one: whoever has it writes, and nobody else can. While nobody writes, it lies here.
//!
//! - Who is alone for some time takes it and writes for itself, which saves two changes of threads.
//! - A crowd leaves it to a thread that does nothing else: while that waits for the disk, the next batch fills. Whoever
//!   wrote for itself serves one batch, its own; what came meanwhile is the thread's.
//!
//! ("Writes for itself" and "for all" are the leader and the followers of LevelDB's and RocksDB's write queues.) The lock
//! is held while values change their place, and never while anything is written.

use std::collections::VecDeque;

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// After how many lone batches a request is taken for alone. In a crowd on a busy machine one can seem to be alone for a
/// moment; if it wrote for itself then, it would keep those from coming who run on the same thread.
#[cfg(not(shuttle))]
const LONE_BATCHES: u8 = 8;
/// NOTE: few, so that the short schedules of a checker also see the turn go back to the callers.
#[cfg(shuttle)]
const LONE_BATCHES: u8 = 1;

/// How much is written at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
}

/// What can wait here.
pub(crate) trait Weigh {
    /// Its part of [`BatchLimits::bytes`].
    fn bytes(&self) -> usize;
}

/// Nothing is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// Requests `T`, and the one writer `W`.
#[derive(Debug)]
pub(crate) struct Group<T, W> {
    state: Mutex<State<T, W>>,
    wanted: Condvar,
    limits: BatchLimits,
}

#[derive(Debug)]
struct State<T, W> {
    waiting: VecDeque<T>,
    /// The writer, while nobody writes.
    writer: Option<W>,
    /// How many batches in a row had one request and left nobody waiting, up to [`LONE_BATCHES`].
    lone: u8,
    /// Whether the thread sleeps until it is wanted.
    is_thread_asleep: bool,
    closed: bool,
    /// Whether there will be no writer any more.
    ended: bool,
    /// Whether that is because of a panic.
    is_abandoned: bool,
}

impl<T: Weigh, W> Group<T, W> {
    pub(crate) fn new(limits: BatchLimits, writer: W) -> Self {
        let (waiting, writer) = (VecDeque::new(), Some(writer));
        let state = State {
            waiting,
            writer,
            lone: LONE_BATCHES,
            is_thread_asleep: false,
            closed: false,
            ended: false,
            is_abandoned: false,
        };
        Self { state: Mutex::new(state), wanted: Condvar::new(), limits }
    }

    /// Adds a request, which the thread will serve.
    pub(crate) fn push(&self, request: T) -> Result<(), Closed> {
        let mut state = self.state();
        if state.closed {
            return Err(Closed);
        }
        state.waiting.push_back(request);
        self.wake_thread(state);
        Ok(())
    }

    /// Adds requests in their order, without others in between. The thread will serve them.
    pub(crate) fn push_all(&self, requests: impl IntoIterator<Item = T>) -> Result<(), Closed> {
        let mut state = self.state();
        if state.closed {
            return Err(Closed);
        }
        state.waiting.extend(requests);
        self.wake_thread(state);
        Ok(())
    }

    /// Whether a request that comes now would be alone. Who may not block without preparation asks before it prepares.
    pub(crate) fn would_be_alone(&self) -> bool {
        self.state().would_be_alone()
    }

    /// Adds a request. If it is alone, the caller gets the turn to serve it; otherwise the thread does.
    pub(crate) fn push_or_lead(&self, request: T) -> Result<Option<Turn<'_, T, W>>, Closed> {
        let mut state = self.state();
        if state.closed {
            return Err(Closed);
        }
        let own = if state.would_be_alone() { state.writer.take() } else { None };
        state.waiting.push_back(request);
        match own {
            Some(writer) => Ok(Some(self.turn(state, writer))),
            None => {
                self.wake_thread(state);
                Ok(None)
            }
        }
    }

    /// The next turn of the thread: waits until there is a request and nobody writes. `None` only when there will be
    /// none any more, because this was closed and nothing waits, or because the writer is gone.
    pub(crate) fn next_turn(&self) -> Option<Turn<'_, T, W>> {
        let mut state = self.state();
        while !state.ended {
            let has_work = !state.waiting.is_empty();
            if has_work || state.closed {
                match state.writer.take() {
                    Some(writer) if has_work => return Some(self.turn(state, writer)),
                    Some(writer) => {
                        state.ended = true;
                        // ORDER: not under the lock, whatever goes with the writer.
                        drop(state);
                        drop(writer);
                        return None;
                    }
                    // NOTE: somebody writes, and will call when that is done.
                    None => {}
                }
            }
            state.is_thread_asleep = true;
            state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.is_thread_asleep = false;
        }
        None
    }

    /// Takes no more requests. What waits already is still served.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        self.wake_thread(state);
    }

    /// Whether a panic has taken the writer away.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().is_abandoned
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    fn turn<'a>(&'a self, mut state: MutexGuard<'_, State<T, W>>, writer: W) -> Turn<'a, T, W> {
        let batch = state.take(self.limits);
        Turn { group: self, batch, writer: Some(writer) }
    }

    fn return_writer(&self, writer: W, served: usize) {
        let mut state = self.state();
        state.writer = Some(writer);
        state.lone = if served == 1 && state.waiting.is_empty() { LONE_BATCHES.min(state.lone + 1) } else { 0 };
        if state.closed || !state.waiting.is_empty() {
            self.wake_thread(state);
        }
    }
}

impl<T, W> Group<T, W> {
    /// Lets nobody wait for a writer that is gone.
    fn abandon(&self) {
        let mut state = self.state();
        (state.closed, state.ended, state.is_abandoned) = (true, true, true);
        let waiting = std::mem::take(&mut state.waiting);
        self.wake_thread(state);
        drop(waiting);
    }

    fn wake_thread(&self, mut state: MutexGuard<'_, State<T, W>>) {
        // NOTE: a call that nobody needs costs a system call all the same, and most are of that kind in a crowd.
        let is_wanted = state.writer.is_some() || state.ended;
        let must_wake = is_wanted && std::mem::take(&mut state.is_thread_asleep);
        drop(state);
        if must_wake {
            self.wanted.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, W>> {
        // NOTE: no code that can panic runs between two changes of the state, so a poisoned one is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, W> State<T, W> {
    fn would_be_alone(&self) -> bool {
        self.lone == LONE_BATCHES && self.waiting.is_empty() && self.writer.is_some()
    }
}

impl<T: Weigh, W> State<T, W> {
    /// What waits, up to the limits, at least one request if there is one.
    fn take(&mut self, limits: BatchLimits) -> Vec<T> {
        let mut taken = Vec::new();
        let mut bytes = 0usize;
        while let Some(next) = self.waiting.front() {
            bytes = bytes.saturating_add(next.bytes());
            if !taken.is_empty() && (taken.len() >= limits.commits || bytes > limits.bytes) {
                break;
            }
            taken.extend(self.waiting.pop_front());
        }
        taken
    }
}

/// The turn to write: the one writer, and what it is to write.
///
/// A turn that is not served to its end, because of a panic, takes the writer with it: what a panic left behind writes
/// no more. Then everybody who waits is let go.
#[derive(Debug)]
pub(crate) struct Turn<'a, T: Weigh, W> {
    group: &'a Group<T, W>,
    batch: Vec<T>,
    writer: Option<W>,
}

impl<T: Weigh, W> Turn<'_, T, W> {
    /// Serves the batch, and gives the writer back.
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
