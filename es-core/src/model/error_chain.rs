//! [`ErrorChain`]: formats an error and its sources in one line.

use std::error::Error;
use std::fmt;

/// Displays an error followed by its sources: `could not commit: could not write to the log: disk full`.
///
/// The errors of these crates print only their own message and return their cause from [`source`](Error::source). Use
/// this type where a program prints or logs an error.
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
