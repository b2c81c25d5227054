//! Threads and locks: those of the standard library; in the tests of schedules those of shuttle, which decides who runs
//! next at each of them.
//!
//! Where the order of threads matters for what the store promises, they come from here. tokio's channels and semaphores
//! need no other form: they block no thread.

#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::AtomicBool;
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
#[cfg(not(shuttle))]
pub(crate) use std::thread;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::AtomicBool;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
#[cfg(shuttle)]
pub(crate) use shuttle::thread;
