//! Tests of single transitions over a store, without a runner.

use std::sync::Arc;

use es_core::consumer::group::StartAt;
use es_core::model::{SystemClock, SystemEntropy};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, LogRead, NewEvent, RecordedEvent, StreamId};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::coordinator::SagaAdmin;
use crate::instance::OperatorNote;
use crate::process::admin::ProcessAdmin;
use crate::process::definition::{Correlation, Process, ProcessContext, ReactionError, Target};
use crate::process::engine::ProcessEngine;
use crate::process::id::ProcessId;
use crate::process::journal::ProcessJournal;
use crate::process::metrics::ProcessMetrics;
use crate::process::reaction::{Planner, Reaction};
use crate::process::settle::{Offer, Settled};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum MeterEvent {
    #[event(name = "meter-read")]
    Read { value: u64 },
}

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "meter", id = u64, event = MeterEvent)]
struct Meter;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum AuditEvent {
    #[event(name = "audit-noted")]
    Noted { value: u64 },
}

/// The values of a meter, in the order in which the process handled them.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "audit", id = u64, event = AuditEvent)]
struct Audit {
    values: Vec<u64>,
}

impl Evolve for Audit {
    fn initial(_: &u64) -> Self {
        Self { values: Vec::new() }
    }

    fn evolve(&mut self, AuditEvent::Noted { value }: &AuditEvent, _: &EventContext<'_>) {
        self.values.push(*value);
    }
}

/// Notes the values of meters, except for one that it refuses until it is fixed.
struct Auditor {
    refused: Option<u64>,
    /// What is added to the id of a meter to get the instance.
    shift: u64,
}

impl Process for Auditor {
    type State = Audit;
    type Source = Meter;
    type Signal = ();

    fn correlate(&self, event: &MeterEvent, record: &RecordedEvent) -> Correlation<u64> {
        let MeterEvent::Read { value } = event;
        let id = Meter::id_of(&record.stream).map_or(0, |id| id + self.shift);
        if *value == 0 { Correlation::Start(id) } else { Correlation::Continue(Target::Id(id)) }
    }

    fn on_event(
        &self,
        _: &Audit,
        MeterEvent::Read { value }: &MeterEvent,
        _: &ProcessContext<'_>,
    ) -> Result<Reaction<Audit>, ReactionError> {
        if self.refused == Some(*value) {
            return Err("the value is refused".into());
        }
        Ok(Reaction::none().event(AuditEvent::Noted { value: *value }))
    }
}

fn engine(store: &Arc<dyn EventStore>, process: Auditor) -> ProcessEngine<Auditor> {
    ProcessEngine {
        process,
        journals: Repository::new(Arc::clone(store)),
        states: Repository::new(Arc::clone(store)),
        sagas: SagaAdmin::new(Arc::clone(store)),
        planner: Planner {
            store: Arc::clone(store),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        },
        metrics: ProcessMetrics::new("audit"),
        changed: Notify::new(),
    }
}

/// Writes the values of meter 1 and returns their records.
async fn read_meter(store: &Arc<dyn EventStore>, values: &[u64]) -> Vec<RecordedEvent> {
    let stream = StreamId::new("meter-1").expect("a name");
    for value in values {
        let event = MeterEvent::Read { value: *value };
        let data = event.encode().expect("it is encoded").into_data(es_core::EventId::new());
        let commit = Commit::new().append(stream.clone(), NewEvent::from(data));
        store.commit(commit).await.expect("it is written");
    }
    store.read_log(LogRead::all()).await.expect("it reads").collect().await.expect("it reads")
}

async fn settle(engine: &ProcessEngine<Auditor>, record: &RecordedEvent) {
    let settled = engine.settle(record, 0, &Commit::new(), Offer::Source).await;
    assert_eq!(settled.expect("it is settled"), Settled::Committed);
}

#[tokio::test]
async fn an_event_waits_until_the_earlier_pending_events_of_its_instance_are_handled() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let records = read_meter(&store, &[0, 1, 2]).await;
    let first = engine(&store, Auditor { refused: Some(1), shift: 0 });
    settle(&first, &records[0]).await;
    settle(&first, &records[1]).await;
    let (id, admin) = (ProcessId::new("audit", 1).expect("an id"), ProcessAdmin::new(Arc::clone(&store)));
    admin.retry(&id, OperatorNote::new("ada", "fixed")).await.expect("it is quarantined");
    // Between the retry and the wake-up of the instance, the next event comes.
    let fixed = engine(&store, Auditor { refused: None, shift: 0 });
    settle(&fixed, &records[2]).await;
    let journal = admin.show(&id).await.expect("it loads");
    assert_eq!((journal.pending().len(), journal.quarantine()), (2, None));
    let stream = ProcessJournal::stream(&id).expect("a name");
    while fixed.wake(&stream, &Commit::new()).await.expect("it wakes") {}
    assert_eq!(fixed.states.load(&1).await.expect("it loads").state.values, [0, 1, 2]);
    assert_eq!(admin.show(&id).await.expect("it loads").pending().len(), 0);
}

#[tokio::test]
async fn a_pending_event_is_not_handled_by_another_instance() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let records = read_meter(&store, &[0, 1]).await;
    let first = engine(&store, Auditor { refused: Some(1), shift: 0 });
    settle(&first, &records[0]).await;
    settle(&first, &records[1]).await;
    let (id, admin) = (ProcessId::new("audit", 1).expect("an id"), ProcessAdmin::new(Arc::clone(&store)));
    admin.retry(&id, OperatorNote::new("ada", "fixed")).await.expect("it is quarantined");
    // The program correlates the event with another instance, which is running.
    let changed = engine(&store, Auditor { refused: None, shift: 1 });
    settle(&changed, &records[0]).await;
    let stream = ProcessJournal::stream(&id).expect("a name");
    while changed.wake(&stream, &Commit::new()).await.expect("it wakes") {}
    assert_eq!(changed.states.load(&2).await.expect("it loads").state.values, [0]);
    let reason = admin.show(&id).await.expect("it loads").quarantine().map(ToOwned::to_owned).unwrap_or_default();
    assert!(reason.contains("belongs to audit:2"), "{reason}");
}

#[tokio::test]
async fn a_first_cursor_is_written_once() {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    read_meter(&store, &[0]).await;
    let manager = |store: &Arc<dyn EventStore>| {
        crate::process::manager::ProcessManager::new(Auditor { refused: None, shift: 0 }, Arc::clone(store))
    };
    let running = manager(&store).start_at(StartAt::Now).start().await.expect("it starts");
    assert!(running.shutdown(std::time::Duration::from_secs(10)).await);
    // A later start ignores its first position.
    let running = manager(&store).start_at(StartAt::Beginning).start().await.expect("it starts");
    let head = store.head().await.expect("it reads");
    running.wait_for(head, std::time::Duration::from_secs(10)).await.expect("it is reached");
    let id = ProcessId::new("audit", 1).expect("an id");
    let journal = ProcessAdmin::new(Arc::clone(&store)).show(&id).await.expect("it loads");
    assert_eq!(journal.phase(), crate::process::journal::ProcessPhase::Missing);
}
