//! Strength 2: there are no account streams. A transfer is one event with the tags of both accounts, and it is written
//! only if no other event has one of these tags since it was decided: a dynamic consistency boundary.

use std::path::Path;
use std::sync::Arc;

use es_core::model::{EventId, Tag};
use es_core::prelude::*;
use es_core::store::{Query, QueryItem};
use es_core::{Commit, CommitError, LogRead, NewEvent, StreamId};
use serde::{Deserialize, Serialize};

use crate::account::{ADA, BOB, Balances, CENTS, Cost, Reply, Transfer};
use crate::failure::Failure;
use crate::local::crash::CrashPoint;
use crate::local::store::CrashingStore;
use crate::local::strength::LocalStrength;

/// How often a transfer is decided again after another writer was faster.
const ATTEMPTS: u32 = 10;

/// An event of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum LedgerEvent {
    #[event(name = "account-opened")]
    AccountOpened {
        #[event(tag = "account")]
        account: String,
        cents: u64,
    },
    #[event(name = "transferred")]
    Transferred {
        #[event(tag = "account")]
        from: String,
        #[event(tag = "account")]
        to: String,
        cents: u64,
    },
}

/// A store of transfers.
pub(crate) struct Ledger {
    store: Arc<CrashingStore>,
}

/// What a decision on an account has read.
struct LedgerBalance {
    /// `None` if the account is not open.
    cents: Option<u64>,
    /// The position up to which the log was read.
    read_to: Option<Position>,
}

impl Ledger {
    /// Folds the events with the tag of an account.
    async fn balance(&self, account: &str) -> Result<LedgerBalance, Failure> {
        let mut read = self.store.read_log(LogRead::tag(tag(account)?)).await?;
        let mut cents = None;
        while let Some(event) = read.next().await? {
            for event in LedgerEvent::decode((&event).into())? {
                match event {
                    LedgerEvent::AccountOpened { cents: opened, .. } => cents = Some(opened),
                    LedgerEvent::Transferred { from, cents: moved, .. } => {
                        let before = cents.unwrap_or_default();
                        cents = Some(if from == account { before.saturating_sub(moved) } else { before + moved });
                    }
                }
            }
        }
        Ok(LedgerBalance { cents, read_to: read.scanned() })
    }

    async fn open_account(&self, account: &str) -> Result<(), Failure> {
        let opened = LedgerEvent::AccountOpened { account: account.to_owned(), cents: CENTS };
        let commit = Commit::to(&StreamId::new("ledger-accounts")?, ExpectedRevision::Any, [event(&opened)?]);
        match self.store.commit(commit.append_if_none(of(&[account])?, None)).await {
            // Otherwise it is open.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl LocalStrength for Ledger {
    async fn open(directory: &Path, crash: &Arc<CrashPoint>) -> Result<Self, Failure> {
        let ledger = Self { store: CrashingStore::open(&directory.join("ledger"), crash).await? };
        for account in [ADA, BOB] {
            ledger.open_account(account).await?;
        }
        Ok(ledger)
    }

    async fn transfer(&self, transfer: &Transfer) -> Result<Reply, Failure> {
        let Transfer { to, cents } = transfer.clone();
        for _ in 0..ATTEMPTS {
            let (payer, payee) = (self.balance(ADA).await?, self.balance(&to).await?);
            if payer.cents < Some(cents) || payee.cents.is_none() {
                return Ok(Reply::Refused);
            }
            let stream = StreamId::new(format!("transfer-{}", EventId::new()))?;
            let transferred = LedgerEvent::Transferred { from: ADA.to_owned(), to: to.clone(), cents };
            let commit = Commit::to(&stream, ExpectedRevision::NoStream, [event(&transferred)?]);
            // The first of the two reads, so that nothing between them is overlooked.
            match self.store.commit(commit.append_if_none(of(&[ADA, &to])?, payer.read_to)).await {
                Ok(_) => return Ok(Reply::Done),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(format!("other writers were faster in {ATTEMPTS} attempts; repeat the transfer").into())
    }

    async fn settle(&self) -> Result<usize, Failure> {
        Ok(0)
    }

    async fn balances(&self) -> Result<Balances, Failure> {
        let cents = async |account| Ok::<_, Failure>(self.balance(account).await?.cents.unwrap_or_default());
        Ok(Balances { ada: cents(ADA).await?, bob: cents(BOB).await? })
    }

    fn cost(&self) -> Cost {
        Cost { round_trips: 0, syncs: self.store.store.stats().syncs }
    }

    async fn close(self) -> Result<(), Failure> {
        Ok(self.store.store.close().await?)
    }
}

fn tag(account: &str) -> Result<Tag, Failure> {
    Ok(Tag::new(format!("account:{account}"))?)
}

/// Returns the query for the events of any of the accounts.
fn of(accounts: &[&str]) -> Result<Query, Failure> {
    let items: Result<Vec<QueryItem>, Failure> =
        accounts.iter().map(|account| Ok(QueryItem::new().tag(tag(account)?))).collect();
    Ok(Query::any_of(items?))
}

/// Encodes an event, with the tags of its accounts.
fn event(event: &LedgerEvent) -> Result<NewEvent, Failure> {
    Ok(event.encode()?.into_data(EventId::new()).into())
}
