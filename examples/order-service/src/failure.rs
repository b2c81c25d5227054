//! [`Failure`]: every error of the service.

use std::path::{Path, PathBuf};

use es_core::aggregate::{InfrastructureError, Locked, UnitError, UnitRejection};
use es_core::model::{NameError, ParseTransactionIdError, PositionError, TransactionId};
use es_core::projection::view::ViewError;
use es_core::projection::{AdminError, StartError, WaitError};
use es_core::service::ServiceError;
use es_core::store::Conflict;
use es_core::{ExecuteError, LoadError, Revision, StoreError};
use es_http::operations::BindError;
use es_rocksdb::OpenError;
use es_saga::process::{OperateProcessError, ParseProcessIdError, ProcessId, ProcessStartError};
use es_saga::{CreateError, DefineError, ExecuteSagaError, OperateError, ParseSagaIdError, SagaId, SagaStartError};
use es_tool::output::OutputError;
use es_transaction::ParticipantError;

use crate::bad_input::BadInput;
use crate::config::ConfigError;
use crate::domain::{Inexact, OrderId, OrderLinesError, OrderRejection, ProductId, ProductRejection};
use crate::provider::{ProviderError, RecordError};

/// An error of the service.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An import file is invalid. Correct it and import again.
    #[error(transparent)]
    Input(#[from] BadInput),
    /// The order rejected the command. Nothing was written.
    #[error(transparent)]
    Order(#[from] OrderRejection),
    /// The product rejected the command. Nothing was written.
    #[error(transparent)]
    Product(#[from] ProductRejection),
    /// The order exists now, but did not exist at the requested time.
    #[error("order {id} did not exist {when}; see `order-service history {id}`")]
    NoOrderAtTime {
        /// The order.
        id: OrderId,
        /// The requested time, as in `at 2016-07-05 23:59:59`.
        when: String,
    },
    /// The order has fewer events than the requested revision.
    #[error("order {id} has no revision {wanted}: its last revision is {last}")]
    NoSuchRevision {
        /// The order.
        id: OrderId,
        /// The requested revision.
        wanted: Revision,
        /// The order's last revision.
        last: Revision,
    },
    /// The order does not exist.
    #[error("order {0} does not exist; place it first")]
    NoOrder(OrderId),
    /// The product does not exist.
    #[error("product {0} does not exist; register it first")]
    NoProduct(ProductId),
    /// The text is not the id of a transaction.
    #[error(transparent)]
    TransactionId(#[from] ParseTransactionIdError),
    /// The transaction is not in doubt here, or has no outcome to forget.
    #[error("transaction {0} is not in doubt here, and was not decided here without its coordinator")]
    NoTransaction(TransactionId),
    /// The store of a participant failed.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
    /// A distributed transaction locks the order or the product. Repeat the command later.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// Another writer committed first, or the expected revision was wrong. Reload and decide again.
    #[error(transparent)]
    Conflict(Conflict),
    /// The lines do not form an order. Nothing was written.
    #[error(transparent)]
    Lines(#[from] OrderLinesError),
    /// An amount has more digits than can be represented exactly.
    #[error(transparent)]
    Inexact(#[from] Inexact),
    /// The command could not be executed.
    #[error(transparent)]
    Infrastructure(#[from] InfrastructureError),
    /// An aggregate could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A read model did not reach the requested position in time. The command at that position has succeeded.
    #[error(transparent)]
    NotCaughtUp(#[from] WaitError),
    /// A position of a client is not a position of the log. The store was restored or replaced.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// A read model could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The projection does not exist.
    #[error("there is no projection {name:?}: expected {}", crate::views::NAMES.join(", "))]
    NoProjection {
        /// The requested name.
        name: String,
    },
    /// An administrative action on a projection failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The projections could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The service failed, or did not shut down cleanly.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The read models lack events that could not be applied. Retry or skip them.
    #[error(
        "the read models lack {parked_events} events that could not be applied; see `order-service projections parked`"
    )]
    ReadModelsIncomplete {
        /// The number of events.
        parked_events: usize,
    },
    /// The read models differ from a replay of the log. This is a bug; `projections rebuild` rebuilds them.
    #[error(
        "the read models differ from the log in {}; report this bug, and rebuild the read models with \
         `projections rebuild`", .differences.join(", ")
    )]
    ReadModelsDiffer {
        /// The parts of the report that differ.
        differences: Vec<&'static str>,
    },
    /// The saga does not exist.
    #[error("saga {0} does not exist; fulfil its order first")]
    NoSaga(SagaId),
    /// A text is not the id of a saga.
    #[error(transparent)]
    SagaId(#[from] ParseSagaIdError),
    /// An action of an operator is incomplete.
    #[error("{detail}")]
    IncompleteAction {
        /// What is missing.
        detail: &'static str,
    },
    /// An action on a saga is not possible.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// A saga could not be created.
    #[error(transparent)]
    CreateSaga(#[from] CreateError),
    /// A saga could not be read, or its coordinator was shut down.
    #[error(transparent)]
    Saga(#[from] ExecuteSagaError),
    /// The graph of a saga is not valid.
    #[error(transparent)]
    Define(#[from] DefineError),
    /// The sagas could not be started.
    #[error(transparent)]
    SagaStart(#[from] SagaStartError),
    /// There is no process manager of this name.
    #[error("there is no process {name:?}: expected {known}")]
    NoProcessManager {
        /// The requested name.
        name: String,
        /// The known names.
        known: String,
    },
    /// The instance of a process does not exist.
    #[error("process {0} does not exist; `order-service processes list` has those that have not ended")]
    NoProcess(ProcessId),
    /// A text is not the id of an instance of a process.
    #[error(transparent)]
    ProcessId(#[from] ParseProcessIdError),
    /// A process has no parked event at this position.
    #[error("process {process} has no parked event at position {position} with index {index}; see `processes parked`")]
    NoParkedEvent {
        /// The name of the process.
        process: String,
        /// The position in the log.
        position: u64,
        /// The index among the events of the record.
        index: u32,
    },
    /// An action on the instance of a process is not possible.
    #[error(transparent)]
    OperateProcess(#[from] OperateProcessError),
    /// The reminders could not be started.
    #[error(transparent)]
    ProcessStart(#[from] ProcessStartError),
    /// The provider of payments and shipments failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The record of the provider cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The provider could not be started.
    #[error("the provider did not start: {detail}")]
    ProviderProcess {
        /// What it printed.
        detail: String,
    },
    /// The service has no provider of payments and shipments.
    #[error("the service has no provider of payments and shipments; start it with --provider URL")]
    NoProvider,
    /// The configuration of the service is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address of the operations cannot be used.
    #[error(transparent)]
    Operations(#[from] BindError),
    /// A request to a running service failed.
    #[error("the service at {url} {detail}")]
    Remote {
        /// The URL of the service.
        url: String,
        /// The predicate of the message, as in `did not respond: connection refused`.
        detail: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory has no store, and the command does not create one. Check the path and whether its disk is mounted.
    #[error(
        "expected an event store in {}, found none; check the path and whether its disk is mounted; `import`, `place`, \
         `product register` and `serve` create a store", .directory.display()
    )]
    NoStore {
        /// The directory.
        directory: PathBuf,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// A file could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An operation of the operating system failed.
    #[error("could not {action}")]
    Io {
        /// The operation, as in `write to standard output`.
        action: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl Failure {
    /// Creates the error for a failed operation on a file.
    pub(crate) fn io(action: &str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action: format!("{action} {}", path.display()), source }
    }

    /// Returns the exit code of the process: 3 for a conflict, which a retry may resolve, 2 for an invalid
    /// configuration, otherwise 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Conflict(_) | Self::Locked(_) => 3,
            Self::Config(_) => 2,
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
            UnitError::Locked(locked) => Self::Locked(locked),
            UnitError::NotOwner(error) => InfrastructureError::Rejected(error.into()).into(),
            UnitError::Failed(error) => error.into(),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoSuchDirectory { directory } => Self::NoStore { directory },
            error => Self::Open(error),
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
            ExecuteError::Locked(locked) => Self::Locked(locked),
            ExecuteError::NotOwner(error) => InfrastructureError::Rejected(error.into()).into(),
            ExecuteError::Failed(error) => error.into(),
        }
    }
}
