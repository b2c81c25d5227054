// A projection of a replicated aggregate is not registered without `HandlesLateEvents`. Neither is one of a tuple with
// such an aggregate.
use es_core::projection::{Live, LiveEvents, ProjectionOptions, Supervisor};
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

#[derive(Clone, Aggregate)]
#[aggregate(category = "note", id = u64, event = Done)]
struct Note;

struct DoneTasks;

impl Projection for DoneTasks {
    type Source = Task;
    const NAME: &'static str = "done-tasks";
    fn apply(&self, _: &Done, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        Ok(())
    }
}

struct DoneItems;

impl Projection for DoneItems {
    type Source = (Note, Task);
    const NAME: &'static str = "done-items";
    fn apply(&self, _: &OneOf2<Done, Done>, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        Ok(())
    }
}

fn main() {
    let _ = Supervisor::new().projection(DoneTasks, ProjectionOptions::new());
    let _ = Supervisor::new().projection(DoneItems, ProjectionOptions::new());
    let _ = Live::fold(std::sync::Arc::new(MemoryStore::new()), DoneTasks, LiveEvents::All);
}
