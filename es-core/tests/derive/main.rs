//! Tests of the code that `#[derive(Event)]` and `#[derive(Aggregate)]` generate.

mod aggregate;
mod event;
mod hygiene;
mod support;
mod versions;
