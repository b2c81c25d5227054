// A view of states loads aggregates, so it runs in the background only.
use es_core::projection::inline::Inline;
use es_core::projection::view::View;
use es_core::projection::{Live, LiveEvents, StateView};
use es_core::store::memory::MemoryStore;
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "task-done")]
struct Done;

#[derive(Clone, Aggregate)]
#[aggregate(category = "task", id = u64, event = Done, consistency = "causal", conflict = "canonical")]
struct Task;

impl Evolve for Task {
    fn initial(_: &u64) -> Self {
        Self
    }
    fn evolve(&mut self, _: &Done, _: &EventContext<'_>) {}
}

struct Tasks;

impl StateView for Tasks {
    type Aggregate = Task;
    type Row = ();
    const VIEW: View<u64, ()> = View::new("tasks");
    fn row(_: &Task) -> Option<()> {
        Some(())
    }
}

fn main() {
    let _ = Inline::new(Tasks);
    let _ = Live::fold(std::sync::Arc::new(MemoryStore::new()), Tasks, LiveEvents::All);
}
