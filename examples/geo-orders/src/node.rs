//! A node: a store on disk, a server for the other nodes, and a link to each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use es_core::model::ErrorChain;
use es_core::prelude::*;
use es_core::{EventId, ExecuteError, LogRead, RecordedEvent};
use es_node::{Node, NodeFiles};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::loan::{CaseId, Loan, StaleCase, Step, StepTaken, TakeStep};
use crate::message::{Answer, Request, Start};
use crate::order::{AddLine, LineId, Order, OrderEvent, OrderId};

/// How long a node that opens waits for the answers of the others.
const CONFIRM_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a node until its standard input ends.
///
/// # Errors
/// If the node cannot start, or its standard streams break.
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let Some(start) = lines.next_line().await? else { return Ok(()) };
    let Start { name, directory, certificates, peers } = serde_json::from_str(&start)?;
    let files = NodeFiles {
        certificates: certificates.join(format!("{name}.pem")),
        key: certificates.join(format!("{name}.key")),
        authorities: certificates.join("ca.pem"),
    };
    let node = Node::builder(name)
        .directory(directory)
        .listen("127.0.0.1:0")
        .peers(peers)
        .tls(files)
        .aggregate::<Order>()
        .aggregate::<Loan>()
        .with_confirm_timeout(CONFIRM_TIMEOUT)
        .open()
        .await?;
    let port = node.local_addr().ok_or("the node does not listen")?.port();
    answer(&Answer::Started { port, origin: node.replica().origin().await?.to_string() }).await?;
    let orders = OrderNode { orders: node.repository()?, loans: node.repository()?, node };
    while let Some(line) = lines.next_line().await? {
        let request: Request = serde_json::from_str(&line)?;
        let result = orders.answer(request).await;
        answer(&result.unwrap_or_else(|error| Answer::Failed(ErrorChain(&*error).to_string()))).await?;
    }
    Ok(orders.node.stop().await?)
}

async fn answer(answer: &Answer) -> Result<(), Box<dyn Error>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut output = tokio::io::stdout();
    output.write_all(&line).await?;
    Ok(output.flush().await?)
}

/// A node that takes orders and steps of cases.
struct OrderNode {
    node: Node,
    orders: Repository<Order>,
    loans: Repository<Loan>,
}

impl OrderNode {
    async fn answer(&self, request: Request) -> Result<Answer, Box<dyn Error>> {
        match request {
            Request::Add { order, line, quantity } => self.add(order, line, quantity).await,
            Request::Take { case, step } => self.take(case, step).await,
            Request::Status => {
                let knowledge = self.node.replica().knowledge().await?;
                let dots = knowledge.clock().iter().map(|dot| (dot.origin.to_string(), dot.sequence.get()));
                Ok(Answer::Status { knowledge: dots.collect() })
            }
            Request::Orders => Ok(Answer::Orders(self.states(&self.orders).await?)),
            Request::Loans => Ok(Answer::Loans(self.states(&self.loans).await?)),
            Request::Check => self.check().await,
        }
    }

    /// Adds a line. The number of the line is the command id, so a repeat on any node has no second effect.
    async fn add(&self, order: OrderId, line: LineId, quantity: u32) -> Result<Answer, Box<dyn Error>> {
        let after = self.last_event().await?;
        let add = self.orders.execute(&order, AddLine { line, quantity, after });
        add.with_id(CommandId::new(format!("line-{line}"))?).await?;
        Ok(Answer::Added)
    }

    /// Takes a step. The number of its row is the command id.
    async fn take(&self, case: CaseId, step: Step) -> Result<Answer, Box<dyn Error>> {
        let (id, after) = (CommandId::new(format!("row-{}", step.row))?, self.last_event().await?);
        match self.loans.execute(&case, TakeStep { step, after }).with_id(id).await {
            Ok(_) => Ok(Answer::Added),
            Err(ExecuteError::Rejected(StaleCase(_))) => Ok(Answer::Stale),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the id of the last event of the log.
    async fn last_event(&self) -> Result<Option<EventId>, Box<dyn Error>> {
        let event = self.node.store().read_log(LogRead::all().backward().limit(1)).await?.next().await?;
        Ok(event.map(|event| event.data.id))
    }

    /// Returns the states of all aggregates of a type.
    async fn states<A: Aggregate<Id = u64> + Evolve>(
        &self,
        repository: &Repository<A>,
    ) -> Result<BTreeMap<u64, A>, Box<dyn Error>> {
        let (mut states, mut after, prefix) = (BTreeMap::new(), None, format!("{}-", A::CATEGORY));
        loop {
            let streams = self.node.store().streams(&prefix, after.as_ref(), 1_000).await?;
            for (stream, _) in &streams {
                if let Some(id) = A::id_of(stream) {
                    states.insert(id, repository.load(&id).await?.state);
                }
            }
            match streams.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(states),
            }
        }
    }

    async fn check(&self) -> Result<Answer, Box<dyn Error>> {
        let mut seen = BTreeSet::<EventId>::new();
        let mut violations = Vec::new();
        let mut events = self.node.store().read_log(LogRead::all()).await?;
        while let Some(record) = events.next().await? {
            if event_before(&record)?.is_some_and(|after| !seen.contains(&after)) {
                violations.push(record.data.id);
            }
            seen.insert(record.data.id);
        }
        Ok(Answer::Checked { events: seen.len(), violations })
    }
}

/// Returns the last event that the client of an event had seen.
fn event_before(record: &RecordedEvent) -> Result<Option<EventId>, Box<dyn Error>> {
    let last = if record.stream.category_str() == Loan::CATEGORY {
        StepTaken::decode(record.into())?.into_iter().next_back().and_then(|event| event.after)
    } else {
        OrderEvent::decode(record.into())?.into_iter().next_back().and_then(|OrderEvent::LineAdded { after, .. }| after)
    };
    Ok(last)
}
