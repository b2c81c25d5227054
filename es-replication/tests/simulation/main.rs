//! A seeded simulation of three to seven nodes.
//!
//! The code under test is that of production: the hook, the source, the pull, the start of a replica, the repository
//! with its cache and its snapshots. Only the store (in memory), the network, the clocks and the random numbers are
//! simulated. A run is a function of its seed.
//!
//! - `node`: a node with its store, its clock and its backups.
//! - `network`: links that are cut, and answers that are lost, repeated or delayed.
//! - `world`: the random steps.
//! - `settled`: a view in canonical order on each node.
//! - `oracle`: what must hold after each step, and after all links are healed.
//! - `coverage`: how often each rare case occurred.
//!
//! `ES_SEEDS=2000 cargo test -p es-replication --test simulation` runs more seeds, and `ES_SEED=7` one.

mod coverage;
mod domain;
mod network;
mod node;
mod oracle;
mod settled;
mod world;

use coverage::Coverage;
use world::{Faults, World};

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
fn run(seed: u64, faults: Faults) -> Coverage {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let world = async move {
        let mut world = World::open(seed, faults).await;
        world.run().await;
        world.heal().await;
        world.coverage()
    };
    let run = || runtime.expect("a runtime").block_on(world);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    result.unwrap_or_else(|_| panic!("seed {seed} failed; run it alone with ES_SEED={seed}"))
}

#[test]
fn nodes_converge_in_causal_order() {
    let mut coverage = Coverage::default();
    for seed in seeds() {
        coverage.add(&run(seed, Faults::default()));
    }
    println!("{coverage:#?}");
    if seeds().count() as u64 >= SEEDS {
        coverage.check();
    }
}

/// A peer that sends the events of each origin together, as Akka did, instead of in the order of its log. The check of
/// causes refuses such pages: the order is never violated, but the nodes make no progress.
#[test]
fn a_peer_that_sends_by_origin_is_refused() {
    let mut coverage = Coverage::default();
    for seed in seeds().take(20) {
        coverage.add(&run(seed, Faults { sends_by_origin: true }));
    }
    assert!(coverage.refused_order > 0, "{coverage:#?}");
}
