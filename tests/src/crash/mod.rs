//! The crash harness: what was acknowledged is there after the process, the machine or the disk failed.
//!
//! ```text
//!   parent                                 child (crash-child)
//!     start ─────────────────────────────►   open the directory
//!     note acknowledgements ◄── stdout ───   commit, and say so once the future has resolved
//!     SIGKILL at a random moment ────────►   (gone)
//!     drop or tear what was not synced       (power-loss mode; the shim kept the journal)
//!     open the directory, read everything,
//!     compare it with what was acknowledged
//! ```
//!
//! - [`work`]: what a child commits. Each commit is a function of its name, so that the parent knows what must be there.
//! - [`contents`]: everything that can be read through the public API.
//! - [`history`]: what was acknowledged, and the comparison.
//! - [`child`]: starting, listening to and killing a child.
//! - [`writers`]: what runs in the child.
//! - [`power`]: the shim, and what a power failure leaves.
//!
//! Everything random comes from one seed, which every failure names: `ES_SEED` runs it again. The moments at which a
//! process is killed are of the machine all the same, so that a seed repeats the plan and not the run.

pub mod child;
pub mod contents;
pub mod history;
pub mod power;
pub mod work;
pub mod writers;

use es_core::EventStore;
use std::path::Path;

use es_rocksdb::{Durability, OpenError, Options, ReadOnlyStore, RocksDbStore};

pub use child::{Child, Run};
pub use contents::Contents;
pub use history::History;
pub use power::Power;

/// A number from the environment, or another one.
#[must_use]
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The seed of this run: `ES_SEED`, or one from the clock.
#[must_use]
pub fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    number("ES_SEED", since.map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs()))
}

/// The options of child and parent: small buffers, so that a short run has log files that end and tables that are written.
#[must_use]
pub fn options() -> Options {
    Options::new().block_cache_bytes(4 << 20).write_buffer_bytes(512 << 10)
}

/// Opens the store, reads everything, and closes it.
///
/// # Errors
/// [`StoreRefusal`] where the store says itself that something is wrong.
pub fn read_all(dir: &Path, history: &History) -> Result<Contents, StoreRefusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let store = RocksDbStore::open_with(dir, options().durability(Durability::Sync)).await?;
        let contents = Contents::read(&store, &history.acknowledged().collect::<Vec<_>>()).await;
        store.close().await?;
        Ok(contents?)
    })
}

/// The same as who only looks sees it, beside a service or without one.
///
/// # Errors
/// [`StoreRefusal`] where the store says itself that something is wrong.
pub fn look_at_all(dir: &Path, history: &History) -> Result<Contents, StoreRefusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let store = ReadOnlyStore::open(dir).await?;
        Ok(Contents::read(&store, &history.acknowledged().collect::<Vec<_>>()).await?)
    })
}

/// How a store says that something is wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreRefusal {
    /// When it was opened.
    #[error("refused to open")]
    Open(#[from] OpenError),
    /// When it was read.
    #[error("refused to read")]
    Read(#[from] es_core::StoreError),
}

/// Random numbers from a seed: splitmix64, "Fast Splittable Pseudorandom Number Generators", Steele et al. 2014.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers that follow from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound that is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// One of these.
    ///
    /// # Panics
    /// Where there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).expect("a small number")]
    }

    /// Whether a thing happens that happens once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
