//! The domain: orders, products, and the values that they are made of. Nothing here knows how anything is stored, read
//! from a file or typed on a command line.
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
pub use money::{Discount, Inexact, Price, Quantity, Revenue};
pub use order::{Order, OrderEvent, OrderRejection, PlacedOrder};
pub use product::{Product, ProductEvent, ProductRejection, RegisteredProduct};
pub use status::OrderStatus;
pub use text::{City, Country, CustomerId, OrderId, ProductId, ProductName, Reason};

/// A text or a number that is not what the domain needs. Nothing was done with it: correct it where it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct Invalid {
    /// What is needed.
    pub expected: &'static str,
    /// What was there, shortened where it is very long.
    pub found: String,
}

impl Invalid {
    /// How many characters of what was found are shown.
    const SHOWN: usize = 100;

    /// Says what was expected and what was found.
    #[must_use]
    pub fn new(expected: &'static str, found: &str) -> Self {
        let mut shown: String = found.chars().take(Self::SHOWN).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        Self { expected, found: shown }
    }
}
