//! Helpers for tests across crates: a small domain, every store, projections and the crash harness.
//!
//! The README is a doctest of this crate:
#![doc = include_str!("../../README.md")]

pub mod account;
pub mod counted;
pub mod crash;
pub mod ledger;
pub mod member;
pub mod removed;
pub mod stores;
pub mod supervised;
pub mod tally;
