//! Runs each example. The assertions are in the examples.

#[path = "../examples/inline_view.rs"]
mod inline_view;
#[path = "../examples/reactor.rs"]
mod reactor;
#[path = "../examples/state_at_a_time.rs"]
mod state_at_a_time;
#[path = "../examples/transactions.rs"]
mod transactions;
#[path = "../examples/unique_keys.rs"]
mod unique_keys;
#[path = "../examples/unit_of_work.rs"]
mod unit_of_work;
#[path = "../examples/upcaster.rs"]
mod upcaster;

/// An example with the function that runs it.
type Example = (&'static str, fn() -> Result<(), Box<dyn std::error::Error>>);

const EXAMPLES: [Example; 7] = [
    ("inline_view", inline_view::main),
    ("reactor", reactor::main),
    ("state_at_a_time", state_at_a_time::main),
    ("transactions", transactions::main),
    ("unique_keys", unique_keys::main),
    ("unit_of_work", unit_of_work::main),
    ("upcaster", upcaster::main),
];

#[test]
fn every_example_runs_to_its_end() {
    for (name, run) in EXAMPLES {
        run().unwrap_or_else(|error| panic!("the example {name} failed: {error}"));
    }
}

#[test]
fn every_example_is_run_and_says_how() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let command = format!("cargo run -p es-examples --example {name}");
        assert!(std::fs::read_to_string(&path).unwrap().contains(&command), "{name} does not say how to run it");
        found.push(name);
    }
    found.sort();
    assert_eq!(found, EXAMPLES.map(|(name, _)| name));
}
