//! One transfer, with or without a crash.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::account::{Reply, Transfer};
use crate::failure::Failure;
use crate::local::crash::CrashPoint;
use crate::local::strength::LocalStrength;
use crate::outcome::TransferRun;

/// Runs a transfer in new stores below a directory. If it reaches the step `stop_at`, everything is dropped there and
/// opened again.
pub(crate) async fn transfer_once<S: LocalStrength>(
    directory: &Path,
    transfer: &Transfer,
    stop_at: Option<u64>,
) -> Result<TransferRun, Failure> {
    let crash = Arc::new(CrashPoint::default());
    let strength = S::open(directory, &crash).await?;
    // Steps are counted after the accounts are open.
    crash.arm(stop_at);
    let before = strength.cost();
    let reply = tokio::select! {
        biased;
        () = crash.crashed() => None,
        reply = strength.transfer(transfer) => Some(reply),
    };
    // A saga that was stopped by the crash may report it as an error.
    let (reply, cost) = match reply {
        _ if crash.place().is_some() => (Reply::Nothing, None),
        Some(reply) => (reply?, Some(strength.cost() - before)),
        None => (Reply::Nothing, None),
    };
    drop(strength);
    let started = Instant::now();
    let strength = S::open(directory, &Arc::default()).await?;
    let in_doubt = strength.settle().await?;
    let recovery = started.elapsed();
    let balances = strength.balances().await?;
    strength.close().await?;
    Ok(TransferRun {
        place: crash.place(),
        reply,
        balances,
        locked: 0,
        in_doubt,
        cost,
        recovery,
        without_coordinator: false,
    })
}
