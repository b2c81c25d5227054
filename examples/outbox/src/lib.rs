//! Letters for orders: a reactor hands them to another system, which recognizes a repeat by its delivery key.
//!
//! ```text
//!   log: order placed --> Letters::react --(key, letter)--> PostOffice: INSERT ... ON CONFLICT (key) DO NOTHING
//!    ^                         |
//!    +--- again, same key -----+   when the process ends between the letter and the note that it was sent
//! ```
//!
//! There is no outbox table: the log is the outbox. An event is there or not, wholly; the reactor follows it and notes how
//! far it came. Each letter is handed over **at least once**; that there is **one** of each is the work of the receiver,
//! and of the key.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use es_core::consumer::reactor::{DeliveryKey, ReactError, Reactor, ReactorContext};
use order_service::domain::{Order, OrderEvent};
use rusqlite::{Connection, params};

/// The system outside, with a database of its own. It keeps each letter under its key.
#[derive(Debug)]
pub struct PostOffice(Mutex<Connection>);

impl PostOffice {
    /// Opens the post office, a new one where there is none.
    ///
    /// # Errors
    /// When the file is no database, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, rusqlite::Error> {
        let sqlite = Connection::open(path)?;
        sqlite.execute_batch(
            "CREATE TABLE IF NOT EXISTS letters (key TEXT PRIMARY KEY, to_whom TEXT NOT NULL, text TEXT NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS handed_in (number INTEGER PRIMARY KEY, key TEXT NOT NULL) STRICT;",
        )?;
        Ok(Self(Mutex::new(sqlite)))
    }

    /// Takes a letter, unless it has one of this key already.
    ///
    /// # Errors
    /// When the database refuses: the letter was not taken.
    pub fn hand_in(&self, key: DeliveryKey, to_whom: &str, text: &str) -> Result<(), rusqlite::Error> {
        let mut sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sql = sqlite.transaction()?;
        let key = key.to_string();
        sql.execute(
            "INSERT INTO letters VALUES (?1, ?2, ?3) ON CONFLICT (key) DO NOTHING",
            params![key, to_whom, text],
        )?;
        // NOTE: only to see how often it is asked: without it, nobody could tell that repeats come at all.
        sql.execute("INSERT INTO handed_in (key) VALUES (?1)", [key])?;
        sql.commit()
    }

    /// All letters: key, receiver and text.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn letters(&self) -> Result<Vec<[String; 3]>, rusqlite::Error> {
        let sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = sqlite.prepare("SELECT * FROM letters ORDER BY text")?;
        all.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?.collect()
    }

    /// How often a letter was handed in, repeats included.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn handed_in(&self) -> Result<u64, rusqlite::Error> {
        let sqlite = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sqlite.query_row("SELECT count(*) FROM handed_in", [], |row| row.get(0))
    }
}

/// Writes to the customer when an order was placed or cancelled. `told` hears of each letter that was handed in.
pub struct Letters<F> {
    /// Where letters go.
    pub post_office: PostOffice,
    /// Who hears of them.
    pub told: F,
}

#[async_trait]
impl<F: Fn(DeliveryKey) + Send + Sync + 'static> Reactor for Letters<F> {
    type Source = Order;
    const NAME: &'static str = "letters";

    async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
        let order = context.event().stream.as_str();
        let (to_whom, text) = match event {
            OrderEvent::Placed { customer, .. } => (customer.as_str(), format!("thank you for {order}")),
            OrderEvent::Cancelled { reason } => ("the warehouse", format!("do not pack {order}: {reason}")),
            OrderEvent::Approved | OrderEvent::Shipped | OrderEvent::Delivered => return Ok(()),
        };
        tokio::task::block_in_place(|| self.post_office.hand_in(context.key(), to_whom, &text))?;
        (self.told)(context.key());
        Ok(())
    }
}
