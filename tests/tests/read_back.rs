//! Case 01 on every store: nothing is committed that cannot be read back. `execute` used to commit an event with a NaN
//! in JSON and to answer "could not load"; from then on the aggregate could not be loaded.

use std::sync::Arc;

use es_core::StreamId;
use es_core::aggregate::{InfrastructureError, SnapshotPolicy, UnitError, UnitOfWork, snapshot};
use es_core::model::ErrorChain;
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{Live, ProjectionOptions, inline::Inline};
use es_core::schema::EncodeEventError;
use es_core::schema::codec::EncodeError;
use es_core::store::RowScan;
use es_core::store::memory::MemoryStore;
use es_core::testing::{given, given_events};
use es_tests::stores::on_every_store;
use es_tests::supervised::{TIMEOUT, start};
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

// The derives refuse `Option<Option<_>>`, but they cannot see through a name.
type Remark = Option<String>;
type Count = Option<u64>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum GaugeEvent {
    #[event(name = "measured")]
    Measured { celsius: f64 },
    #[event(name = "noted")]
    Noted { remark: Option<Remark> },
}

/// The last value. A snapshot of `Some(None)` would be read back as `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "gauge", id = String, event = GaugeEvent, snapshot(every = 1))]
struct Gauge {
    last: Option<Count>,
}

impl Evolve for Gauge {
    fn initial(_: &String) -> Self {
        Self { last: None }
    }

    fn evolve(&mut self, event: &GaugeEvent, _: &EventContext<'_>) {
        if let GaugeEvent::Measured { celsius } = event {
            self.last = Some((*celsius > 0.0).then_some(1));
        }
    }
}

#[derive(Clone)]
struct Note(Vec<GaugeEvent>);

impl Decide<Note> for Gauge {
    type Rejection = &'static str;

    fn decide(&self, note: Note, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, &'static str> {
        Ok(note.0.into())
    }
}

fn measured(celsius: f64) -> GaugeEvent {
    GaugeEvent::Measured { celsius }
}

fn lost() -> [GaugeEvent; 2] {
    [measured(f64::NAN), GaugeEvent::Noted { remark: Some(None) }]
}

fn id() -> String {
    "x".to_owned()
}

fn names_the_event(error: &InfrastructureError) -> bool {
    matches!(error, InfrastructureError::Encode(EncodeEventError::Content { name: "measured" | "noted", source })
        if matches!(source, EncodeError::NotFinite { .. } | EncodeError::Changed { .. }))
}

#[test]
fn an_event_that_cannot_be_read_back_is_refused_and_the_aggregate_stays_usable() {
    on_every_store(async |store: Store| {
        let gauges = Repository::<Gauge>::new(Arc::clone(&store));
        for event in lost() {
            let error = gauges.execute(&id(), Note(vec![measured(1.0), event.clone()])).await.expect_err("refused");
            assert!(matches!(&error, ExecuteError::Failed(failed) if names_the_event(failed)), "{error:?}");
            let error = gauges.plan(&id(), Note(vec![event.clone()])).await.expect_err("refused");
            assert!(matches!(&error, ExecuteError::Failed(failed) if names_the_event(failed)), "{error:?}");
            let unit = UnitOfWork::new(&store).execute(&gauges, "y".to_owned(), Note(vec![measured(2.0)])).execute(
                &gauges,
                id(),
                Note(vec![event]),
            );
            let error = unit.await.expect_err("refused");
            assert!(matches!(&error, UnitError::Failed(failed) if names_the_event(failed)), "{error:?}");
        }
        assert_eq!(store.head().await.expect("read"), None, "nothing was committed");
        let executed = gauges.execute(&id(), Note(vec![measured(1.0)])).await.expect("committed");
        assert_eq!((executed.events, executed.state.last), (vec![measured(1.0)], Some(Some(1))));
        let loaded = gauges.load(&id()).await.expect("loaded");
        assert_eq!(loaded.revision, Some(Revision::FIRST));
    });
}

#[test]
fn a_snapshot_that_cannot_be_read_back_is_not_stored() {
    on_every_store(async |store: Store| {
        let gauges = Repository::<Gauge>::new(Arc::clone(&store)).with_snapshot_policy(SnapshotPolicy::every(1));
        let snapshots = async || store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned").len();
        gauges.execute(&id(), Note(vec![measured(-1.0)])).await.expect("committed");
        gauges.settle().await;
        assert_eq!(snapshots().await, 0, "the state is Some(None), which MessagePack reads back as None");
        gauges.execute(&id(), Note(vec![measured(1.0)])).await.expect("committed");
        gauges.settle().await;
        assert_eq!(snapshots().await, 1);
    });
}

const LAST: View<String, Option<f64>> = View::new("last");

/// Stores the inverse of the last temperature, which is infinite for 0.
struct Inverse;

impl Projection for Inverse {
    type Source = Gauge;
    const NAME: &'static str = "inverse";

    fn apply(&self, event: &GaugeEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let GaugeEvent::Measured { celsius } = event else { return Ok(()) };
        rows.view(&LAST)?.put(&at.stream().to_string(), &Some(1.0 / celsius))
    }
}

const REFUSED: &str = "view \"last\": could not encode a value; correct its type: the value: application/json \
                       cannot represent inf; use the codec MessagePack or another type";

#[test]
fn a_row_that_cannot_be_read_back_is_not_stored() {
    given_events().of::<Gauge>(id(), [measured(0.0)]).project(Inverse).then_failed(|error| {
        assert_eq!(ErrorChain(error).to_string(), REFUSED);
    });
    on_every_store(async |store: Store| {
        let gauges = Repository::<Gauge>::new(Arc::clone(&store));
        gauges.execute(&id(), Note(vec![measured(0.0)])).await.expect("committed");
        let last = gauges.execute(&"y".to_owned(), Note(vec![measured(2.0)])).await.expect("committed");
        let live = Live::fold(store.clone(), Inverse, StreamId::new("gauge-x").expect("a name"))
            .await
            .map(drop)
            .expect_err("the row is refused");
        assert!(ErrorChain(&live).to_string().ends_with(REFUSED), "{}", ErrorChain(&live));
        let (running, handle) = start(&store, Inverse, ProjectionOptions::default());
        handle.wait_for(last.position.expect("a position"), TIMEOUT).await.expect("reached");
        let views = Views::of::<Inverse>(store.clone());
        assert_eq!(views.view(&LAST).get(&"gauge-x".to_owned()).await.expect("read"), None);
        assert_eq!(views.view(&LAST).get(&"gauge-y".to_owned()).await.expect("read"), Some(Some(0.5)));
        running.shutdown(TIMEOUT).await.expect("stopped");
    });
}

#[tokio::test]
async fn an_inline_view_refuses_the_commit_of_a_row_that_cannot_be_read_back() {
    let store: Store = Arc::new(MemoryStore::new().with_hook(Inline::new(Inverse)).await.expect("a store"));
    let gauges = Repository::<Gauge>::new(Arc::clone(&store));
    let error = gauges.execute(&id(), Note(vec![measured(0.0)])).await.expect_err("the hook refuses it");
    assert!(ErrorChain(&error).to_string().contains("application/json cannot represent inf"), "{}", ErrorChain(&error));
    assert_eq!(store.head().await.expect("read"), None);
}

#[test]
#[should_panic(expected = "could not store an event: could not write event \"measured\"")]
fn given_when_then_refuses_what_the_repository_refuses() {
    let _ = given::<Gauge>(id(), [measured(1.0)]).when(Note(vec![measured(f64::NAN)]));
}
