//! Commands on orders.

use es_core::{Command, Decide, Executed, Outcome};
use serde::Serialize;

use super::args::CommandArgs;
use super::output::Output;
use crate::domain::{Order, OrderId, OrderRejection, OrderStatus};
use crate::failure::Failure;
use crate::json::{CommandResult, OrderCommandJson};
use crate::shop::{Shop, send};

/// Executes a command on an order.
pub(super) async fn execute<C>(shop: &Shop, id: &OrderId, command: C, options: &CommandArgs) -> Result<Output, Failure>
where
    Order: Decide<C, Rejection = OrderRejection>,
    C: Command + Serialize,
{
    let executed = send(&shop.orders, id, command, options.options()).await?;
    let status = executed.state.placed().map(|order| order.status);
    let status_text = status.map_or("not placed", OrderStatus::as_str);
    let text = command_text(&format!("order {id} is {status_text}"), &executed);
    Ok(Output::new(text, &OrderCommandJson { order_id: id, status, result: CommandResult::of(&executed) }))
}

/// Describes the state after a command, and whether the command changed it.
pub(super) fn command_text<A: es_core::Aggregate>(state: &str, executed: &Executed<A>) -> String {
    let revision = executed.revision.map_or(String::new(), |revision| format!(" (revision {revision})"));
    let outcome = match executed.outcome {
        Outcome::Done => "",
        Outcome::Unchanged => " already; nothing was written",
        Outcome::Repeated => "; this request was executed before, nothing was written",
    };
    format!("{state}{outcome}{revision}")
}
