//! The crash harness: checks that acknowledged commits survive a failure of the process, the machine or the disk.
//!
//! ```text
//!   parent                                 child (crash-child)
//!     start ─────────────────────────────►   open the directory
//!     record acknowledgements ◄─ stdout ──   commit, and print an acknowledgement
//!     SIGKILL at a random time ──────────►   (killed)
//!     drop or tear unsynced data             (power-loss mode; the shim wrote the journal)
//!     open the directory, read everything,
//!     compare it with the acknowledgements
//! ```
//!
//! - [`work`]: the commits of a child. Each is a function of its name, so that the parent knows the expected content.
//! - [`contents`]: all content that is readable through the public API.
//! - [`history`]: the acknowledged commits, and the comparison.
//! - [`child`]: starts a child, reads its output and kills it.
//! - [`writers`]: the writers in the child.
//! - [`power`]: the shim, and the simulation of a power failure.
//!
//! All random choices derive from one seed, which every failure prints; `ES_SEED` repeats them. The time of a kill also
//! depends on the machine, so that a seed repeats the choices, not the exact run.

pub mod child;
pub mod contents;
pub mod history;
pub mod power;
pub mod work;
pub mod writers;

use std::path::Path;

use es_core::EventStore;
use es_rocksdb::{Durability, OnWriteFailure, OpenError, Options, ReadOnlyStore, RocksDbStore};

pub use child::{Child, Run};
pub use contents::Contents;
pub use history::History;
pub use power::Power;

/// Returns the number in an environment variable, or the default.
#[must_use]
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns the seed of this run: `ES_SEED`, or a value of the clock.
#[must_use]
pub fn seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    number("ES_SEED", since.map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs()))
}

/// Returns the options of child and parent: small buffers, so that a short run rotates log files and flushes SST files.
#[must_use]
pub fn options() -> Options {
    let options = Options::new().block_cache_bytes(4 << 20).write_buffer_bytes(512 << 10);
    let options = options.on_write_failure(OnWriteFailure::Stop);
    options.index_run(100, 1 << 20).log_segment_bytes(256 << 10)
}

/// Opens the store of this kind, reads all content and closes the store.
///
/// # Errors
/// [`StoreRefusal`] if the store cannot be opened or read.
pub fn read_all(dir: &Path, history: &History) -> Result<Contents, StoreRefusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let store = RocksDbStore::open_with(dir, options().durability(Durability::Sync)).await?;
        let contents = Contents::read(&store, &history.acknowledged().collect::<Vec<_>>()).await;
        store.close().await?;
        Ok(contents?)
    })
}

/// Opens the store read-only and reads all content.
///
/// # Errors
/// [`StoreRefusal`] if the store cannot be opened or read.
pub fn read_all_read_only(dir: &Path, history: &History) -> Result<Contents, StoreRefusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let store = ReadOnlyStore::open(dir).await?;
        Ok(Contents::read(&store, &history.acknowledged().collect::<Vec<_>>()).await?)
    })
}

/// An error of opening or reading a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreRefusal {
    /// The store could not be opened.
    #[error("could not open the store")]
    Open(#[from] OpenError),
    /// The store could not be read.
    #[error("could not read the store")]
    Read(#[from] es_core::StoreError),
}

/// A seeded random number generator: splitmix64, "Fast Splittable Pseudorandom Number Generators", Steele et al. 2014.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Creates a generator with a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// Returns one of the items.
    ///
    /// # Panics
    /// If `items` is empty.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).expect("a small number")]
    }

    /// Returns true with a probability of 1 in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
