//! What is on an order, and where it goes to.

use serde::{Deserialize, Serialize};

use super::money::{Discount, Inexact, Price, Quantity, Revenue};
use super::text::{City, Country, ProductId};

/// One product on an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What is ordered.
    pub product: ProductId,
    /// What one piece costs on this order.
    pub unit_price: Price,
    /// How many pieces.
    pub quantity: Quantity,
    /// What is taken off the price.
    pub discount: Discount,
}

impl OrderLine {
    /// What the line earns.
    ///
    /// # Errors
    /// [`Inexact`] when the amount has too many digits.
    pub fn revenue(&self) -> Result<Revenue, Inexact> {
        Revenue::of(self.unit_price, self.quantity, self.discount)
    }
}

/// The lines of an order: at least one, and not more than can be shipped at once. What they earn together is exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<OrderLine>", into = "Vec<OrderLine>")]
pub struct OrderLines(Vec<OrderLine>);

/// Lines that are no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderLinesError {
    /// There is none, or there are too many.
    #[error("expected 1 to {} lines, found {found}", OrderLines::MOST)]
    Count {
        /// How many there are.
        found: usize,
    },
    /// What they earn cannot be kept exactly.
    #[error(transparent)]
    Inexact(#[from] Inexact),
}

impl OrderLines {
    /// How many lines an order may have.
    pub const MOST: usize = 10_000;

    /// The lines of an order.
    ///
    /// # Errors
    /// [`OrderLinesError`] when they are none.
    pub fn new(lines: Vec<OrderLine>) -> Result<Self, OrderLinesError> {
        if !(1..=Self::MOST).contains(&lines.len()) {
            return Err(OrderLinesError::Count { found: lines.len() });
        }
        let lines = Self(lines);
        lines.revenue()?;
        Ok(lines)
    }

    /// The lines in the order in which they were given.
    #[must_use]
    pub fn as_slice(&self) -> &[OrderLine] {
        &self.0
    }

    /// What the lines earn together.
    ///
    /// # Errors
    /// None for lines that were made by [`new`](Self::new), which has looked.
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

/// Where an order goes to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The city.
    pub city: Option<City>,
    /// The country.
    pub country: Option<Country>,
}
