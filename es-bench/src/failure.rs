//! The error type of the benchmark.

use std::fmt;

use es_core::model::ErrorChain;

/// A failed action and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    action: String,
    reason: String,
}

impl Failure {
    /// Describes a failed action, in the infinitive, and the reason.
    pub fn new(action: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { action: action.into(), reason: reason.to_string() }
    }

    /// Describes a failed action, in the infinitive, and the error with its causes.
    pub fn caused_by(action: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(action, ErrorChain(error))
    }
}

/// Returns a conversion of errors of an action, in the infinitive, for `map_err`.
pub(crate) fn failed<E: std::error::Error + 'static>(action: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::caused_by(action, &error)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.action, self.reason)
    }
}

impl std::error::Error for Failure {}
