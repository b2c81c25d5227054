//! Tests of the log with real files, and with a simulated disk that loses, tears and refuses writes.
//!
//! `ES_SEED` repeats the random choices of a run.

mod compressing;
mod failed_sync;
mod flips;
mod following;
mod full_disk;
mod kill;
mod lock;
mod opening_beside_a_writer;
mod power_loss;
mod reading;
mod rewriting;
mod simulation;
mod support;
mod torn;
