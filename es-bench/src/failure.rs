//! [`Failure`]: what could not be done, and why.

use std::fmt;

/// Something that could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    action: String,
    reason: String,
}

impl Failure {
    /// The action in the infinitive, and why it failed.
    pub fn new(action: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { action: action.into(), reason: reason.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.action, self.reason)
    }
}

impl std::error::Error for Failure {}
