//! [`ErrorChain`]: an error with its causes, as one text.

use std::error::Error;
use std::fmt;

/// Displays an error and its causes, each once: `could not commit: could not write to the log: disk full`.
///
/// The errors of these crates print their own message only and return their cause from [`source`](Error::source). A program
/// prints an error through this, in its log and where it ends.
///
/// ```
/// use es_core::model::ErrorChain;
///
/// let error = es_core::StoreError::io("write to the log", "disk full");
/// assert_eq!(error.to_string(), "could not write to the log");
/// assert_eq!(ErrorChain(&error).to_string(), "could not write to the log: disk full");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
