//! The `transactions` command.

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};

use super::note_args::{NoteArgs, UNNAMED};
use super::output::{Output, format_time, table};
use super::remote::Remote;
use super::{IfMissing, with_shop};
use crate::failure::Failure;
use crate::sagas::DEFAULT_LIMIT;
use crate::transactions::{
    self, TransactionAction, TransactionActionName, TransactionSummary, participant, transaction_id,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TransactionCommand {
    /// List the transactions in doubt, and those that were decided here without their coordinator
    List {
        /// Maximum number of transactions of each state
        #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT)]
        limit: usize,
    },
    /// Decide a transaction in doubt whose coordinator is lost
    ///
    /// The outcome may contradict the decision of the coordinator, which then reports the damage. Ask its operators
    /// first.
    Resolve {
        /// Id of the transaction
        id: String,
        /// Outcome
        #[arg(value_enum)]
        outcome: OutcomeArg,
        #[command(flatten)]
        note: NoteArgs,
    },
    /// Forget an outcome that was decided without the coordinator, after its damage is repaired or accepted
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Id of the transaction
    id: String,
    #[command(flatten)]
    note: NoteArgs,
}

/// The outcome of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutcomeArg {
    /// Make its changes visible
    Commit,
    /// Discard its changes
    Abort,
}

impl TransactionCommand {
    /// Returns the transaction and the action of a command; `None` for a command that only reads.
    fn action(&self) -> Option<(&str, TransactionAction)> {
        let (id, verb, NoteArgs { reason, by }) = match self {
            Self::List { .. } => return None,
            Self::Resolve { id, outcome: OutcomeArg::Commit, note } => (id, TransactionActionName::Commit, note),
            Self::Resolve { id, outcome: OutcomeArg::Abort, note } => (id, TransactionActionName::Abort, note),
            Self::Forget(ForgetArgs { id, note }) => (id, TransactionActionName::Forget, note),
        };
        Some((id, TransactionAction { verb, reason: reason.clone(), by: by.clone() }))
    }

    fn limit(&self) -> usize {
        match self {
            Self::List { limit } => *limit,
            _ => DEFAULT_LIMIT,
        }
    }
}

/// Sends the command to a running service.
pub(super) async fn remote(service: &Remote, command: &TransactionCommand) -> Result<Output, Failure> {
    Ok(match command.action() {
        Some((id, action)) => list_output(&[service.act_on_transaction(&transaction_id(id)?, action).await?]),
        None => list_output(&service.transactions(command.limit()).await?),
    })
}

/// Opens the store and runs the command.
pub(super) async fn local(data: &Path, command: &TransactionCommand) -> Result<Output, Failure> {
    with_shop(data, IfMissing::Fail, async |shop| {
        let participant = participant(shop);
        Ok(match command.action() {
            Some((id, action)) => {
                let by = action.by.as_deref().unwrap_or(UNNAMED);
                list_output(&[transactions::act(&participant, &transaction_id(id)?, &action, by).await?])
            }
            None => list_output(&transactions::list(&participant, command.limit()).await?),
        })
    })
    .await
}

fn list_output(transactions: &[TransactionSummary]) -> Output {
    let rows = transactions.iter().map(|transaction| {
        let TransactionSummary { transaction, state, is_heuristic, prepared_at, participants } = transaction;
        let state = if *is_heuristic { format!("{state}, without the coordinator") } else { state.clone() };
        let prepared = prepared_at.map_or_else(|| "-".to_owned(), format_time);
        [transaction.clone(), state, prepared, participants.join(", ")]
    });
    let text = if transactions.is_empty() {
        "no transactions in doubt".to_owned()
    } else {
        table(["transaction", "state", "prepared", "participants"], 4, rows).to_string()
    };
    Output::new(text, &transactions)
}
