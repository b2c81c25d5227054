//! Strength 3: the accounts are in two banks, and a third store has the sagas. A transfer is a withdrawal and a
//! deposit. If the deposit is refused, the withdrawal is undone. Others see the money missing meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use es_core::model::NameError;
use es_core::prelude::*;
use es_rocksdb::RocksDbStore;
use es_saga::{
    Classify, ErrorClass, HookAction, Phase, RunningSagas, Saga, SagaCoordinator, SagaStep, StepContext, StepKey, saga,
};

use crate::account::{ADA, Account, BOB, Balances, CENTS, Cost, Deposit, Open, Refusal, Reply, Transfer, Withdraw};
use crate::failure::Failure;
use crate::local::crash::CrashPoint;
use crate::local::store::open;
use crate::local::strength::LocalStrength;

/// The instance of the saga. A service uses the id of the request.
const INSTANCE: &str = "1";
/// How long a saga may take after a crash.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The length of the leases. A store that is open in one process only does not wait for them.
const LEASE: Duration = Duration::from_secs(30);

/// The accounts of a bank, which may be in another service. Each command has a key: it has one effect, however often it
/// is sent.
#[derive(Clone)]
struct SagaBank {
    accounts: Arc<Repository<Account>>,
    calls: Arc<AtomicU64>,
}

impl SagaBank {
    async fn deposit(&self, account: &str, cents: u64, key: StepKey) -> Result<(), BankError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let deposit = self.accounts.execute(&account.to_owned(), Deposit { cents });
        deposit.with_id(key.command_id()?).await?;
        Ok(())
    }

    async fn withdraw(&self, account: &str, cents: u64, key: StepKey) -> Result<(), BankError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let withdraw = self.accounts.execute(&account.to_owned(), Withdraw { cents });
        withdraw.with_id(key.command_id()?).await?;
        Ok(())
    }
}

/// What undoes a step: it is known before the call, also if the call never returns.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct BankCall {
    transfer: Transfer,
    /// The key of the call to undo.
    key: StepKey,
}

/// Takes the money from the payer.
#[derive(SagaStep)]
#[saga_step(name = "withdraw", retry(attempts = 8, first = "20ms", cap = "1s"), timeout = "5s")]
struct WithdrawStep(SagaBank);

impl SagaStep for WithdrawStep {
    type Input = Transfer;
    type Output = ();
    type Compensation = BankCall;
    type Error = BankError;

    fn compensation(&self, transfer: &Transfer, key: StepKey) -> BankCall {
        BankCall { transfer: transfer.clone(), key }
    }

    async fn execute(&self, transfer: Transfer, context: &StepContext) -> Result<(), BankError> {
        self.0.withdraw(ADA, transfer.cents, context.key()).await
    }

    async fn compensate(&self, call: BankCall, output: Option<()>, context: &StepContext) -> Result<(), BankError> {
        // If the outcome is unknown, the call is made again under its key: either way it is done or refused then.
        if output.is_none() && is_refused(self.0.withdraw(ADA, call.transfer.cents, call.key).await)? {
            return Ok(());
        }
        self.0.deposit(ADA, call.transfer.cents, context.key()).await
    }
}

/// Gives the money to the payee.
#[derive(SagaStep)]
#[saga_step(name = "deposit", retry(attempts = 8, first = "20ms", cap = "1s"), timeout = "5s")]
struct DepositStep(SagaBank);

impl SagaStep for DepositStep {
    type Input = Transfer;
    type Output = ();
    type Compensation = BankCall;
    type Error = BankError;

    fn compensation(&self, transfer: &Transfer, key: StepKey) -> BankCall {
        BankCall { transfer: transfer.clone(), key }
    }

    async fn execute(&self, transfer: Transfer, context: &StepContext) -> Result<(), BankError> {
        self.0.deposit(&transfer.to, transfer.cents, context.key()).await
    }

    async fn compensate(&self, call: BankCall, output: Option<()>, context: &StepContext) -> Result<(), BankError> {
        let BankCall { transfer, key } = call;
        if output.is_none() && is_refused(self.0.deposit(&transfer.to, transfer.cents, key).await)? {
            return Ok(());
        }
        self.0.withdraw(&transfer.to, transfer.cents, context.key()).await
    }
}

/// A bank refused a command, or failed.
#[derive(Debug, thiserror::Error)]
enum BankError {
    #[error(transparent)]
    Execute(#[from] ExecuteError<Refusal>),
    #[error(transparent)]
    Key(#[from] NameError),
}

impl Classify for BankError {
    fn class(&self) -> ErrorClass {
        match self {
            // No retry helps: the saga turns back.
            Self::Execute(ExecuteError::Rejected(_)) | Self::Key(_) => ErrorClass::Terminal,
            // A commit that failed may be on disk.
            Self::Execute(ExecuteError::Failed(_)) => ErrorClass::Ambiguous,
            Self::Execute(_) => ErrorClass::Transient,
        }
    }
}

/// Returns whether the bank refused a command.
fn is_refused(result: Result<(), BankError>) -> Result<bool, BankError> {
    match result {
        Ok(()) => Ok(false),
        Err(BankError::Execute(ExecuteError::Rejected(_))) => Ok(true),
        Err(error) => Err(error),
    }
}

saga! {
    saga TransferSaga(transfer: Transfer) -> (), version = 1 {
        let withdrawn = WithdrawStep(transfer);
        DepositStep(transfer) after withdrawn
    }
}

/// Two banks, and a coordinator of sagas.
pub(crate) struct SagaBanks {
    saga: Saga<Transfer, ()>,
    sagas: RunningSagas,
    banks: [SagaBank; 2],
    stores: [RocksDbStore; 3],
}

impl LocalStrength for SagaBanks {
    async fn open(directory: &Path, crash: &Arc<CrashPoint>) -> Result<Self, Failure> {
        let [north, south, sagas] = ["north", "south", "sagas"].map(|name| directory.join(name));
        let (north, south, sagas) = tokio::try_join!(open(&north), open(&south), open(&sagas))?;
        let bank = |store: &RocksDbStore| SagaBank {
            accounts: Arc::new(Repository::new(Arc::new(store.clone()))),
            calls: Arc::default(),
        };
        let banks = [bank(&north), bank(&south)];
        for (bank, account) in banks.iter().zip([ADA, BOB]) {
            bank.accounts.execute(&account.to_owned(), Open { cents: CENTS }).await?;
        }
        let saga = TransferSaga::define()?;
        let hook = Arc::clone(crash);
        let running = SagaCoordinator::new()
            .saga(&saga)
            .step(WithdrawStep(banks[0].clone()))
            .step(DepositStep(banks[1].clone()))
            .lease(LEASE)
            .test_hook(move |point| {
                let place = || format!("{:?} of {} ({:?})", point.place, point.node, point.direction);
                if hook.reach(place) { HookAction::Crash } else { HookAction::Continue }
            })
            .start(Arc::new(sagas.clone()))
            .await?;
        Ok(Self { saga, sagas: running, banks, stores: [north, south, sagas] })
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<Reply, Failure> {
        let id = self.sagas.create(&self.saga, INSTANCE, transfer).await?;
        match self.sagas.wait(&id).await?.phase() {
            Phase::Completed => Ok(Reply::Done),
            Phase::Compensated => Ok(Reply::Refused),
            phase => Err(format!("the saga is {}: an operator must act", phase.name()).into()),
        }
    }

    async fn settle(&self) -> Result<usize, Failure> {
        let until = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let unfinished = self.sagas.admin().unfinished(None, 10).await?.len();
            if unfinished == 0 || Instant::now() >= until {
                return Ok(unfinished);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn balances(&self) -> Result<Balances, Failure> {
        let cents = async |bank: usize, account: &str| -> Result<u64, Failure> {
            Ok(self.banks[bank].accounts.load(&account.to_owned()).await?.state.cents.unwrap_or_default())
        };
        Ok(Balances { ada: cents(0, ADA).await?, bob: cents(1, BOB).await? })
    }

    fn cost(&self) -> Cost {
        Cost {
            round_trips: self.banks.iter().map(|bank| bank.calls.load(Ordering::Relaxed)).sum(),
            syncs: self.stores.iter().map(|store| store.stats().syncs).sum(),
        }
    }

    async fn close(self) -> Result<(), Failure> {
        self.sagas.shutdown(SETTLE_TIMEOUT).await;
        for store in self.stores {
            store.close().await?;
        }
        Ok(())
    }
}
