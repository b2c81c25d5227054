//! A read model outside of the log, exactly once: the view and its checkpoint change in one SQL transaction.
//!
//! ```text
//!   subscription --batch--> BEGIN
//!        ^                    view rows of the batch's events
//!        |                    checkpoint = how far the batch has looked
//!        +-- next ----------- COMMIT
//! ```
//!
//! Whenever the process ends, view and checkpoint are those of one and the same point of the log, and the next one goes on
//! behind it. That is why [`View::apply`] may count: `orders = orders + 1` is wrong as soon as an event can come twice.

use std::path::Path;
use std::sync::Arc;

use es_core::aggregate::Source;
use es_core::schema::DecodeEventError;
use es_core::store::Batch;
use es_core::{EventStore, Position, RecordedEvent, StoreError, Subscription};
use order_service::domain::{Order, OrderEvent};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// The checkpoint stands under this name, so that one database can hold several views.
const NAME: &str = "customers";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS checkpoint (view TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS orders (stream TEXT PRIMARY KEY, customer TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS customers (
        customer TEXT PRIMARY KEY, orders INTEGER NOT NULL DEFAULT 0, shipped INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0, cancelled INTEGER NOT NULL DEFAULT 0
    ) STRICT;";

/// Why the view does not follow any more. What it has is whole; begin again to go on behind it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database refused.
    #[error("the database of the view refuses")]
    Sqlite(#[from] rusqlite::Error),
    /// An event is not what this code knows.
    #[error("could not read the event at position {position}")]
    Event {
        /// Where it stands in the log.
        position: Position,
        /// Why.
        source: DecodeEventError,
    },
}

/// How many orders each customer has, and what became of them, in SQLite.
#[derive(Debug)]
pub struct View {
    sqlite: Connection,
}

impl View {
    /// Opens the view, a new one where there is none.
    ///
    /// # Errors
    /// [`Failure::Sqlite`] when the file is no database, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let sqlite = Connection::open(path)?;
        sqlite.execute_batch(SCHEMA)?;
        Ok(Self { sqlite })
    }

    /// Everything up to here is in the view.
    ///
    /// # Errors
    /// [`Failure::Sqlite`] when the database cannot be read.
    pub fn checkpoint(&self) -> Result<Option<Position>, Failure> {
        let find = "SELECT position FROM checkpoint WHERE view = ?1";
        let position: Option<u64> = self.sqlite.query_row(find, [NAME], |row| row.get(0)).optional()?;
        Ok(position.and_then(Position::new))
    }

    /// Takes a batch into the view, and notes how far it goes: both, or neither.
    ///
    /// # Errors
    /// [`Failure`]: nothing of the batch counts.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), Failure> {
        let sql = self.sqlite.transaction()?;
        for record in &batch.events {
            let events = Order::decode(record);
            let events = events.map_err(|source| Failure::Event { position: record.position, source })?;
            for event in events.as_slice() {
                apply(&sql, record, event)?;
            }
        }
        if let Some(position) = batch.scanned {
            let note = "INSERT INTO checkpoint VALUES (?1, ?2) ON CONFLICT DO UPDATE SET position = excluded.position";
            sql.execute(note, params![NAME, position.get()])?;
        }
        Ok(sql.commit()?)
    }

    /// All customers: orders, shipped, delivered, cancelled.
    ///
    /// # Errors
    /// [`Failure::Sqlite`] when the database cannot be read.
    pub fn customers(&self) -> Result<Vec<(String, [u64; 4])>, Failure> {
        let mut all = self.sqlite.prepare("SELECT * FROM customers ORDER BY customer")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// What one event changes.
fn apply(sql: &Transaction<'_>, record: &RecordedEvent, event: &OrderEvent) -> Result<(), rusqlite::Error> {
    let order = record.stream.as_str();
    let column = match event {
        OrderEvent::Placed { customer, .. } => {
            sql.execute("INSERT INTO orders VALUES (?1, ?2)", [order, customer.as_str()])?;
            sql.execute("INSERT INTO customers (customer) VALUES (?1) ON CONFLICT DO NOTHING", [customer.as_str()])?;
            "orders"
        }
        OrderEvent::Approved => return Ok(()),
        OrderEvent::Shipped => "shipped",
        OrderEvent::Delivered => "delivered",
        OrderEvent::Cancelled { .. } => "cancelled",
    };
    let of_order = "customer = (SELECT customer FROM orders WHERE stream = ?1)";
    sql.execute(&format!("UPDATE customers SET {column} = {column} + 1 WHERE {of_order}"), [order])?;
    Ok(())
}

/// Follows the log: first what is there, then what comes, in batches of at most `batch` events. `told` hears of each
/// checkpoint, once it is written, and ends it with `false`.
///
/// # Errors
/// [`Failure`]; the view stays as it was at its checkpoint.
pub async fn follow(
    store: Arc<dyn EventStore>,
    view: &mut View,
    batch: u32,
    mut told: impl FnMut(&Subscription) -> bool,
) -> Result<(), Failure> {
    let mut subscription = Subscription::new(store, Order::query(), view.checkpoint()?).batch(batch);
    while told(&subscription) {
        let batch = subscription.next().await?;
        tokio::task::block_in_place(|| view.apply(&batch))?;
    }
    Ok(())
}
