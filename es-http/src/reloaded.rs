//! [`Reloaded`]: a value from files that is read again when they change.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use es_core::model::ErrorChain;
use tokio::time::Instant;

/// The shortest time between two checks of the files, in milliseconds.
const CHECK_PERIOD: u64 = 1000;

/// Changes whenever the files are written or replaced.
type FileStamps = Vec<(SystemTime, u64)>;

type Read<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

/// A value from files. If the files become invalid or absent, the error is logged and the former value remains.
pub(crate) struct Reloaded<T, E>(Arc<Source<T, E>>);

struct Source<T, E> {
    files: Vec<PathBuf>,
    read: Read<T, E>,
    loaded: Mutex<LoadedValue<T>>,
    /// The version of the loaded value, which requests read without the lock.
    version: AtomicU64,
    start: Instant,
    /// The time of the next check, in milliseconds since the start.
    next_check: AtomicU64,
}

struct LoadedValue<T> {
    value: Arc<T>,
    stamps: Option<FileStamps>,
    /// The number of consecutive checks in which a file could not be read.
    failed_checks: u32,
}

/// The consecutive failed checks after which the failure is logged. A file is absent for a moment while it is replaced.
const LOGGED_FAILURE: u32 = 2;

/// Returns a version that no other value of the process has.
fn new_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl<T, E> Clone for Reloaded<T, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T, E> fmt::Debug for Reloaded<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl<T, E> Reloaded<T, E>
where
    T: Send + Sync + 'static,
    E: std::error::Error + Send + 'static,
{
    /// Reads the value for the first time.
    pub(crate) fn load(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // The stamps are taken first: a change between the two is found by the next check.
        let stamps = stamps(&files).ok();
        let loaded = Mutex::new(LoadedValue { value: Arc::new(read()?), stamps, failed_checks: 0 });
        let (version, next_check) = (AtomicU64::new(new_version()), AtomicU64::new(CHECK_PERIOD));
        let read = Box::new(read);
        Ok(Self(Arc::new(Source { files, read, loaded, version, start: Instant::now(), next_check })))
    }

    /// Returns the value, after the files were read again if they have changed.
    #[cfg(feature = "tls")]
    pub(crate) async fn current(&self) -> Arc<T> {
        if let Some(check) = self.check() {
            check.await;
        }
        self.value().0
    }

    /// Returns the value that was read last, and its version. Call [`check`](Self::check) before.
    pub(crate) fn value(&self) -> (Arc<T>, u64) {
        let loaded = self.0.lock();
        (Arc::clone(&loaded.value), self.version())
    }

    /// Returns the version of the value that was read last. No other value of the process has it.
    pub(crate) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Returns a check of the files if one is due: at most once a second, for one caller. Other callers continue with
    /// the value that was read last. The check ends when a changed value is loaded.
    pub(crate) fn check(&self) -> Option<impl Future<Output = ()> + Send + use<T, E>> {
        if !self.0.is_due() {
            return None;
        }
        let source = Arc::clone(&self.0);
        Some(async move {
            let refreshing = Arc::clone(&source);
            match tokio::task::spawn_blocking(move || refreshing.refresh()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => source.log_failed_check(&error),
                Err(_) => tracing::error!(files = ?source.files, "the check of the files panicked"),
            }
        })
    }
}

impl<T, E: std::error::Error + 'static> Source<T, E> {
    /// Returns whether the caller must check the files.
    fn is_due(&self) -> bool {
        if self.files.is_empty() {
            return false;
        }
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next_check.load(Ordering::Relaxed);
        let following = now.saturating_add(CHECK_PERIOD);
        now >= next && self.next_check.compare_exchange(next, following, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Reads the files again if they have changed. Fails if one is absent or cannot be examined.
    fn refresh(&self) -> std::io::Result<()> {
        let found = stamps(&self.files)?;
        {
            let mut loaded = self.lock();
            loaded.failed_checks = 0;
            if loaded.stamps.as_ref() == Some(&found) {
                return Ok(());
            }
        }
        match (self.read)() {
            Ok(value) => {
                tracing::info!(files = ?self.files, "loaded changed files");
                let mut loaded = self.lock();
                (loaded.value, loaded.stamps) = (Arc::new(value), Some(found));
                self.version.store(new_version(), Ordering::Release);
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::error!(files = ?self.files, error, "could not load changed files; the former values remain");
            }
        }
        Ok(())
    }
}

impl<T, E> Source<T, E> {
    /// Logs once that a file is absent or cannot be examined. The former value remains.
    fn log_failed_check(&self, error: &std::io::Error) {
        let mut loaded = self.lock();
        loaded.failed_checks = loaded.failed_checks.saturating_add(1);
        if loaded.failed_checks == LOGGED_FAILURE {
            tracing::error!(files = ?self.files, %error, "could not find the files; the former values remain");
        }
    }

    fn lock(&self) -> MutexGuard<'_, LoadedValue<T>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &[PathBuf]) -> std::io::Result<FileStamps> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file)?;
        Ok((metadata.modified()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}
