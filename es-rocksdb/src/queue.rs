//! The queue of the writer: first in, first out, and bounded in bytes.
//!
//! ```text
//!   push() --- waits for room ---> [ request, request, ... ] ---> a turn of the writer
//! ```
//!
//! It is not a channel, because a future that waits for room and is never polled again must not prevent the store from
//! closing. [`Group`] has the queued requests.

use std::sync::Arc;

use es_core::CommitError;
use es_core::store::Committed;
use es_core::store::implement::is_retention_stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::draft::Draft;
use crate::group::{BatchLimits, Closed, Group, Turn, Weigh};
use crate::shared;

/// The smallest cost of a request, in bytes: its own size, the answer, the index entries of a small event.
const MIN_COST: u32 = 16 * 1024;

/// A commit that waits for the writer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) draft: Draft,
    /// The sender of the answer. There is no receiver if the future of the commit was dropped.
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
    /// The room in the queue, released when the request is done.
    pub(crate) room: OwnedSemaphorePermit,
}

impl Weigh for Request {
    fn bytes(&self) -> usize {
        self.draft.commit.weight()
    }
}

/// Splits requests after each commit to a retention stream, so that its rules are in effect for the commits after it.
/// Usually there is no such commit, and the result is one group.
pub(crate) fn split_by_operator(requests: Vec<Request>) -> Vec<Vec<Request>> {
    let is_operator =
        |request: &Request| request.draft.commit.events().iter().any(|(stream, _)| is_retention_stream(stream));
    if !requests.iter().any(is_operator) {
        return vec![requests];
    }
    let mut groups = vec![Vec::new()];
    for request in requests {
        let ends = is_operator(&request);
        if let Some(group) = groups.last_mut() {
            group.push(request);
        }
        if ends {
            groups.push(Vec::new());
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// The receiver of the answer to a queued commit.
pub(crate) type PendingAnswer = oneshot::Receiver<Result<Committed, CommitError>>;

/// The requests that wait for the writer `W`.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    group: Group<Request, W>,
    room: Arc<Semaphore>,
    capacity: u32,
}

/// Room in the queue for one commit.
#[derive(Debug)]
pub(crate) struct Reservation(OwnedSemaphorePermit);

impl<W> Queue<W> {
    /// Creates a queue for about this many bytes of commits, and for at least one commit.
    pub(crate) fn new(bytes: usize, limits: BatchLimits, writer: W) -> Self {
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX).max(MIN_COST);
        let permits = usize::try_from(capacity).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { group: Group::new(limits, writer), room: Arc::new(Semaphore::new(permits)), capacity }
    }

    /// Waits for room for a commit of this many bytes.
    ///
    /// # Errors
    /// [`Closed`] if the queue is closed, also while waiting.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Reservation, Closed> {
        Arc::clone(&self.room).acquire_many_owned(self.cost(bytes)).await.map(Reservation).map_err(|_| Closed)
    }

    /// Waits for room for the first of several commits with these sizes in bytes, and for as many after it as fit into
    /// the queue together. Returns the room of each.
    ///
    /// # Errors
    /// As [`room`](Self::room).
    pub(crate) async fn rooms(&self, bytes: impl IntoIterator<Item = usize>) -> Result<Vec<Reservation>, Closed> {
        let mut total = 0_u32;
        let fits = |cost: &u32| {
            let sum = total.saturating_add(*cost);
            let fits = sum <= self.capacity;
            total = if fits { sum } else { total };
            fits
        };
        let costs: Vec<u32> = bytes.into_iter().map(|bytes| self.cost(bytes)).take_while(fits).collect();
        // ORDER: reserves the room of all at once. Two callers that each hold a part and wait for the rest would
        // deadlock.
        let mut room = Arc::clone(&self.room).acquire_many_owned(total).await.map_err(|_| Closed)?;
        Ok(costs.into_iter().filter_map(|cost| room.split(usize::try_from(cost).ok()?).map(Reservation)).collect())
    }

    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(MIN_COST, self.capacity)
    }

    /// Adds a commit. Returns the receiver of its answer.
    ///
    /// # Errors
    /// [`Closed`] if the queue is closed. The commit was not added.
    pub(crate) fn push(&self, draft: Draft, Reservation(room): Reservation) -> Result<PendingAnswer, Closed> {
        let (answer, answered) = oneshot::channel();
        self.group.push(Request { draft, answer, room })?;
        Ok(answered)
    }

    /// Adds commits in their order, without others between them. Returns the receivers of their answers.
    ///
    /// # Errors
    /// [`Closed`] if the queue is closed. No commit was added.
    pub(crate) fn push_all(&self, drafts: Vec<(Draft, Reservation)>) -> Result<Vec<PendingAnswer>, Closed> {
        let (mut requests, mut answers) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for (draft, Reservation(room)) in drafts {
            let (answer, answered) = oneshot::channel();
            requests.push(Request { draft, answer, room });
            answers.push(answered);
        }
        self.group.push_all(requests)?;
        Ok(answers)
    }

    /// Adds a commit, as [`push`](Self::push) does. If no other commit is under way and this thread may block, calls
    /// `serve` on this thread.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn push_or_serve(
        &self,
        draft: Draft,
        room: Reservation,
        serve: impl FnOnce(Turn<'_, Request, W>),
    ) -> Result<PendingAnswer, Closed> {
        if !(self.group.would_be_alone() && shared::may_block_here()) {
            return self.push(draft, room);
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { draft, answer, room: room.0 };
        // ORDER: takes the turn inside of `block_in_place`, which first moves the other tasks of this thread to another
        // thread. Meanwhile the writer remains available.
        tokio::task::block_in_place(|| self.group.push_or_lead(request).map(|turn| turn.map(serve)))?;
        Ok(answered)
    }

    /// Waits for the next turn of the writer thread. Returns `None` if there will be no more turns.
    pub(crate) fn next_turn(&self) -> Option<Turn<'_, Request, W>> {
        self.group.next_turn()
    }

    /// Rejects further commits. Queued commits are still served.
    pub(crate) fn close(&self) {
        self.group.close();
        self.room.close();
    }

    /// Returns whether the writer was lost in a panic.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.group.is_abandoned()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.group.len()
    }
}

#[cfg(test)]
mod tests {
    use es_core::Commit;
    use es_core::model::Table;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn queue() -> Queue<()> {
        Queue::new(1, BatchLimits { commits: 3, bytes: 1000 }, ())
    }

    fn draft() -> Draft {
        let commit = Commit::new().put_row(Table::new("t").unwrap(), "k", vec![0; 8]);
        Draft::new(commit.validated().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_commit_waits_while_the_queue_is_full() {
        let queue = queue();
        queue.push(draft(), queue.room(8).await.unwrap()).unwrap();
        let mut second = pin!(queue.room(8));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        queue.next_turn().unwrap().serve(|(), requests| drop(requests));
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    /// Regression: only payloads and row values counted, so that events with much metadata made batches far larger than
    /// the limit.
    #[tokio::test]
    async fn metadata_counts_for_the_size_of_a_batch() {
        let queue = Queue::new(1 << 20, BatchLimits { commits: 3, bytes: 1000 }, ());
        for _ in 0..2 {
            let metadata = es_core::model::Metadata::new().with("note", "x".repeat(800));
            let event =
                es_core::NewEvent::json(es_core::EventType::new("placed").unwrap(), "{}").with_metadata(metadata);
            let stream = es_core::StreamId::new("order-1").unwrap();
            let commit = Commit::to(&stream, es_core::ExpectedRevision::Any, [event]).validated().unwrap();
            queue.push(Draft::new(commit).unwrap(), queue.room(8).await.unwrap()).unwrap();
        }
        queue.next_turn().unwrap().serve(|(), requests| assert_eq!(requests.len(), 1));
    }

    #[tokio::test]
    async fn closing_ends_waits_for_room_and_keeps_queued_requests() {
        let queue = queue();
        queue.push(draft(), queue.room(8).await.unwrap()).unwrap();
        let mut second = pin!(queue.room(8));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        queue.close();
        assert_eq!(second.await.unwrap_err(), Closed);
        assert_eq!(queue.room(8).await.unwrap_err(), Closed);
        queue.next_turn().unwrap().serve(|(), requests| assert_eq!(requests.len(), 1));
        assert!(queue.next_turn().is_none());
    }
}
