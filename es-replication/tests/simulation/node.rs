//! [`Node`]: a node with its store, its clock and its backups.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Category, LogId, OriginId};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::store::{Query, QueryItem};
use es_core::testing::{ManualClock, SeededEntropy};
use es_core::{EventId, LogRead, Resolver};
use es_replication::{Replica, ReplicaOptions};

use crate::domain::Trace;
use crate::network::{Network, SimulatedPeer};

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) store: MemoryStore,
    pub(crate) replica: Replica,
    pub(crate) traces: Arc<Repository<Trace>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) origin: OriginId,
    pub(crate) backups: Vec<MemoryStore>,
    /// The ids of the events of the log, up to the event that was checked last.
    pub(crate) checked: BTreeSet<EventId>,
    /// The position of that event.
    pub(crate) checked_to: Option<Position>,
    /// The causes of these events that were not stored before them.
    pub(crate) skipped: BTreeSet<EventId>,
}

/// What a node needs to start.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) network: Arc<Network>,
    pub(crate) random: Arc<SeededEntropy>,
    pub(crate) nodes: usize,
    /// Whether backups are copies of the directory, instead of backups that are restored.
    pub(crate) copies_directories: bool,
}

impl Node {
    /// Starts a node on a store.
    pub(crate) async fn start(
        setup: &Setup,
        number: usize,
        store: MemoryStore,
        clock: Arc<ManualClock>,
        backups: Vec<MemoryStore>,
    ) -> Self {
        let mut options = ReplicaOptions::new(format!("n{number}"))
            .aggregate::<Trace>()
            .expect("a category")
            .with_clock(clock.clone())
            .with_entropy(setup.random.clone());
        for to in (0..setup.nodes).filter(|to| *to != number) {
            options = options.member(Arc::new(peer(setup, number, to)));
        }
        // The node answers the claims of nodes that start at the same time.
        setup.network.start(number, options.source());
        let store = store.with_hook(options.hook()).await.expect("started");
        let shared: Arc<dyn EventStore> = Arc::new(store.clone());
        let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook").with_page_bytes(600);
        let replica = replica.with_source(options.source());
        let traces = Repository::new(shared).with_clock(clock.clone()).with_entropy(setup.random.clone());
        let origin = replica.origin().await.expect("an origin");
        let (checked, checked_to, skipped) = (BTreeSet::new(), None, BTreeSet::new());
        Self { number, store, replica, traces: Arc::new(traces), clock, origin, backups, checked, checked_to, skipped }
    }

    /// Returns the node after a crash and a restart: with its store if `backup` is `None`.
    ///
    /// A copy of the directory has the log id of the store, so the node asks the other ones whether it lost events.
    /// They cannot know of an event that only a newer copy of another node has, so no node returns to a newer copy.
    pub(crate) async fn restart(mut self, setup: &Setup, backup: Option<usize>) -> Self {
        setup.network.stop(self.number);
        self.traces.settle().await;
        let store = match backup {
            None => self.store.copy(self.store.log_id()),
            Some(index) if setup.copies_directories => {
                self.backups.truncate(index + 1);
                self.backups[index].copy(self.store.log_id())
            }
            Some(index) => self.backups[index].copy(LogId::new()),
        };
        Self::start(setup, self.number, store, self.clock, self.backups).await
    }

    /// Runs the resolver until it has examined every event of the log, and stops it.
    pub(crate) async fn resolve(&self) {
        let resolver = Resolver::new(Arc::clone(&self.traces)).start().await.expect("started");
        // The resolver does not examine the events of the membership.
        let events = self.events(None).await;
        let last = events.iter().rfind(|event| event.stream.category_str() == "trace");
        let head = last.map(|event| event.position);
        resolver.wait_for(head, Duration::from_secs(60)).await.expect("every event is examined");
        assert!(resolver.parked().is_empty(), "node {}: {:?}", self.number, resolver.parked());
        resolver.shutdown(Duration::from_secs(60)).await.expect("stopped");
    }

    pub(crate) fn peer(&self, setup: &Setup, to: usize) -> SimulatedPeer {
        peer(setup, self.number, to)
    }

    /// Returns the origins that no node may use any more, as far as this node knows.
    pub(crate) async fn departed_origins(&self) -> BTreeSet<OriginId> {
        let mut departed = BTreeSet::new();
        for event in self.events(None).await {
            if event.data.event_type.as_str() == "departure-completed" {
                let content: serde_json::Value = serde_json::from_slice(&event.data.payload).expect("JSON");
                let origins: Vec<OriginId> = serde_json::from_value(content["origins"].clone()).expect("origins");
                departed.extend(origins);
            }
        }
        departed
    }

    /// Returns the replicated events of the log after a position.
    pub(crate) async fn events(&self, after: Option<Position>) -> Vec<es_core::RecordedEvent> {
        let category = |name: &str| QueryItem::new().category(Category::new(name).expect("a category"));
        let query = Query::any_of(["trace", "es.membership"].map(category));
        let read = LogRead::matching(query).after(after);
        self.store.read_log(read).await.expect("read").collect().await.expect("read")
    }
}

fn peer(setup: &Setup, from: usize, to: usize) -> SimulatedPeer {
    SimulatedPeer { network: Arc::clone(&setup.network), from, to, name: format!("n{to}") }
}
