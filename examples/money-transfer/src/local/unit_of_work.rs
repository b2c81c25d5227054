//! Strength 1: both accounts are in one store, and both commands are in one commit.

use std::path::Path;
use std::sync::Arc;

use es_core::UnitOfWork;
use es_core::aggregate::UnitError;
use es_core::prelude::*;

use crate::account::{ADA, Account, BOB, Balances, CENTS, Cost, Deposit, Open, Reply, Transfer, Withdraw};
use crate::failure::Failure;
use crate::local::crash::CrashPoint;
use crate::local::store::CrashingStore;
use crate::local::strength::LocalStrength;

/// A store with both accounts.
pub(crate) struct AccountStore {
    durable: Arc<CrashingStore>,
    store: Arc<dyn EventStore>,
    accounts: Repository<Account>,
}

impl LocalStrength for AccountStore {
    async fn open(directory: &Path, crash: &Arc<CrashPoint>) -> Result<Self, Failure> {
        let durable = CrashingStore::open(&directory.join("accounts"), crash).await?;
        let store: Arc<dyn EventStore> = durable.clone();
        let accounts = Repository::new(Arc::clone(&store));
        for account in [ADA, BOB] {
            accounts.execute(&account.to_owned(), Open { cents: CENTS }).await?;
        }
        Ok(Self { durable, store, accounts })
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<Reply, Failure> {
        let Transfer { to, cents } = transfer.clone();
        let unit = UnitOfWork::new(&self.store).execute(&self.accounts, ADA.to_owned(), Withdraw { cents }).execute(
            &self.accounts,
            to,
            Deposit { cents },
        );
        match unit.await {
            Ok(_) => Ok(Reply::Done),
            Err(UnitError::Rejected { .. }) => Ok(Reply::Refused),
            Err(error) => Err(error.into()),
        }
    }

    async fn settle(&self) -> Result<usize, Failure> {
        Ok(0)
    }

    async fn balances(&self) -> Result<Balances, Failure> {
        let cents = async |account: &str| -> Result<u64, Failure> {
            Ok(self.accounts.load(&account.to_owned()).await?.state.cents.unwrap_or_default())
        };
        Ok(Balances { ada: cents(ADA).await?, bob: cents(BOB).await? })
    }

    fn cost(&self) -> Cost {
        Cost { round_trips: 0, syncs: self.durable.store.stats().syncs }
    }

    async fn close(self) -> Result<(), Failure> {
        Ok(self.store.close().await?)
    }
}
