//! Commands that are executed while others delete their aggregate or execute the same command.
#![cfg(feature = "derive")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use es_core::model::Table;
use es_core::prelude::*;
use es_core::retention::{DeleteKind, Note};
use es_core::store::implement::StoreLayer;
use es_core::store::memory::MemoryStore;
use es_core::store::{Committed, delete_stream};
use es_core::{Commit, CommitError, Outcome, StoreError, StreamId};
use serde::{Deserialize, Serialize};

/// The id of the account.
const ID: u64 = 7;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum AccountEvent {
    #[event(name = "deposited")]
    Deposited { cents: u64 },
    #[event(name = "withdrawn")]
    Withdrawn { cents: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "account", id = u64, event = AccountEvent, snapshot(every = 1))]
struct Account {
    cents: u64,
}

impl Evolve for Account {
    fn initial(_: &u64) -> Self {
        Self { cents: 0 }
    }

    fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Deposit {
    cents: u64,
}

impl Decide<Deposit> for Account {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: Deposit, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(AccountEvent::Deposited { cents: command.cents }.into())
    }
}

#[derive(Clone, Debug, Serialize)]
struct Withdraw {
    cents: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("too little")]
struct TooLittle;

impl Decide<Withdraw> for Account {
    type Rejection = TooLittle;

    fn decide(&self, command: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, TooLittle> {
        let Withdraw { cents } = command;
        if self.cents < cents { Err(TooLittle) } else { Ok(AccountEvent::Withdrawn { cents }.into()) }
    }
}

fn stream() -> StreamId {
    StreamId::new("account-7").expect("a name")
}

fn request() -> CommandId {
    CommandId::new("request").expect("a name")
}

/// Returns a store with an account of 12 deposits of one cent.
async fn bank() -> Arc<dyn EventStore> {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let accounts = Repository::<Account>::new(Arc::clone(&store));
    for _ in 0..12 {
        accounts.execute(&ID, Deposit { cents: 1 }).await.expect("deposited");
    }
    accounts.settle().await;
    store
}

async fn delete_account(store: &dyn EventStore) {
    let note = Note::default();
    delete_stream(store, &stream(), DeleteKind::Soft, ExpectedRevision::StreamExists, note).await.expect("deleted");
}

/// Regression: a deleted stream keeps its last revision, so a command that was decided before the deletion was written
/// as the first event of the new stream.
#[tokio::test]
async fn a_command_that_was_decided_before_a_deletion_conflicts() {
    let store = bank().await;
    let accounts = Repository::<Account>::new(Arc::clone(&store));
    let plan = accounts.plan(&ID, Withdraw { cents: 5 }).await.expect("decided");
    delete_account(&*store).await;
    let committed = store.commit(Commit::new().with(&plan)).await;
    assert!(matches!(committed, Err(CommitError::Conflict(_))), "{committed:?}");
}

/// Deletes the account before the first commit to it.
#[derive(Debug)]
struct DeletedBeforeCommit {
    inner: Arc<dyn EventStore>,
    is_deleted: AtomicBool,
}

#[async_trait]
impl StoreLayer for DeletedBeforeCommit {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let is_of_account = commit.events().iter().any(|(of, _)| *of == stream());
        if is_of_account && !self.is_deleted.swap(true, Ordering::SeqCst) {
            delete_account(&*self.inner).await;
        }
        self.inner.commit(commit).await
    }
}

/// Regression: the event of such a command was folded onto the deleted state, which returned as a snapshot.
#[tokio::test]
async fn a_deleted_state_does_not_return_as_a_snapshot() {
    let inner = bank().await;
    let layer = DeletedBeforeCommit { inner: Arc::clone(&inner), is_deleted: AtomicBool::new(false) };
    let accounts = Repository::<Account>::new(Arc::new(layer));
    let executed = accounts.execute(&ID, Deposit { cents: 100 }).await.expect("decided again on the new stream");
    assert_eq!(executed.state.cents, 100);
    accounts.settle().await;
    let loaded = Repository::<Account>::new(Arc::clone(&inner)).load(&ID).await.expect("loaded");
    let folded = Repository::<Account>::new(inner).without_snapshots().load(&ID).await.expect("loaded");
    assert_eq!((loaded.state.cents, folded.state.cents), (100, 100));
}

/// Another caller executes the same command right after the first read of its result.
#[derive(Debug)]
struct ExecutedAfterRead<C> {
    inner: Arc<dyn EventStore>,
    command: C,
    is_executed: AtomicBool,
}

fn executed_after_read<C>(inner: &Arc<dyn EventStore>, command: &C) -> Repository<Account>
where
    C: Clone + std::fmt::Debug + Send + Sync + Serialize + 'static,
    Account: Decide<C>,
{
    let (inner, command) = (Arc::clone(inner), command.clone());
    Repository::new(Arc::new(ExecutedAfterRead { inner, command, is_executed: AtomicBool::new(false) }))
}

#[async_trait]
impl<C> StoreLayer for ExecutedAfterRead<C>
where
    C: Clone + std::fmt::Debug + Send + Sync + Serialize + 'static,
    Account: Decide<C>,
{
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn row(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let row = self.inner.row(table, key).await?;
        if table.as_str() == "commands" && !self.is_executed.swap(true, Ordering::SeqCst) {
            let others = Repository::<Account>::new(Arc::clone(&self.inner));
            let executed = others.execute(&ID, self.command.clone()).with_id(request()).await;
            assert!(executed.is_ok(), "the other caller executes the command");
        }
        Ok(row)
    }
}

/// Regression: the result was read once, before the load. A command that another caller executed in between was decided
/// on its own result, and reported as rejected or as a conflict.
#[tokio::test]
async fn a_command_that_another_caller_executes_at_the_same_time_is_a_repeat() {
    let store = bank().await;
    let withdraw = Withdraw { cents: 12 };
    let repeated = executed_after_read(&store, &withdraw).execute(&ID, withdraw).with_id(request()).await;
    assert_eq!(repeated.expect("the first result, not a rejection").outcome, Outcome::Repeated);

    let store = bank().await;
    let deposit = Deposit { cents: 1 };
    let accounts = executed_after_read(&store, &deposit);
    let repeated = accounts.execute(&ID, deposit).with_id(request()).at_revision(Revision::new(11)).await;
    assert_eq!(repeated.expect("the first result, not a conflict").outcome, Outcome::Repeated);
}
