//! Replication from one node to another over TLS on the loopback interface: events per second beside local appends, the
//! time from a commit on one node to its event on the other, bytes per event on the wire, and the cost of the vector
//! clock.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, EventStore, EventType, NewEvent, StreamId};
use es_replication::{
    Link, LocalPeer, Peer, Replica, ReplicaOptions, Server, ServerOptions, TestCa, TlsConfig, TlsPeer, Token,
};
use es_rocksdb::RocksDbStore;
use serde::{Deserialize, Serialize};

use self::wire::Meter;
use super::{Workload, latency};
use crate::bench::Bench;
use crate::contender::{Append, Opened, Seen, Task};
use crate::domain::{CATEGORY, Sample, Tagging, sample};
use crate::drive::{self, Stop, Writers};
use crate::failure::{Failure, failed};
use crate::ours::{ES_ROCKSDB, Kind, OpenedStore};
use crate::report::stats::{Unit, percentile};

mod wire;

pub(crate) const REPLICATION: &str = "replication";
pub(crate) const LOCAL: &str = "local append, 16 writers";
pub(crate) const LIVE: &str = "append, and stored by the other node, 16 writers";
const BACKLOG: &str = "events of a backlog";
const BYTES: &str = "bytes per event on the wire, backlog";
const PERCENTILES: [(&str, f64); 2] = [("stored by the other node, p50", 0.5), ("stored by the other node, p99", 0.99)];

const WRITERS: u32 = 16;
/// The numbers of nodes for the cost of the clock.
const NODES: [u64; 4] = [1, 3, 16, 64];
const TIMEOUT: Duration = Duration::from_secs(60);

/// The replicated aggregate. Its events are those of all workloads.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "order", id = u64, event = Added, consistency = "eventual")]
struct Replicated;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "line-added")]
struct Added;

impl Evolve for Replicated {
    fn initial(_: &u64) -> Self {
        Self
    }

    fn evolve(&mut self, _: &Added, _: &EventContext<'_>) {}
}

pub(crate) struct Replication;

#[async_trait]
impl Workload for Replication {
    fn name(&self) -> &'static str {
        REPLICATION
    }

    fn about(&self) -> &'static str {
        "from one node to another over TLS: events per second beside local appends, latency, bytes, cost of the clock"
    }

    fn task(&self) -> Task {
        Task::Project
    }

    fn is_ours_only(&self) -> bool {
        true
    }

    async fn run(&self, bench: &mut Bench) -> Result<(), Failure> {
        if !bench.is_selected(ES_ROCKSDB) {
            return Ok(());
        }
        for round in 0..bench.plan.rounds {
            bench.progress(REPLICATION, &format!("round {}", round + 1));
            throughput(bench).await?;
            latencies(bench).await?;
            for nodes in NODES {
                clock(bench, nodes).await?;
            }
        }
        Ok(())
    }
}

fn add(bench: &mut Bench, case: &str, unit: Unit, value: f64) {
    bench.report.add(REPLICATION, case, ES_ROCKSDB, unit, value);
}

/// Measures local appends; appends until the other node has them; and the pull of the events that are then in the log
/// by a third node.
async fn throughput(bench: &mut Bench) -> Result<(), Failure> {
    let dir = bench.dir()?;
    let alone = RocksDbStore::open(dir.path().join("alone")).await.map_err(failed("open the store"))?;
    let (events, elapsed) = append(bench, &alone).await?;
    alone.close().await.map_err(failed("close the store"))?;
    add(bench, LOCAL, Unit::EventsPerSecond, events / elapsed.as_secs_f64());

    let group = Group::start(dir.path()).await?;
    let started = Instant::now();
    let (events, _) = append(bench, &group.a.store).await?;
    group.wait(&group.a.token().await?).await?;
    add(bench, LIVE, Unit::EventsPerSecond, events / started.elapsed().as_secs_f64());

    let c = Node::open("c", &dir.path().join("c"), &group.ca).await?;
    let meter = Meter::start(group.server.local_addr()).await?;
    let peer = group.peer(&c, meter.address())?;
    let (started, token) = (Instant::now(), group.a.token().await?);
    let link = Link::start(c.replica.clone(), peer);
    c.replica.wait_for(&token, TIMEOUT).await.map_err(failed("wait for events"))?;
    add(bench, BACKLOG, Unit::EventsPerSecond, events / started.elapsed().as_secs_f64());
    link.stop().await;
    add(bench, BYTES, Unit::Bytes, meter.stop().await? as f64 / events);
    c.store.close().await.map_err(failed("close the store"))?;
    group.stop().await
}

/// Appends with all writers. Returns the number of events, and the time that it took.
async fn append(bench: &Bench, store: &RocksDbStore) -> Result<(f64, Duration), Failure> {
    let opened: Arc<dyn Opened> = Arc::new(OpenedStore::new(Arc::new(store.clone()), Kind::Memory));
    let writers = Writers {
        count: WRITERS,
        per_commit: 1,
        payload: bench.plan.payload,
        tagging: Tagging::Spread(1000),
        conditional: false,
        per_stream: 10,
        first_stream: 1,
        first_event: 0,
        first_seen: 0,
    };
    let measured = drive::run(&opened, writers, Stop::after(bench.plan.seconds)).await?;
    Ok((measured.events as f64, measured.elapsed))
}

/// Measures the time from when a command is due to when the other node has its event.
async fn latencies(bench: &mut Bench) -> Result<(), Failure> {
    let dir = bench.dir()?;
    let (rate, duration) = (f64::from(bench.plan.rate), bench.plan.seconds * 3);
    let commands = latency::WARM + (rate * duration.as_secs_f64()) as u64;
    let micros = paced(dir.path(), rate, commands, bench.plan.payload).await?;
    for (case, share) in PERCENTILES {
        add(bench, case, Unit::Microseconds, percentile(&micros, share));
    }
    Ok(())
}

async fn paced(dir: &Path, rate: f64, commands: u64, payload: usize) -> Result<Vec<f64>, Failure> {
    let group = Group::start(dir).await?;
    let seen = Arc::new(Seen::default());
    let sender: Arc<dyn Opened> = Arc::new(Sender { group, seen: Arc::clone(&seen) });
    let latencies = latency::paced(&sender, &seen, rate, commands, payload).await?;
    sender.close().await?;
    Ok(latencies.iter().map(|latency| latency.as_secs_f64() * 1e6).collect())
}

/// Commits on one node, and waits until the other node has the event.
struct Sender {
    group: Group,
    seen: Arc<Seen>,
}

#[async_trait]
impl Opened for Sender {
    async fn append(&self, _: Append) -> Result<u64, Failure> {
        Err(Failure::new("append", "not offered"))
    }

    async fn command(&self, stream: u64, event: Sample) -> Result<(), Failure> {
        let payload = event.payload.clone();
        commit(&self.group.a.store, stream, event).await?;
        self.group.wait(&self.group.a.token().await?).await?;
        self.seen.record(&payload);
        Ok(())
    }

    async fn close(&self) -> Result<(), Failure> {
        Ok(())
    }
}

async fn commit(store: &dyn EventStore, stream: u64, event: Sample) -> Result<(), Failure> {
    let stream = StreamId::of(CATEGORY, stream).map_err(failed("create a stream id"))?;
    let event_type = EventType::new(event.event_type).map_err(failed("create an event type"))?;
    let commit = Commit::new().append(stream, NewEvent::json(event_type, event.payload));
    store.commit(commit).await.map_err(failed("append"))?;
    Ok(())
}

/// Measures the time of an append to a store in memory that knows events of this number of nodes, and the bytes of
/// the stamp of its event.
async fn clock(bench: &mut Bench, nodes: u64) -> Result<(), Failure> {
    let (store, replica) = in_memory("n0").await?;
    for number in 1..nodes {
        let (other_store, other) = in_memory(&format!("n{number}")).await?;
        commit(&other_store, number, sample(number, 0, bench.plan.payload, Tagging::PerStream)).await?;
        let peer = LocalPeer::new(format!("n{number}"), other.source());
        replica.pull(&peer, Duration::ZERO).await.map_err(failed("pull"))?;
    }
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < bench.plan.seconds / 4 || count == 0 {
        commit(&store, nodes + count, sample(count, 0, bench.plan.payload, Tagging::PerStream)).await?;
        count += 1;
    }
    let case = format!("append in memory, clock of {nodes} {}", if nodes == 1 { "node" } else { "nodes" });
    let micros = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    add(bench, &case, Unit::Microseconds, micros);
    Ok(())
}

async fn in_memory(name: &str) -> Result<(MemoryStore, Replica), Failure> {
    let options = ReplicaOptions::new(name).aggregate::<Replicated>().map_err(failed("declare an aggregate"))?;
    let store = MemoryStore::new().with_hook(options.hook()).await.map_err(failed("start a replica"))?;
    let replica = Replica::new(Arc::new(store.clone())).map_err(failed("start a replica"))?;
    Ok((store, replica))
}

struct Node {
    store: RocksDbStore,
    replica: Replica,
    tls: TlsConfig,
}

impl Node {
    async fn open(name: &str, dir: &Path, ca: &TestCa) -> Result<Self, Failure> {
        let options = ReplicaOptions::new(name).aggregate::<Replicated>().map_err(failed("declare an aggregate"))?;
        let store =
            es_rocksdb::Options::new().hook(options.hook()).open(dir).await.map_err(failed("open a replica"))?;
        let replica = Replica::new(Arc::new(store.clone())).map_err(failed("open a replica"))?;
        let files = ca.issue(name).map_err(failed("issue a certificate"))?;
        let tls = TlsConfig::load(files.certificates, files.key, files.authorities);
        Ok(Self { store, replica, tls: tls.map_err(failed("load a certificate"))? })
    }

    async fn token(&self) -> Result<Token, Failure> {
        self.replica.token().await.map_err(failed("read a token"))
    }
}

/// Two nodes, of which B follows A.
struct Group {
    a: Node,
    b: Node,
    ca: TestCa,
    server: Server,
    link: Link,
}

impl Group {
    async fn start(dir: &Path) -> Result<Self, Failure> {
        let ca = TestCa::create(dir.join("ca")).map_err(failed("create an authority"))?;
        let a = Node::open("a", &dir.join("a"), &ca).await?;
        let b = Node::open("b", &dir.join("b"), &ca).await?;
        let server = Server::bind("127.0.0.1:0", a.replica.source(), a.tls.clone(), ["b", "c"], ServerOptions::new());
        let server = server.await.map_err(failed("listen"))?;
        let peer = TlsPeer::new("a", server.local_addr().to_string(), b.tls.clone()).map_err(failed("connect"))?;
        let link = Link::start(b.replica.clone(), Arc::new(peer));
        Ok(Self { a, b, ca, server, link })
    }

    /// Returns node A, as another node reaches it at this address.
    fn peer(&self, from: &Node, address: String) -> Result<Arc<dyn Peer>, Failure> {
        Ok(Arc::new(TlsPeer::new("a", address, from.tls.clone()).map_err(failed("connect"))?))
    }

    /// Waits until B has all events of a token.
    async fn wait(&self, token: &Token) -> Result<(), Failure> {
        self.b.replica.wait_for(token, TIMEOUT).await.map_err(failed("wait for events"))
    }

    async fn stop(self) -> Result<(), Failure> {
        self.link.stop().await;
        self.server.stop().await;
        for node in [self.a, self.b] {
            node.store.close().await.map_err(failed("close the store"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_measured_command_reaches_the_other_node() {
        let dir = tempfile::tempdir().unwrap();
        let micros = paced(dir.path(), 500.0, latency::WARM + 50, 200).await.unwrap();
        assert_eq!(micros.len(), 50);
        assert!(micros.iter().all(|micros| *micros > 0.0));
    }
}
