//! The locks of the commit path, by one name: a checker of schedules puts its own here.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
