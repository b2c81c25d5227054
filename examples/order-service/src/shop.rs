//! [`Shop`]: loads orders and products from a store and executes commands on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use es_core::model::{Metadata, OneOrder};
use es_core::{
    Aggregate, Command, CommandId, Decide, EventContext, EventStore, Evolve, ExecuteError, Executed, ExpectedRevision,
    LoadError, LogRead, Position, RecordedEvent, Repository, Revision, StoreError, Timestamp, UnitOfWork,
};
use es_http::WriteCondition;
use serde::Serialize;

use crate::domain::product::{MoveIn, MoveOut};
use crate::domain::{Order, Product, ProductId, Quantity};
use crate::failure::Failure;

/// The repositories of orders and products on one store.
#[derive(Debug)]
pub struct Shop {
    /// The repository of orders.
    pub orders: Repository<Order>,
    /// The repository of products.
    pub products: Arc<Repository<Product>>,
    store: Arc<dyn EventStore>,
}

/// Options for executing a command.
#[derive(Debug, Clone, Default)]
pub struct CommandOptions {
    /// Business time of the events; `None` for the current time.
    pub occurred_at: Option<Timestamp>,
    /// What must be true of the aggregate.
    pub condition: WriteCondition,
    /// Id for idempotency: a repeat of the command with the same id returns the result of the first. Another command
    /// with the same id is an error.
    pub command_id: Option<CommandId>,
    /// The metadata of the events.
    pub metadata: Metadata,
}

/// Executes a command with these options.
///
/// # Errors
/// - [`ExecuteError::Rejected`] if the aggregate rejects the command.
/// - [`ExecuteError::Conflict`] if the aggregate does not meet the condition.
/// - [`ExecuteError::Failed`] if the infrastructure fails.
pub async fn send<A, C>(
    repository: &Repository<A>,
    id: &A::Id,
    command: C,
    options: CommandOptions,
) -> Result<Executed<A>, ExecuteError<A::Rejection>>
where
    A: Decide<C, Level: OneOrder>,
    C: Command + Serialize,
{
    let mut execute = options.condition.apply(repository.execute(id, command)).with_metadata(options.metadata);
    if let Some(time) = options.occurred_at {
        execute = execute.occurred_at(time);
    }
    if let Some(id) = options.command_id {
        execute = execute.with_id(id);
    }
    execute.await
}

/// All aggregates of one type, replayed from the log.
#[derive(Debug)]
pub struct Folded<A: Evolve> {
    /// The aggregates by id.
    pub states: BTreeMap<A::Id, A>,
    /// Number of events of all types in the log.
    pub log_events: u64,
}

impl Shop {
    /// Creates a shop on `store`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self {
            orders: Repository::new(Arc::clone(&store)),
            products: Arc::new(Repository::new(Arc::clone(&store))),
            store,
        }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// Returns a shared handle of the store, for subscriptions and projections.
    #[must_use]
    pub fn shared_store(&self) -> Arc<dyn EventStore> {
        Arc::clone(&self.store)
    }

    /// Replays all aggregates of one type from the log. Memory use: all aggregates and one batch of events.
    ///
    /// # Errors
    /// - [`Failure::Store`] if the log cannot be read.
    /// - [`Failure::Load`] if an event cannot be decoded, or a stream name has no id of the type.
    pub async fn fold<A: Evolve>(&self) -> Result<Folded<A>, Failure>
    where
        A::Id: Ord,
    {
        let category = A::category().map_err(LoadError::from)?;
        let mut log = self.store.read_log(LogRead::category(category)).await?;
        let mut states = BTreeMap::new();
        while let Some(batch) = log.next_batch().await? {
            for record in &batch {
                apply::<A>(&mut states, record)?;
            }
        }
        // Positions have no gaps and start at 1, so the last position that was read is the number of events.
        Ok(Folded { states, log_events: log.scanned().map_or(0, Position::get) })
    }

    /// Moves items from the stock of one product to another, in one commit. A condition applies to `from`.
    ///
    /// # Errors
    /// - [`Failure::Product`] if one of the products rejects its command.
    /// - [`Failure::Conflict`] if another writer changed a product, or `from` does not meet the condition.
    /// - [`Failure::Infrastructure`] if the commands could not be executed.
    pub async fn move_stock(
        &self,
        from: &ProductId,
        to: &ProductId,
        quantity: Quantity,
        options: CommandOptions,
    ) -> Result<(Executed<Product>, Executed<Product>), Failure> {
        let (out, into) = (MoveOut { quantity, to: to.clone() }, MoveIn { quantity, from: from.clone() });
        let mut unit = UnitOfWork::new(&self.store).execute(&self.products, from.clone(), out);
        unit = match options.condition {
            WriteCondition::None => unit,
            WriteCondition::Missing => unit.expecting(ExpectedRevision::NoStream),
            WriteCondition::Exists => unit.expecting(ExpectedRevision::StreamExists),
            WriteCondition::Version(version) => unit.at_version(version),
            // No event has this revision.
            WriteCondition::Never => unit.at_revision(Revision::new(u64::MAX)),
        };
        let mut unit = unit.with_metadata(options.metadata).execute(&self.products, to.clone(), into);
        if let Some(time) = options.occurred_at {
            unit = unit.occurred_at(time);
        }
        if let Some(id) = options.command_id {
            unit = unit.with_id(id);
        }
        Ok(unit.await?)
    }

    /// Waits for the background work of commands, such as writing snapshots. Call this before closing the store.
    pub async fn settle(&self) {
        self.orders.settle().await;
        self.products.settle().await;
    }
}

/// Applies an event to its aggregate.
pub(crate) fn apply<A: Evolve>(states: &mut BTreeMap<A::Id, A>, record: &RecordedEvent) -> Result<(), LoadError>
where
    A::Id: Ord,
{
    let id: A::Id = A::id_of(&record.stream).ok_or_else(|| {
        let detail = format!("its name has no id of category {:?}", A::CATEGORY);
        StoreError::damaged(format!("stream {:?}", record.stream), detail)
    })?;
    let events = decode::<A>(record)?;
    let state = states.entry(id).or_insert_with_key(A::initial);
    for event in events {
        state.evolve(&event, &EventContext::new(record));
    }
    Ok(())
}

/// Decodes the events of an aggregate.
pub(crate) fn decode<A: Aggregate>(record: &RecordedEvent) -> Result<Vec<A::Event>, LoadError> {
    let decoded = record.decode::<A::Event>().map_err(|source| LoadError::Event {
        stream: record.stream.clone(),
        revision: record.revision,
        position: record.position,
        source,
    })?;
    Ok(decoded.into_iter().collect())
}
