//! How far an order has come.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// The customer wants it.
    Placed,
    /// The house agrees.
    Approved,
    /// It is on its way.
    Shipped,
    /// The customer has it.
    Delivered,
    /// Nothing more will come of it.
    Cancelled,
}

impl OrderStatus {
    /// All, in the order in which an order comes by them.
    pub const ALL: [Self; 5] = [Self::Placed, Self::Approved, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// Whether an order can go from this status to that one.
    #[must_use]
    pub const fn leads_to(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Placed, Self::Approved | Self::Cancelled)
                | (Self::Approved, Self::Shipped | Self::Cancelled)
                | (Self::Shipped, Self::Delivered)
        )
    }

    /// The statuses that lead to this one, as they stand in messages: `placed or approved`.
    #[must_use]
    pub fn reached_from(self) -> String {
        let before = Self::ALL.iter().filter(|status| status.leads_to(self));
        before.map(|status| status.as_str()).collect::<Vec<_>>().join(" or ")
    }

    /// The status as it is shown.
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
