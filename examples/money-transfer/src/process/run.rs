//! One transfer between three machines, one of which may die.

use std::path::Path;
use std::time::{Duration, Instant};

use es_transaction::Protocol;

use crate::account::{Balances, Reply, Transfer};
use crate::failure::Failure;
use crate::outcome::TransferRun;
use crate::process::cluster::{Cluster, ClusterStatus, Machine, Observation, Progress};

/// How long the recovery may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the banks of a three-phase commit may take to end it without the coordinator.
const TERMINATION_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause before the machines are asked again.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a machine may take to stop after the transfer has ended.
const GRACE: Duration = Duration::from_millis(150);

/// Runs a transfer with new stores below a directory. If a machine reaches the step to stop at, it is killed there and
/// started again on its directory and port.
pub(crate) async fn transfer_once(
    directory: &Path,
    protocol: Protocol,
    transfer: &Transfer,
    stop: Option<(Machine, u64)>,
) -> Result<TransferRun, Failure> {
    let mut cluster = Cluster::start(directory, stop).await?;
    let stopped_at_start = wait_for_requests(&mut cluster, &[0, 0]).await?;
    let before = match stop {
        None => Some(cluster.status().await?.cost()),
        Some(_) => None,
    };
    cluster.begin(transfer, protocol).await?;
    let machine = stop.map(|(machine, _)| machine);
    let (mut reply, place) = match stopped_at_start {
        Some(place) => (None, Some(place)),
        None => run_until_stopped(&mut cluster, machine).await?,
    };
    let (started, mut without_coordinator) = (Instant::now(), false);
    if let (Some(machine), Some(_)) = (machine, &place) {
        cluster.kill(machine).await?;
        if machine == Machine::Coordinator {
            without_coordinator = restart_coordinator(&mut cluster, protocol).await?;
        } else {
            cluster.restart(machine).await?;
            // The coordinator lives, so that the caller is told.
            if reply.is_none()
                && let Progress::Replied(late) = cluster.progress(None).await?
            {
                reply = Some(late);
            }
        }
    }
    let status = settle(&mut cluster).await?;
    Ok(TransferRun {
        place,
        reply: reply.unwrap_or(Reply::Nothing),
        balances: Balances { ada: status.banks[0].cents, bob: status.banks[1].cents },
        locked: status.banks.iter().filter(|bank| bank.is_locked).count(),
        in_doubt: status.in_doubt(),
        cost: before.map(|before| status.cost() - before),
        recovery: started.elapsed(),
        without_coordinator,
    })
}

/// Waits until a machine has stopped, or nothing is left to do. Returns what the caller was told until then, and the
/// place.
async fn run_until_stopped(
    cluster: &mut Cluster,
    machine: Option<Machine>,
) -> Result<(Option<Reply>, Option<String>), Failure> {
    let reply = match cluster.progress(machine).await? {
        Progress::Reached(place) => return Ok((None, Some(place))),
        Progress::Replied(reply) => Some(reply),
    };
    // The caller is told before the banks are: steps may follow.
    let (mut idle_since, until) = (None, Instant::now() + SETTLE_TIMEOUT);
    while Instant::now() < until {
        match cluster.observe().await? {
            Observation::Stopped(place) => return Ok((reply, Some(place))),
            Observation::Running(status) if status.in_doubt() > 0 => idle_since = None,
            Observation::Running(_) if machine.is_none() => break,
            Observation::Running(_) => {
                if idle_since.get_or_insert_with(Instant::now).elapsed() > GRACE {
                    break;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok((reply, None))
}

/// Starts the coordinator again. Before that, the banks of a three-phase commit end it; returns whether they did.
async fn restart_coordinator(cluster: &mut Cluster, protocol: Protocol) -> Result<bool, Failure> {
    let mut is_ended = false;
    if protocol == Protocol::ThreePhase && cluster.status().await?.in_doubt() > 0 {
        let until = Instant::now() + TERMINATION_TIMEOUT;
        while !is_ended && Instant::now() < until {
            tokio::time::sleep(PAUSE).await;
            is_ended = cluster.status().await?.in_doubt() == 0;
        }
    }
    let asked: Vec<u64> = cluster.status().await?.banks.iter().map(|bank| bank.requests).collect();
    cluster.restart(Machine::Coordinator).await?;
    // A coordinator that starts asks each bank for its transactions in doubt, and a bank that was asked refuses the
    // messages of the one that died.
    match wait_for_requests(cluster, &asked).await? {
        None => Ok(is_ended),
        Some(place) => Err(format!("a machine has stopped {place}").into()),
    }
}

/// Waits until each bank has answered a request more than before, or a machine has stopped; then returns the place.
async fn wait_for_requests(cluster: &mut Cluster, before: &[u64]) -> Result<Option<String>, Failure> {
    let until = Instant::now() + SETTLE_TIMEOUT;
    while Instant::now() < until {
        match cluster.observe().await? {
            Observation::Stopped(place) => return Ok(Some(place)),
            Observation::Running(status) => {
                if status.banks.iter().zip(before).all(|(bank, before)| bank.requests > *before) {
                    return Ok(None);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err("the coordinator did not call each bank after its start".into())
}

/// Waits until nothing is in doubt, at most [`SETTLE_TIMEOUT`].
async fn settle(cluster: &mut Cluster) -> Result<ClusterStatus, Failure> {
    let until = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let status = cluster.status().await?;
        if status.in_doubt() == 0 || Instant::now() >= until {
            return Ok(status);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
