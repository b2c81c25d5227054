//! What the tests across crates share: a small domain, and every store under one name.
//!
//! The README is compiled and run as a doctest of this crate:
#![doc = include_str!("../../README.md")]

pub mod account;
pub mod counted;
pub mod crash;
pub mod ledger;
pub mod member;
pub mod removed;
pub mod stores;
pub mod supervised;
