//! Imports orders, order lines and products from CSV files.
//!
//! ```text
//!   orders.csv, lines.csv, products.csv
//!        |  read: every row is validated before the first command
//!        v
//!      Plan -- run: place, approve, ship, many orders concurrently --> shop
//! ```
//!
//! A repeated import changes nothing: the outcome of each command is `Unchanged`. For the same reason, an import that
//! was killed continues when it is run again. There is no checkpoint other than the orders themselves.
//!
//! Memory use: all orders of the files.

mod csv_table;
mod orders;
mod products;
mod progress;
mod rejected_file;
mod rejections;
mod run;

use std::path::PathBuf;

pub use crate::bad_input::{BadInput, Found};
pub use progress::Progress;
pub use rejected_file::RejectedFile;
pub use rejections::Rejected;
pub use run::{Summary, run};

#[cfg(test)]
use {
    crate::domain::order::Place,
    crate::domain::product::Register,
    crate::domain::{OrderId, ProductId},
    es_core::Timestamp,
};

use orders::ImportedOrder;
use products::ImportedProduct;
use rejections::Rejections;

/// The files to import.
#[derive(Debug, Clone)]
pub struct Files {
    /// The CSV file of the orders.
    pub orders: PathBuf,
    /// The CSV file of the order lines.
    pub lines: PathBuf,
    /// The CSV file of the products.
    pub products: Option<PathBuf>,
}

/// The validated content of the files.
#[derive(Debug)]
pub struct Plan {
    orders: Vec<ImportedOrder>,
    products: Vec<ImportedProduct>,
    rejections: Rejections,
}

impl Plan {
    /// Reads and validates the files. With `skip_bad`, skips invalid orders and lists them in the result of [`run`].
    ///
    /// # Errors
    /// [`BadInput`] with its location:
    /// - if a file cannot be read, is empty or lacks a column;
    /// - without `skip_bad`, for the first invalid row.
    pub fn read(files: &Files, skip_bad: bool) -> Result<Self, BadInput> {
        let mut rejections = Rejections::new(skip_bad);
        let products = match &files.products {
            Some(path) => products::read(path, &mut rejections)?,
            None => Vec::new(),
        };
        let orders = orders::read(&files.orders, &files.lines, &mut rejections)?;
        Ok(Self { orders, products, rejections })
    }

    /// Returns the number of orders to import.
    #[must_use]
    pub fn orders(&self) -> usize {
        self.orders.len()
    }
}

#[cfg(test)]
impl Plan {
    /// Returns the commands that place the orders, with their times.
    pub(crate) fn places(&self) -> Vec<(OrderId, Place, Timestamp)> {
        self.orders.iter().map(|order| (order.id.clone(), order.place.clone(), order.placed_at)).collect()
    }

    /// Returns the commands that register the products.
    pub(crate) fn registrations(&self) -> Vec<(ProductId, Register)> {
        self.products.iter().map(|product| (product.id.clone(), product.register.clone())).collect()
    }
}
