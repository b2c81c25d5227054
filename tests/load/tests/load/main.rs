//! Many clients at once: requests per second with the edge and without it, and a crowd of listeners, idle connections,
//! half-sent bodies and slow readers, with bounds of memory and descriptors; and `kill -9` under load.
//!
//! The server is a process of its own (`server`). `ES_LOAD=9000` sets the number of idle connections; the numbers of
//! the other clients are fractions of it. The soak runs the long form in the release profile: it compares rates.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails where it unwraps, and prints its figures")]

mod client;
mod crowd;
mod domain;
mod kill;
mod rate;
mod server;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use client::{Client, request};
use crowd::Crowd;

/// The variable with the directory of the stores of the server.
const DIRECTORY: &str = "ES_LOAD_DIRECTORY";
/// Held by the test that runs: each measures.
static TURN: Mutex<()> = Mutex::const_new(());
/// The descriptors of a process besides those of its clients.
const OTHER_DESCRIPTORS: u64 = 300;
/// The time in which everything that the test waits for must happen.
const PATIENCE: Duration = Duration::from_secs(120);
/// The memory of a connection, with the task and the buffers of the server. An event listener has a subscription, too.
const KIB_PER_CONNECTION: u64 = 24;

/// The numbers of clients.
#[derive(Debug, Clone, Copy)]
struct Size {
    idle: usize,
    /// Whether it is the long form.
    is_long: bool,
}

impl Size {
    fn from_environment() -> Self {
        let wanted: Option<usize> = std::env::var("ES_LOAD").ok().and_then(|text| text.parse().ok());
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let possible = usize::try_from(limit.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX);
        let idle = wanted.unwrap_or(180);
        let all = Self { idle, is_long: wanted.is_some() };
        if all.connections() <= possible {
            return all;
        }
        let scaled = Self { idle: idle * possible / all.connections(), ..all };
        println!("scaled from {idle} to {} idle connections: {limit} descriptors are allowed", scaled.idle);
        scaled
    }

    fn listeners(self) -> usize {
        self.idle * 5 / 9
    }

    fn half_sent_bodies(self) -> usize {
        self.idle / 9
    }

    fn slow_readers(self) -> usize {
        self.idle / 90
    }

    fn connections(self) -> usize {
        self.idle + self.listeners() + self.half_sent_bodies() + self.slow_readers() + 4 * rate::CONNECTIONS
    }

    fn idle_deadline(self) -> Duration {
        Duration::from_secs(if self.is_long { 60 } else { 10 })
    }

    fn stall_deadline(self) -> Duration {
        Duration::from_secs(if self.is_long { 10 } else { 2 })
    }
}

/// The process of the server.
struct Service {
    process: Child,
    edge: SocketAddr,
    /// The edge with the handlers of `plain`.
    same: SocketAddr,
    /// The server of axum, without the edge.
    plain: SocketAddr,
    _output: Box<dyn Iterator<Item = String>>,
}

impl Service {
    /// Starts the server with the stores in this directory, and waits until it listens.
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(DIRECTORY, directory);
        command.args(["--ignored", "--exact", "--nocapture", "server::service"]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        // The reader is kept: a process whose output is closed fails when it prints its result.
        let mut lines = Box::new(lines);
        let addresses = lines.find_map(|line| line.strip_prefix("addresses ").map(ToOwned::to_owned));
        let addresses = addresses.expect("the process prints its addresses");
        let mut addresses = addresses.split(' ').map(|address| address.parse().unwrap());
        let mut next = || addresses.next().unwrap();
        Self { edge: next(), same: next(), plain: next(), process, _output: lines }
    }

    /// Stops the server, and waits until it has ended without an error.
    fn stop(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    fn descriptors(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count() as u64
    }

    /// Returns the resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the processor time of the process.
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks: u64 = fields.split(' ').skip(12).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    async fn is_ready(&self) -> bool {
        let (status, body) =
            Client::connect(self.edge).await.unwrap().send(&request("GET", "/readyz", "")).await.unwrap();
        assert!([200, 503].contains(&status), "{status} {body}");
        status == 200
    }

    async fn post(&self, path: &str, body: &str) -> u16 {
        Client::connect(self.edge).await.unwrap().send(&request("POST", path, body)).await.unwrap().0
    }

    async fn wait_until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !holds().await {
            assert!(start.elapsed() < PATIENCE, "{what}: {} descriptors", self.descriptors());
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_clients_is_served_in_bounded_memory_and_descriptors() {
    let size = Size::from_environment();
    let _turn = TURN.lock().await;
    raise_limit_of_descriptors();
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    rate::compare(&service, size).await;

    let (memory, descriptors) = (service.memory(), service.descriptors());
    let mut crowd = Crowd::gather(&service, size).await;
    crowd.expect_bounded(&service, memory, descriptors);
    let answered = rate::measure(service.edge, rate::Load { round: 1000, requests: 20 }).await;
    println!("{answered:.0} requests/s beside the crowd");
    crowd.expect_an_event_for_each_listener(&service).await;
    expect_the_probe_to_follow_the_store(&service).await;

    // The server closes what stalls or idles, although the clients keep their ends open.
    let listeners = size.listeners() as u64;
    let is_closed = async || service.descriptors() <= descriptors + listeners + 10;
    service.wait_until("idle, half-sent and slow connections are closed", is_closed).await;
    drop(crowd);
    let is_closed = async || service.descriptors() <= descriptors + 10;
    service.wait_until("the connections of clients that left are closed", is_closed).await;
    assert!(service.is_ready().await);
    println!("after the crowd: {} MiB, {} descriptors", service.memory() / 1024, service.descriptors());
    service.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_kills_under_load() {
    let _turn = TURN.lock().await;
    let directory = tempfile::tempdir().unwrap();
    kill::expect_acknowledged_writes(directory.path(), Size::from_environment()).await;
}

async fn expect_the_probe_to_follow_the_store(service: &Service) {
    let add = r#"{"amount":1}"#;
    for refuses in [true, false] {
        assert_eq!(service.post(&format!("/refuse/{refuses}"), "").await, 200);
        assert_eq!(service.post("/counters/2", add).await, if refuses { 500 } else { 200 });
        let follows = async || service.is_ready().await != refuses;
        service.wait_until("/readyz follows the store", follows).await;
    }
}

fn raise_limit_of_descriptors() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}
