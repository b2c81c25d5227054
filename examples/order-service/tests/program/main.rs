//! The program itself, run as its users run it; and what it stands on, with the store that a test wants.

mod any_store;
mod bad_input;
mod commands;
mod import;
mod kill;
mod made;
mod northwind;
mod sample;
mod serve;
mod support;
