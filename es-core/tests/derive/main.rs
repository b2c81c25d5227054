//! Tests of the code that `#[derive(Event)]` and `#[derive(Aggregate)]` generate.
#![cfg(feature = "derive")]

mod aggregate;
mod event;
mod hygiene;
mod read_back;
mod snapshots;
mod support;
mod versions;
