//! The span of a call of a reactor. A test binary of its own, because the subscriber is that of the whole program.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use es_core::aggregate::RawEvents;
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, StartAt};
use es_core::model::Metadata;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, EventStore, EventType, ExpectedRevision, NewEvent, RecordedEvent, StreamId};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const PATIENCE: Duration = Duration::from_secs(10);

/// The fields of a span by name.
#[derive(Debug, Clone, Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// Keeps the fields of each span of a call of a reactor.
#[derive(Debug, Clone, Default)]
struct Reactions(Arc<Mutex<Vec<Fields>>>);

impl<S: Subscriber> Layer<S> for Reactions {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "reaction" {
            assert_eq!(*attributes.metadata().level(), Level::INFO);
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fields);
        }
    }
}

/// Fails at the first attempt. Keeps the name of the span around each call.
#[derive(Debug, Clone, Default)]
struct Mails(Arc<Mutex<Vec<Option<&'static str>>>>);

#[async_trait]
impl Reactor for Mails {
    type Source = RawEvents;
    const NAME: &'static str = "mails";

    async fn react(&self, _: &RecordedEvent, _: &ReactorContext) -> Result<(), ReactError> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spans.push(tracing::Span::current().metadata().map(tracing::Metadata::name));
        if spans.len() == 1 { Err(ReactError::retry("not yet")) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_call_of_a_reactor_has_a_span_with_the_trace_of_the_event() {
    let reactions = Reactions::default();
    let subscriber = tracing_subscriber::registry().with(reactions.clone());
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber of this program");
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let stream = StreamId::new("order-1").expect("a valid id");
    let event = NewEvent::json(EventType::new("order-placed").expect("a valid name"), "{}");
    let event = event.with_metadata(Metadata::new().with("traceparent", TRACE));
    let placed = store.commit(Commit::to(&stream, ExpectedRevision::NoStream, [event])).await.expect("it is placed");
    let mails = Mails::default();
    let runner = ReactorRunner::new(mails.clone()).start_at(StartAt::Beginning);
    let running = runner.start(store).await.expect("it starts");
    running.wait_for(placed.position(), PATIENCE).await.expect("it reacts");
    running.shutdown(PATIENCE).await.expect("it ends");

    assert_eq!(*mails.0.lock().unwrap_or_else(PoisonError::into_inner), [Some("reaction"); 2]);
    let found = reactions.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let of = |name: &str| found.iter().map(|fields| fields.0.get(name).map(String::as_str)).collect::<Vec<_>>();
    let constant =
        [("reactor", "mails"), ("stream", "order-1"), ("event_type", "order-placed"), ("traceparent", TRACE)];
    for (name, value) in constant {
        assert_eq!(of(name), [Some(value); 2], "{name}");
    }
    assert_eq!(of("attempt"), [Some("1"), Some("2")]);
    assert_eq!(of("key").windows(2).filter(|keys| keys[0] == keys[1]).count(), 1, "the key of both attempts");
}
