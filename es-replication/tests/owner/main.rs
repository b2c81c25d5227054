//! Aggregates that declare `owner`: one node decides each stream.
//!
//! - `cases`: what a node refuses, hand-overs, forwarded commands.
//! - `start`: which node decides after a restart, after a restore, and on events from before the replication.
//! - `world`: a seeded simulation with partitions, crashes, lost answers and hand-overs. `network`: how its nodes reach
//!   each other. `oracle`: what must hold.
//!
//! `ES_SEEDS=2000 cargo test -p es-replication --test owner` runs more seeds, and `ES_SEED=7` one.

mod cases;
mod domain;
mod network;
mod oracle;
mod start;
mod world;

use world::{Coverage, World};

/// The number of seeds in a normal run of the tests.
const SEEDS: u64 = 100;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    match number("ES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ES_SEEDS").unwrap_or(SEEDS),
    }
}

/// Runs one seed in a runtime of its own, whose time is simulated.
fn run(seed: u64) -> Coverage {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let world = async move {
        let mut world = World::open(seed).await;
        world.run().await;
        world.heal().await
    };
    let run = || runtime.expect("a runtime").block_on(world);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    result.unwrap_or_else(|_| panic!("seed {seed} failed; run it alone with ES_SEED={seed}"))
}

#[test]
fn one_node_decides_each_stream_and_forwarded_commands_count_once() {
    let mut coverage = Coverage::default();
    for seed in seeds() {
        coverage.add(&run(seed));
    }
    println!("{coverage:#?}");
    if seeds().count() as u64 >= SEEDS {
        coverage.check();
    }
}
