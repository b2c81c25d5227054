//! [`Shop`]: the domain on a store. Any store will do.

use std::collections::BTreeMap;
use std::sync::Arc;

use es_core::model::Version;
use es_core::{
    Command, CommandId, Decide, EventContext, EventStore, Evolve, ExecuteError, Executed, LoadError, LogRead, Position,
    RecordedEvent, Repository, StoreError, Timestamp, UnitOfWork,
};

use crate::domain::product::{MoveIn, MoveOut};
use crate::domain::{Order, Product, ProductId, Quantity};
use crate::failure::Failure;

/// Where orders and products are loaded from, and where commands to them go.
#[derive(Debug)]
pub struct Shop {
    /// The orders.
    pub orders: Repository<Order>,
    /// The products.
    pub products: Repository<Product>,
    store: Arc<dyn EventStore>,
}

/// How a command is to be executed.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// When it happens in the business; `None` for now.
    pub occurred_at: Option<Timestamp>,
    /// Only if the aggregate has this version.
    pub expected: Option<Version>,
    /// At most once under this id: given again, it answers with the first result.
    pub request: Option<CommandId>,
}

/// Executes a command on these terms.
///
/// # Errors
/// [`ExecuteError`]: the domain refuses, another writer was faster, or the infrastructure failed.
pub async fn send<A, C>(
    repository: &Repository<A>,
    id: &A::Id,
    command: C,
    terms: Terms,
) -> Result<Executed<A>, ExecuteError<A::Rejection>>
where
    A: Decide<C>,
    C: Command,
{
    let mut execute = repository.execute(id, command);
    if let Some(time) = terms.occurred_at {
        execute = execute.occurred_at(time);
    }
    if let Some(version) = terms.expected {
        execute = execute.at_version(version);
    }
    if let Some(request) = terms.request {
        execute = execute.with_id(request);
    }
    execute.await
}

/// All aggregates of one type, folded from the log.
#[derive(Debug)]
pub struct Folded<A: Evolve> {
    /// Their states by id.
    pub states: BTreeMap<A::Id, A>,
    /// How many events the whole log has, of all types.
    pub log_events: u64,
}

impl Shop {
    /// A shop on this store.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { orders: Repository::new(Arc::clone(&store)), products: Repository::new(Arc::clone(&store)), store }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &dyn EventStore {
        &*self.store
    }

    /// The store, for what follows the log.
    #[must_use]
    pub fn shared_store(&self) -> Arc<dyn EventStore> {
        Arc::clone(&self.store)
    }

    /// Folds all aggregates of one type, as they are now. Memory holds their states and one batch of events.
    ///
    /// # Errors
    /// [`Failure`] when the log cannot be read, or an event in it is not what the type knows.
    pub async fn fold<A: Evolve>(&self) -> Result<Folded<A>, Failure>
    where
        A::Id: Ord,
    {
        let category = A::category().map_err(LoadError::from)?;
        let mut log = self.store.read_log(LogRead::category(category)).await?;
        let mut states = BTreeMap::new();
        while let Some(batch) = log.next_batch().await? {
            for record in &batch {
                take::<A>(&mut states, record)?;
            }
        }
        // NOTE: positions have no gaps, and the read has looked at all of them: the last one is the number of events.
        Ok(Folded { states, log_events: log.scanned().map_or(0, Position::get) })
    }

    /// Moves pieces from the stock of one product to that of another: both change in one commit, or neither. An expected version is
    /// that of the product `from`.
    ///
    /// # Errors
    /// [`Failure`]: the domain rejects one of the two commands, another writer was faster, or the infrastructure failed.
    pub async fn move_stock(
        &self,
        from: &ProductId,
        to: &ProductId,
        quantity: Quantity,
        terms: Terms,
    ) -> Result<(Executed<Product>, Executed<Product>), Failure> {
        let (out, into) = (MoveOut { quantity, to: to.clone() }, MoveIn { quantity, from: from.clone() });
        let mut unit = UnitOfWork::new(&self.store).execute(&self.products, from.clone(), out);
        if let Some(version) = terms.expected {
            unit = unit.at_version(version);
        }
        let mut unit = unit.execute(&self.products, to.clone(), into);
        if let Some(time) = terms.occurred_at {
            unit = unit.occurred_at(time);
        }
        if let Some(request) = terms.request {
            unit = unit.with_id(request);
        }
        Ok(unit.await?)
    }

    /// Waits until everything that runs behind the back of the commands is done. Call it before the store is closed.
    pub async fn settle(&self) {
        self.orders.settle().await;
        self.products.settle().await;
    }
}

/// Takes an event into the state that it belongs to.
fn take<A: Evolve>(states: &mut BTreeMap<A::Id, A>, record: &RecordedEvent) -> Result<(), LoadError>
where
    A::Id: Ord,
{
    let id: A::Id = A::id_of(&record.stream).ok_or_else(|| {
        let detail = format!("expected the id of an aggregate {:?} in its name", A::CATEGORY);
        StoreError::damaged(format!("stream {:?}", record.stream), detail)
    })?;
    let events = record.decode::<A::Event>().map_err(|source| LoadError::Event {
        stream: record.stream.clone(),
        revision: record.revision,
        position: record.position,
        source,
    })?;
    let state = states.entry(id).or_insert_with_key(A::initial);
    for event in events {
        state.evolve(&event, &EventContext::new(record));
    }
    Ok(())
}
