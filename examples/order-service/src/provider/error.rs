//! [`ProviderError`]: a failed request to the provider.

use es_saga::ErrorClass;

/// A request to the provider failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the provider {detail}")]
pub struct ProviderError {
    /// What is known of the effect.
    pub class: ErrorClass,
    /// The predicate of the message, as in `did not answer: timeout`.
    pub detail: String,
}
