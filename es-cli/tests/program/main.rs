//! Tests of the program.

#![allow(clippy::unwrap_used, reason = "a failure shows its line")]

mod append;
mod backup;
mod backup_kill;
mod clock;
mod exchange;
mod files;
mod follow;
mod import;
mod kill;
mod limits;
mod looking;
mod permission;
mod repair;
#[cfg(unix)]
mod replication;
mod retag;
mod retain;
mod segments;
#[cfg(unix)]
mod service;
mod support;
mod terminal;
mod upkeep;
