//! Sends letters for orders with a reactor. The receiver recognizes a duplicate by its delivery key.
//!
//! ```text
//!   log: order placed --> Letters::react --(key, letter)--> PostOffice: INSERT ... ON CONFLICT (key) DO NOTHING
//!    ^                         |
//!    +--- retry, same key -----+   if the process ends after the letter was sent and before the checkpoint is written
//! ```
//!
//! There is no outbox table: the log is the outbox. The reactor follows the log and stores a checkpoint. It sends each
//! letter **at least once**; the receiver drops duplicates by the delivery key, so that it keeps each letter **once**.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use es_core::StreamId;
use es_core::consumer::reactor::{DeliveryKey, ReactError, Reactor, ReactorContext};
use es_core::retention::Erasure;
use order_service::domain::{Order, OrderEvent};
use rusqlite::{Connection, params};

/// The external system, with its own database. It stores each letter under its delivery key.
#[derive(Debug)]
pub struct PostOffice(Mutex<Connection>);

impl PostOffice {
    /// Opens the database; creates it if it does not exist.
    ///
    /// # Errors
    /// [`rusqlite::Error`] if the file is not a database or cannot be written.
    pub fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let sqlite = Connection::open(path)?;
        sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS letters (
                 key TEXT PRIMARY KEY, stream TEXT NOT NULL, recipient TEXT NOT NULL, text TEXT NOT NULL
             ) STRICT;
             CREATE INDEX IF NOT EXISTS letters_of_stream ON letters (stream);
             CREATE TABLE IF NOT EXISTS deliveries (number INTEGER PRIMARY KEY, key TEXT NOT NULL) STRICT;",
        )?;
        Ok(Self(Mutex::new(sqlite)))
    }

    /// Stores a letter about a stream, unless a letter with this key exists.
    ///
    /// # Errors
    /// [`rusqlite::Error`] if the transaction fails. The letter is not stored.
    pub fn deliver(
        &self,
        key: DeliveryKey,
        stream: &StreamId,
        recipient: &str,
        text: &str,
    ) -> Result<(), rusqlite::Error> {
        let mut sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = sqlite.transaction()?;
        let key = key.to_string();
        transaction.execute(
            "INSERT INTO letters VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO NOTHING",
            params![key, stream.as_str(), recipient, text],
        )?;
        // Counts deliveries, so that the test can check that duplicates occur.
        transaction.execute("INSERT INTO deliveries (key) VALUES (?1)", [key])?;
        transaction.commit()
    }

    /// Deletes the letters about a stream. Does nothing if there are none.
    ///
    /// # Errors
    /// [`rusqlite::Error`] if the database cannot be written. No letter is deleted.
    pub fn delete_letters(&self, stream: &StreamId) -> Result<(), rusqlite::Error> {
        let sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sqlite.execute("DELETE FROM letters WHERE stream = ?1", [stream.as_str()]).map(drop)
    }

    /// Returns the key, recipient and text of each letter.
    ///
    /// # Errors
    /// [`rusqlite::Error`] if the database cannot be read.
    pub fn letters(&self) -> Result<Vec<[String; 3]>, rusqlite::Error> {
        let sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut select = sqlite.prepare("SELECT key, recipient, text FROM letters ORDER BY text")?;
        select.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?.collect()
    }

    /// Returns the number of deliveries, including duplicates.
    ///
    /// # Errors
    /// [`rusqlite::Error`] if the database cannot be read.
    pub fn deliveries(&self) -> Result<u64, rusqlite::Error> {
        let sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sqlite.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0))
    }
}

/// A reactor that sends a letter when an order is placed or cancelled, and deletes the letters about a deleted order.
pub struct Letters<F> {
    /// The receiver of the letters.
    pub post_office: PostOffice,
    /// Called after each letter was sent.
    pub on_sent: F,
}

#[async_trait]
impl<F: Fn(DeliveryKey) + Send + Sync + 'static> Reactor for Letters<F> {
    type Source = Order;
    const NAME: &'static str = "letters";

    async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
        let order = &context.event().stream;
        let (recipient, text) = match event {
            OrderEvent::Placed { customer, .. } => (customer.as_str(), format!("thank you for {order}")),
            OrderEvent::Cancelled { reason } => ("the warehouse", format!("do not pack {order}: {reason}")),
            OrderEvent::Approved | OrderEvent::Shipped | OrderEvent::Delivered | OrderEvent::PaymentReminded => {
                return Ok(());
            }
        };
        tokio::task::block_in_place(|| self.post_office.deliver(context.key(), order, recipient, &text))?;
        (self.on_sent)(context.key());
        Ok(())
    }

    async fn erased(&self, erasure: &Erasure, _: &ReactorContext) -> Result<(), ReactError> {
        // The letters have no personal data that is sealed with the key of a subject.
        if let Erasure::Stream { stream, .. } = erasure {
            tokio::task::block_in_place(|| self.post_office.delete_letters(stream))?;
        }
        Ok(())
    }
}
