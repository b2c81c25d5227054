//! The product aggregate: its events, state, commands and rules.
//!
//! Stock changes when items are received, withdrawn, or moved between two products. A move is a command on each of the
//! two products, executed together in a unit of work.
//!
//! The fulfilment of an order reserves items: they leave the stock, and are later shipped, or released into the stock.

use std::collections::BTreeMap;

use es_core::{CommandContext, Decide, Decision, EventContext, Evolve};
use serde::{Deserialize, Serialize};

use super::Invalid;
use super::money::{InitialStock, Price, Quantity};
use super::text::{OrderId, ProductId, ProductName};

/// An event of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum ProductEvent {
    /// The product was registered.
    #[event(name = "product-registered")]
    Registered {
        /// The display name.
        name: ProductName,
        /// The list price of one item.
        unit_price: Price,
        /// The initial number of items in stock.
        stock: InitialStock,
    },
    /// Items were added to the stock.
    #[event(name = "stock-received")]
    Received {
        /// Number of items.
        quantity: Quantity,
    },
    /// Items were withdrawn from the stock.
    #[event(name = "stock-withdrawn")]
    Withdrawn {
        /// Number of items.
        quantity: Quantity,
    },
    /// Items were moved to the stock of another product.
    #[event(name = "stock-moved-out")]
    MovedOut {
        /// Number of items.
        quantity: Quantity,
        /// The other product.
        to: ProductId,
    },
    /// Items were moved from the stock of another product to this one.
    #[event(name = "stock-moved-in")]
    MovedIn {
        /// Number of items.
        quantity: Quantity,
        /// The other product.
        from: ProductId,
    },
    /// Items were reserved for an order, and left the stock.
    #[event(name = "stock-reserved")]
    Reserved {
        /// Number of items.
        quantity: Quantity,
        /// The order.
        order: OrderId,
    },
    /// The items that were reserved for an order returned to the stock.
    #[event(name = "reservation-released")]
    Released {
        /// Number of items.
        quantity: Quantity,
        /// The order.
        order: OrderId,
    },
    /// The items that were reserved for an order were shipped.
    #[event(name = "reservation-shipped")]
    Shipped {
        /// Number of items.
        quantity: Quantity,
        /// The order.
        order: OrderId,
    },
}

/// The product aggregate.
///
/// A product has an unbounded number of events, so it has snapshots. An order has at most four events and needs none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, es_core::Aggregate)]
#[aggregate(category = "product", id = ProductId, event = ProductEvent, snapshot(every = 100))]
pub enum Product {
    /// The product has no events.
    NotRegistered,
    /// The product was registered.
    Registered(RegisteredProduct),
}

/// The state of a registered product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredProduct {
    /// The display name.
    pub name: ProductName,
    /// The list price of one item; an order line may have another price.
    pub unit_price: Price,
    /// Number of items in stock, without those that are reserved.
    pub stock: u64,
    /// Number of items in stock at registration.
    pub first_stock: InitialStock,
    /// The number of items that are reserved for each order.
    pub reserved: BTreeMap<OrderId, Quantity>,
}

impl RegisteredProduct {
    /// Returns the name of the first part that differs from the command.
    fn difference(&self, command: &Register) -> Option<&'static str> {
        let Register { name, unit_price, stock } = command;
        [
            (self.name != *name, "name"),
            (self.unit_price != *unit_price, "unit price"),
            (self.first_stock != *stock, "initial stock"),
        ]
        .into_iter()
        .find_map(|(differs, name)| differs.then_some(name))
    }
}

/// Registers a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Register {
    /// The display name.
    pub name: ProductName,
    /// The list price of one item.
    pub unit_price: Price,
    /// The initial number of items in stock.
    pub stock: InitialStock,
}

/// Adds items to the stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    /// Number of items.
    pub quantity: Quantity,
}

/// Withdraws items from the stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// Number of items.
    pub quantity: Quantity,
}

/// Moves items to the stock of another product. The caller must execute [`MoveIn`] on that product in the same commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveOut {
    /// Number of items.
    pub quantity: Quantity,
    /// The other product.
    pub to: ProductId,
}

/// Moves items here from the stock of another product. The caller must execute [`MoveOut`] on that product in the same
/// commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveIn {
    /// Number of items.
    pub quantity: Quantity,
    /// The other product.
    pub from: ProductId,
}

/// Reserves items for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReserveItems {
    /// Number of items.
    pub quantity: Quantity,
    /// The order.
    pub order: OrderId,
}

/// Returns the items that are reserved for an order to the stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReleaseItems {
    /// The order.
    pub order: OrderId,
}

/// Ships the items that are reserved for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShipItems {
    /// The order.
    pub order: OrderId,
}

/// The reason why a product rejects a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProductRejection {
    /// A number of the command is too large.
    #[error(transparent)]
    Value(#[from] Invalid),
    /// The product does not exist. Register it first.
    #[error("product {id} does not exist; register it first")]
    NotRegistered {
        /// The product.
        id: ProductId,
    },
    /// The id belongs to a product with different content. Use another id for a new product.
    #[error(
        "product {id} already exists with a different {difference}; use another id for a new product, and receive or \
         withdraw items to change the stock"
    )]
    RegisteredWithOtherContent {
        /// The product.
        id: ProductId,
        /// The first part that differs: `name`, `unit price` or `initial stock`.
        difference: &'static str,
    },
    /// The stock has too few items. Receive items first.
    #[error("product {id} has insufficient stock: expected at least {wanted}, found {found}; receive items first")]
    InsufficientStock {
        /// The product.
        id: ProductId,
        /// Number of items in the command.
        wanted: Quantity,
        /// Number of items in stock.
        found: u64,
    },
    /// Another number of items is reserved for the order. Release them first.
    #[error("product {id} has {found} items reserved for order {order}, expected {wanted}; release them first")]
    ReservedOtherQuantity {
        /// The product.
        id: ProductId,
        /// The order.
        order: OrderId,
        /// Number of items in the command.
        wanted: Quantity,
        /// Number of items that are reserved.
        found: Quantity,
    },
    /// No items are reserved for the order. Reserve them first.
    #[error("product {id} has no items reserved for order {order}; reserve them first")]
    NotReserved {
        /// The product.
        id: ProductId,
        /// The order.
        order: OrderId,
    },
    /// The source and the target of a move are the same product. Name two products.
    #[error("cannot move stock of product {id} to itself; name two products")]
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
                    stock: u64::from(stock.get()),
                    first_stock: *stock,
                    reserved: BTreeMap::new(),
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
            (ProductEvent::Reserved { quantity, order }, Self::Registered(product)) => {
                product.stock = product.stock.saturating_sub(quantity.get().into());
                product.reserved.insert(order.clone(), *quantity);
            }
            (ProductEvent::Released { quantity, order }, Self::Registered(product)) => {
                product.stock = product.stock.saturating_add(quantity.get().into());
                product.reserved.remove(order);
            }
            (ProductEvent::Shipped { order, .. }, Self::Registered(product)) => {
                product.reserved.remove(order);
            }
            // Only a registered product accepts the commands that produce these events.
            (_, Self::NotRegistered) => {}
        }
    }
}

impl Product {
    /// Returns the state of the product if it was registered.
    #[must_use]
    pub const fn registered(&self) -> Option<&RegisteredProduct> {
        match self {
            Self::NotRegistered => None,
            Self::Registered(product) => Some(product),
        }
    }

    fn expect_registered(&self, id: &ProductId) -> Result<&RegisteredProduct, ProductRejection> {
        self.registered().ok_or_else(|| ProductRejection::NotRegistered { id: id.clone() })
    }

    /// Checks that the product has at least `wanted` items in stock.
    fn expect_in_stock(&self, id: &ProductId, wanted: Quantity) -> Result<(), ProductRejection> {
        let found = self.expect_registered(id)?.stock;
        if found < u64::from(wanted.get()) {
            return Err(ProductRejection::InsufficientStock { id: id.clone(), wanted, found });
        }
        Ok(())
    }
}

impl Decide<Register> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: Register, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        match self.registered().map(|product| product.difference(&command)) {
            None => {
                let Register { name, unit_price, stock } = command;
                unit_price.check_limit()?;
                stock.check_limit()?;
                Ok(ProductEvent::Registered { name, unit_price, stock }.into())
            }
            Some(None) => Ok(Decision::unchanged()),
            Some(Some(difference)) => {
                Err(ProductRejection::RegisteredWithOtherContent { id: at.id().clone(), difference })
            }
        }
    }
}

impl Decide<Receive> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: Receive, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        self.expect_registered(at.id())?;
        command.quantity.check_limit()?;
        Ok(ProductEvent::Received { quantity: command.quantity }.into())
    }
}

impl Decide<Withdraw> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: Withdraw, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        self.expect_in_stock(at.id(), command.quantity)?;
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
        self.expect_in_stock(at.id(), quantity)?;
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
        self.expect_registered(at.id())?;
        quantity.check_limit()?;
        Ok(ProductEvent::MovedIn { quantity, from }.into())
    }
}

impl Decide<ReserveItems> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: ReserveItems, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        let (ReserveItems { quantity, order }, id) = (command, at.id().clone());
        match self.expect_registered(&id)?.reserved.get(&order) {
            Some(found) if *found == quantity => Ok(Decision::unchanged()),
            Some(found) => Err(ProductRejection::ReservedOtherQuantity { id, order, wanted: quantity, found: *found }),
            None => {
                self.expect_in_stock(&id, quantity)?;
                Ok(ProductEvent::Reserved { quantity, order }.into())
            }
        }
    }
}

impl Decide<ReleaseItems> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: ReleaseItems, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        let ReleaseItems { order } = command;
        Ok(match self.expect_registered(at.id())?.reserved.get(&order) {
            Some(quantity) => ProductEvent::Released { quantity: *quantity, order }.into(),
            None => Decision::unchanged(),
        })
    }
}

impl Decide<ShipItems> for Product {
    type Rejection = ProductRejection;

    fn decide(&self, command: ShipItems, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, ProductRejection> {
        let ShipItems { order } = command;
        match self.expect_registered(at.id())?.reserved.get(&order) {
            Some(quantity) => Ok(ProductEvent::Shipped { quantity: *quantity, order }.into()),
            None => Err(ProductRejection::NotReserved { id: at.id().clone(), order }),
        }
    }
}
