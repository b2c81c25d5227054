//! The domain: orders, products and their values, independent of storage, file formats and the command line.
//!
//! ```text
//!             approve            ship            deliver
//!   placed ------------ approved ------ shipped --------- delivered
//!      |                    |
//!      +------ cancel ------+---------- cancelled
//! ```

pub mod line;
pub mod money;
pub mod order;
pub mod product;
pub mod status;
pub mod text;

pub use line::{Destination, OrderLine, OrderLines, OrderLinesError};
pub use money::{Discount, Inexact, InitialStock, Price, Quantity, Revenue};
pub use order::{Order, OrderEvent, OrderRejection, PlacedOrder};
pub use product::{Product, ProductEvent, ProductRejection, RegisteredProduct};
pub use status::OrderStatus;
pub use text::{City, Country, CustomerId, OrderId, ProductId, ProductName, Reason};

/// A text or a number that is not a valid value of a domain type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct Invalid {
    /// The expected format.
    pub expected: &'static str,
    /// The invalid text, shortened to 100 characters.
    pub found: String,
}

impl Invalid {
    /// Maximum number of characters of `found`.
    const MAX_FOUND: usize = 100;

    /// Creates the error, and shortens `found`.
    #[must_use]
    pub fn new(expected: &'static str, found: &str) -> Self {
        let mut shortened: String = found.chars().take(Self::MAX_FOUND).collect();
        if shortened.len() < found.len() {
            shortened.push('…');
        }
        Self { expected, found: shortened }
    }
}
