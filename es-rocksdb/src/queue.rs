//! The queue between those who commit and the one writer: bounded in bytes, first come, first served.
//!
//! ```text
//!   commit() --- waits for room ---> [ request, request, ... ] ---> take(limits) ---> writer
//! ```
//!
//! It is made of a mutex and a condition variable and not of a channel, because closing must depend on nobody else:
//! a future that waits for room and is never polled again must not keep the store open.

use std::collections::VecDeque;
use std::sync::Arc;

use es_core::{Commit, CommitError, Committed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a request costs at the least, in bytes: its own size, the answer, the index entries of a small event.
const LEAST_COST: u32 = 16 * 1024;

/// A commit that waits for the writer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) commit: Commit,
    /// Who waits for the answer; nobody does if the future of the commit was dropped.
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
    /// Gives the room back when the request is done.
    pub(crate) room: OwnedSemaphorePermit,
}

/// How much the writer takes at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
}

/// The queue was closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    room: Arc<Semaphore>,
    capacity: u32,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    /// A queue for about this many bytes of commits, at least one commit.
    pub(crate) fn new(bytes: usize) -> Self {
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX).max(LEAST_COST);
        let permits = usize::try_from(capacity).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            state: Mutex::new(State::default()),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(permits)),
            capacity,
        }
    }

    /// Adds a commit as soon as there is room, and returns where its answer will come from.
    ///
    /// # Errors
    /// [`Closed`]: it was not added.
    pub(crate) async fn push(
        &self,
        commit: Commit,
    ) -> Result<oneshot::Receiver<Result<Committed, CommitError>>, Closed> {
        let cost = u32::try_from(commit.bytes()).unwrap_or(u32::MAX).clamp(LEAST_COST, self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await.map_err(|_| Closed)?;
        let (answer, answered) = oneshot::channel();
        let mut state = self.state();
        if state.closed {
            return Err(Closed);
        }
        state.waiting.push_back(Request { commit, answer, room });
        drop(state);
        self.filled.notify_one();
        Ok(answered)
    }

    /// Everything that waits, up to the limits, at least one; waits for the first. Empty only when the queue is closed
    /// and nothing waits any more.
    pub(crate) fn take(&self, limits: BatchLimits) -> Vec<Request> {
        let mut state = self.state();
        while state.waiting.is_empty() && !state.closed {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::new();
        let mut bytes = 0usize;
        while let Some(next) = state.waiting.front() {
            bytes = bytes.saturating_add(next.commit.bytes());
            if !taken.is_empty() && (taken.len() >= limits.commits || bytes > limits.bytes) {
                break;
            }
            taken.extend(state.waiting.pop_front());
        }
        taken
    }

    /// Takes no more commits. What waits already is still taken by the writer.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.room.close();
        self.filled.notify_all();
    }

    /// Takes no more commits and forgets what waits, so that nobody waits for a writer that is gone.
    pub(crate) fn abandon(&self) {
        self.close();
        self.state().waiting.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // NOTE: no code that can panic runs between two changes of the state, so a poisoned one is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use es_core::Table;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { commits: 3, bytes: 1000 };

    fn commit(bytes: usize) -> Commit {
        Commit::new().put_row(Table::new("t").unwrap(), "k", vec![0; bytes])
    }

    #[tokio::test]
    async fn a_batch_is_bounded_in_commits_and_bytes_and_has_at_least_one() {
        let queue = Queue::new(1 << 20);
        for bytes in [1, 1, 1, 1, 600, 600, 5000] {
            queue.push(commit(bytes)).await.unwrap();
        }
        let sizes: Vec<usize> = (0..4).map(|_| queue.take(LIMITS).len()).collect();
        assert_eq!(sizes, [3, 2, 1, 1]);
    }

    #[tokio::test]
    async fn a_full_queue_lets_wait_and_goes_on_when_a_request_is_done() {
        let queue = Queue::new(1);
        queue.push(commit(1)).await.unwrap();
        let mut second = pin!(queue.push(commit(1)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(queue.take(LIMITS));
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn closing_refuses_those_who_wait_for_room_and_keeps_what_is_queued() {
        let queue = Queue::new(1);
        queue.push(commit(1)).await.unwrap();
        let mut second = pin!(queue.push(commit(1)));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        queue.close();
        assert_eq!(second.await.unwrap_err(), Closed);
        assert_eq!(queue.push(commit(1)).await.unwrap_err(), Closed);
        assert_eq!(queue.take(LIMITS).len(), 1);
        assert_eq!(queue.take(LIMITS).len(), 0);
    }
}
