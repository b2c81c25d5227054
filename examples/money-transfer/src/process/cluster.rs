//! [`Cluster`]: a coordinator and two banks, each in a process.

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use es_transaction::Protocol;

use crate::account::{ADA, BOB, Cost, Reply, Transfer};
use crate::failure::Failure;
use crate::process::child::ChildProcess;
use crate::process::message::{Answer, BankStatus, CoordinatorStatus, Request};
use crate::process::remote::{BANKS, TOKEN};

/// The ports of the banks. Systems choose the ports of outgoing connections above, so that a bank that is down does not
/// lose its port to one of them.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A machine of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    Coordinator,
    /// The bank with this index.
    Bank(usize),
}

impl Machine {
    /// All machines.
    pub(crate) const ALL: [Self; 3] = [Self::Coordinator, Self::Bank(0), Self::Bank(1)];
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Bank(index) => write!(f, "bank {}", BANKS[*index]),
        }
    }
}

/// Something that happens after a transfer was begun.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The machine has reached the step to stop at.
    Reached(String),
    /// The caller of the transfer was told.
    Replied(Reply),
}

/// What the machines report.
#[derive(Debug)]
pub(crate) enum Observation {
    /// A machine has stopped at a place.
    Stopped(String),
    Running(ClusterStatus),
}

/// The status of the machines that are not down.
#[derive(Debug)]
pub(crate) struct ClusterStatus {
    /// The number of transactions that have a record at the coordinator and have not ended.
    unfinished: usize,
    pub(crate) banks: Vec<BankStatus>,
    coordinator_syncs: u64,
}

impl ClusterStatus {
    /// Returns the number of transactions that a bank or the coordinator has not ended.
    pub(crate) fn in_doubt(&self) -> usize {
        self.unfinished + self.banks.iter().map(|bank| bank.prepared).sum::<usize>()
    }

    /// Returns what was spent since the machines were started.
    pub(crate) fn cost(&self) -> Cost {
        let banks = self.banks.iter().map(|bank| Cost { round_trips: bank.requests, syncs: bank.syncs });
        banks.fold(Cost { round_trips: 0, syncs: self.coordinator_syncs }, |sum, bank| sum + bank)
    }
}

/// A coordinator and two banks, each in a process with a directory below that of the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    directory: PathBuf,
    ports: [u16; 2],
    token: String,
    /// `None` while the coordinator is down.
    coordinator: Option<ChildProcess>,
    /// `None` while a bank is down.
    banks: [Option<ChildProcess>; 2],
}

impl Cluster {
    /// Starts all machines, one of which may stop at a step.
    pub(crate) async fn start(directory: &Path, stop: Option<(Machine, u64)>) -> Result<Self, Failure> {
        let mut cluster = Self {
            directory: directory.to_owned(),
            ports: [free_port()?, free_port()?],
            token: uuid::Uuid::new_v4().simple().to_string(),
            coordinator: None,
            banks: [None, None],
        };
        let stop_at = |machine| stop.filter(|(stopped, _)| *stopped == machine).map(|(_, step)| step);
        let north = cluster.spawn(Machine::Bank(0), stop_at(Machine::Bank(0)));
        let south = cluster.spawn(Machine::Bank(1), stop_at(Machine::Bank(1)));
        let coordinator = cluster.spawn(Machine::Coordinator, stop_at(Machine::Coordinator));
        // The coordinator repeats its calls until the banks answer.
        let (north, south, coordinator) = tokio::try_join!(north, south, coordinator)?;
        cluster.banks = [Some(north), Some(south)];
        cluster.coordinator = Some(coordinator);
        Ok(cluster)
    }

    async fn spawn(&self, machine: Machine, stop_at: Option<u64>) -> Result<ChildProcess, Failure> {
        let store = |name: &str| self.directory.join(name).display().to_string();
        let mut arguments: Vec<String> = match machine {
            Machine::Coordinator => {
                let [north, south] = self.ports.map(|port| port.to_string());
                ["coordinator", "--store", &store("coordinator"), "--ports", &north, &south].map(String::from).into()
            }
            Machine::Bank(index) => {
                let (other, account) = (1 - index, [ADA, BOB][index]);
                let [port, peer_port] = [self.ports[index], self.ports[other]].map(|port| port.to_string());
                let bank = ["bank", "--name", BANKS[index], "--account", account, "--store", &store(BANKS[index])];
                let network = ["--port", &port, "--peer", BANKS[other], "--peer-port", &peer_port];
                bank.into_iter().chain(network).map(String::from).collect()
            }
        };
        arguments.extend(stop_at.into_iter().flat_map(|step| ["--stop-at".to_owned(), step.to_string()]));
        ChildProcess::start(&arguments, (TOKEN, &self.token)).await
    }

    /// Kills a machine.
    pub(crate) async fn kill(&mut self, machine: Machine) -> Result<(), Failure> {
        let process = match machine {
            Machine::Coordinator => self.coordinator.take(),
            Machine::Bank(index) => self.banks[index].take(),
        };
        process.ok_or("the machine is down already")?.kill().await
    }

    /// Starts a machine again, on the same directory and port.
    pub(crate) async fn restart(&mut self, machine: Machine) -> Result<(), Failure> {
        let process = self.spawn(machine, None).await?;
        match machine {
            Machine::Coordinator => self.coordinator = Some(process),
            Machine::Bank(index) => self.banks[index] = Some(process),
        }
        Ok(())
    }

    /// Begins a transfer. [`progress`](Self::progress) returns its end.
    pub(crate) async fn begin(&mut self, transfer: &Transfer, protocol: Protocol) -> Result<(), Failure> {
        let coordinator = self.coordinator.as_mut().ok_or("the coordinator is down")?;
        coordinator.send(&Request::Transfer { transfer: transfer.clone(), protocol }).await
    }

    /// Waits until the caller of the transfer is told, or the machine has reached the step to stop at.
    pub(crate) async fn progress(&mut self, stopped: Option<Machine>) -> Result<Progress, Failure> {
        let coordinator = self.coordinator.as_mut().ok_or("the coordinator is down")?;
        let bank = match stopped {
            Some(Machine::Bank(index)) => self.banks[index].as_mut(),
            _ => None,
        };
        let bank = async {
            match bank {
                Some(bank) => bank.receive().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            answer = coordinator.receive() => answer?,
            answer = bank => answer?,
        };
        match answer {
            Answer::Reached { place, .. } => Ok(Progress::Reached(place)),
            Answer::Transferred(reply) => Ok(Progress::Replied(reply)),
            other => Err(format!("expected the end of a transfer, found {other:?}").into()),
        }
    }

    /// Asks all machines that are not down. Returns where one of them has stopped, if one has.
    pub(crate) async fn observe(&mut self) -> Result<Observation, Failure> {
        let mut status = ClusterStatus { unfinished: 0, banks: Vec::new(), coordinator_syncs: 0 };
        for process in self.coordinator.iter_mut().chain(self.banks.iter_mut().flatten()) {
            process.send(&Request::Status).await?;
            match process.receive().await? {
                Answer::Coordinator(CoordinatorStatus { unfinished, syncs }) => {
                    (status.unfinished, status.coordinator_syncs) = (unfinished, syncs);
                }
                Answer::Bank(bank) => status.banks.push(bank),
                Answer::Reached { place, .. } => return Ok(Observation::Stopped(place)),
                other => return Err(format!("expected a status, found {other:?}").into()),
            }
        }
        Ok(Observation::Running(status))
    }

    /// Returns the status, if no machine is to stop any more.
    pub(crate) async fn status(&mut self) -> Result<ClusterStatus, Failure> {
        match self.observe().await? {
            Observation::Running(status) => Ok(status),
            Observation::Stopped(place) => Err(format!("a machine has stopped {place}").into()),
        }
    }
}

/// Returns a port that no other run of this process uses.
fn free_port() -> Result<u16, Failure> {
    static OFFSET: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() % u32::from(count))?;
    for _ in 0..count {
        let offset = (u32::from(first) + u32::from(OFFSET.fetch_add(1, Ordering::Relaxed))) % u32::from(count);
        let port = PORTS.start + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(format!("expected a free port in {PORTS:?}, found none").into())
}
