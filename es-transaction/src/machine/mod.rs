//! Placeholder for the merge: wait-die.
mod lock;
pub use lock::{LockAnswer, on_locked};
