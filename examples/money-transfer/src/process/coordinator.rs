//! The coordinator: a service that has a log of its decisions, and the banks as participants.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use es_core::prelude::*;
use es_rocksdb::RocksDbStore;
use es_transaction::{CommandList, Coordinator, HookAction, HookPlace, Protocol, TransactionError, Transactions};

use crate::account::{ADA, Deposit, Reply, Transfer, Withdraw};
use crate::failure::Failure;
use crate::process::message::{Answer, CoordinatorStatus, Request};
use crate::process::remote::{BANKS, COORDINATOR, RemoteBank, TOKEN, VOTE_TIMEOUT, remote_bank};
use crate::process::standard_streams::answer_requests;
use crate::process::steps::StopPoint;

/// The first and the longest pause before a call is repeated.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The command line of the coordinator.
#[derive(Debug, clap::Args)]
pub(crate) struct CoordinatorArguments {
    /// Directory of the store
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Port of each bank
    #[arg(long, num_args = 2)]
    ports: Vec<u16>,
    /// Stop at this step, and wait to be killed
    #[arg(long, value_name = "N")]
    stop_at: Option<u64>,
    /// Secret of all services
    #[arg(long, env = TOKEN, hide_env_values = true)]
    token: String,
}

/// Runs the coordinator until its standard input ends.
pub(crate) async fn run(arguments: CoordinatorArguments) -> Result<(), Failure> {
    let CoordinatorArguments { store, ports, stop_at, token } = arguments;
    let durable = RocksDbStore::open(store).await?;
    let store: Arc<dyn EventStore> = Arc::new(durable.clone());
    let mut coordinator = Coordinator::new(COORDINATOR, store).timeout(VOTE_TIMEOUT).pauses(PAUSES.0, PAUSES.1);
    let mut banks = Vec::new();
    for (name, port) in BANKS.into_iter().zip(ports) {
        coordinator = coordinator.participant(remote_bank(name, port, &token)?);
        banks.push(remote_bank(name, port, &token)?);
    }
    let stop = StopPoint::new(stop_at);
    let coordinator = coordinator.test_hook(move |point| {
        stop.reach(|| name_of(point.place));
        HookAction::Continue
    });
    let running = coordinator.start().await?;
    answer_requests(async |request| match request {
        Request::Transfer { transfer, protocol } => {
            Ok(Answer::Transferred(execute(&running, &banks, &transfer, protocol).await?))
        }
        Request::Status => {
            let unfinished = running.unfinished(None, 10).await?.len();
            Ok(Answer::Coordinator(CoordinatorStatus { unfinished, syncs: durable.stats().syncs }))
        }
    })
    .await
}

/// Strengths 4 and 5: each bank prepares its command, and the coordinator decides.
async fn execute(
    transactions: &Transactions,
    banks: &[RemoteBank],
    transfer: &Transfer,
    protocol: Protocol,
) -> Result<Reply, Failure> {
    let [north, south] = banks else { return Err("expected two banks; give two ports".into()) };
    let Transfer { to, cents } = transfer.clone();
    let done = transactions.begin().protocol(protocol).run(async |tx| -> Result<(), Failure> {
        tx.enlist_participant(north, &CommandList::new().command("withdraw", ADA, &Withdraw { cents })?)?;
        tx.enlist_participant(south, &CommandList::new().command("deposit", to, &Deposit { cents })?)?;
        Ok(())
    });
    match done.await {
        Ok(_) => Ok(Reply::Done),
        Err(TransactionError::Aborted { .. }) => Ok(Reply::Refused),
        // The recovery of the coordinator finds out.
        Err(TransactionError::Unknown { .. }) => Ok(Reply::Nothing),
        Err(error) => Err(error.to_string().into()),
    }
}

/// Describes a place for a person.
fn name_of(place: HookPlace<'_>) -> String {
    match place {
        HookPlace::BeforeCall { participant, call } => format!("before {call:?} of {participant}"),
        HookPlace::AfterCall { participant, call } => format!("after {call:?} of {participant}"),
        HookPlace::BeforeRecord { number } => format!("before record {number}"),
        HookPlace::AfterRecord { number } => format!("after record {number}"),
    }
}
