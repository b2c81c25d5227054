//! Threads and locks: those of the standard library, or those of shuttle in the tests of schedules.

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(not(shuttle))]
pub(crate) use std::thread;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(shuttle)]
pub(crate) use shuttle::thread;

/// Locks a mutex. A panic of another holder is ignored: no lock of this crate is held across a call that can panic
/// between two dependent changes.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of attempts of [`lock_soon`], with pauses in between. Together they take about as long as a change of
/// threads.
#[cfg(not(shuttle))]
const ATTEMPTS: u32 = 100;

/// The length of a pause, in hints to the processor.
#[cfg(not(shuttle))]
const PAUSE: u32 = 8;

/// Locks a mutex that others hold for some microseconds, and tries several times before it waits for a notification.
pub(crate) fn lock_soon<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test of schedules decides who runs next, and would try each attempt.
    #[cfg(not(shuttle))]
    for _ in 0..ATTEMPTS {
        if let Ok(guard) = mutex.try_lock() {
            return guard;
        }
        (0..PAUSE).for_each(|_| std::hint::spin_loop());
    }
    lock(mutex)
}

/// Waits for a notification.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
