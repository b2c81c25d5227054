//! The status of an order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// The customer has placed the order.
    Placed,
    /// The shop has approved the order.
    Approved,
    /// The shop has shipped the order.
    Shipped,
    /// The order has been delivered to the customer.
    Delivered,
    /// The order has been cancelled.
    Cancelled,
}

impl OrderStatus {
    /// All statuses in the order of the life cycle.
    pub const ALL: [Self; 5] = [Self::Placed, Self::Approved, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// Returns whether an order can change from this status directly to `next`.
    #[must_use]
    pub const fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Placed, Self::Approved | Self::Cancelled)
                | (Self::Approved, Self::Shipped | Self::Cancelled)
                | (Self::Shipped, Self::Delivered)
        )
    }

    /// Returns the statuses that lead to this one, formatted for messages: `placed or approved`.
    #[must_use]
    pub fn reached_from(self) -> String {
        let sources = Self::ALL.iter().filter(|status| status.leads_to(self));
        sources.map(|status| status.as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// Returns the status in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Approved => "approved",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
