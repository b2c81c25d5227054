//! Commands to orders.

use es_core::{Decide, ExecuteError, Executed, Outcome, Repository, Revision};
use serde::Serialize;

use super::answer::Answer;
use super::args::How;
use crate::domain::{Order, OrderId, OrderRejection, OrderStatus};
use crate::failure::Failure;
use crate::shop::Shop;

/// What came of a command to an order.
#[derive(Debug, Serialize)]
struct Done<'a> {
    order_id: &'a OrderId,
    status: Option<OrderStatus>,
    #[serde(flatten)]
    result: CommandResult,
}

/// What came of a command.
#[derive(Debug, Serialize)]
pub(super) struct CommandResult {
    outcome: &'static str,
    events: usize,
    revision: Option<u64>,
    position: Option<u64>,
}

/// Executes a command on an order.
pub(super) async fn execute<C>(shop: &Shop, id: &OrderId, command: C, how: &How) -> Result<Answer, Failure>
where
    Order: Decide<C, Rejection = OrderRejection>,
    C: Clone + Send + Sync,
{
    let executed = send(&shop.orders, id, command, how).await?;
    let status = executed.state.placed().map(|order| order.status);
    let is = status.map_or("not placed", OrderStatus::as_str);
    let answer = in_words(&format!("order {id} is {is}"), &executed);
    Ok(Answer::new(answer, &Done { order_id: id, status, result: CommandResult::of(&executed) }))
}

/// Executes a command in the way that was asked for.
pub(super) async fn send<A, C>(
    repository: &Repository<A>,
    id: &A::Id,
    command: C,
    how: &How,
) -> Result<Executed<A>, ExecuteError<A::Rejection>>
where
    A: Decide<C>,
    C: Clone + Send + Sync,
{
    let mut execute = repository.execute(id, command);
    if let Some(date) = how.date {
        execute = execute.occurred_at(date.first());
    }
    if let Some(revision) = how.expect {
        execute = execute.at_revision(Revision::new(revision));
    }
    if let Some(request) = &how.request {
        execute = execute.with_id(request.clone());
    }
    execute.await
}

impl CommandResult {
    pub(super) fn of<A: es_core::Aggregate>(executed: &Executed<A>) -> Self {
        Self {
            outcome: match executed.outcome {
                Outcome::Done => "done",
                Outcome::AlreadySo => "already_so",
                Outcome::Repeated => "repeated",
            },
            events: executed.events.len(),
            revision: executed.revision.map(Revision::get),
            position: executed.position.map(es_core::Position::get),
        }
    }
}

/// The state that a command led to, and how it led there.
pub(super) fn in_words<A: es_core::Aggregate>(state: &str, executed: &Executed<A>) -> String {
    let revision = executed.revision.map_or(String::new(), |revision| format!(" (revision {revision})"));
    let how = match executed.outcome {
        Outcome::Done => "",
        Outcome::AlreadySo => " already; nothing was written",
        Outcome::Repeated => "; this request was done before, and nothing was written now",
    };
    format!("{state}{how}{revision}")
}
