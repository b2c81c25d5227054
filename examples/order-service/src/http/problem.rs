//! The responses to the failures of the service.

use axum::http::StatusCode;
use es_core::CommitError;
use es_http::Problem;
use es_saga::process::OperateProcessError;
use es_saga::{CreateError, OperateError};

use crate::domain::{OrderRejection, ProductRejection};
use crate::failure::Failure;

/// 404 for an order, product, projection, saga, process or transaction that does not exist, 422 for an invalid value,
/// 409 for a rejection that depends on the state. es-http has the responses to the errors of es-core.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::Conflict(conflict) => return conflict.into(),
            Failure::Locked(locked) => return locked.into(),
            Failure::Infrastructure(error) => return error.into(),
            Failure::Load(error) => return error.into(),
            Failure::Store(error) => return error.into(),
            Failure::NotCaughtUp(error) => return error.into(),
            Failure::Position(error) => return error.into(),
            Failure::View(error) => return error.into(),
            Failure::Admin(error) => return error.into(),
            Failure::Operate(OperateError::Load(error)) => return error.into(),
            Failure::CreateSaga(CreateError::Load(error)) => return error.into(),
            Failure::OperateProcess(OperateProcessError::Load(error)) => return error.into(),
            Failure::OperateProcess(OperateProcessError::Commit(CommitError::Store(error))) => return error.into(),
            Failure::OperateProcess(OperateProcessError::Commit(CommitError::Conflict(conflict))) => {
                return conflict.into();
            }
            Failure::Operate(OperateError::Refused(_))
            | Failure::CreateSaga(CreateError::Exists { .. })
            | Failure::OperateProcess(
                OperateProcessError::NotQuarantined { .. }
                | OperateProcessError::HasEnded { .. }
                | OperateProcessError::NoPending { .. },
            ) => StatusCode::CONFLICT,
            Failure::IncompleteAction { .. }
            | Failure::SagaId(_)
            | Failure::TransactionId(_)
            | Failure::ProcessId(_)
            | Failure::OperateProcess(OperateProcessError::Name(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::NoProvider | Failure::Provider(_) | Failure::Participant(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::NoSaga(_)
            | Failure::NoProcess(_)
            | Failure::NoTransaction(_)
            | Failure::NoProcessManager { .. }
            | Failure::NoParkedEvent { .. }
            | Failure::NoOrder(_)
            | Failure::NoProduct(_)
            | Failure::NoProjection { .. }
            | Failure::Order(OrderRejection::NotPlaced { .. })
            | Failure::Product(ProductRejection::NotRegistered { .. }) => StatusCode::NOT_FOUND,
            Failure::Lines(_)
            | Failure::Inexact(_)
            | Failure::Order(OrderRejection::Value(_))
            | Failure::Product(ProductRejection::Value(_)) => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::Order(_) | Failure::Product(_) => StatusCode::CONFLICT,
            // The other failures are those of the command line.
            failure => return Self::internal(&failure),
        };
        Self::new(status, failure.to_string())
    }
}
