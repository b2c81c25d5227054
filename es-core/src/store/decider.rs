//! [`Decider`]: decides on commits with the hooks of a store.
//!
//! ```text
//!   commit --> before-hooks --> decide --> numbered events --> after-hooks --> rows of the same commit
//!                   |              |                                |
//!                   +--------------+--------------------------------+--> CommitError: nothing is written
//! ```

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;

use crate::model::{Position, RecordedEvent, Timestamp};
use crate::store::decide::{CommitDecision, decide};
use crate::store::valid::ValidCommit;
use crate::store::view::LogView;
use crate::store::{CommitError, EventStore};

/// An error of a hook.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Takes part in the decision on each commit of a store.
///
/// A hook runs in the one append path of the store, between the arrival of a commit and its write, and sees the log and the
/// rows as the commits before this one leave them. Every commit waits for it, so it must be fast and must not panic.
///
/// # State in memory
/// A store whose write failed takes no more commits until it is reopened, and prepares its hooks again then. What a hook holds in
/// memory therefore mirrors its rows, provided that the hook changes it in [`after`](Self::after) only and treats the change
/// as written once [`LogView::row`] returns the row: a later hook may still refuse the commit.
pub trait DecisionHook: fmt::Debug + Send + Sync + 'static {
    /// The name of the hook, which is unique in a store.
    fn name(&self) -> &str;

    /// Runs before the shared decision. It may change the events of the commit, add rows, or refuse the commit.
    ///
    /// # Errors
    /// [`CommitError`]: the commit is refused. A hook returns its own error as [`CommitError::Rejected`].
    fn before(&self, commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
        let _ = (commit, view);
        Ok(())
    }

    /// Runs after the shared decision on a commit that is going to be written. `events` are its events with their positions,
    /// none where the commit has none. It may add rows, or refuse the commit. It does not run for a repeated commit.
    ///
    /// # Errors
    /// [`CommitError`]: the commit is refused. A hook returns its own error as [`CommitError::Rejected`].
    fn after(
        &self,
        commit: &mut ValidCommit,
        events: &[RecordedEvent],
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let _ = (commit, events, view);
        Ok(())
    }
}

/// Makes a [`DecisionHook`] for one store. Every hook in an [`Arc`] is one that needs no preparation.
#[async_trait]
pub trait PrepareHook: fmt::Debug + Send + Sync + 'static {
    /// The name of the hook that it makes.
    fn name(&self) -> &str;

    /// Reads the log up to its end and returns a hook whose rows and state include all of it. A store calls it again if another
    /// commit was written before the hook could start.
    ///
    /// # Errors
    /// The reason why the hook cannot start.
    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, BoxError>;
}

/// A hook that is ready to take part in decisions on commits after a position.
#[derive(Debug, Clone)]
pub struct PreparedHook {
    /// The hook.
    pub hook: Arc<dyn DecisionHook>,
    /// The position of the last event that the hook includes; `None` for none.
    pub position: Option<Position>,
}

#[async_trait]
impl<H: DecisionHook> PrepareHook for Arc<H> {
    fn name(&self) -> &str {
        DecisionHook::name(&**self)
    }

    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, BoxError> {
        Ok(PreparedHook { hook: Arc::<H>::clone(self), position: store.head().await? })
    }
}

#[async_trait]
impl PrepareHook for Arc<dyn PrepareHook> {
    fn name(&self) -> &str {
        PrepareHook::name(&**self)
    }

    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, BoxError> {
        (**self).prepare(store).await
    }
}

/// The reason why a hook could not start. The store takes no commits with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartHookError {
    /// The store has a hook with this name already. Give each hook its own name.
    #[error("duplicate hook name {name:?}; give each hook of a store its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The hook could not be prepared.
    #[error("hook {name:?} could not start")]
    Prepare {
        /// The name of the hook.
        name: String,
        /// The error of the hook.
        source: BoxError,
    },
}

/// Decides on the commits of one store: runs the hooks, the shared decision, and the hooks again.
#[derive(Debug, Default)]
pub struct Decider {
    // One writer decides. The lock lets a hook start while the writer runs.
    hooks: RwLock<Vec<Arc<dyn DecisionHook>>>,
}

impl Decider {
    /// Returns a decider without hooks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides on a commit that arrived at the time `now`. The store must write the commit as it is afterwards.
    ///
    /// # Errors
    /// [`CommitError`]: the commit must not be written.
    pub fn decide(
        &self,
        commit: &mut ValidCommit,
        view: &mut dyn LogView,
        now: Timestamp,
    ) -> Result<CommitDecision, CommitError> {
        let hooks = self.hooks();
        for hook in hooks.iter() {
            hook.before(commit, view)?;
        }
        let decision = decide(commit, view, now)?;
        if let CommitDecision::Write(committed) = &decision {
            commit.seal_events();
            for hook in hooks.iter() {
                hook.after(commit, &committed.events, view)?;
            }
        }
        Ok(decision)
    }

    /// Prepares a hook, and lets it take part in all decisions from then on.
    ///
    /// `at_end` calls the given function with the end of the log while no commit can be decided, and returns its answer. The
    /// answer is no if the log has grown since the hook was prepared; then the hook is prepared again.
    ///
    /// # Errors
    /// [`StartHookError`]: the name is taken, or the hook cannot start.
    pub async fn start(
        &self,
        store: &dyn EventStore,
        source: &dyn PrepareHook,
        at_end: impl Fn(&mut dyn FnMut(Option<Position>) -> bool) -> bool,
    ) -> Result<(), StartHookError> {
        let name = source.name();
        loop {
            if self.runs(name) {
                return Err(StartHookError::Duplicate { name: name.to_owned() });
            }
            let prepared = source.prepare(store).await;
            let PreparedHook { hook, position } =
                prepared.map_err(|source| StartHookError::Prepare { name: name.to_owned(), source })?;
            let mut start = |end: Option<Position>| end == position && self.add(&hook);
            if at_end(&mut start) {
                tracing::info!(hook = name, ?position, "a hook takes part in decisions");
                return Ok(());
            }
        }
    }

    /// Returns whether a hook with this name takes part in decisions.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.hooks().iter().any(|hook| hook.name() == name)
    }

    /// Adds a hook unless the store has one with its name.
    fn add(&self, hook: &Arc<dyn DecisionHook>) -> bool {
        let mut hooks = self.hooks.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = hooks.iter().all(|existing| existing.name() != hook.name());
        if is_new {
            hooks.push(Arc::clone(hook));
        }
        is_new
    }

    fn hooks(&self) -> RwLockReadGuard<'_, Vec<Arc<dyn DecisionHook>>> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner)
    }
}
