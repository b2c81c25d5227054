//! [`LocalStrength`]: what the strengths in one process have in common.

use std::path::Path;
use std::sync::Arc;

use crate::account::{Balances, Cost, Reply, Transfer};
use crate::failure::Failure;
use crate::local::crash::CrashPoint;

/// A strength whose accounts are in the stores of one process.
pub(crate) trait LocalStrength: Sized {
    /// Opens the stores, and both accounts unless they are open.
    async fn open(directory: &Path, crash: &Arc<CrashPoint>) -> Result<Self, Failure>;

    /// Transfers money.
    async fn transfer(&self, transfer: &Transfer) -> Result<Reply, Failure>;

    /// Waits until nothing is unfinished. Returns the number of transfers that did not end in time.
    async fn settle(&self) -> Result<usize, Failure>;

    /// Returns the balances.
    async fn balances(&self) -> Result<Balances, Failure>;

    /// Returns what was spent since the stores were opened.
    fn cost(&self) -> Cost;

    /// Closes the stores, so that their directory can be removed.
    async fn close(self) -> Result<(), Failure>;
}
