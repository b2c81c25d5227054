//! The span of a reaction of a process. A test binary of its own, because the subscriber is that of the whole program.

#[expect(dead_code, reason = "other tests use the rest")]
mod payments;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use es_core::model::Metadata;
use es_core::store::memory::MemoryStore;
use payments::{Collecting, CollectionSignal, DAY, OrderEvent, PATIENCE, Record, until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The fields of a span by name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// Keeps the fields of each span with the name of reactions.
#[derive(Debug, Clone, Default)]
struct Reactions(Arc<Mutex<Vec<Fields>>>);

impl Reactions {
    /// Returns the fields of the spans of reactions to inputs of this kind.
    fn of_kind(&self, kind: &str) -> Vec<Fields> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().filter(|fields| fields.0.get("kind").is_some_and(|found| found == kind)).cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Reactions {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "process_reaction" {
            assert_eq!(*attributes.metadata().level(), Level::INFO);
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fields);
        }
    }
}

/// Returns the fields of the reaction of instance 1 to an input.
fn reaction(kind: &str, input: &str, traceparent: &str) -> Fields {
    let fields =
        [("process", "collection"), ("instance", "1"), ("kind", kind), ("input", input), ("traceparent", traceparent)];
    Fields(fields.map(|(name, value)| (name, value.to_owned())).into())
}

#[tokio::test]
async fn a_reaction_has_a_span_with_the_input_and_the_trace_of_the_event() {
    let reactions = Reactions::default();
    let subscriber = tracing_subscriber::registry().with(reactions.clone());
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this program");
    let shop = Collecting::over(Arc::new(MemoryStore::new()));
    let manager = shop.manager();
    let running = manager.start().await.expect("it starts");
    let placed = shop.orders.execute(&1, Record(OrderEvent::Placed { payment: 100 }));
    placed.with_metadata(Metadata::new().with("traceparent", TRACE)).await.expect("it is placed");
    shop.settled(&running).await;
    let check = manager.query(&1).await.expect("it loads").journal.waits().remove(0);
    manager.complete(&check, &"ok".into()).await.expect("it is open");
    shop.clock.advance(DAY);
    until(async || manager.query(&1).await.expect("it loads").state.reminders == 1).await;
    manager.signal(&1, "s1", &CollectionSignal::Extend { days: 2 }).await.expect("it is handled");
    // An event without a trace.
    shop.pay(100, 5).await;
    shop.settled(&running).await;
    assert!(running.shutdown(PATIENCE).await);

    let events = [reaction("event", "order-placed", TRACE), reaction("event", "payment-received", "")];
    assert_eq!(reactions.of_kind("event"), events);
    assert_eq!(reactions.of_kind("completion"), [reaction("completion", "check", "")]);
    assert_eq!(reactions.of_kind("timer"), [reaction("timer", "reminder", "")]);
    assert_eq!(reactions.of_kind("signal"), [reaction("signal", "s1", "")]);
}
