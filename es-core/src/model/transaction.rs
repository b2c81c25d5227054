//! [`TransactionId`] and [`CoordinatorEpoch`]: the identity of a distributed transaction.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The maximum length of the name of a coordinator, in bytes.
pub const MAX_COORDINATOR_BYTES: usize = 64;

/// A start of a coordinator of transactions: the name of the coordinator, and a number that grows with each start.
///
/// Only the newest epoch of a coordinator decides. Written as `orders.7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CoordinatorEpoch {
    coordinator: Arc<str>,
    epoch: u64,
}

/// Identifies a transaction: the epoch of its coordinator, and a UUIDv7. Written as `orders.7.UUID`.
///
/// Transactions are ordered by age, as far as the clocks of their coordinators agree. The order is total, and the same
/// on every node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TransactionId {
    epoch: CoordinatorEpoch,
    uuid: Uuid,
}

/// A text is not the id of a transaction or the epoch of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTransactionIdError {
    /// The name of a coordinator is invalid.
    #[error(
        "the name of a coordinator must have 1 to {MAX_COORDINATOR_BYTES} lowercase letters, digits and hyphens, found \
         {found:?}"
    )]
    Coordinator {
        /// The name.
        found: String,
    },
    /// The text has another form.
    #[error("expected {expected}, found {found:?}")]
    Form {
        /// The expected form, with an example.
        expected: &'static str,
        /// The text.
        found: String,
    },
}

impl CoordinatorEpoch {
    /// Returns the epoch of a coordinator. The name has 1 to [`MAX_COORDINATOR_BYTES`] lowercase ASCII letters, digits
    /// and hyphens.
    ///
    /// # Errors
    /// [`ParseTransactionIdError::Coordinator`] if the name is invalid.
    pub fn new(coordinator: &str, epoch: u64) -> Result<Self, ParseTransactionIdError> {
        let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let has_length = (1..=MAX_COORDINATOR_BYTES).contains(&coordinator.len());
        if !has_length || !coordinator.bytes().all(is_valid) {
            return Err(ParseTransactionIdError::Coordinator { found: coordinator.to_owned() });
        }
        Ok(Self { coordinator: coordinator.into(), epoch })
    }

    /// Returns the name of the coordinator.
    #[must_use]
    pub fn coordinator(&self) -> &str {
        &self.coordinator
    }

    /// Returns the number of the epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl TransactionId {
    /// Returns the id of a transaction that began in this epoch. `uuid` is a UUIDv7, which contains the time.
    #[must_use]
    pub const fn new(epoch: CoordinatorEpoch, uuid: Uuid) -> Self {
        Self { epoch, uuid }
    }

    /// Returns the epoch of the coordinator in which the transaction began.
    #[must_use]
    pub const fn epoch(&self) -> &CoordinatorEpoch {
        &self.epoch
    }

    /// Returns the name of the coordinator.
    #[must_use]
    pub fn coordinator(&self) -> &str {
        self.epoch.coordinator()
    }

    /// Returns the UUID.
    #[must_use]
    pub const fn uuid(&self) -> &Uuid {
        &self.uuid
    }
}

impl PartialOrd for TransactionId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TransactionId {
    fn cmp(&self, other: &Self) -> Ordering {
        // A UUIDv7 begins with the time.
        self.uuid.cmp(&other.uuid).then_with(|| self.epoch.cmp(&other.epoch))
    }
}

impl fmt::Display for CoordinatorEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.coordinator, self.epoch)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.uuid)
    }
}

impl FromStr for CoordinatorEpoch {
    type Err = ParseTransactionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseTransactionIdError::Form {
            expected: "the epoch of a coordinator, such as \"orders.7\"",
            found: text.to_owned(),
        };
        let (coordinator, epoch) = text.split_once('.').ok_or_else(form)?;
        let number = epoch.parse::<u64>().ok().filter(|number| number.to_string() == epoch);
        Self::new(coordinator, number.ok_or_else(form)?)
    }
}

impl FromStr for TransactionId {
    type Err = ParseTransactionIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || ParseTransactionIdError::Form {
            expected: "the id of a transaction, such as \"orders.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11\"",
            found: text.to_owned(),
        };
        let (epoch, uuid) = text.rsplit_once('.').ok_or_else(form)?;
        let parsed = uuid.parse::<Uuid>().ok().filter(|parsed| parsed.to_string() == uuid);
        Ok(Self { epoch: epoch.parse().map_err(|_| form())?, uuid: parsed.ok_or_else(form)? })
    }
}

/// Converts an id to and from its text.
macro_rules! text {
    ($name:ident) => {
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseTransactionIdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}

text!(CoordinatorEpoch);
text!(TransactionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_text() {
        let text = "orders.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11";
        let id: TransactionId = text.parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.coordinator(), id.epoch().epoch()), (text, "orders", 7));
        for other in [
            "",
            "orders",
            "orders.7",
            "orders.07.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11",
            "orders.+7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11",
            "orders.7.01983C2F-7A51-7B3E-9C55-0F6F2C9B1D11",
            "Orders.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11",
            ".7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11",
            "a.b.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11",
        ] {
            assert!(other.parse::<TransactionId>().is_err(), "{other}");
        }
        assert!(CoordinatorEpoch::new(&"x".repeat(MAX_COORDINATOR_BYTES + 1), 1).is_err());
    }

    #[test]
    fn ids_are_ordered_by_age_before_their_coordinator() {
        let id = |text: &str| text.parse::<TransactionId>().unwrap();
        let older = id("z.9.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11");
        let younger = id("a.1.01983c2f-7a52-7b3e-9c55-0f6f2c9b1d11");
        assert!(older < younger);
    }
}
