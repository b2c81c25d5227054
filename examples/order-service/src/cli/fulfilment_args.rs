//! The arguments of the commands on the fulfilment of orders.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::note_args::NoteArgs;
use super::process_args::ProcessCommand;
use super::service_args::ServiceArgs;
use super::transactions::TransactionCommand;
use crate::domain::OrderId;
use crate::provider::{FaultPlan, Rate};
use crate::sagas::{DEFAULT_LIMIT, SagaAction, SagaActionName};

/// A command on the fulfilment of orders.
#[derive(Debug, Subcommand)]
pub(crate) enum FulfilmentCommand {
    /// Fulfil orders: reserve stock, take the payment, ship
    ///
    /// Each order has a saga. If a step fails, the saga undoes the steps before it. Orders that are cancelled are left
    /// out. A repeated run continues, also after a kill. Starts a simulated provider of payments and shipments, unless
    /// --provider names one that runs. Prints the report of `sagas report` at the end.
    #[command(after_help = "\
Examples:
  order-service --data shop fulfil --all
  order-service --data shop fulfil --all --fail-rate 0.2 --seed 7
  order-service --data shop fulfil 10248 10249 --provider http://localhost:8090")]
    Fulfil(FulfilArgs),
    /// Run a simulated provider of payments and shipments
    ///
    /// Prints its address to standard error. Each effect is a line of the record, which is read again at the next
    /// start. A fault depends on the seed, the key of the request and its number.
    #[command(after_help = "\
Examples:
  order-service provider --record effects.jsonl
  order-service provider --record effects.jsonl --listen 127.0.0.1:0 --fail-rate 0.2 --seed 7")]
    Provider(ProviderArgs),
    /// Show and operate sagas
    ///
    /// With --url, sends the command to a running service. Without --url, opens the store, which must not be open in a
    /// service; the saga continues in the next `fulfil` or `serve`.
    #[command(after_help = "\
Examples:
  order-service --data shop sagas list
  order-service --data shop sagas show 10248
  order-service --data shop sagas report --json
  order-service --data shop sagas retry 10248 take-payment --reason \"the provider is back\"
  order-service sagas --url http://localhost:8081 cancel 10248 --reason \"the customer has called\"")]
    Sagas {
        #[command(flatten)]
        service: ServiceArgs,
        #[command(subcommand)]
        command: SagaCommand,
    },
    /// Show and operate the instances of processes, such as the reminders of customers who have not paid
    ///
    /// With --url, sends the command to a running service. Without --url, opens the store, which must not be open in a
    /// service; the instance continues in the next `fulfil` or `serve`.
    #[command(after_help = "\
Examples:
  order-service --data shop processes list
  order-service --data shop processes show 10248
  order-service --data shop processes parked payment_reminder
  order-service --data shop processes retry 10248 --reason \"the program is fixed\"
  order-service processes --url http://localhost:8081 skip-event payment_reminder 42 --reason \"a test order\"")]
    Processes {
        #[command(flatten)]
        service: ServiceArgs,
        #[command(subcommand)]
        command: ProcessCommand,
    },
    /// Show and decide distributed transactions in which the products take part
    ///
    /// With --url, sends the command to a running service. Without --url, opens the store, which must not be open in a
    /// service. A transaction in doubt ends by itself when its coordinator is available.
    #[command(after_help = "\
Examples:
  order-service --data shop transactions list
  order-service transactions --url http://localhost:8081 resolve ID abort --reason \"the coordinator is lost\"
  order-service transactions --url http://localhost:8081 forget ID --reason \"the stock is corrected\"")]
    Transactions {
        #[command(flatten)]
        service: ServiceArgs,
        #[command(subcommand)]
        command: TransactionCommand,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub(crate) struct FulfilArgs {
    /// Order ids
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<OrderId>,
    /// Fulfil all orders
    #[arg(long)]
    pub(super) all: bool,
    /// URL of a running provider
    #[arg(long, value_name = "URL", conflicts_with_all = ["fail_rate", "unpaid_rate", "seed", "record"])]
    pub(super) provider: Option<String>,
    /// Record of the provider that is started [default: DATA.provider.jsonl]
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    #[command(flatten)]
    pub(super) faults: FaultArgs,
    /// Time in which customers must pay, in seconds; after half of it, they are reminded
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    payment_deadline: u64,
    /// Do not receive the items that the products lack
    #[arg(long)]
    pub(super) no_restock: bool,
    /// Print a line to standard error for each order when its saga has ended or waits for a person
    #[arg(long, short)]
    pub(super) verbose: bool,
}

impl FulfilArgs {
    pub(super) const fn payment_deadline(&self) -> Duration {
        Duration::from_secs(self.payment_deadline)
    }
}

/// The faults of the provider.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FaultArgs {
    /// Share of requests to the provider that fail, from 0 to 1
    #[arg(long, value_name = "RATE", default_value_t = Rate::NEVER)]
    fail_rate: Rate,
    /// Share of customers who do not pay at once, from 0 to 1
    #[arg(long, value_name = "RATE", default_value_t = Rate::NEVER)]
    unpaid_rate: Rate,
    /// Seed of the faults
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
}

impl FaultArgs {
    pub(super) const fn plan(self) -> FaultPlan {
        FaultPlan { fail_rate: self.fail_rate, unpaid_rate: self.unpaid_rate, seed: self.seed }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProviderArgs {
    /// File of the effects
    #[arg(long, value_name = "FILE")]
    pub(super) record: PathBuf,
    /// Address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    pub(super) listen: SocketAddr,
    #[command(flatten)]
    pub(super) faults: FaultArgs,
    /// Stop when standard input is closed, which is also the end of the process that has started the provider
    #[arg(long)]
    pub(super) until_stdin_closes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SagaCommand {
    /// List the sagas that have not ended
    List {
        /// List also the sagas that have ended
        #[arg(long)]
        all: bool,
        /// Maximum number of sagas
        #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_LIMIT)]
        limit: usize,
    },
    /// Show a saga with its steps
    Show {
        /// Order id, or id of the saga, such as fulfilment:10248
        id: String,
        /// Print the graph with states and times as a Mermaid flowchart
        #[arg(long)]
        mermaid: bool,
    },
    /// Count the sagas, and compare the stock and the money with them
    ///
    /// Stock is counted in items, money in cents. At any time, stock_reserved is the sum of stock_shipped,
    /// stock_released and stock_held, and money_taken the sum of money_kept, money_refunded and money_pending.
    Report {
        /// Record of the provider [default: DATA.provider.jsonl]
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// URL of a running provider
        #[arg(long, value_name = "URL", conflicts_with = "record")]
        provider: Option<String>,
    },
    /// Start no new call until the saga is resumed
    Pause(SagaArgs),
    /// Continue a paused saga
    Resume(SagaArgs),
    /// Try a failed step, or the failed undo of a step, again
    Retry(SagaStepArgs),
    /// Take a failed step, or the failed undo of a step, for done
    Skip {
        #[command(flatten)]
        step: SagaStepArgs,
        /// Output of the step as JSON, which is required if a later step uses it
        #[arg(long, value_name = "JSON", value_parser = json)]
        output: Option<Value>,
    },
    /// Undo all steps; a saga that has shipped cannot be cancelled
    Cancel(SagaArgs),
    /// End a saga at once, without undoing its steps
    Kill(SagaArgs),
    /// Execute a step, and those that depend on it, again
    Restart(SagaStepArgs),
    /// End a saga that is stuck or paused; its effects remain
    Abandon(SagaArgs),
}

fn json(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text)
}

#[derive(Debug, Args)]
pub(crate) struct SagaArgs {
    /// Order id, or id of the saga, such as fulfilment:10248
    id: String,
    #[command(flatten)]
    note: NoteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SagaStepArgs {
    /// Order id, or id of the saga, such as fulfilment:10248
    id: String,
    /// Name of the step
    step: String,
    /// Index of the item, from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    item: u32,
    #[command(flatten)]
    note: NoteArgs,
}

impl SagaCommand {
    /// Returns the saga and the action of a command; `None` for a command that only reads.
    pub(super) fn action(&self) -> Option<(&str, SagaAction)> {
        Some(match self {
            Self::List { .. } | Self::Show { .. } | Self::Report { .. } => return None,
            Self::Pause(args) => args.action(SagaActionName::Pause),
            Self::Resume(args) => args.action(SagaActionName::Resume),
            Self::Cancel(args) => args.action(SagaActionName::Cancel),
            Self::Kill(args) => args.action(SagaActionName::Kill),
            Self::Abandon(args) => args.action(SagaActionName::Abandon),
            Self::Retry(args) => args.action(SagaActionName::Retry),
            Self::Restart(args) => args.action(SagaActionName::Restart),
            Self::Skip { step, output } => {
                let (id, action) = step.action(SagaActionName::Skip);
                (id, SagaAction { output: output.clone(), ..action })
            }
        })
    }
}

impl SagaArgs {
    fn action(&self, verb: SagaActionName) -> (&str, SagaAction) {
        let NoteArgs { reason, by } = &self.note;
        let (reason, by) = (reason.clone(), by.clone());
        (&self.id, SagaAction { verb, step: None, item: 0, output: None, reason, by })
    }
}

impl SagaStepArgs {
    fn action(&self, verb: SagaActionName) -> (&str, SagaAction) {
        let NoteArgs { reason, by } = &self.note;
        let (step, reason, by) = (Some(self.step.clone()), reason.clone(), by.clone());
        (&self.id, SagaAction { verb, step, item: self.item, output: None, reason, by })
    }
}
