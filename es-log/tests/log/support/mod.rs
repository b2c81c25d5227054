//! What the tests share: random numbers, a simulated disk, commits, and the comparison of a log with its history.

pub(crate) mod disk;
mod history;
mod random;

pub(crate) use disk::SimDisk;
pub(crate) use history::{History, append, commit, event, options, payloads, read_all, real_options};
pub(crate) use random::{Random, number, seed};
