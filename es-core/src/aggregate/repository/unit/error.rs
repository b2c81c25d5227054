//! The errors of a unit of work.

use std::convert::Infallible;

use crate::aggregate::repository::error::{ExecuteError, InfrastructureError, Locked};
use crate::store::Conflict;
use crate::store::home::NotOwner;

/// A unit of work failed. Nothing was written, except possibly for [`Failed`](Self::Failed): see
/// [`InfrastructureError`].
///
/// `R` is the rejection of the command, for a unit of one call of `execute` or `execute_all`; otherwise a
/// [`UnitRejection`].
#[derive(Debug, thiserror::Error)]
pub enum UnitError<R> {
    /// The domain rejected a command. Report it to the user.
    #[error("the command at index {index} of the unit of work is rejected: {rejection}")]
    Rejected {
        /// The index of the command in the unit, from 0. Each command of `execute_all` counts.
        index: usize,
        /// The error of the domain.
        rejection: R,
    },
    /// A precondition of the caller does not hold, or other writers were faster in every attempt. Reload, and let the
    /// user decide again.
    #[error(transparent)]
    Conflict(Conflict),
    /// A distributed transaction locked an aggregate for longer than the unit
    /// [waits](crate::Repository::with_lock_wait).
    #[error(transparent)]
    Locked(Locked),
    /// Another node decides on an aggregate, which declares `owner`. Nothing was written. Send the commands there.
    #[error(transparent)]
    NotOwner(NotOwner),
    /// The infrastructure failed. The commands may be valid. See [`InfrastructureError`].
    #[error(transparent)]
    Failed(InfrastructureError),
}

impl<R> UnitError<R> {
    /// Returns the conflict, if the error is one.
    #[must_use]
    pub const fn conflict(&self) -> Option<&Conflict> {
        match self {
            Self::Conflict(conflict) => Some(conflict),
            _ => None,
        }
    }

    /// Returns the rejection by the domain, if the error is one.
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

/// The rejection of a command of a unit of work. The variant is the ordinal of the call of `execute` or `execute_all`.
///
/// A unit with fewer calls uses only the first variants. The payload of the others is [`Infallible`], so a `match` on a
/// value needs no arm for them.
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
    /// The rejection of the first call.
    #[error("{0}")]
    First(R1),
    /// The rejection of the second call.
    #[error("{0}")]
    Second(R2),
    /// The rejection of the third call.
    #[error("{0}")]
    Third(R3),
    /// The rejection of the fourth call.
    #[error("{0}")]
    Fourth(R4),
    /// The rejection of the fifth call.
    #[error("{0}")]
    Fifth(R5),
    /// The rejection of the sixth call.
    #[error("{0}")]
    Sixth(R6),
    /// The rejection of the seventh call.
    #[error("{0}")]
    Seventh(R7),
    /// The rejection of the eighth call.
    #[error("{0}")]
    Eighth(R8),
}

/// The reason why an attempt at a unit of work ended without results.
#[derive(Debug)]
pub enum Stop<R> {
    /// The domain rejected a command.
    Rejected { index: usize, rejection: R },
    /// A condition of the caller does not hold. Another attempt would fail, too.
    Conflict(Conflict),
    /// Another writer was faster. Another attempt may succeed.
    Lost(Conflict),
    /// A transaction locks an aggregate. An attempt after its end may succeed.
    Locked(Locked),
    /// Another node decides on an aggregate.
    NotOwner(NotOwner),
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
            Self::Locked(locked) => Stop::Locked(locked),
            Self::NotOwner(error) => Stop::NotOwner(error),
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
            Stop::Locked(locked) => Self::Locked(locked),
            Stop::NotOwner(error) => Self::NotOwner(error),
            Stop::Failed(error) => Self::Failed(error),
        }
    }
}

impl<R> From<Stop<R>> for ExecuteError<R> {
    fn from(stop: Stop<R>) -> Self {
        match stop {
            Stop::Rejected { rejection, .. } => Self::Rejected(rejection),
            Stop::Conflict(conflict) | Stop::Lost(conflict) => Self::Conflict(conflict),
            Stop::Locked(locked) => Self::Locked(locked),
            Stop::NotOwner(error) => Self::NotOwner(error),
            Stop::Failed(error) => Self::Failed(error),
        }
    }
}
