//! The program itself, run as its users run it.

#![allow(clippy::unwrap_used, reason = "what fails here fails where it should")]

mod append;
mod backup;
mod backup_kill;
mod exchange;
mod follow;
mod import;
mod kill;
mod looking;
mod permission;
mod repair;
mod retain;
mod support;
mod upkeep;
