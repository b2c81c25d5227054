//! Turns: commands to one aggregate through one repository wait for each other, so that they do not conflict.
//!
//! The expected revision of the commit protects an aggregate. Turns only avoid decisions that a conflict would discard.
//! Commands to different aggregates do not wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::model::StreamId;

type Queue = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug, Default)]
pub(crate) struct Turns {
    queues: Mutex<HashMap<StreamId, Queue>>,
}

/// The right to execute a command on one stream. When it is dropped, the next waiting command gets it.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    stream: StreamId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for a turn, in the order of the calls.
    pub(crate) async fn wait(&self, stream: &StreamId) -> Turn<'_> {
        let queue = {
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(queues.entry(stream.clone()).or_default())
        };
        // Create the turn before the wait, so that a cancelled wait removes its queue, too.
        let mut turn = Turn { turns: self, stream: stream.clone(), guard: None };
        turn.guard = Some(queue.lock_owned().await);
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut queues = self.turns.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // ORDER: count under the lock of the map, so that nobody can join a queue between the count and the removal.
        if queues.get(&self.stream).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cancelled_wait_removes_its_queue() {
        let turns = Turns::default();
        let stream = StreamId::new("a-1").expect("valid");
        let first = turns.wait(&stream).await;
        let cancelled = tokio::time::timeout(std::time::Duration::from_millis(5), turns.wait(&stream)).await;
        assert!(cancelled.is_err(), "the second waits while the first has its turn");
        drop(first);
        drop(turns.wait(&stream).await);
        assert!(turns.queues.lock().expect("not poisoned").is_empty());
    }
}
