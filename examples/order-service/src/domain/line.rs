//! Order lines and the destination of an order.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::money::{Discount, Inexact, Price, Quantity, Revenue};
use super::text::{City, Country, ProductId};

/// A line of an order: one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The product.
    pub product: ProductId,
    /// Price of one item before the discount.
    pub unit_price: Price,
    /// Number of items.
    pub quantity: Quantity,
    /// The discount on the price.
    pub discount: Discount,
}

impl OrderLine {
    /// Returns the revenue of the line.
    ///
    /// # Errors
    /// [`Inexact`] if the amount has too many digits.
    pub fn revenue(&self) -> Result<Revenue, Inexact> {
        Revenue::of(self.unit_price, self.quantity, self.discount)
    }

    /// Checks the numbers of a line of a new order.
    ///
    /// # Errors
    /// [`Invalid`] if the price or the quantity is too large.
    pub fn check_limits(&self) -> Result<(), Invalid> {
        self.unit_price.check_limit()?;
        self.quantity.check_limit()
    }
}

/// The lines of an order: 1 to [`MAX`](Self::MAX), with an exact total revenue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<OrderLine>", into = "Vec<OrderLine>")]
pub struct OrderLines(Vec<OrderLine>);

/// An error of [`OrderLines::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderLinesError {
    /// There are no lines, or more than [`OrderLines::MAX`].
    #[error("expected 1 to {} lines, found {found}", OrderLines::MAX)]
    Count {
        /// Number of lines.
        found: usize,
    },
    /// The total revenue cannot be represented exactly.
    #[error(transparent)]
    Inexact(#[from] Inexact),
}

impl OrderLines {
    /// Maximum number of lines of an order.
    pub const MAX: usize = 10_000;

    /// Creates the lines of an order.
    ///
    /// # Errors
    /// - [`OrderLinesError::Count`] if there are no lines, or more than [`MAX`](Self::MAX).
    /// - [`OrderLinesError::Inexact`] if the total revenue cannot be represented exactly.
    pub fn new(lines: Vec<OrderLine>) -> Result<Self, OrderLinesError> {
        if !(1..=Self::MAX).contains(&lines.len()) {
            return Err(OrderLinesError::Count { found: lines.len() });
        }
        let lines = Self(lines);
        lines.revenue()?;
        Ok(lines)
    }

    /// Returns the lines in their original order.
    #[must_use]
    pub fn as_slice(&self) -> &[OrderLine] {
        &self.0
    }

    /// Returns the total revenue of the lines.
    ///
    /// # Errors
    /// [`Inexact`] if the total cannot be represented exactly. [`new`](Self::new) checks this, so it does not happen.
    pub fn revenue(&self) -> Result<Revenue, Inexact> {
        Revenue::sum(self.0.iter().map(OrderLine::revenue))
    }
}

impl TryFrom<Vec<OrderLine>> for OrderLines {
    type Error = OrderLinesError;

    fn try_from(lines: Vec<OrderLine>) -> Result<Self, OrderLinesError> {
        Self::new(lines)
    }
}

impl From<OrderLines> for Vec<OrderLine> {
    fn from(lines: OrderLines) -> Self {
        lines.0
    }
}

/// The destination of an order, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The city.
    pub city: Option<City>,
    /// The country.
    pub country: Option<Country>,
}
