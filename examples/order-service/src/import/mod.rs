//! Orders, their lines and products, from CSV files into a shop.
//!
//! ```text
//!   orders.csv, lines.csv, products.csv
//!        |  read: every row is checked before the first command
//!        v
//!      Plan -- run: place, approve, ship, many orders at once --> shop
//! ```
//!
//! Importing again changes nothing: the outcome of each command is `Unchanged`. An import that was killed goes on where
//! it stopped for the same reason; nothing remembers how far it came but the orders themselves.
//!
//! Memory holds the orders of the files.

mod orders;
mod products;
mod progress;
mod rejected;
mod run;
mod sieve;
mod table;

use std::path::PathBuf;

pub use crate::bad_input::{BadInput, Found};
pub use progress::Progress;
pub use rejected::RejectedFile;
pub use run::{Summary, run};
pub use sieve::Rejected;

use orders::ToldOrder;
use products::ToldProduct;
use sieve::Sieve;

/// What is to be imported.
#[derive(Debug, Clone)]
pub struct Files {
    /// The orders.
    pub orders: PathBuf,
    /// The lines of the orders.
    pub lines: PathBuf,
    /// The products.
    pub products: Option<PathBuf>,
}

/// What files have told: everything in it can be imported as far as the files alone can say.
#[derive(Debug)]
pub struct Plan {
    orders: Vec<ToldOrder>,
    products: Vec<ToldProduct>,
    sieve: Sieve,
}

impl Plan {
    /// Reads the files. With `skip_bad`, bad orders are left out and listed; otherwise the first bad row is the error.
    ///
    /// A file that cannot be read, is empty or lacks a column is an error in any case: there is no order to leave out.
    ///
    /// # Errors
    /// [`BadInput`] with the place.
    pub fn read(files: &Files, skip_bad: bool) -> Result<Self, BadInput> {
        let mut sieve = Sieve::new(skip_bad);
        let products = match &files.products {
            Some(path) => products::read(path, &mut sieve)?,
            None => Vec::new(),
        };
        let orders = orders::read(&files.orders, &files.lines, &mut sieve)?;
        Ok(Self { orders, products, sieve })
    }

    /// How many orders there are to import.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.orders.len()
    }
}
