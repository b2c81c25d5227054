//! Group commit in one thread: a write and a sync for all waiting commits. Used by two limits and by the peers that are
//! engines without group commit.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::contender::Append;
use crate::failure::Failure;

/// The destination of the gathering thread.
pub trait Engine: Send + 'static {
    /// Writes all commits with the durability of the engine. The first event has the position `first`.
    ///
    /// # Errors
    /// Returns a [`Failure`] for all callers.
    fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure>;
}

/// The maximum number of waiting commits, greater than the number of writers.
const QUEUE: usize = 8192;
/// The maximum number of commits in a write.
const BATCH: usize = 1024;

struct Request {
    append: Append,
    answer: oneshot::Sender<Result<u64, Failure>>,
}

/// The gathering thread.
pub struct Gather {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Gather {
    /// Starts the thread. With `checks`, it refuses commits with a wrong expected revision; revisions are kept in
    /// memory.
    ///
    /// # Errors
    /// Returns a [`Failure`] if the thread cannot be started.
    pub fn start(engine: impl Engine, checks: bool) -> Result<Self, Failure> {
        let (requests, waiting) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("bench-gather".into())
            .spawn(move || serve(engine, &waiting, checks))
            .map_err(|error| Failure::caused_by("start a thread", &error))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Sends a commit to the thread and waits until it is written.
    ///
    /// # Errors
    /// Returns the [`Failure`] of the write, or one if the thread has ended.
    pub async fn append(&self, append: Append) -> Result<u64, Failure> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(|| Failure::new("append", "closed"))?;
        requests.send(Request { append, answer }).map_err(|_| Failure::new("append", "the writer has ended"))?;
        answered.await.unwrap_or_else(|_| Err(Failure::new("append", "the writer has ended")))
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported to all waiting callers.
            let _ = thread.join();
        }
    }
}

fn serve(mut engine: impl Engine, waiting: &Receiver<Request>, checks: bool) {
    let mut heads = HashMap::new();
    let mut next = 1;
    while let Ok(first) = waiting.recv() {
        let mut commits = Vec::new();
        let mut answers = Vec::new();
        for Request { append, answer } in waiting_requests(first, waiting) {
            match check(checks, &mut heads, &append) {
                Ok(()) => {
                    commits.push(append);
                    answers.push(answer);
                }
                Err(refused) => drop(answer.send(Err(refused))),
            }
        }
        let written = engine.write(&commits, next);
        for (commit, answer) in commits.iter().zip(answers) {
            next += commit.events.len() as u64;
            // An error means that the caller has stopped waiting.
            let _ = answer.send(written.clone().map(|()| next - 1));
        }
    }
}

fn check(checks: bool, heads: &mut HashMap<u64, u64>, append: &Append) -> Result<(), Failure> {
    if !checks {
        return Ok(());
    }
    let head = heads.entry(append.stream).or_default();
    if *head != append.expected {
        return Err(Failure::new("append", format!("expected {} events, found {head}", append.expected)));
    }
    *head += append.events.len() as u64;
    Ok(())
}

fn waiting_requests(first: Request, waiting: &Receiver<Request>) -> Vec<Request> {
    let mut requests = vec![first];
    while requests.len() < BATCH {
        match waiting.try_recv() {
            Ok(request) => requests.push(request),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::domain::{Tagging, sample};

    struct Recorder(Arc<Mutex<Vec<u64>>>);

    impl Engine for Recorder {
        fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure> {
            let mut writes = self.0.lock().unwrap();
            writes.push(first);
            writes.push(commits.iter().map(|commit| commit.events.len() as u64).sum());
            Ok(())
        }
    }

    fn append(stream: u64, expected: u64) -> Append {
        Append {
            stream,
            expected,
            seen: 0,
            conditional: false,
            events: vec![sample(stream, expected, 64, Tagging::PerStream)],
        }
    }

    #[tokio::test]
    async fn positions_have_no_gaps_and_a_wrong_revision_is_refused() {
        let writes = Arc::default();
        let gather = Gather::start(Recorder(Arc::clone(&writes)), true).unwrap();
        assert_eq!(gather.append(append(1, 0)).await, Ok(1));
        assert_eq!(gather.append(append(2, 0)).await, Ok(2));
        assert!(gather.append(append(1, 0)).await.is_err());
        assert_eq!(gather.append(append(1, 1)).await, Ok(3));
        drop(gather);
        assert_eq!(writes.lock().unwrap().iter().skip(1).step_by(2).sum::<u64>(), 3);
    }
}
