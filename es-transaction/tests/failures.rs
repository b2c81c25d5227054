//! Failures of the coordinator's store, of its rows and of participants, and a shutdown in the middle of a transaction.
#![allow(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod bank;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bank::*;
use es_core::model::{CoordinatorEpoch, Table, TransactionId};
use es_core::retention::Note;
use es_core::store::RowScan;
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use es_core::{Commit, EventStore};
use es_transaction::machine::{Call, Damage};
use es_transaction::{
    CommandList, Coordinator, EnlistError, Finished, HookAction, HookPlace, HookPoint, LockedStreams, Outcome,
    Participant, ParticipantError, ParticipantStatus, Prepare, StoreParticipant, TransactionError, Transactions, Vote,
};

async fn banks() -> (Bank, Bank) {
    (Bank::new("a").with_account(1, 100).await, Bank::new("b").with_account(2, 5).await)
}

fn memory() -> Arc<dyn EventStore> {
    Arc::new(MemoryStore::new())
}

/// Transfers 30 cents. Returns the transaction and its result.
async fn transfer(
    transactions: &Transactions,
    (a, b): (&Bank, &Bank),
) -> (Option<TransactionId>, Result<(), TransactionError<EnlistError>>) {
    let mut id = None;
    let run = transactions.begin().run(async |tx| {
        id = Some(tx.id().clone());
        tx.enlist_participant(&a.participant, &withdraw(1, 30))?;
        tx.enlist_participant(&b.participant, &deposit(2, 30))
    });
    let result = tokio::time::timeout(Duration::from_secs(1), run).await;
    let result = result.map_or(Ok(()), |result| result.map(drop));
    (id, result)
}

async fn is_locked((a, b): (&Bank, &Bank)) -> (bool, bool) {
    (a.is_locked(1).await, b.is_locked(2).await)
}

async fn cents((a, b): (&Bank, &Bank)) -> (u64, u64) {
    (a.cents(1).await, b.cents(2).await)
}

/// Crashes a coordinator at a place of a transfer.
async fn crash(coordinator: Coordinator, banks: (&Bank, &Bank), is_place: fn(HookPlace<'_>) -> bool) -> TransactionId {
    let hook = move |point: HookPoint<'_>| match is_place(point.place) {
        true => HookAction::Crash,
        false => HookAction::Continue,
    };
    let running = coordinator.test_hook(hook).start().await.unwrap();
    let (id, _) = transfer(&running, banks).await;
    id.unwrap()
}

/// The write of the decision fails, and the decision may be durable. The same epoch presumes nothing; the next one
/// finds the outcome in the log.
#[tokio::test]
async fn a_store_that_fails_at_the_decision_stops_the_coordinator() {
    for (fault, expected) in [(Fault::Refuse, (100, 5)), (Fault::LoseAcknowledgement, (70, 35))] {
        let (a, b) = banks().await;
        let banks = (&a, &b);
        let faulty = FaultyStore::new(memory());
        let head: Arc<dyn EventStore> = Arc::new(faulty.clone());
        let hook = move |point: HookPoint<'_>| {
            if point.place == (HookPlace::BeforeRecord { number: 1 }) {
                faulty.at_commit(faulty.commits(), fault.clone());
            }
            HookAction::Continue
        };
        let running = coordinator(&head, &[&a, &b]).test_hook(hook).start().await.unwrap();
        let (_, result) = transfer(&running, banks).await;
        assert!(matches!(result, Err(TransactionError::Unknown { .. })), "{result:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(is_locked(banks).await, (true, true), "several searches have presumed no outcome");
        let (_, later) = transfer(&running, banks).await;
        assert!(matches!(later, Err(TransactionError::Stopped)), "{later:?}");
        drop(running);
        let _next = coordinator(&head, &[&a, &b]).start().await.unwrap();
        wait_until(async || is_locked(banks).await == (false, false)).await;
        assert_eq!(cents(banks).await, expected);
    }
}

/// The records leave out a read-only participant, so that an index among them is another one in the running task.
#[tokio::test]
async fn an_operator_answers_for_a_participant_by_its_name() {
    let (a, b) = banks().await;
    let read_only = Bank::new("0").with_account(3, 1).await;
    let hook = |point: HookPoint<'_>| match point.place {
        HookPlace::BeforeCall { participant: "b", call: Call::Commit } => HookAction::Lose,
        _ => HookAction::Continue,
    };
    let running = coordinator(&memory(), &[&read_only, &a, &b]).test_hook(hook).start().await.unwrap();
    let run = running.begin().run(async |tx| {
        tx.enlist_participant(&read_only.participant, &deposit(3, 0))?;
        tx.enlist_participant(&a.participant, &withdraw(1, 30))?;
        tx.enlist_participant(&b.participant, &deposit(2, 30))
    });
    let id = run.await.unwrap().transaction;
    wait_until(async || !a.is_locked(1).await).await;
    running.resolve(&id, "b", Finished::Unknown).await.unwrap();
    let listed = running.unfinished(None, 10).await.unwrap();
    assert_eq!(listed[0].damage, Some(Damage::Hazard));
    let answers: Vec<_> = listed[0].participants.iter().map(|entry| (entry.name.as_str(), entry.answer)).collect();
    assert_eq!(answers, [("a", None), ("b", Some(Finished::Unknown))]);
}

/// A participant that fails in its first commit.
struct Failing {
    inner: StoreParticipant,
    failure: Failure,
    has_failed: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy)]
enum Failure {
    /// It answers, and does not commit.
    AnswersWithoutCommit,
    Panics,
}

impl Participant for Failing {
    type Request = CommandList;
    type Prepared = LockedStreams;

    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn prepare(&self, prepare: &Prepare, request: &CommandList) -> Result<Vote<LockedStreams>, ParticipantError> {
        self.inner.prepare(prepare, request).await
    }

    async fn commit(&self, id: &TransactionId, prepared: &LockedStreams) -> Result<Finished, ParticipantError> {
        if !self.has_failed.swap(true, Ordering::SeqCst) {
            match self.failure {
                Failure::AnswersWithoutCommit => return Ok(Finished::Done),
                Failure::Panics => panic!("a participant panics in a test"),
            }
        }
        self.inner.commit(id, prepared).await
    }

    async fn abort(&self, id: &TransactionId, prepared: Option<&LockedStreams>) -> Result<Finished, ParticipantError> {
        self.inner.abort(id, prepared).await
    }

    async fn status(&self, id: &TransactionId) -> Result<ParticipantStatus, ParticipantError> {
        self.inner.status(id).await
    }

    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        self.inner.in_doubt(epoch).await
    }
}

/// The call of a participant that panics is repeated. A participant that reports a transaction after its end is told
/// the outcome.
#[tokio::test]
async fn a_participant_that_fails_in_its_commit_is_told_the_outcome() {
    for failure in [Failure::Panics, Failure::AnswersWithoutCommit] {
        let (a, b) = banks().await;
        let has_failed = Arc::new(AtomicBool::new(false));
        let failing = Failing { inner: b.participant.clone(), failure, has_failed: Arc::clone(&has_failed) };
        let running = coordinator(&memory(), &[&a]).participant(failing).start().await.unwrap();
        let (_, result) = transfer(&running, (&a, &b)).await;
        result.unwrap();
        wait_until(async || is_locked((&a, &b)).await == (false, false)).await;
        assert!(has_failed.load(Ordering::SeqCst));
        assert_eq!(cents((&a, &b)).await, (70, 35), "{failure:?}");
    }
}

/// A heuristic outcome that agrees with the decision is forgotten by the next search if the message was lost.
#[tokio::test]
async fn a_heuristic_outcome_is_forgotten_after_a_lost_message() {
    let (a, b) = banks().await;
    let head = memory();
    let is_commit = |place: HookPlace<'_>| matches!(place, HookPlace::BeforeCall { call: Call::Commit, .. });
    let id = crash(coordinator(&head, &[&a, &b]), (&a, &b), is_commit).await;
    b.participant.resolve(&id, Outcome::Committed, &Note::default()).await.unwrap();
    let is_lost = Arc::new(AtomicBool::new(false));
    let lost = Arc::clone(&is_lost);
    let hook = move |point: HookPoint<'_>| match point.place {
        HookPlace::BeforeCall { call: Call::Forget, .. } if !lost.swap(true, Ordering::SeqCst) => HookAction::Lose,
        _ => HookAction::Continue,
    };
    let _running = coordinator(&head, &[&a, &b]).test_hook(hook).start().await.unwrap();
    wait_until(async || b.participant.heuristics(10).await.unwrap().is_empty()).await;
    assert!(is_lost.load(Ordering::SeqCst));
    assert_eq!(cents((&a, &b)).await, (70, 35));
}

/// A row that cannot be read does not keep the coordinator from the transactions after it.
#[tokio::test]
async fn an_unreadable_row_does_not_stop_the_recovery() {
    let (a, b) = banks().await;
    let head = memory();
    // All participants have answered, so that only the log has the transaction.
    let is_end = |place: HookPlace<'_>| place == HookPlace::BeforeRecord { number: 2 };
    crash(coordinator(&head, &[&a, &b]), (&a, &b), is_end).await;
    let table: Table = es_core::__private::table(es_core::__private::TRANSACTIONS).unwrap();
    let key = [&b"chead\0"[..], &[0; 16]].concat();
    head.commit(Commit::new().put_row(table.clone(), key, b"damaged".to_vec())).await.unwrap();
    let rows = async || head.rows(RowScan::new(table.clone(), b"chead\0".to_vec(), 10)).await.unwrap().len();
    assert_eq!(rows().await, 2);
    let _running = coordinator(&head, &[&a, &b]).start().await.unwrap();
    wait_until(async || rows().await == 1).await;
}

/// A transaction whose function returns after the shutdown does not begin.
#[tokio::test]
async fn a_shutdown_refuses_a_transaction_that_has_prepared_nothing() {
    let (a, b) = banks().await;
    let running = coordinator(&memory(), &[&a, &b]).start().await.unwrap();
    let transactions = running.transactions();
    let run = transactions.begin().run(async |tx| {
        tx.enlist_participant(&a.participant, &withdraw(1, 30))?;
        tx.enlist_participant(&b.participant, &deposit(2, 30))?;
        assert!(running.shutdown(Duration::from_secs(1)).await);
        Ok::<_, EnlistError>(())
    });
    let result = run.await;
    assert!(matches!(result, Err(TransactionError::Stopped)), "{result:?}");
    assert_eq!(is_locked((&a, &b)).await, (false, false));
}

/// The reason of an abort names the participant that did not vote.
#[tokio::test]
async fn a_participant_that_does_not_vote_is_named() {
    let (a, b) = banks().await;
    let hook = |point: HookPoint<'_>| match point.place {
        HookPlace::BeforeCall { participant: "b", call: Call::Prepare } => HookAction::Lose,
        _ => HookAction::Continue,
    };
    let running = coordinator(&memory(), &[&a, &b]).test_hook(hook).start().await.unwrap();
    let (_, result) = transfer(&running, (&a, &b)).await;
    let Err(TransactionError::Aborted { reason, .. }) = result else { panic!("expected an abort, found {result:?}") };
    assert_eq!(reason, "participant \"b\" did not vote in time");
    wait_until(async || is_locked((&a, &b)).await == (false, false)).await;
    assert_eq!(cents((&a, &b)).await, (100, 5));
}
