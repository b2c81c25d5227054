//! [`FulfilError`]: the errors of the steps, and what they say about the effect.

use es_core::aggregate::{InfrastructureError, Locked};
use es_core::store::Conflict;
use es_core::{ExecuteError, LoadError};
use es_saga::{Classify, ErrorClass};

use crate::domain::{OrderId, OrderRejection, ProductRejection};
use crate::provider::ProviderError;

/// A step of the fulfilment failed.
#[derive(Debug, thiserror::Error)]
pub enum FulfilError {
    /// The order does not exist, or was cancelled.
    #[error("order {0} is not placed, or was cancelled")]
    NoOrder(OrderId),
    /// A product rejected the command.
    #[error(transparent)]
    Product(#[from] ProductRejection),
    /// The order rejected the command.
    #[error(transparent)]
    Order(#[from] OrderRejection),
    /// The provider failed or refused.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The customer has not paid yet.
    #[error("the customer has not paid yet")]
    Unpaid,
    /// The payment was refunded meanwhile.
    #[error("the payment was refunded")]
    Refunded,
    /// The invoice was paid or closed meanwhile.
    #[error("the invoice was paid or closed")]
    NotOwed,
    /// A completed order is not undone.
    #[error("a completed order cannot be undone")]
    Completed,
    /// An aggregate could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The command could not be decided.
    #[error(transparent)]
    Infrastructure(#[from] InfrastructureError),
    /// A distributed transaction locks an aggregate.
    #[error(transparent)]
    Locked(Locked),
    /// Another writer committed first.
    #[error(transparent)]
    Conflict(Conflict),
}

impl Classify for FulfilError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Provider(error) => error.class,
            Self::NoOrder(_) | Self::Product(_) | Self::Order(_) | Self::Refunded | Self::NotOwed | Self::Completed => {
                ErrorClass::Terminal
            }
            Self::Unpaid | Self::Load(_) | Self::Infrastructure(_) | Self::Conflict(_) | Self::Locked(_) => {
                ErrorClass::Transient
            }
        }
    }
}

impl<R: Into<Self>> From<ExecuteError<R>> for FulfilError {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => rejection.into(),
            ExecuteError::Conflict(conflict) => Self::Conflict(conflict),
            ExecuteError::Locked(locked) => Self::Locked(locked),
            ExecuteError::NotOwner(error) => InfrastructureError::Rejected(error.into()).into(),
            ExecuteError::Failed(error) => error.into(),
        }
    }
}
