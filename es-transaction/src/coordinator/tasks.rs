//! The tasks that drive transactions. The coordinator owns them.

use std::sync::Arc;

use es_core::model::TransactionId;
use tokio::sync::mpsc;
use tracing::Instrument;

use crate::coordinator::driver::{Driver, Voting};
use crate::coordinator::shared::{ActiveGuard, OperatorInput, Shared};
use crate::machine::{CoordinatorAct, CoordinatorState};

/// Starts the task of a transaction.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    guard: ActiveGuard,
    operator: mpsc::Receiver<OperatorInput>,
    transaction: TransactionId,
    state: CoordinatorState,
    acts: Vec<CoordinatorAct>,
    voting: Option<Voting>,
) {
    let span = tracing::info_span!("transaction", id = %transaction, participants = state.participants().len());
    let driver = Driver::new(Arc::clone(shared), transaction, state, operator);
    let driver = match voting {
        Some(voting) => driver.voting(voting),
        None => driver,
    };
    let task = async move {
        driver.run(acts).await;
        drop(guard);
    };
    shared.spawn(task.instrument(span));
}
