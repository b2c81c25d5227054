// A type without `Projection` is not registered.
use es_core::projection::{ProjectionOptions, Supervisor};

struct Tasks;

fn main() {
    let _ = Supervisor::new().projection(Tasks, ProjectionOptions::new());
}
