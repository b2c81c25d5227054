// A projection of a replicated aggregate does not run inline, also if it handles late events.
use es_core::projection::inline::Inline;
use es_core::projection::{Arrival, HandlesLateEvents};
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

struct DoneTasks;

impl Projection for DoneTasks {
    type Source = Task;
    const NAME: &'static str = "done-tasks";
    fn apply(&self, _: &Done, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
        Ok(())
    }
}

impl HandlesLateEvents for DoneTasks {
    type Mode = Arrival;
}

fn main() {
    let _ = Inline::new(DoneTasks);
}
