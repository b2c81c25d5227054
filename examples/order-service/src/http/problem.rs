//! The responses to the failures of the service.

use axum::http::StatusCode;
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
            Failure::Participant(error) => return error.into(),
            Failure::Operate(OperateError::Load(error))
            | Failure::CreateSaga(CreateError::Load(error))
            | Failure::OperateProcess(OperateProcessError::Load(error)) => return error.into(),
            Failure::Operate(OperateError::Commit(error))
            | Failure::CreateSaga(CreateError::Commit(error))
            | Failure::OperateProcess(OperateProcessError::Commit(error)) => return error.into(),
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
            Failure::NoProvider | Failure::Provider(_) => StatusCode::SERVICE_UNAVAILABLE,
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

#[cfg(test)]
mod tests {
    use es_core::store::Conflict;
    use es_core::{CommitError, StoreError};
    use es_transaction::ParticipantError;

    use super::*;

    /// A store that is stopped by a full disk, and a faster operator, were 500. A participant that cannot read its
    /// state was 503, and the detail had the paths of the machine.
    #[test]
    fn a_failed_commit_and_a_failed_participant_have_the_responses_of_a_failed_command() {
        let conflict = || CommitError::Conflict(Conflict { failed: Vec::new() });
        let participant = "stock".to_owned();
        let source = "read /var/lib/order-service/shop".into();
        let detail = "read /var/lib/order-service/shop".to_owned();
        for (failure, status) in [
            (Failure::CreateSaga(CreateError::Commit(StoreError::Closed.into())), 503),
            (Failure::Operate(OperateError::Commit(StoreError::Closed.into())), 503),
            (Failure::OperateProcess(OperateProcessError::Commit(StoreError::Closed.into())), 503),
            (Failure::Operate(OperateError::Commit(conflict())), 409),
            (Failure::CreateSaga(CreateError::Commit(conflict())), 409),
            (Failure::Participant(ParticipantError::Unavailable { participant: participant.clone(), source }), 503),
            (Failure::Participant(ParticipantError::Unreadable { participant, detail }), 500),
        ] {
            let problem = Problem::from(failure);
            assert_eq!(problem.status().as_u16(), status, "{problem}");
            assert!(!problem.detail().contains('/'), "{problem}");
        }
    }
}
