//! The child of the kill test of process managers: `process-child DIRECTORY RUN`. Opens the store, runs the process,
//! deposits into accounts of this run and sends numbered signals until it is killed. It prints a line with the
//! account and the number for each signal that was handled.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use es_core::{EventStore, Repository};
use es_saga::process::{ProcessManager, SignalError, SignalOutcome};
use es_tests::account::{Account, Deposit, Open};
use es_tests::crash::options;
use es_tests::tally::{ACCOUNTS, Counting, account, manager, signal_id};

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, run] = arguments.as_slice() else {
        panic!("expected DIRECTORY RUN, found {arguments:?}");
    };
    let run: u64 = run.parse().expect("a number");
    let store: Arc<dyn EventStore> = Arc::new(options().open(PathBuf::from(dir)).await.expect("the store opens"));
    let manager = manager(Arc::clone(&store));
    let running = manager.start().await.expect("the process starts");
    let writers: Vec<_> = (0..ACCOUNTS)
        .flat_map(|number| {
            let account = account(run, number);
            let deposits = tokio::spawn(deposit(Arc::clone(&store), account.clone()));
            [deposits, tokio::spawn(signal(manager.clone(), account))]
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer does not panic");
    }
    drop(running);
}

async fn deposit(store: Arc<dyn EventStore>, account: String) {
    let accounts = Repository::<Account>::new(store);
    accounts.execute(&account, Open { owner: "ann".to_owned() }).await.expect("opened");
    for cents in 1.. {
        accounts.execute(&account, Deposit { cents }).await.expect("deposited");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn signal(manager: ProcessManager<Counting>, account: String) {
    let mut number = 0;
    loop {
        match manager.signal(&account, &signal_id(number), &number).await {
            Ok(outcome) => {
                assert_eq!(outcome, SignalOutcome::Handled, "signal {number} of {account} is new");
                writeln!(std::io::stdout(), "{account} {number}").expect("the parent reads standard output");
                number += 1;
            }
            // The process has not consumed the first event of the account.
            Err(SignalError::NotRunning { .. }) => {}
            Err(error) => panic!("signal {number} of {account}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
