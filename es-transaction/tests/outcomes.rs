//! Transactions whose coordinator or participant is lost: what is listed, what an operator does, and what participants
//! decide on their own.
#![allow(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod bank;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bank::*;
use es_core::EventStore;
use es_core::model::{Clock, CoordinatorEpoch, SystemClock, Timestamp, TransactionId};
use es_core::retention::Note;
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_transaction::machine::{Call, Damage};
use es_transaction::{
    Coordinator, Finished, HookAction, HookPlace, HookPoint, LockedStreams, OperateTransactionError, Outcome,
    Participant, ParticipantError, ParticipantState, Prepare, Protocol, ResolveError, RunningCoordinator,
    RunningParticipant, TransactionError, Vote,
};

/// A clock that is an hour ahead for each start of a coordinator, so that the lease of the last one has expired.
#[derive(Debug)]
struct Ahead(SystemClock, u32);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now() + Duration::from_secs(3600) * self.1
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed() + Duration::from_secs(3600) * self.1
    }
}

fn ahead(coordinator: Coordinator, hours: u32) -> Coordinator {
    coordinator.with_clock(Arc::new(Ahead(SystemClock::new(), hours)))
}

/// Two banks that take part in a transfer, and the store of its coordinator.
struct World {
    head: Arc<dyn EventStore>,
    a: Bank,
    b: Bank,
}

impl World {
    async fn new() -> Self {
        let (a, b) = (Bank::new("a").with_account(1, 100).await, Bank::new("b").with_account(2, 5).await);
        Self { head: Arc::new(MemoryStore::new()), a, b }
    }

    fn coordinator(&self) -> Coordinator {
        coordinator(&self.head, &[&self.a, &self.b])
    }

    /// Transfers 30 cents. Returns the transaction, and the outcome that the caller was told within a second.
    async fn transfer(&self, running: &RunningCoordinator, protocol: Protocol) -> (TransactionId, Option<Outcome>) {
        let mut id = None;
        let transfer = running.begin().protocol(protocol).run(async |tx| {
            id = Some(tx.id().clone());
            tx.enlist_participant(&self.a.participant, &withdraw(1, 30))?;
            tx.enlist_participant(&self.b.participant, &deposit(2, 30))
        });
        let outcome = match tokio::time::timeout(Duration::from_secs(1), transfer).await {
            Ok(Ok(_)) => Some(Outcome::Committed),
            Ok(Err(TransactionError::Aborted { .. })) => Some(Outcome::Aborted),
            Ok(Err(TransactionError::Unknown { .. })) | Err(_) => None,
            Ok(Err(other)) => panic!("{other}"),
        };
        (id.unwrap(), outcome)
    }

    /// Runs a transfer whose coordinator crashes at a place, and returns the transaction.
    async fn crash(
        &self,
        protocol: Protocol,
        place: impl Fn(HookPlace<'_>) -> bool + Send + Sync + 'static,
    ) -> TransactionId {
        let crash = move |point: HookPoint<'_>| match place(point.place) {
            true => HookAction::Crash,
            false => HookAction::Continue,
        };
        let running = self.coordinator().test_hook(crash).start().await.unwrap();
        let (id, _) = self.transfer(&running, protocol).await;
        drop(running);
        id
    }

    async fn cents(&self) -> (u64, u64) {
        (self.a.cents(1).await, self.b.cents(2).await)
    }

    async fn is_locked(&self) -> (bool, bool) {
        (self.a.is_locked(1).await, self.b.is_locked(2).await)
    }
}

fn before_commit(place: HookPlace<'_>) -> bool {
    matches!(place, HookPlace::BeforeCall { call: Call::Commit, .. })
}

fn before_decision(place: HookPlace<'_>) -> bool {
    place == HookPlace::BeforeRecord { number: 1 }
}

/// R36: the participants of a coordinator that is gone list the transaction as in doubt. The next start of the
/// coordinator ends it, without a wait.
#[tokio::test]
async fn a_transaction_in_doubt_is_listed_and_recovered() {
    for (place, outcome, cents) in [
        (before_decision as fn(HookPlace<'_>) -> bool, ParticipantState::Aborted, (100, 5)),
        (before_commit, ParticipantState::Committed, (70, 35)),
    ] {
        let world = World::new().await;
        let id = world.crash(Protocol::TwoPhase, place).await;
        for bank in [&world.a, &world.b] {
            let listed = bank.participant.prepared(10).await.unwrap();
            assert_eq!(listed.len(), 1);
            assert_eq!((&listed[0].transaction, listed[0].state), (&id, ParticipantState::Prepared));
            assert_eq!(listed[0].participants, ["a", "b"]);
            assert!(listed[0].prepared_at.is_some());
        }
        assert_eq!(world.is_locked().await, (true, true));
        let running = ahead(world.coordinator(), 1).start().await.unwrap();
        wait_until(async || world.is_locked().await == (false, false)).await;
        assert_eq!(world.cents().await, cents);
        assert_eq!(world.a.participant.status(&id).await.unwrap().state, outcome);
        wait_until(async || running.unfinished(None, 10).await.unwrap().is_empty()).await;
    }
}

/// R35: a second coordinator takes over in the middle of a transaction. The first one can decide nothing any more, and
/// participants refuse it.
#[tokio::test]
async fn a_coordinator_that_was_replaced_is_fenced() {
    let world = World::new().await;
    let (is_at_decision, may_decide) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (at, may) = (Arc::clone(&is_at_decision), Arc::clone(&may_decide));
    let hook = move |point: HookPoint<'_>| {
        if before_decision(point.place) {
            at.store(true, Ordering::SeqCst);
            while !may.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        HookAction::Continue
    };
    // The first coordinator runs on a thread of its own, and stops just before its decision.
    let (head, a, b) = (Arc::clone(&world.head), world.a.clone(), world.b.clone());
    let first = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World { head, a, b };
            let running = world.coordinator().test_hook(hook).start().await.unwrap();
            let told = world.transfer(&running, Protocol::TwoPhase).await;
            (told, running.begin().run(async |_| Ok::<_, ()>(())).await.map(drop))
        })
    });
    wait_until(async || is_at_decision.load(Ordering::SeqCst)).await;
    let second = ahead(world.coordinator(), 1).start().await.unwrap();
    wait_until(async || world.is_locked().await == (false, false)).await;
    may_decide.store(true, Ordering::SeqCst);
    let ((id, told), later) = first.join().unwrap();
    assert_eq!(told, None, "the first coordinator does not know the outcome");
    assert!(matches!(later, Err(TransactionError::Stopped)), "{later:?}");
    assert_eq!(world.cents().await, (100, 5), "it aborted");
    let prepare = Prepare {
        transaction: id.clone(),
        protocol: Protocol::TwoPhase,
        participants: vec!["a".to_owned()],
        timeout_ms: 100,
    };
    let fenced = world.a.participant.prepare(&prepare, &withdraw(1, 1)).await;
    assert!(matches!(fenced, Err(ParticipantError::Fenced { .. })), "{fenced:?}");
    assert!(second.epoch() > id.epoch());
}

/// R37: a participant whose store cannot be read is left alone and reported. The transaction ends when it can be read
/// again.
#[tokio::test]
async fn an_unreadable_participant_is_left_alone() {
    let world = World::new().await;
    let id = world.crash(Protocol::TwoPhase, before_commit).await;
    let unreadable = Unreadable(world.b.participant.clone(), Arc::new(AtomicBool::new(true)));
    let is_unreadable = Arc::clone(&unreadable.1);
    let coordinator = coordinator(&world.head, &[&world.a]).participant(unreadable);
    let running = ahead(coordinator, 1).start().await.unwrap();
    wait_until(async || !world.a.is_locked(1).await).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let unfinished = running.unfinished(None, 10).await.unwrap();
    assert_eq!((unfinished.len(), &unfinished[0].transaction), (1, &id));
    assert_eq!(unfinished[0].outcome, Some(Outcome::Committed));
    assert!(world.b.is_locked(2).await, "nothing is concluded");
    is_unreadable.store(false, Ordering::SeqCst);
    wait_until(async || running.unfinished(None, 10).await.unwrap().is_empty()).await;
    assert_eq!(world.cents().await, (70, 35));
}

/// A participant that cannot read its store.
struct Unreadable(es_transaction::StoreParticipant, Arc<AtomicBool>);

impl Unreadable {
    fn check(&self) -> Result<(), ParticipantError> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(ParticipantError::Unreadable { participant: "b".to_owned(), detail: "damaged".to_owned() }),
            false => Ok(()),
        }
    }
}

impl Participant for Unreadable {
    type Request = es_transaction::CommandList;
    type Prepared = es_transaction::LockedStreams;

    fn name(&self) -> &str {
        self.0.name()
    }

    async fn prepare(
        &self,
        prepare: &Prepare,
        request: &Self::Request,
    ) -> Result<Vote<Self::Prepared>, ParticipantError> {
        self.0.prepare(prepare, request).await
    }

    async fn commit(&self, id: &TransactionId, prepared: &Self::Prepared) -> Result<Finished, ParticipantError> {
        self.check()?;
        self.0.commit(id, prepared).await
    }

    async fn abort(&self, id: &TransactionId, prepared: Option<&Self::Prepared>) -> Result<Finished, ParticipantError> {
        self.check()?;
        self.0.abort(id, prepared).await
    }

    async fn status(&self, id: &TransactionId) -> Result<es_transaction::ParticipantStatus, ParticipantError> {
        self.check()?;
        self.0.status(id).await
    }

    async fn in_doubt(&self, epoch: &CoordinatorEpoch) -> Result<Vec<TransactionId>, ParticipantError> {
        self.check()?;
        self.0.in_doubt(epoch).await
    }
}

/// R38: an operator decides at a participant against the coordinator. The coordinator records the contradiction as
/// mixed, lists it until it is forgotten, and the participant forgets it, too.
#[tokio::test]
async fn a_heuristic_outcome_against_the_decision_is_mixed() {
    let world = World::new().await;
    let id = world.crash(Protocol::TwoPhase, before_commit).await;
    let note = Note { by: Some("ada".to_owned()), reason: Some("the coordinator is lost".to_owned()) };
    world.b.participant.resolve(&id, Outcome::Aborted, &note).await.unwrap();
    assert!(!world.b.is_locked(2).await);
    let twice = world.b.participant.resolve(&id, Outcome::Committed, &note).await;
    assert!(matches!(twice, Err(ResolveError::NotPrepared { .. })), "{twice:?}");
    assert_eq!(world.b.participant.heuristics(10).await.unwrap().len(), 1);
    let running = ahead(world.coordinator(), 1).start().await.unwrap();
    let damaged = async || {
        let unfinished = running.unfinished(None, 10).await.unwrap();
        unfinished.first().is_some_and(|unfinished| unfinished.damage == Some(Damage::Mixed))
    };
    wait_until(damaged).await;
    assert_eq!(world.cents().await, (70, 5), "the damage is real, and visible");
    let listed = running.unfinished(None, 10).await.unwrap();
    let answers: Vec<_> = listed[0].participants.iter().map(|participant| participant.answer).collect();
    assert_eq!(answers, [None, Some(Finished::Heuristic(Outcome::Aborted))]);
    running.forget(&id).await.unwrap();
    wait_until(async || running.unfinished(None, 10).await.unwrap().is_empty()).await;
    wait_until(async || world.b.participant.heuristics(10).await.unwrap().is_empty()).await;
    let twice = running.forget(&id).await;
    assert!(matches!(twice, Err(OperateTransactionError::NotUnfinished { .. })), "{twice:?}");
}

/// A heuristic outcome that agrees with the decision is no damage.
#[tokio::test]
async fn a_heuristic_outcome_like_the_decision_is_forgotten_by_itself() {
    let world = World::new().await;
    let id = world.crash(Protocol::TwoPhase, before_commit).await;
    world.b.participant.resolve(&id, Outcome::Committed, &Note::default()).await.unwrap();
    let running = ahead(world.coordinator(), 1).start().await.unwrap();
    wait_until(async || running.unfinished(None, 10).await.unwrap().is_empty()).await;
    wait_until(async || world.b.participant.heuristics(10).await.unwrap().is_empty()).await;
    assert_eq!(world.cents().await, (70, 35));
}

/// A participant is lost forever after the decision. The operator answers for it, which is a hazard.
#[tokio::test]
async fn an_operator_answers_for_a_lost_participant() {
    let world = World::new().await;
    let id = world.crash(Protocol::TwoPhase, before_commit).await;
    let running = ahead(coordinator(&world.head, &[&world.a]), 1).start().await.unwrap();
    wait_until(async || !world.a.is_locked(1).await).await;
    let answered = running.resolve(&id, "c", Finished::Done).await;
    assert!(matches!(answered, Err(OperateTransactionError::NotWaiting { .. })), "{answered:?}");
    let early = running.forget(&id).await;
    assert!(matches!(early, Err(OperateTransactionError::NoDamage { .. })), "{early:?}");
    running.resolve(&id, "b", Finished::Unknown).await.unwrap();
    let listed = running.unfinished(None, 10).await.unwrap();
    assert_eq!(listed[0].damage, Some(Damage::Hazard));
    wait_until(async || running.forget(&id).await.is_ok()).await;
    wait_until(async || running.unfinished(None, 10).await.unwrap().is_empty()).await;
}

/// An aggregate that opted in gets its outcome after a time. Others stay locked.
#[tokio::test]
async fn only_an_aggregate_that_opted_in_decides_alone() {
    let world = World::new().await;
    world.crash(Protocol::TwoPhase, before_commit).await;
    let tasks = [&world.a, &world.b]
        .map(|bank| bank.participant.clone().heuristic_after(Duration::ZERO).terminate_after(Duration::ZERO).start());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.is_locked().await, (true, true), "a time-out never decides alone");
    drop(tasks);
    let impatient = Impatient::new("d").await;
    let prepare = Prepare {
        transaction: "head.1.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11".parse().unwrap(),
        protocol: Protocol::TwoPhase,
        participants: vec!["d".to_owned()],
        timeout_ms: 100,
    };
    let vote = impatient.prepare(&prepare).await;
    assert!(matches!(vote, Vote::Prepared(_)), "{vote:?}");
    let task = impatient.participant.clone().heuristic_after(Duration::ZERO).start();
    let id = prepare.transaction.clone();
    wait_until(async || impatient.participant.status(&id).await.unwrap().state == ParticipantState::Aborted).await;
    assert!(impatient.participant.status(&id).await.unwrap().is_heuristic);
    drop(task);
}

/// Three-phase commit: the coordinator crashes, and the participants end the transaction without it.
#[tokio::test]
async fn participants_of_a_three_phase_commit_decide_without_the_coordinator() {
    for (crash, cents) in [
        // Nobody was pre-committed.
        (HookPlace::BeforeRecord { number: 1 }, (100, 5)),
        // All were.
        (HookPlace::BeforeRecord { number: 2 }, (70, 35)),
    ] {
        let world = World::new().await;
        world.crash(Protocol::ThreePhase, move |place| place == crash).await;
        assert_eq!(world.is_locked().await, (true, true));
        let a = world.a.participant.clone().peer(world.b.participant.clone());
        let b = world.b.participant.clone().peer(world.a.participant.clone());
        let tasks = [a, b].map(|participant| participant.terminate_after(Duration::from_millis(20)).start());
        wait_until(async || world.is_locked().await == (false, false)).await;
        assert_eq!(world.cents().await, cents);
        drop(tasks);
        // The coordinator comes to the same outcome later.
        let running = ahead(world.coordinator(), 1).start().await.unwrap();
        wait_until(async || running.unfinished(None, 10).await.unwrap().is_empty()).await;
        assert_eq!(world.cents().await, cents);
    }
}

/// Three-phase commit does not survive a partition: with the coordinator gone and the participants cut off from each
/// other, one that is pre-committed commits, and one that is not aborts. The recovered coordinator reports the damage.
#[tokio::test]
async fn a_partition_breaks_three_phase_commit() {
    let world = World::new().await;
    // The pre-commit reaches the first participant only.
    let hook = |point: HookPoint<'_>| match point.place {
        HookPlace::BeforeCall { call: Call::PreCommit, participant: "b" } => HookAction::Lose,
        HookPlace::BeforeRecord { number: 2 } => HookAction::Crash,
        _ => HookAction::Continue,
    };
    let running = world.coordinator().test_hook(hook).start().await.unwrap();
    world.transfer(&running, Protocol::ThreePhase).await;
    drop(running);
    // Without peers, each participant takes all others for crashed.
    let tasks =
        [&world.a, &world.b].map(|bank| bank.participant.clone().terminate_after(Duration::from_millis(20)).start());
    wait_until(async || world.is_locked().await == (false, false)).await;
    drop(tasks);
    assert_eq!(world.cents().await, (70, 5), "one committed, the other aborted");
    let running = ahead(world.coordinator(), 1).start().await.unwrap();
    let mixed = async || {
        let unfinished = running.unfinished(None, 10).await.unwrap();
        unfinished.first().is_some_and(|unfinished| unfinished.damage == Some(Damage::Mixed))
    };
    wait_until(mixed).await;
}

/// Two banks with a clock and a short memory, and a three-phase commit of which only the second was pre-committed. The
/// first has aborted it, because the coordinator and the second were down.
struct Forgetful {
    world: World,
    clock: Arc<ManualClock>,
    id: TransactionId,
}

impl Forgetful {
    const KEEP: Duration = Duration::from_secs(1);

    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock::new().now()));
        let mut world = World::new().await;
        for bank in [&mut world.a, &mut world.b] {
            bank.participant = bank.participant.clone().with_clock(clock.clone()).keep_outcomes(Self::KEEP);
        }
        let id = Self::prepare(&world, 1, &[&world.a, &world.b]).await;
        let locked = LockedStreams { streams: Vec::new() };
        world.b.participant.pre_commit(&id, &locked).await.unwrap();
        // Without peers, the first takes the second for crashed.
        let task = world.a.participant.clone().terminate_after(Duration::ZERO).start();
        wait_until(async || !world.a.is_locked(1).await).await;
        drop(task);
        assert_eq!(world.a.participant.status(&id).await.unwrap().state, ParticipantState::Aborted);
        Self { world, clock, id }
    }

    /// Prepares a transfer of 30 cents.
    async fn prepare(world: &World, number: u8, banks: &[&Bank]) -> TransactionId {
        let prepare = Prepare {
            transaction: format!("head.1.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d{number:02x}").parse().unwrap(),
            protocol: Protocol::ThreePhase,
            participants: vec!["a".to_owned(), "b".to_owned()],
            timeout_ms: 100,
        };
        for bank in banks {
            let request =
                if bank.participant.name() == world.a.participant.name() { withdraw(1, 30) } else { deposit(2, 30) };
            let vote = bank.participant.prepare(&prepare, &request).await.unwrap();
            assert!(matches!(vote, Vote::Prepared(_)), "{vote:?}");
        }
        prepare.transaction
    }

    /// Lets the time pass after which outcomes may be removed, and two more transactions end at the first bank, which
    /// remove them.
    async fn forget(&self) {
        self.clock.advance(Self::KEEP * 100);
        for number in 2..4 {
            let id = Self::prepare(&self.world, number, &[&self.world.a]).await;
            self.world.a.participant.abort(&id, None).await.unwrap();
        }
    }

    /// Starts the second bank, whose peer is the first.
    fn start(&self) -> RunningParticipant {
        let b = self.world.b.participant.clone().peer(self.world.a.participant.clone());
        b.terminate_after(Duration::ZERO).start()
    }
}

/// Regression: a participant of a three-phase commit forgot after some time that it had aborted. One that was down
/// since it was pre-committed then took it for a participant without a part in the transaction, and committed.
#[tokio::test]
async fn an_outcome_of_a_three_phase_commit_is_kept_until_the_coordinator_knows_it() {
    let banks = Forgetful::new().await;
    banks.forget().await;
    let task = banks.start();
    wait_until(async || !banks.world.b.is_locked(2).await).await;
    drop(task);
    assert_eq!(banks.world.cents().await, (100, 5), "both aborted");
}

/// Regression: the same, after the coordinator had told the first participant, and not the second.
#[tokio::test]
async fn a_participant_does_not_conclude_from_a_peer_that_may_have_forgotten() {
    let banks = Forgetful::new().await;
    let (a, b) = (&banks.world.a.participant, &banks.world.b.participant);
    a.abort(&banks.id, None).await.unwrap();
    banks.forget().await;
    assert_eq!(a.status(&banks.id).await.unwrap().state, ParticipantState::Unknown, "it is not kept for ever");
    let task = banks.start();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(banks.world.b.is_locked(2).await, "it waits for the coordinator");
    b.abort(&banks.id, None).await.unwrap();
    drop(task);
    assert_eq!(banks.world.cents().await, (100, 5), "both aborted");
}

/// A store that is restored from an old backup has lost what it prepared. The commit finds out: a hazard, not silence.
#[tokio::test]
async fn a_participant_that_lost_its_state_is_a_hazard() {
    let world = World::new().await;
    world.crash(Protocol::TwoPhase, before_commit).await;
    let restored = Bank::new("b").with_account(2, 5).await;
    let running = ahead(coordinator(&world.head, &[&world.a, &restored]), 1).start().await.unwrap();
    let hazard = async || {
        let unfinished = running.unfinished(None, 10).await.unwrap();
        unfinished.first().is_some_and(|unfinished| unfinished.damage == Some(Damage::Hazard))
    };
    wait_until(hazard).await;
    assert_eq!((world.a.cents(1).await, restored.cents(2).await), (70, 5));
}
