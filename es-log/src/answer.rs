//! [`PendingCommit`]: the result of a commit that is waiting for its frame.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::AppendError;
use crate::sync::{Condvar, Mutex, lock, wait};

/// The result of a commit, once it is known.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    state: Mutex<AnswerState>,
    is_known: Condvar,
}

#[derive(Debug, Default)]
struct AnswerState {
    result: Option<Result<(), AppendError>>,
    waker: Option<Waker>,
    /// Whether a thread waits. A notification is a system call.
    is_awaited: bool,
}

impl Answer {
    /// Sets the result and wakes the caller.
    pub(crate) fn set(&self, result: Result<(), AppendError>) {
        let mut state = lock(&self.state);
        state.result = Some(result);
        let (waker, is_awaited) = (state.waker.take(), state.is_awaited);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        } else if is_awaited {
            self.is_known.notify_one();
        }
    }

    /// Waits for the result.
    pub(crate) fn wait(&self) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(result) = &state.result {
                return result.clone();
            }
            // Of an earlier poll, which nobody waits for any more.
            (state.is_awaited, state.waker) = (true, None);
            state = wait(&self.is_known, state);
        }
    }
}

/// A commit that is in the open frame. It is written also if this value is dropped.
///
/// As a future it resolves when the commit is on disk. [`wait`](Self::wait) blocks the thread instead.
#[derive(Debug)]
pub struct PendingCommit(pub(crate) Arc<Answer>);

impl PendingCommit {
    /// Waits until the commit is on disk.
    ///
    /// # Errors
    /// [`AppendError`]: the variant tells whether the commit can be in the log.
    pub fn wait(self) -> Result<(), AppendError> {
        self.0.wait()
    }
}

impl Future for PendingCommit {
    type Output = Result<(), AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0.state);
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
