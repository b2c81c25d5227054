//! What can go wrong with a unit of work.

use std::convert::Infallible;

use crate::aggregate::repository::error::{ExecuteError, InfrastructureError};
use crate::store::Conflict;

/// A unit of work has no result. Nothing was written, unless the error is [`Failed`](Self::Failed) and says otherwise.
///
/// `R` is the rejection of the command, for a unit of one call of `execute` or `execute_all`; otherwise a [`UnitRejection`].
#[derive(Debug, thiserror::Error)]
pub enum UnitError<R> {
    /// The domain rejects a command. Tell the caller.
    #[error("the command at index {index} of the unit of work is rejected: {rejection}")]
    Rejected {
        /// The index of the command in the unit, from 0; each command of `execute_all` counts.
        index: usize,
        /// Why.
        rejection: R,
    },
    /// An aggregate is not as the caller demanded, or other writers were faster each time. Reload, and let the caller decide again.
    #[error(transparent)]
    Conflict(Conflict),
    /// The infrastructure failed, which says nothing about the commands. See [`InfrastructureError`].
    #[error(transparent)]
    Failed(InfrastructureError),
}

impl<R> UnitError<R> {
    /// Returns the conflict, if it is one.
    #[must_use]
    pub const fn conflict(&self) -> Option<&Conflict> {
        match self {
            Self::Conflict(conflict) => Some(conflict),
            _ => None,
        }
    }

    /// Returns the rejection by the domain, if it is one.
    #[must_use]
    pub const fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected { rejection, .. } => Some(rejection),
            _ => None,
        }
    }
}

impl<R, E: Into<InfrastructureError>> From<E> for UnitError<R> {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The rejection of one of the calls that made a unit of work: the variant names the call, in their order.
///
/// A unit has as many variants as it has calls. The compiler knows that the others cannot occur: a `match` on a value needs no arm
/// for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitRejection<
    R1,
    R2 = Infallible,
    R3 = Infallible,
    R4 = Infallible,
    R5 = Infallible,
    R6 = Infallible,
    R7 = Infallible,
    R8 = Infallible,
> {
    /// Of the first call.
    #[error("{0}")]
    First(R1),
    /// Of the second call.
    #[error("{0}")]
    Second(R2),
    /// Of the third call.
    #[error("{0}")]
    Third(R3),
    /// Of the fourth call.
    #[error("{0}")]
    Fourth(R4),
    /// Of the fifth call.
    #[error("{0}")]
    Fifth(R5),
    /// Of the sixth call.
    #[error("{0}")]
    Sixth(R6),
    /// Of the seventh call.
    #[error("{0}")]
    Seventh(R7),
    /// Of the eighth call.
    #[error("{0}")]
    Eighth(R8),
}

/// Why an attempt at a unit of work ended without results.
#[derive(Debug)]
pub enum Stop<R> {
    /// The domain rejects a command.
    Rejected { index: usize, rejection: R },
    /// A condition of the caller does not hold.
    Conflict(Conflict),
    /// Another writer was faster: deciding again may succeed.
    Lost(Conflict),
    /// The infrastructure failed.
    Failed(InfrastructureError),
}

impl<R> Stop<R> {
    /// Replaces the type of the rejection.
    pub(super) fn map<T>(self, wrap: impl FnOnce(R) -> T) -> Stop<T> {
        match self {
            Self::Rejected { index, rejection } => Stop::Rejected { index, rejection: wrap(rejection) },
            Self::Conflict(conflict) => Stop::Conflict(conflict),
            Self::Lost(conflict) => Stop::Lost(conflict),
            Self::Failed(error) => Stop::Failed(error),
        }
    }
}

impl<R, E: Into<InfrastructureError>> From<E> for Stop<R> {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<R> From<Stop<R>> for UnitError<R> {
    fn from(stop: Stop<R>) -> Self {
        match stop {
            Stop::Rejected { index, rejection } => Self::Rejected { index, rejection },
            Stop::Conflict(conflict) | Stop::Lost(conflict) => Self::Conflict(conflict),
            Stop::Failed(error) => Self::Failed(error),
        }
    }
}

impl<R> From<Stop<R>> for ExecuteError<R> {
    fn from(stop: Stop<R>) -> Self {
        match stop {
            Stop::Rejected { rejection, .. } => Self::Rejected(rejection),
            Stop::Conflict(conflict) | Stop::Lost(conflict) => Self::Conflict(conflict),
            Stop::Failed(error) => Self::Failed(error),
        }
    }
}
