//! Transactions: the same transfer between two accounts as a unit of work, as a transaction of one store, and as a
//! two-phase and a three-phase commit across stores in one process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::prelude::*;
use es_core::{EventStore, UnitOfWork};
use es_rocksdb::RocksDbStore;
use es_transaction::{
    CommandList, Coordinator, Participant, Protocol, RunningCoordinator, StoreParticipant, Transactions,
};
use serde::{Deserialize, Serialize};

use super::Workload;
use crate::bench::Bench;
use crate::contender::Task;
use crate::failure::{Failure, failed};
use crate::ours::ES_ROCKSDB;
use crate::report::stats::Unit;

const TRANSACTIONS: &str = "transactions";
/// The transfers that run at the same time, each between accounts of its own.
const WRITERS: u64 = 16;
/// The amount of a transfer.
const CENTS: i64 = 1;

/// An account of the bank. Its balance may be negative, so that no transfer is rejected.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "account", id = u64, event = Moved)]
struct Account;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "moved")]
struct Moved {
    cents: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Move {
    cents: i64,
}

impl Evolve for Account {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &Moved, _: &EventContext<'_>) {}
}

impl Decide<Move> for Account {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: Move, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Moved { cents: command.cents }.into())
    }
}

/// A store with accounts.
struct Bank {
    store: Arc<dyn EventStore>,
    accounts: Arc<Repository<Account>>,
    participant: StoreParticipant,
}

impl Bank {
    async fn open(name: &str, directory: &Path) -> Result<Self, Failure> {
        let store = RocksDbStore::open(directory.join(name)).await;
        let store: Arc<dyn EventStore> = Arc::new(store.map_err(failed("open the store"))?);
        let accounts = Arc::new(Repository::<Account>::new(Arc::clone(&store)));
        let participant = StoreParticipant::new(name, Arc::clone(&store)).command::<Account, Move>("move", &accounts);
        Ok(Self { store, accounts, participant })
    }

    async fn close(&self) -> Result<(), Failure> {
        self.store.close().await.map_err(failed("close the store"))
    }
}

/// How a transfer is protected.
#[derive(Debug, Clone, Copy)]
enum TransferCase {
    UnitOfWork,
    OneCommit,
    /// The own store of the coordinator, and a participant.
    OwnAndParticipant,
    TwoPhase,
    ThreePhase,
}

impl TransferCase {
    const ALL: [(Self, &'static str); 5] = [
        (Self::UnitOfWork, "unit of work"),
        (Self::OneCommit, "transaction in one store"),
        (Self::OwnAndParticipant, "two-phase, own store and one participant"),
        (Self::TwoPhase, "two-phase, two participants"),
        (Self::ThreePhase, "three-phase, two participants"),
    ];
}

pub(crate) struct TransactionRates;

#[async_trait]
impl Workload for TransactionRates {
    fn name(&self) -> &'static str {
        TRANSACTIONS
    }

    fn about(&self) -> &'static str {
        "transfers per second: unit of work, one commit, two-phase and three-phase commit"
    }

    fn task(&self) -> Task {
        Task::Append
    }

    fn is_ours_only(&self) -> bool {
        true
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        if !bench.is_selected(ES_ROCKSDB) {
            return Ok(());
        }
        for round in 0..bench.plan.rounds {
            bench.progress(TRANSACTIONS, &format!("round {}", round + 1));
            for (case, name) in TransferCase::ALL {
                let (dir, time) = (bench.dir()?, bench.plan.seconds);
                let setup = Arc::new(TransferSetup::open(dir.path()).await?);
                setup.transfers(case, 1, time.div_f64(5.0)).await?;
                for writers in [1, WRITERS] {
                    let rate = setup.transfers(case, writers, time).await?;
                    let case = format!("{name}, {writers} at a time");
                    bench.report.add(TRANSACTIONS, &case, ES_ROCKSDB, Unit::TransactionsPerSecond, rate);
                }
                setup.close().await?;
            }
        }
        Ok(())
    }
}

/// Two banks, and the coordinator in the store of the first one.
struct TransferSetup {
    first: Bank,
    second: Bank,
    coordinator: tokio::sync::Mutex<Option<RunningCoordinator>>,
    transactions: Transactions,
}

impl TransferSetup {
    async fn open(directory: &Path) -> Result<Self, Failure> {
        let (first, second) = (Bank::open("first", directory).await?, Bank::open("second", directory).await?);
        let coordinator = Coordinator::new("bench", Arc::clone(&first.store))
            .participant(first.participant.clone())
            .participant(second.participant.clone());
        let running = coordinator.start().await.map_err(failed("start the coordinator"))?;
        let transactions = running.transactions();
        Ok(Self { first, second, coordinator: Some(running).into(), transactions })
    }

    async fn close(&self) -> Result<(), Failure> {
        if let Some(running) = self.coordinator.lock().await.take() {
            running.shutdown(Duration::from_secs(30)).await;
        }
        self.first.close().await?;
        self.second.close().await
    }

    /// Transfers money with this number of writers for this time. Returns the number of transfers per second.
    async fn transfers(self: &Arc<Self>, case: TransferCase, writers: u64, time: Duration) -> Result<f64, Failure> {
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let setup = Arc::clone(self);
            tasks.spawn(async move {
                let mut count = 0_u32;
                while started.elapsed() < time || count == 0 {
                    setup.transfer(case, writer).await?;
                    count += 1;
                }
                Ok::<_, Failure>(count)
            });
        }
        let mut count = 0;
        while let Some(joined) = tasks.join_next().await {
            count += joined.map_err(failed("join a writer"))??;
        }
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    }

    /// Transfers money between the accounts of a writer.
    async fn transfer(&self, case: TransferCase, writer: u64) -> Result<(), Failure> {
        let Self { first, second, transactions, .. } = self;
        let (from, to) = (writer, WRITERS + writer);
        let protocol = match case {
            TransferCase::ThreePhase => Protocol::ThreePhase,
            _ => Protocol::TwoPhase,
        };
        let begin = || transactions.begin().protocol(protocol);
        match case {
            TransferCase::UnitOfWork => {
                let unit = UnitOfWork::new(&first.store).execute(&first.accounts, from, Move { cents: -CENTS });
                let done = unit.execute(&first.accounts, to, Move { cents: CENTS }).await;
                done.map(drop).map_err(failed("execute a unit of work"))
            }
            TransferCase::OneCommit => {
                let done = begin().run(async |tx| {
                    tx.enlist(&first.accounts, from, Move { cents: -CENTS }).await?;
                    tx.enlist(&first.accounts, to, Move { cents: CENTS }).await
                });
                done.await.map(drop).map_err(failed("run a transaction"))
            }
            TransferCase::OwnAndParticipant => {
                let request = request(to, CENTS)?;
                let done = begin().run(async |tx| {
                    tx.enlist(&first.accounts, from, Move { cents: -CENTS }).await.map_err(failed("enlist"))?;
                    tx.enlist_participant(&second.participant, &request).map_err(failed("enlist"))
                });
                done.await.map(drop).map_err(|error| Failure::new("run a transaction", error))
            }
            TransferCase::TwoPhase | TransferCase::ThreePhase => {
                let (withdraw, deposit) = (request(from, -CENTS)?, request(to, CENTS)?);
                let done = begin().run(async |tx| {
                    tx.enlist_participant(&first.participant, &withdraw)?;
                    tx.enlist_participant(&second.participant, &deposit)
                });
                done.await.map(drop).map_err(failed("run a transaction"))
            }
        }
    }
}

/// Returns the request to change an account of a participant.
fn request(id: u64, cents: i64) -> Result<<StoreParticipant as Participant>::Request, Failure> {
    CommandList::new().command("move", id, &Move { cents }).map_err(failed("encode a command"))
}
