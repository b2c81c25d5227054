//! Threads and locks: those of the standard library; in the tests of schedules those of shuttle, which decides who runs
//! next at each of them.
//!
//! Where the order of threads matters for what the store promises, they come from here. tokio's channels and semaphores
//! need no other form: they block no thread.

#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
#[cfg(not(shuttle))]
pub(crate) use std::thread;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
#[cfg(shuttle)]
pub(crate) use shuttle::thread;

/// Lets another thread run before a step that other threads can see and that takes none of these locks, such as an
/// access of RocksDB. It has an effect in the tests of schedules only.
#[cfg(shuttle)]
pub(crate) fn switch_threads() {
    AtomicBool::new(false).load(std::sync::atomic::Ordering::SeqCst);
}

/// Does nothing outside of the tests of schedules.
#[cfg(not(shuttle))]
pub(crate) const fn switch_threads() {}
