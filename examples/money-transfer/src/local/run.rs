//! One transfer, with or without a crash.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::account::{Cost, Reply, Transfer};
use crate::failure::Failure;
use crate::local::crash::CrashPoint;
use crate::local::strength::LocalStrength;
use crate::outcome::TransferRun;

/// How long the stores must be idle before the cost of a transfer is counted.
const IDLE: Duration = Duration::from_secs(1);

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
    let before = match stop_at {
        None => Some(cost_at_rest(&strength).await),
        Some(_) => None,
    };
    let reply = tokio::select! {
        biased;
        () = crash.crashed() => None,
        reply = strength.transfer(transfer) => Some(reply),
    };
    let (reply, cost) = match reply {
        Some(Ok(reply)) => (reply, before.map(|before| strength.cost() - before)),
        // A saga that was stopped by the crash reports it as an error.
        Some(Err(error)) if crash.place().is_none() => return Err(error),
        Some(Err(_)) | None => (Reply::Nothing, None),
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

/// Returns the cost of the start. A coordinator of sagas still acquires its leases after it.
async fn cost_at_rest(strength: &impl LocalStrength) -> Cost {
    let mut cost = strength.cost();
    loop {
        tokio::time::sleep(IDLE).await;
        let later = strength.cost();
        if later == cost {
            return cost;
        }
        cost = later;
    }
}
