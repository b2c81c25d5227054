//! The path of a commit: its decision, what is decided and not published yet, the publication of a written frame, and
//! the tables of a full run.
//!
//! ```text
//!   decide ──► pending ──► publish ──► visible
//!                             │  └──► signal
//!                             └──◄── seal
//! ```

pub(crate) mod decide;
pub(crate) mod pending;
pub(crate) mod publish;
pub(crate) mod seal;
pub(crate) mod signal;
pub(crate) mod visible;
