//! A read model in SQLite that applies each event exactly once: the view and its checkpoint change in one SQL
//! transaction.
//!
//! ```text
//!   subscription --batch--> BEGIN
//!        ^                    change the view for each event of the batch
//!        |                    checkpoint = last position that the batch has scanned
//!        +-- next ----------- COMMIT
//! ```
//!
//! After a crash, the view and the checkpoint are of the same position, and the next run continues after it. Therefore
//! [`View::apply`] may count with `orders = orders + 1`, which would be wrong if an event were applied twice.
//!
//! The subscription also selects erasures. The events of a deleted order cannot be read, so the table `orders` has the
//! contribution of each order, which the deletion subtracts.

use std::path::Path;
use std::sync::Arc;

use es_core::aggregate::Source;
use es_core::model::{LogId, LogPosition, PositionError};
use es_core::retention::Erasure;
use es_core::schema::DecodeEventError;
use es_core::store::{Batch, QueryItem};
use es_core::{EventStore, Position, RecordedEvent, StoreError, StreamId, Subscription};
use order_service::domain::{Order, OrderEvent};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// The key of the checkpoint, so that one database can hold several views.
const NAME: &str = "customers";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS checkpoint (
        view TEXT PRIMARY KEY, position INTEGER NOT NULL, log_id TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS orders (
        stream TEXT PRIMARY KEY, customer TEXT NOT NULL, shipped INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE IF NOT EXISTS customers (
        customer TEXT PRIMARY KEY, orders INTEGER NOT NULL DEFAULT 0, shipped INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0
    ) STRICT;";

/// The version of the schema, in `user_version` of the database. A database of another version is deleted and built
/// again: version 1 has the contribution of each order, without which a deleted order cannot be subtracted.
const SCHEMA_VERSION: u32 = 1;
const DROP: &str = "DROP TABLE IF EXISTS checkpoint; DROP TABLE IF EXISTS orders; DROP TABLE IF EXISTS customers;";

/// The subtraction of an order, whose stream is the parameter.
const SUBTRACT: &str = "
    UPDATE customers SET orders = customers.orders - 1, shipped = customers.shipped - deleted.shipped,
        delivered = customers.delivered - deleted.delivered, cancelled = customers.cancelled - deleted.cancelled
    FROM orders AS deleted WHERE deleted.stream = ?1 AND deleted.customer = customers.customer";

/// An error of [`follow`]. The view is consistent with its checkpoint; call [`follow`] again to continue.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The view was built from another log: the store was restored or replaced. Delete the database of the view, and
    /// it is built again.
    #[error("the view does not belong to this store; delete its database, and the view is built again")]
    OtherLog(#[from] PositionError),
    /// An operation on the database failed.
    #[error("the database of the view failed")]
    Sqlite(#[from] rusqlite::Error),
    /// An event could not be decoded.
    #[error("could not decode the event at position {position}")]
    Event {
        /// The position of the event.
        position: Position,
        /// The decoding error.
        source: DecodeEventError,
    },
}

/// A view in SQLite: the number of orders of each customer, in total and by status.
#[derive(Debug)]
pub struct View {
    sqlite: Connection,
}

impl View {
    /// Opens the view; creates the database if it does not exist. A view of an earlier schema is deleted, and built
    /// from the log again.
    ///
    /// # Errors
    /// [`Failure::Sqlite`] if the file is not a database or cannot be written.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let sqlite = Connection::open(path)?;
        if sqlite.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? != SCHEMA_VERSION {
            let version = format!("PRAGMA user_version = {SCHEMA_VERSION}");
            sqlite.execute_batch(&format!("BEGIN; {DROP} {SCHEMA} {version}; COMMIT"))?;
        }
        Ok(Self { sqlite })
    }

    /// Returns the position up to which every event is in the view, with the id of its log. The position is `None` for
    /// an empty view.
    ///
    /// # Errors
    /// [`Failure::Sqlite`] if the database cannot be read.
    pub fn checkpoint(&self) -> Result<LogPosition, Failure> {
        let select = "SELECT position, log_id FROM checkpoint WHERE view = ?1";
        let row = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?));
        let Some((position, log_id)) = self.sqlite.query_row(select, [NAME], row).optional()? else {
            return Ok(None.into());
        };
        let invalid = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error));
        Ok(LogPosition { log_id: Some(log_id.parse().map_err(invalid)?), position: Position::new(position) })
    }

    /// Applies a batch of a log to the view and advances the checkpoint, in one transaction.
    ///
    /// # Errors
    /// - [`Failure::Event`] if an event cannot be decoded.
    /// - [`Failure::Sqlite`] if the transaction fails.
    ///
    /// After an error, no part of the batch is applied.
    pub fn apply(&mut self, log_id: LogId, batch: &Batch) -> Result<(), Failure> {
        let transaction = self.sqlite.transaction()?;
        for record in &batch.events {
            if let Some(erasure) = Erasure::of(record) {
                erasure.stream().map_or(Ok(()), |stream| delete_order(&transaction, stream))?;
                continue;
            }
            let events = Order::decode(record);
            let events = events.map_err(|source| Failure::Event { position: record.position, source })?;
            for event in events.as_slice() {
                apply(&transaction, record, event)?;
            }
        }
        if let Some(position) = batch.scanned {
            let upsert = "INSERT INTO checkpoint (view, position, log_id) VALUES (?1, ?2, ?3)
                ON CONFLICT DO UPDATE SET position = excluded.position, log_id = excluded.log_id";
            transaction.execute(upsert, params![NAME, position.get(), log_id.to_string()])?;
        }
        Ok(transaction.commit()?)
    }

    /// Returns each customer with the number of orders, shipped orders, delivered orders and cancelled orders.
    ///
    /// # Errors
    /// [`Failure::Sqlite`] if the database cannot be read.
    pub fn customers(&self) -> Result<Vec<(String, [u64; 4])>, Failure> {
        let mut select = self.sqlite.prepare("SELECT * FROM customers ORDER BY customer")?;
        let rows =
            select.query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Applies one event to the tables.
fn apply(transaction: &Transaction<'_>, record: &RecordedEvent, event: &OrderEvent) -> Result<(), rusqlite::Error> {
    let order = record.stream.as_str();
    let column = match event {
        OrderEvent::Placed { customer, .. } => {
            transaction.execute("INSERT INTO orders (stream, customer) VALUES (?1, ?2)", [order, customer.as_str()])?;
            transaction
                .execute("INSERT INTO customers (customer) VALUES (?1) ON CONFLICT DO NOTHING", [customer.as_str()])?;
            "orders"
        }
        OrderEvent::Approved | OrderEvent::PaymentReminded => return Ok(()),
        OrderEvent::Shipped => "shipped",
        OrderEvent::Delivered => "delivered",
        OrderEvent::Cancelled { .. } => "cancelled",
    };
    let of_order = "customer = (SELECT customer FROM orders WHERE stream = ?1)";
    transaction.execute(&format!("UPDATE customers SET {column} = {column} + 1 WHERE {of_order}"), [order])?;
    if column != "orders" {
        let contribution = format!("UPDATE orders SET {column} = {column} + 1 WHERE stream = ?1");
        transaction.execute(&contribution, [order])?;
    }
    Ok(())
}

/// Subtracts a deleted order, and deletes its row and that of a customer without orders. Has no effect on the stream of
/// another aggregate.
fn delete_order(transaction: &Transaction<'_>, stream: &StreamId) -> Result<(), rusqlite::Error> {
    let order = [stream.as_str()];
    if transaction.execute(SUBTRACT, order)? > 0 {
        let of_order = "customer = (SELECT customer FROM orders WHERE stream = ?1)";
        transaction.execute(&format!("DELETE FROM customers WHERE orders = 0 AND {of_order}"), order)?;
        transaction.execute("DELETE FROM orders WHERE stream = ?1", order)?;
    }
    Ok(())
}

/// Applies the existing events, then new events, to the view, in batches of at most `batch` events. Calls
/// `should_continue` at the start and after each checkpoint, and returns when it returns false.
///
/// # Errors
/// - [`Failure::OtherLog`] if the view was built from another log, or from events that this log does not have.
/// - [`Failure::Store`] if the log cannot be read.
/// - [`Failure::Event`] if an event cannot be decoded.
/// - [`Failure::Sqlite`] if the database fails.
pub async fn follow(
    store: Arc<dyn EventStore>,
    view: &mut View,
    batch: u32,
    mut should_continue: impl FnMut(&Subscription) -> bool,
) -> Result<(), Failure> {
    let (log_id, after) = (store.log_id(), view.checkpoint()?.resolve(&*store)?);
    let query = Order::query().or(QueryItem::erasures());
    let subscription = Subscription::new(store, query, after).map_err(PositionError::from)?;
    let mut subscription = subscription.batch(batch);
    while should_continue(&subscription) {
        let batch = subscription.next().await?;
        tokio::task::block_in_place(|| view.apply(log_id, &batch))?;
    }
    Ok(())
}
