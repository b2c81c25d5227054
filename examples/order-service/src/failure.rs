//! [`Failure`]: why the service did not do what it was asked, in words for the one who asked.

use std::path::Path;

use es_core::aggregate::{InfrastructureError, UnitError, UnitRejection};
use es_core::model::NameError;
use es_core::projection::view::ViewError;
use es_core::projection::{AdminError, StartError, WaitError};
use es_core::service::ServiceError;
use es_core::store::Conflict;
use es_core::{ExecuteError, LoadError, Revision, StoreError};

use crate::bad_input::BadInput;
use crate::domain::{Inexact, OrderId, OrderLinesError, OrderRejection, ProductId, ProductRejection};

/// Why the service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file is not what an import needs. Correct it and import again.
    #[error(transparent)]
    Input(#[from] BadInput),
    /// The domain refuses the command to an order. Nothing happened.
    #[error(transparent)]
    Order(#[from] OrderRejection),
    /// The domain refuses the command to a product. Nothing happened.
    #[error(transparent)]
    Product(#[from] ProductRejection),
    /// There was no such order at the time that was asked for.
    #[error("order {id} did not exist {when}; see `order-service history {id}`")]
    NoOrderThen {
        /// The order.
        id: OrderId,
        /// When it was looked for.
        when: String,
    },
    /// The order has not come to that revision yet.
    #[error("order {id} has no revision {wanted}: expected one up to {last}")]
    NoRevisionYet {
        /// The order.
        id: OrderId,
        /// The revision that was looked for.
        wanted: Revision,
        /// The last revision that it has.
        last: Revision,
    },
    /// There is no such order.
    #[error("order {0} does not exist; place it first")]
    NoOrder(OrderId),
    /// There is no such product.
    #[error("product {0} does not exist; register it first")]
    NoProduct(ProductId),
    /// Somebody else was faster, or the expected revision was wrong. Look again and decide again.
    #[error(transparent)]
    Conflict(Conflict),
    /// The lines that were typed are no order. Nothing happened.
    #[error(transparent)]
    Lines(#[from] OrderLinesError),
    /// A sum has more digits than can be kept.
    #[error(transparent)]
    Inexact(#[from] Inexact),
    /// The command could not be executed.
    #[error(transparent)]
    Infrastructure(#[from] InfrastructureError),
    /// A state could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The read models do not show yet what was asked for. What was commanded before has succeeded.
    #[error(transparent)]
    NotCaughtUp(#[from] WaitError),
    /// A read model cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// There is no such projection.
    #[error("there is no projection {name:?}: expected {}", crate::views::NAMES.join(", "))]
    NoProjection {
        /// What was asked for.
        name: String,
    },
    /// An operator asked for something that cannot be done.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The read models cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The service did not end cleanly.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The read models are not what the log says. This is a bug; `order-service projections rebuild` builds them anew.
    #[error("the read models differ from the log in {}; report it, and rebuild them with `projections rebuild`", .what.join(", "))]
    Differs {
        /// In what.
        what: Vec<&'static str>,
    },
    /// A running service did not answer as it should.
    #[error("the service at {url} {said}")]
    Remote {
        /// Where it is.
        url: String,
        /// What it said.
        said: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] es_rocksdb::OpenError),
    /// The operating system refused.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// The refusal.
        source: std::io::Error,
    },
}

impl Failure {
    /// A refusal of the operating system over a file.
    pub(crate) fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: format!("{action} {}", path.display()), source }
    }

    /// What the process ends with: 3 for a conflict, after which the same command may well succeed, otherwise 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Conflict(_) => 3,
            _ => 1,
        }
    }
}

impl From<UnitRejection<ProductRejection, ProductRejection>> for Failure {
    fn from(rejection: UnitRejection<ProductRejection, ProductRejection>) -> Self {
        match rejection {
            UnitRejection::First(rejection) | UnitRejection::Second(rejection) => rejection.into(),
        }
    }
}

impl<R: Into<Self>> From<UnitError<R>> for Failure {
    fn from(error: UnitError<R>) -> Self {
        match error {
            UnitError::Rejected { rejection, .. } => rejection.into(),
            UnitError::Conflict(conflict) => Self::Conflict(conflict),
            UnitError::Failed(error) => error.into(),
        }
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::Load(error.into())
    }
}

impl<R: Into<Self>> From<ExecuteError<R>> for Failure {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => rejection.into(),
            ExecuteError::Conflict(conflict) => Self::Conflict(conflict),
            ExecuteError::Failed(error) => error.into(),
        }
    }
}
