//! Products and their stock: the second aggregate.
//!
//! Stock changes when goods are received, withdrawn, or moved between two products. A move is a command to each of the two, executed
//! together by a unit of work. Shipping an order does not withdraw anything by itself.

use es_core::{CommandContext, Decide, Decision, EventContext, Evolve};
use serde::{Deserialize, Serialize};

use super::money::{Price, Quantity};
use super::text::{ProductId, ProductName};

/// What happens to a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum ProductEvent {
    /// The house begins to sell it.
    #[event(name = "product-registered")]
    Registered {
        /// What people call it.
        name: ProductName,
        /// What one piece costs unless an order says otherwise.
        unit_price: Price,
        /// How many pieces there are to begin with.
        stock: u32,
    },
    /// Pieces have come in.
    #[event(name = "stock-received")]
    Received {
        /// How many.
        quantity: Quantity,
    },
    /// Pieces have gone out.
    #[event(name = "stock-withdrawn")]
    Withdrawn {
        /// How many.
        quantity: Quantity,
    },
    /// Pieces were moved to the stock of another product.
    #[event(name = "stock-moved-out")]
    MovedOut {
        /// How many.
        quantity: Quantity,
        /// The other product.
        to: ProductId,
    },
    /// Pieces were moved here from the stock of another product.
    #[event(name = "stock-moved-in")]
    MovedIn {
        /// How many.
        quantity: Quantity,
        /// The other product.
        from: ProductId,
    },
}

/// A product.
///
/// Goods come and go for years: a snapshot keeps loading it cheap. An order has five events at the most and needs none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, es_core::Aggregate)]
#[aggregate(category = "product", id = ProductId, event = ProductEvent, snapshot(every = 100))]
pub enum Product {
    /// The house does not sell it yet.
    NotRegistered,
    /// The house sells it.
    Registered(RegisteredProduct),
}

/// A product that was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredProduct {
    /// What people call it.
    pub name: ProductName,
    /// What one piece costs unless an order says otherwise.
    pub unit_price: Price,
    /// How many pieces there are.
    pub stock: u64,
    /// How many pieces there were to begin with.
    pub first_stock: u32,
}

impl RegisteredProduct {
    fn differs_from(&self, command: &Register) -> Option<&'static str> {
        let Register { name, unit_price, stock } = command;
        [
            (self.name != *name, "name"),
            (self.unit_price != *unit_price, "unit price"),
            (self.first_stock != *stock, "first stock"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

/// Begins to sell a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// What people call it.
    pub name: ProductName,
    /// What one piece costs unless an order says otherwise.
    pub unit_price: Price,
    /// How many pieces there are to begin with.
    pub stock: u32,
}

/// Takes pieces in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receive {
    /// How many.
    pub quantity: Quantity,
}

/// Takes pieces out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdraw {
    /// How many.
    pub quantity: Quantity,
}

/// Moves pieces to the stock of another product, which must take [`MoveIn`] in the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOut {
    /// How many.
    pub quantity: Quantity,
    /// The other product.
    pub to: ProductId,
}

/// Moves pieces here from the stock of another product, which must take [`MoveOut`] in the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveIn {
    /// How many.
    pub quantity: Quantity,
    /// The other product.
    pub from: ProductId,
}

/// Why a product does not take a command. Nothing happens to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProductRejection {
    /// There is no such product. Register it first.
    #[error("product {id} does not exist; register it first")]
    NotRegistered {
        /// The product.
        id: ProductId,
    },
    /// There is such a product, but it is another one. Give the new one an id of its own.
    #[error(
        "product {id} was registered before with other content: expected the same {differs}; \
             give a new product a new id, and receive or withdraw where only the stock has changed"
    )]
    RegisteredOtherwise {
        /// The product.
        id: ProductId,
        /// The first thing that is not the same.
        differs: &'static str,
    },
    /// There are not enough pieces. Receive more first.
    #[error("product {id} is short: expected at least {wanted} in stock, found {found}; receive more first")]
    Short {
        /// The product.
        id: ProductId,
        /// How many pieces were wanted.
        wanted: Quantity,
        /// How many there are.
        found: u64,
    },
    /// The stock of a product cannot be moved to the same product. Name two products.
    #[error("stock of product {id} cannot be moved to itself; name two products")]
    SameProduct {
        /// The product.
        id: ProductId,
    },
}

impl Evolve for Product {
    fn initial(_: &ProductId) -> Self {
        Self::NotRegistered
    }

    fn evolve(&mut self, event: &ProductEvent, _: &EventContext<'_>) {
        match (event, self) {
            (ProductEvent::Registered { name, unit_price, stock }, product) => {
                *product = Self::Registered(RegisteredProduct {
                    name: name.clone(),
                    unit_price: *unit_price,
                    stock: u64::from(*stock),
                    first_stock: *stock,
                });
            }
            (
                ProductEvent::Received { quantity } | ProductEvent::MovedIn { quantity, .. },
                Self::Registered(product),
            ) => {
                product.stock = product.stock.saturating_add(quantity.get().into());
            }
            (
                ProductEvent::Withdrawn { quantity } | ProductEvent::MovedOut { quantity, .. },
                Self::Registered(product),
            ) => {
                product.stock = product.stock.saturating_sub(quantity.get().into());
            }
            // Only a registered product takes the commands that lead to these events.
            (_, Self::NotRegistered) => {}
        }
    }
}

impl Product {
    /// The product, where it was registered.
    #[must_use]
    pub const fn registered(&self) -> Option<&RegisteredProduct> {
        match self {
            Self::NotRegistered => None,
            Self::Registered(product) => Some(product),
        }
    }

    fn known(&self, id: &ProductId) -> Result<&RegisteredProduct, ProductRejection> {
        self.registered().ok_or_else(|| ProductRejection::NotRegistered { id: id.clone() })
    }

    /// Checks that so many pieces can go out.
    fn has_in_stock(&self, id: &ProductId, wanted: Quantity) -> Result<(), ProductRejection> {
        let found = self.known(id)?.stock;
        if found < u64::from(wanted.get()) {
            return Err(ProductRejection::Short { id: id.clone(), wanted, found });
        }
        Ok(())
    }
}

impl Decide<Register> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: Register, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        match self.registered().map(|product| product.differs_from(&command)) {
            None => {
                let Register { name, unit_price, stock } = command;
                Ok(ProductEvent::Registered { name, unit_price, stock }.into())
            }
            Some(None) => Ok(Decision::unchanged()),
            Some(Some(differs)) => Err(ProductRejection::RegisteredOtherwise { id: at.id().clone(), differs }),
        }
    }
}

impl Decide<Receive> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: Receive, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        self.known(at.id())?;
        Ok(ProductEvent::Received { quantity: command.quantity }.into())
    }
}

impl Decide<Withdraw> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: Withdraw, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        self.has_in_stock(at.id(), command.quantity)?;
        Ok(ProductEvent::Withdrawn { quantity: command.quantity }.into())
    }
}

impl Decide<MoveOut> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: MoveOut, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        let MoveOut { quantity, to } = command;
        if to == *at.id() {
            return Err(ProductRejection::SameProduct { id: to });
        }
        self.has_in_stock(at.id(), quantity)?;
        Ok(ProductEvent::MovedOut { quantity, to }.into())
    }
}

impl Decide<MoveIn> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: MoveIn, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        let MoveIn { quantity, from } = command;
        if from == *at.id() {
            return Err(ProductRejection::SameProduct { id: from });
        }
        self.known(at.id())?;
        Ok(ProductEvent::MovedIn { quantity, from }.into())
    }
}
