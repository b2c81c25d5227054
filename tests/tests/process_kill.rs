//! After kills of the process, each reaction of a process manager is committed once.
//!
//! A child runs a process over RocksDB, deposits into accounts and sends signals. The parent kills it (SIGKILL) after a
//! random number of signals, opens the store, and compares what the process has recorded with its inputs: the deposits
//! of the accounts, the signals that were acknowledged, and the series of timers. The next child continues in the same
//! store. In the end, the process handles what is left, and is compared again.
//!
//! The lease is longer than the test: the next program takes over at once.
//!
//! `ES_PROCESS_KILLS=200` runs the long form; `ES_SEED` repeats the random choices.

#![allow(clippy::print_stdout, reason = "a test prints its figures")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use es_core::aggregate::{Aggregate, Source};
use es_core::{EventStore, Repository, StreamRead};
use es_rocksdb::RocksDbStore;
use es_saga::process::{
    ConsumedEvent, InputRecord, ProcessEvent, ProcessId, ProcessJournal, ProcessManager, SignalOutcome,
};
use es_tests::account::{Account, AccountEvent};
use es_tests::crash::{Random, number, options, seed};
use es_tests::supervised::{TIMEOUT, wait_until};
use es_tests::tally::{ACCOUNTS, Counting, Mirror, TICKS, TallyEvent, account, manager, signal_id};

/// Runs a child in the store until this many signals are acknowledged, and kills it. Returns all signals that were
/// acknowledged: accounts and numbers.
fn killed_child(dir: &Path, run: u64, signals: u64) -> Vec<(String, u64)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_process-child"));
    command.arg(dir).arg(run.to_string());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the child starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    for _ in 0..signals {
        let read = output.read_line(&mut text).expect("read standard output");
        assert!(read > 0, "run {run}: the child ended by itself");
    }
    child.kill().expect("kill the child");
    child.wait().expect("wait for the child");
    output.read_to_string(&mut text).expect("read standard output");
    // A line that the kill cut off is no acknowledgement.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '));
    lines.map(|(account, number)| (account.to_owned(), number.parse().expect("a number"))).collect()
}

/// What the process has done for an account.
#[derive(Debug, Default)]
struct Handled {
    deposits: Vec<u64>,
    signals: Vec<u64>,
    ticks: Vec<u64>,
}

/// The inputs in the journal of an account.
#[derive(Debug, Default)]
struct Inputs {
    events: Vec<ConsumedEvent>,
    signals: Vec<String>,
    timers: Vec<String>,
}

async fn events_of<A: Aggregate + Source>(store: &dyn EventStore, id: &A::Id) -> Vec<<A as Source>::Event>
where
    <A as Source>::Event: Clone,
{
    let stream = A::stream(id).expect("a name");
    let records =
        store.read_stream(StreamRead::new(stream)).await.expect("it reads").collect().await.expect("it reads");
    let decoded =
        records.iter().flat_map(|record| <A as Source>::decode(record).expect("it decodes").as_slice().to_vec());
    decoded.collect()
}

async fn handled(store: &dyn EventStore, account: &String) -> Handled {
    let mut handled = Handled::default();
    for event in events_of::<es_tests::tally::Tally>(store, account).await {
        match event {
            TallyEvent::Counted { cents } => handled.deposits.push(cents),
            TallyEvent::Signalled { number } => handled.signals.push(number),
            TallyEvent::Ticked { number } => handled.ticks.push(number),
        }
    }
    handled
}

async fn inputs(store: &dyn EventStore, account: &str) -> Inputs {
    let (id, mut inputs) = (ProcessId::new("tally", account).expect("an id"), Inputs::default());
    for event in events_of::<ProcessJournal>(store, &id).await {
        match event {
            ProcessEvent::Handled { input: InputRecord::Event(event), .. } => inputs.events.push(event),
            ProcessEvent::Handled { input: InputRecord::Signal { id, .. }, .. } => inputs.signals.push(id),
            ProcessEvent::Handled { input: InputRecord::Timer { name, .. }, .. } => inputs.timers.push(name),
            other => panic!("account {account}: {other:?}"),
        }
    }
    inputs
}

/// Returns the deposits of an account.
async fn deposits(store: &dyn EventStore, account: &String) -> Vec<u64> {
    let events = events_of::<Account>(store, account).await;
    let deposits = events.into_iter().filter_map(|event| match event {
        AccountEvent::Deposited { cents } => Some(cents),
        _ => None,
    });
    deposits.collect()
}

/// Returns whether all deposits of an account are handled, and all of its timers have fired.
async fn is_complete(store: &dyn EventStore, account: &String) -> bool {
    let (deposits, handled) = (deposits(store, account).await, handled(store, account).await);
    let is_opened = !events_of::<Account>(store, account).await.is_empty();
    handled.deposits.len() == deposits.len() && (!is_opened || handled.ticks.len() as u64 == TICKS)
}

/// Compares what the process has done for an account with its inputs, while the process does not run.
async fn check(manager: &ProcessManager<Counting>, store: &Arc<dyn EventStore>, account: &String) {
    let handled = handled(&**store, account).await;
    let deposits = deposits(&**store, account).await;
    assert!(deposits.starts_with(&handled.deposits), "account {account}: {:?} of {deposits:?}", handled.deposits);
    let mirror = Repository::<Mirror>::new(Arc::clone(store)).load(account).await.expect("it loads").state;
    assert_eq!(mirror.deposits, handled.deposits, "account {account}: each command once, with its event");
    let is_series = |numbers: &[u64]| numbers.iter().copied().eq(0..numbers.len() as u64);
    assert!(is_series(&handled.signals), "account {account}: each signal once: {:?}", handled.signals);
    assert!(is_series(&handled.ticks), "account {account}: each timer once: {:?}", handled.ticks);
    let inputs = inputs(&**store, account).await;
    let events = inputs.events.len();
    // The first event opened the account.
    assert_eq!(events.saturating_sub(1), handled.deposits.len(), "account {account}: one reaction for each event");
    let positions: BTreeSet<u64> = inputs.events.iter().map(|event| event.position).collect();
    assert_eq!(positions.len(), events, "account {account}: an event has two reactions");
    let (signals, timers) = (inputs.signals.len(), inputs.timers.len());
    assert_eq!((signals, timers), (handled.signals.len(), handled.ticks.len()), "account {account}");
    for number in &handled.signals {
        let repeated = manager.signal(account, &signal_id(*number), number).await.expect("it was handled");
        assert_eq!(repeated, SignalOutcome::Repeated, "account {account}, signal {number}");
    }
}

#[test]
fn each_reaction_is_committed_once_over_kills_of_the_process() {
    kill_and_compare();
}

fn kill_and_compare() {
    let (seed, kills) = (seed(), number("ES_PROCESS_KILLS", 4));
    println!("ES_SEED={seed}");
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("store");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    let (mut interrupted, mut acknowledged) = (0, 0);
    for run in 0..kills {
        let signals = killed_child(&dir, run, 1 + random.below(12));
        acknowledged += signals.len();
        runtime.block_on(async {
            let opened = RocksDbStore::open_with(&dir, options()).await.expect("the store opens");
            let store: Arc<dyn EventStore> = Arc::new(opened.clone());
            let manager = manager(Arc::clone(&store));
            let mut is_interrupted = false;
            for number in 0..ACCOUNTS {
                let account = account(run, number);
                check(&manager, &store, &account).await;
                is_interrupted |= !is_complete(&*store, &account).await;
            }
            for (account, number) in signals {
                let handled = handled(&*store, &account).await.signals;
                assert!(handled.contains(&number), "signal {number} of {account} was acknowledged, and is lost");
            }
            interrupted += u64::from(is_interrupted);
            opened.close().await.expect("closed");
        });
    }
    runtime.block_on(async {
        let opened = RocksDbStore::open_with(&dir, options()).await.expect("the store opens");
        let store: Arc<dyn EventStore> = Arc::new(opened.clone());
        let manager = manager(Arc::clone(&store));
        let running = manager.start().await.expect("the process starts");
        let head = store.head().await.expect("a head");
        running.wait_for(head, TIMEOUT).await.expect("all events are handled");
        let accounts = (0..kills).flat_map(|run| (0..ACCOUNTS).map(move |number| account(run, number)));
        let accounts: Vec<String> = accounts.collect();
        for account in &accounts {
            wait_until("all inputs are handled", async || is_complete(&*store, account).await).await;
        }
        assert!(running.shutdown(TIMEOUT).await);
        for account in &accounts {
            check(&manager, &store, account).await;
        }
        assert!(manager.admin().parked("tally", None, 1).await.expect("it reads").is_empty());
        opened.close().await.expect("closed");
    });
    println!("{kills} kills with ES_SEED={seed}, {interrupted} of them with inputs left, {acknowledged} signals");
    assert!(interrupted > 0, "ES_SEED={seed}: no kill left anything to do");
}
