//! [`Failure`]: any failure of the program.

use std::error::Error;

/// Any failure of the program.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;
