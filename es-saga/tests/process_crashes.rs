//! Crashes and faults of the store at each commit of a process manager.

mod payments;

use std::sync::Arc;
use std::time::Duration;

use es_core::model::Clock;
use es_core::store::memory::MemoryStore;
use es_core::testing::{Fault, FaultyStore};
use es_core::{EventStore, StreamId};
use es_saga::process::{ProcessId, ProcessPhase, RunningProcess};
use payments::{Collecting, DAY, OrderEvent, PATIENCE, until};

/// What the program does after the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It crashes, and another one starts.
    Crash,
    /// It continues.
    Continue,
}

/// What a run leaves: the events of the orders, the journals and the states, without times and ids.
async fn outcome(shop: &Collecting) -> Vec<String> {
    let mut lines = Vec::new();
    for order in 1..=3 {
        lines.push(format!("{:?}", shop.order(order).await));
        let view = shop.manager().query(&order).await.expect("it loads");
        let (phase, keys, sagas) = (view.journal.phase(), view.journal.keys(), view.journal.sagas());
        let (pending, quarantine) = (view.journal.pending().len(), view.journal.quarantine());
        lines.push(format!("{:?} {phase:?} {keys:?} {sagas:?} {pending} {quarantine:?}", view.state));
    }
    for stream in ["saga-shipping:1", "process-collection:1", "process-collection:2", "process-collection:3"] {
        let revision = shop.store.revision(&StreamId::new(stream).expect("a name")).await.expect("it reads");
        lines.push(format!("{stream} {revision:?}"));
    }
    let parked = shop.manager().admin().parked("collection", None, 10).await.expect("it reads");
    lines.push(format!("{} parked", parked.len()));
    lines
}

async fn quarantined(shop: &Collecting, instance: u64) -> bool {
    let id = ProcessId::new("collection", instance).expect("an id");
    shop.manager().admin().show(&id).await.expect("it loads").quarantine().is_some()
}

/// Lets the deadline of order 2 pass when all events are handled, and waits until it has ended its process.
async fn finish(shop: &Collecting) {
    until(async || quarantined(shop, 3).await).await;
    if shop.clock.elapsed() < 4 * DAY {
        shop.clock.advance(4 * DAY);
    }
    until(async || shop.manager().query(&2).await.expect("it loads").journal.phase() == ProcessPhase::Ended).await;
}

/// Starts the process, again after a fault of its first commit.
async fn start(program: &Collecting) -> RunningProcess {
    loop {
        let started = tokio::time::timeout(Duration::from_millis(100), program.manager().start()).await;
        if let Ok(Ok(running)) = started {
            return running;
        }
    }
}

/// Runs three orders: one is paid, one passes its deadline, and the process fails for one. The store has a fault at one
/// commit of the process. Returns what is left, and the number of commits of the process until the deadline has passed.
async fn run(at: Option<u64>, fault: Fault, after: After) -> (Vec<String>, u64) {
    let shop = Collecting::over(Arc::new(MemoryStore::new()));
    shop.pay(999, 5).await;
    shop.place(1, 100).await;
    shop.place(2, 200).await;
    shop.pay(100, 500).await;
    shop.place(3, 300).await;
    shop.pay(300, 13).await;
    let faulty = Arc::new(FaultyStore::new(Arc::clone(&shop.store)));
    if let Some(at) = at {
        faulty.at_commit(at, fault);
    }
    let mut program = Collecting::over(Arc::clone(&faulty) as Arc<dyn EventStore>);
    program.clock = Arc::clone(&shop.clock);
    let running = start(&program).await;
    if let (Some(at), After::Crash) = (at, after) {
        tokio::select! {
            () = finish(&shop) => {}
            () = until(async || faulty.commits() > at) => {}
        }
        drop(running);
        // The lease of the program that crashed ends.
        shop.clock.advance(Duration::from_secs(60));
        let running = shop.manager().start().await.expect("it starts");
        finish(&shop).await;
        shop.settled(&running).await;
        assert!(running.shutdown(PATIENCE).await);
        return (outcome(&shop).await, faulty.commits());
    }
    finish(&shop).await;
    let commits = faulty.commits();
    shop.settled(&running).await;
    assert!(running.shutdown(PATIENCE).await);
    (outcome(&shop).await, commits)
}

/// Commanded's process managers dispatch a command and then persist: a crash in between repeats the effect. (R27)
#[tokio::test]
async fn a_crash_before_or_after_any_commit_leaves_each_effect_once() {
    let (expected, commits) = run(None, Fault::Refuse, After::Continue).await;
    assert!(expected[0].contains("Paid { cents: 500 }"), "{expected:#?}");
    assert!(expected[2].ends_with("Reminded, Closed]"), "{expected:#?}");
    assert!(expected.last().is_some_and(|parked| parked == "1 parked"), "{expected:#?}");
    assert!(commits >= 8, "one commit for each of the events and timers, found {commits}");
    for at in 0..commits {
        for fault in [Fault::Hang, Fault::LoseAcknowledgement] {
            let (found, _) = run(Some(at), fault.clone(), After::Crash).await;
            assert_eq!(found, expected, "a crash with {fault:?} at commit {at}");
        }
    }
}

#[tokio::test]
async fn a_failed_or_lost_commit_leaves_each_effect_once_in_a_program_that_continues() {
    let (expected, commits) = run(None, Fault::Refuse, After::Continue).await;
    for at in 0..commits {
        for fault in [Fault::Refuse, Fault::LoseAcknowledgement, Fault::Conflict] {
            let (found, _) = run(Some(at), fault.clone(), After::Continue).await;
            assert_eq!(found, expected, "{fault:?} at commit {at}");
        }
    }
}

#[tokio::test]
async fn an_order_is_paid_once_when_a_program_is_stopped_after_each_event() {
    let shop = Collecting::over(Arc::new(MemoryStore::new()));
    for order in 1..=5 {
        shop.place(order, order).await;
        shop.pay(order, 5).await;
        let running = shop.manager().start().await.expect("it starts");
        shop.settled(&running).await;
        assert!(running.shutdown(PATIENCE).await);
    }
    for order in 1..=5 {
        assert_eq!(shop.order(order).await, [OrderEvent::Placed { payment: order }, OrderEvent::Paid { cents: 5 }]);
    }
}
