use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{ExpectedRevision, StreamId};
use crate::store::implement::StoreLayer;
use crate::store::{
    Commit, CommitError, Committed, Conflict, EventStore, EventStream, FailedCheck, LogRead, StoreError, StreamRead,
};

/// A fault of one commit or one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The operation has no effect and returns a [`StoreError`].
    Refuse,
    /// The commit is written and returns a [`StoreError`].
    LoseAcknowledgement,
    /// The commit is not written and returns a conflict on its first stream.
    Conflict,
    /// The operation is delayed, then performed.
    Delay(Duration),
    /// The operation never completes, as if the process had crashed.
    Hang,
}

/// Wraps a store and injects faults into chosen commits and reads.
///
/// Commits are numbered from 0. Reads of streams and of the log have their own numbers from 0.
///
/// ```
/// # use std::sync::Arc;
/// # use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, StreamId};
/// # use es_core::{store::memory::MemoryStore, testing::{Fault, FaultyStore}};
/// # tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
/// let store = FaultyStore::new(Arc::new(MemoryStore::new()));
/// store.at_commit(0, Fault::LoseAcknowledgement);
/// let commit = Commit::to(
///     &StreamId::new("order-1").expect("a name"),
///     ExpectedRevision::NoStream,
///     [NewEvent::json(EventType::new("order-placed").expect("a name"), "{}")],
/// );
/// assert!(store.commit(commit.clone()).await.is_err());
/// assert!(store.commit(commit).await.expect("the same ids again").repeated);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn EventStore>,
    plan: Arc<Mutex<FaultPlan>>,
}

#[derive(Debug, Default)]
struct FaultPlan {
    commits: u64,
    reads: u64,
    at_commit: BTreeMap<u64, Fault>,
    at_read: BTreeMap<u64, Fault>,
}

impl FaultyStore {
    /// Wraps a store, without faults.
    #[must_use]
    pub fn new(inner: Arc<dyn EventStore>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Injects a fault into the commit with this number.
    pub fn at_commit(&self, number: u64, fault: Fault) {
        self.plan().at_commit.insert(number, fault);
    }

    /// Injects a fault into the read with this number. [`Fault::Conflict`] and [`Fault::LoseAcknowledgement`] act as
    /// [`Fault::Refuse`] for a read.
    pub fn at_read(&self, number: u64, fault: Fault) {
        self.plan().at_read.insert(number, fault);
    }

    /// Returns the number of commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.plan().commits
    }

    /// Returns the number of reads of streams and of the log so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.plan().reads
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, FaultPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_commit(&self) -> Option<Fault> {
        let mut plan = self.plan();
        let number = plan.commits;
        plan.commits += 1;
        plan.at_commit.remove(&number)
    }

    /// Counts a read and applies its fault.
    async fn before_read(&self) -> Result<(), StoreError> {
        let fault = {
            let mut plan = self.plan();
            let number = plan.reads;
            plan.reads += 1;
            plan.at_read.remove(&number)
        };
        match fault {
            None => Ok(()),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Refuse | Fault::LoseAcknowledgement | Fault::Conflict) => Err(injected("read")),
        }
    }
}

/// Returns the first expectation of a commit, or the stream of its first event; `None` for a commit without both.
fn first_expectation(commit: &Commit) -> Option<(StreamId, ExpectedRevision)> {
    let first_event = || commit.events().first().map(|(stream, _)| (stream.clone(), ExpectedRevision::Any));
    commit.expectations().first().cloned().or_else(first_event)
}

fn injected(action: &str) -> StoreError {
    StoreError::io(action, "injected fault")
}

#[async_trait]
impl StoreLayer for FaultyStore {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        match self.next_commit() {
            None => self.inner.commit(commit).await,
            Some(Fault::Refuse) => Err(injected("commit").into()),
            Some(Fault::LoseAcknowledgement) => {
                self.inner.commit(commit).await?;
                Err(injected("acknowledge a commit").into())
            }
            Some(Fault::Conflict) => {
                let Some((stream, expected)) = first_expectation(&commit) else {
                    return Err(injected("commit").into());
                };
                let actual = self.inner.revision(&stream).await?;
                Err(Conflict { failed: vec![FailedCheck::Revision { stream, expected, actual }] }.into())
            }
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.inner.commit(commit).await
            }
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    async fn read_stream(&self, read: StreamRead) -> Result<EventStream, StoreError> {
        self.before_read().await?;
        self.inner.read_stream(read).await
    }

    async fn read_log(&self, read: LogRead) -> Result<EventStream, StoreError> {
        self.before_read().await?;
        self.inner.read_log(read).await
    }
}
