//! Commands to orders.

use es_core::{Command, Decide, Executed, Outcome};

use super::answer::Answer;
use super::args::How;
use crate::domain::{Order, OrderId, OrderRejection, OrderStatus};
use crate::failure::Failure;
use crate::shop::{Shop, send};
use crate::shown::{CommandResult, OrderDone};

/// Executes a command on an order.
pub(super) async fn execute<C>(shop: &Shop, id: &OrderId, command: C, how: &How) -> Result<Answer, Failure>
where
    Order: Decide<C, Rejection = OrderRejection>,
    C: Command,
{
    let executed = send(&shop.orders, id, command, how.terms()).await?;
    let status = executed.state.placed().map(|order| order.status);
    let is = status.map_or("not placed", OrderStatus::as_str);
    let answer = in_words(&format!("order {id} is {is}"), &executed);
    Ok(Answer::new(answer, &OrderDone { order_id: id, status, result: CommandResult::of(&executed) }))
}

/// The state that a command led to, and how it led there.
pub(super) fn in_words<A: es_core::Aggregate>(state: &str, executed: &Executed<A>) -> String {
    let revision = executed.revision.map_or(String::new(), |revision| format!(" (revision {revision})"));
    let how = match executed.outcome {
        Outcome::Done => "",
        Outcome::Unchanged => " already; nothing was written",
        Outcome::Repeated => "; this request was done before, and nothing was written now",
    };
    format!("{state}{how}{revision}")
}
