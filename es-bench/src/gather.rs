//! One thread that serves all that wait with one write and one sync: the limits that gather, and the peers that are engines
//! and not event stores.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::contender::Append;
use crate::failure::Failure;

/// What the gathering thread writes to.
pub trait Engine: Send + 'static {
    /// Writes all commits at once, the first event of the first one at this position, and waits as it was opened to wait.
    ///
    /// # Errors
    /// [`Failure`], which all that wait are given.
    fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure>;
}

/// How many commits wait at the most; more than there are writers.
const QUEUE: usize = 8192;
/// How many commits are written at once at the most.
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
    /// Starts the thread. With `checks` it refuses what is not at the expected revision, which it keeps in memory.
    ///
    /// # Errors
    /// [`Failure`] when the thread cannot be started.
    pub fn start(engine: impl Engine, checks: bool) -> Result<Self, Failure> {
        let (requests, waiting) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("bench-gather".into())
            .spawn(move || serve(engine, &waiting, checks))
            .map_err(|error| Failure::caused_by("start a thread", &error))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Hands a commit over and waits until it is written.
    ///
    /// # Errors
    /// [`Failure`] of the write, or of the thread.
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
            // NOTE: a panic of the thread was reported to all that waited.
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
        for Request { append, answer } in all_that_wait(first, waiting) {
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
            // NOTE: an error says that the writer has ended.
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

fn all_that_wait(first: Request, waiting: &Receiver<Request>) -> Vec<Request> {
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

    struct Notes(Arc<Mutex<Vec<u64>>>);

    impl Engine for Notes {
        fn write(&mut self, commits: &[Append], first: u64) -> Result<(), Failure> {
            let mut notes = self.0.lock().unwrap();
            notes.push(first);
            notes.push(commits.iter().map(|commit| commit.events.len() as u64).sum());
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
    async fn gives_positions_without_gaps_and_refuses_what_is_not_expected() {
        let notes = Arc::default();
        let gather = Gather::start(Notes(Arc::clone(&notes)), true).unwrap();
        assert_eq!(gather.append(append(1, 0)).await, Ok(1));
        assert_eq!(gather.append(append(2, 0)).await, Ok(2));
        assert!(gather.append(append(1, 0)).await.is_err());
        assert_eq!(gather.append(append(1, 1)).await, Ok(3));
        drop(gather);
        assert_eq!(notes.lock().unwrap().iter().skip(1).step_by(2).sum::<u64>(), 3);
    }
}
