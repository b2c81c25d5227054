//! Problems of the errors of es-core. Each status is chosen by what the caller can do next.

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use es_core::aggregate::{InfrastructureError, Locked, UnitError};
use es_core::consumer::WaitError;
use es_core::model::{AheadOfLog, ErrorChain, NameError, PositionError, TimeAheadOfLog};
use es_core::projection::AdminError;
use es_core::projection::view::ViewError;
use es_core::store::{Conflict, IdConflict, NotOwner};
use es_core::{CommitError, ExecuteError, LoadError, StoreError};

use super::{Problem, kind};

/// The header that has the command id.
const KEY: &str = "Idempotency-Key";
const UNAVAILABLE: &str = "the store of the service accepts no requests at present";

impl Problem {
    /// Creates the response to a failed command. `rejected` is called with the rejection of the domain.
    ///
    /// `Problem::from(error)` is the same with status 422 and the message of the rejection.
    pub fn of_execute<R>(error: ExecuteError<R>, rejected: impl FnOnce(R) -> Self) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => rejected(rejection),
            ExecuteError::Conflict(conflict) => conflict.into(),
            ExecuteError::Locked(locked) => locked.into(),
            ExecuteError::NotOwner(error) => error.into(),
            ExecuteError::Failed(error) => error.into(),
        }
    }

    /// Creates the response to a failed unit of work. `rejected` is called with the rejection of the domain.
    ///
    /// `Problem::from(error)` is the same with status 422 and the message of the rejection.
    pub fn of_unit<R>(error: UnitError<R>, rejected: impl FnOnce(R) -> Self) -> Self {
        match error {
            UnitError::Rejected { rejection, .. } => rejected(rejection),
            UnitError::Conflict(conflict) => conflict.into(),
            UnitError::Locked(locked) => locked.into(),
            UnitError::NotOwner(error) => error.into(),
            UnitError::Failed(error) => error.into(),
        }
    }

    fn rejected(rejection: impl Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, rejection.to_string()).with_type(kind::REJECTED)
    }
}

/// 422 for a rejection, 409 for a conflict, 423 for a locked aggregate, 421 for one that another node decides.
impl<R: Display> From<ExecuteError<R>> for Problem {
    fn from(error: ExecuteError<R>) -> Self {
        Self::of_execute(error, Self::rejected)
    }
}

/// 422 for a rejection, 409 for a conflict, 423 for a locked aggregate, 421 for one that another node decides.
impl<R: Display> From<UnitError<R>> for Problem {
    fn from(error: UnitError<R>) -> Self {
        Self::of_unit(error, Self::rejected)
    }
}

/// 409. [`Preconditions::problem`](crate::Preconditions::problem) makes it 412.
impl From<Conflict> for Problem {
    fn from(conflict: Conflict) -> Self {
        Self::of_conflict(conflict)
    }
}

/// 423 with `Retry-After`.
impl From<Locked> for Problem {
    fn from(error: Locked) -> Self {
        let problem = Self::new(StatusCode::LOCKED, error.to_string()).with_type(kind::LOCKED);
        problem.with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

/// 421: the client reached a node that does not decide on the aggregate.
impl From<NotOwner> for Problem {
    fn from(error: NotOwner) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, error.to_string())
    }
}

/// 409.
impl From<IdConflict> for Problem {
    fn from(error: IdConflict) -> Self {
        Self::new(StatusCode::CONFLICT, error.to_string())
    }
}

/// 400: the name was part of the request.
impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

/// 503 for a store that is closed or stopped, 500 for a store that fails or is damaged.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed | StoreError::Stopped { .. } | StoreError::Stalled { .. } => {
                tracing::warn!(error = %ErrorChain(&error), "a request was refused");
                Self::unavailable(UNAVAILABLE)
            }
            error => Self::internal(&error),
        }
    }
}

/// 400 for an id that is no name, 404 for a revision that does not exist, 410 for events that were removed.
impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Name(error) => error.into(),
            LoadError::Store(error) => error.into(),
            LoadError::TimeAheadOfLog(error) => error.into(),
            LoadError::NotYet { .. } => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            LoadError::Truncated { .. } | LoadError::Deleted { .. } => Self::new(StatusCode::GONE, error.to_string()),
            error => Self::internal(&error),
        }
    }
}

/// 422 for a command id of another command and for a command that exceeds a limit.
impl From<InfrastructureError> for Problem {
    fn from(error: InfrastructureError) -> Self {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            InfrastructureError::Load(error) => error.into(),
            InfrastructureError::Store(error) => error.into(),
            InfrastructureError::IdConflict(error) => error.into(),
            InfrastructureError::Invalid(error) => Self::new(unprocessable, error.to_string()),
            // The error has the types of the program, which say nothing to a client.
            InfrastructureError::CommandIdReused { command_id, .. } => {
                let used =
                    format!("{KEY}: {command_id:?} was used for another request to this resource; use another key");
                Self::new(unprocessable, used).with_type(kind::COMMAND_ID_REUSED)
            }
            InfrastructureError::ResultRemoved { command_id, .. } => {
                let removed = format!(
                    "{KEY}: the request with the key {command_id:?} was executed, and its result was removed since; do \
                     not repeat it"
                );
                Self::new(StatusCode::GONE, removed).with_type(kind::RESULT_REMOVED)
            }
            error => Self::internal(&error),
        }
    }
}

/// 409 for a conflict, 422 for a commit that exceeds a limit, 500 for one that a hook rejects.
impl From<CommitError> for Problem {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict(conflict) => conflict.into(),
            CommitError::IdConflict(error) => error.into(),
            CommitError::Invalid(error) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            CommitError::Store(error) => error.into(),
            CommitError::Rejected(error) => Self::internal(&*error),
        }
    }
}

/// 409.
impl From<AheadOfLog> for Problem {
    fn from(error: AheadOfLog) -> Self {
        Self::new(StatusCode::CONFLICT, error.to_string()).with_type(kind::AHEAD_OF_LOG)
    }
}

/// 409.
impl From<TimeAheadOfLog> for Problem {
    fn from(error: TimeAheadOfLog) -> Self {
        Self::new(StatusCode::CONFLICT, error.to_string()).with_type(kind::AHEAD_OF_LOG)
    }
}

/// 410 for a position of another log, 409 for one that is ahead of the log.
impl From<PositionError> for Problem {
    fn from(error: PositionError) -> Self {
        match error {
            PositionError::AheadOfLog(error) => error.into(),
            PositionError::OtherLog { .. } => Self::new(StatusCode::GONE, error.to_string()).with_type(kind::OTHER_LOG),
        }
    }
}

/// 409 for a position that is ahead of the log. 503 if the view has not caught up: the command succeeded and must not
/// be repeated.
impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::AheadOfLog(error) => error.into(),
            error => Self::unavailable(error.to_string()).with_type(kind::NOT_CAUGHT_UP),
        }
    }
}

/// 400 for a continuation that no scan returned, 409 for a scan during which the view was rebuilt.
impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Store(error) => error.into(),
            ViewError::Rebuilt { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            ViewError::Continuation { .. } => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            error => Self::internal(&error),
        }
    }
}

/// 409 for a key or an event that is not parked, 503 for too many conflicts.
impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotParked { .. } | AdminError::NotFirst { .. } => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            AdminError::AheadOfLog(error) => error.into(),
            AdminError::TimeAheadOfLog(error) => error.into(),
            AdminError::Busy { .. } => Self::unavailable(error.to_string()),
            AdminError::Store(error) => error.into(),
        }
    }
}
