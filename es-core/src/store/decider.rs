//! [`Decider`]: decides on commits, including the hooks of a store.
//!
//! ```text
//!   commit --> before-hooks --> decide --> numbered events --> after-hooks --> rows of the same commit
//!                   |              |                                |
//!                   +--------------+--------------------------------+--> CommitError: nothing is written
//! ```

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::model::{
    Category, Dot, HybridTime, OriginId, Position, RecordedEvent, RetiredOrigins, Timestamp, VectorClock,
};
use crate::store::decide::{CommitDecision, decide};
use crate::store::locks::{Locks, decided_records};
use crate::store::metrics::StoreMetrics;
use crate::store::store_clock::{ahead_of_clock, check_clock};
use crate::store::valid::ValidCommit;
use crate::store::view::LogView;
use crate::store::{CommitError, EventStore, Query, StoreError};

/// An error of a hook.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Takes part in the decision on each commit of a store.
///
/// A hook runs in the one append path of the store, after a commit has arrived and before it is written. It sees the
/// log and the rows with all earlier commits applied. Every commit waits for it, so it must be fast and must not panic.
///
/// # State in memory
/// A store whose write failed rejects commits until that write has succeeded, or until it is reopened and prepares its
/// hooks again. The in-memory state of a hook therefore matches its rows, provided that the hook changes it only in
/// [`after`](Self::after) and treats the change as written only once [`LogView::row`] returns the row: a later hook may
/// still reject the commit.
pub trait DecisionHook: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the hook, which is unique in a store.
    fn name(&self) -> &str;

    /// Runs before the shared decision. It may change the events of the commit, add rows, or reject the commit.
    ///
    /// # Errors
    /// [`CommitError`] if the hook rejects the commit. A hook returns its own error as [`CommitError::Rejected`].
    fn before(&self, commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
        let _ = (commit, view);
        Ok(())
    }

    /// Runs after the shared decision on a commit that will be written, but not for a repeated commit. `events` are the
    /// numbered events of the commit, which itself has none any more. It may add rows, or reject the commit.
    ///
    /// # Errors
    /// [`CommitError`] if the hook rejects the commit. A hook returns its own error as [`CommitError::Rejected`].
    fn after(
        &self,
        commit: &mut ValidCommit,
        events: &[RecordedEvent],
        view: &mut dyn LogView,
    ) -> Result<(), CommitError> {
        let _ = (commit, events, view);
        Ok(())
    }

    /// Returns an error if [`after`](Self::after) would reject these events. They are the decided events of a
    /// transaction that a commit prepares, numbered as if the next commit wrote them (after a pre-commit, their
    /// revisions are greater by one). Once prepared, they must not be rejected later. The default accepts all.
    ///
    /// # Errors
    /// As for [`after`](Self::after).
    fn check(&self, events: &[RecordedEvent], view: &mut dyn LogView) -> Result<(), CommitError> {
        let _ = (events, view);
        Ok(())
    }

    /// Returns what the hook knows of the replication of the store, or `None` if it replicates no streams. The default
    /// is `None`.
    fn replication(self: Arc<Self>) -> Option<Arc<dyn Replication>> {
        None
    }

    /// Returns the query of the events that can make [`after`](Self::after) reject a commit. The store refuses to start
    /// the hook if another hook replicates such events: they have already happened on another node. The default is
    /// `None`.
    fn vetoes(&self) -> Option<&Query> {
        None
    }
}

/// What the hook of a replica knows of the replication of a store.
#[async_trait]
pub trait Replication: Any + fmt::Debug + Send + Sync {
    /// Returns `true` if the origin is a present or former origin of this node.
    fn is_own_origin(&self, origin: OriginId) -> bool;

    /// Returns `true` if streams of the category are replicated, or were received from another node.
    fn replicates(&self, category: &Category) -> bool;

    /// Returns the origins that were removed from vector clocks. The result is a handle, which also has those that are
    /// removed later: once an event is written whose node knew of a retirement, the handle has the retirement.
    fn retired_origins(&self) -> RetiredOrigins;

    /// Returns up to which time the store has the events of all members.
    ///
    /// # Errors
    /// [`StoreError`] if the rows of the replica cannot be read or written.
    async fn settled(&self, store: &dyn EventStore) -> Result<SettledTime, StoreError>;

    /// Returns a channel that changes when [`settled`](Self::settled) may return a later time although no event was
    /// stored.
    fn watch_settled(&self) -> watch::Receiver<()>;

    /// Returns the stored events of an origin after a sequence, at most `limit`, in ascending order.
    ///
    /// # Errors
    /// [`StoreError`] if the rows of the replica cannot be read.
    async fn stored_after(
        &self,
        store: &dyn EventStore,
        origin: OriginId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(Dot, Position)>, StoreError>;
}

/// The settled time of a node: the hybrid time up to which it has the events of all members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledTime {
    /// The time; `None` until every member has made a promise.
    pub time: Option<HybridTime>,
    /// The member whose promise is the oldest, or that has made none; `None` if every stored event is settled.
    pub held_back_by: Option<String>,
    /// For each origin the last event that is accounted for. All events up to the time are among them.
    pub known: VectorClock,
    /// The position of the last replicated event.
    pub position: Option<Position>,
    /// The position of the last event that was stored after a later one of its origin.
    pub late: Option<Position>,
}

/// Prepares a [`DecisionHook`] for one store. An `Arc` of a hook is a `PrepareHook` that needs no preparation.
#[async_trait]
pub trait PrepareHook: fmt::Debug + Send + Sync + 'static {
    /// Returns the name of the hook.
    fn name(&self) -> &str;

    /// Reads the log up to its end and returns a hook whose rows and state include all of it. A store calls it again if
    /// a commit was written before the hook could start.
    ///
    /// # Errors
    /// The reason why the hook cannot start.
    async fn prepare(&self, store: &dyn EventStore) -> Result<PreparedHook, BoxError>;
}

/// A hook that can take part in decisions on commits after a position.
#[derive(Debug, Clone)]
pub struct PreparedHook {
    /// The hook.
    pub hook: Arc<dyn DecisionHook>,
    /// The position of the last event that the hook includes, or `None` if it includes none.
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

/// A hook could not start. The store takes no commits with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartHookError {
    /// The store already has a hook with this name. Give each hook its own name.
    #[error("duplicate hook name {name:?}; give each hook of a store its own name")]
    Duplicate {
        /// The name of the hook.
        name: String,
    },
    /// The hook can reject events that another hook replicates from other nodes. For an inline projection, restrict its
    /// query to categories that are not replicated, or run it in the background.
    #[error(
        "hook {name:?} can reject events of {category}, which other nodes have already accepted; restrict its query to \
         categories that are not replicated, or run the projection in the background"
    )]
    Replicated {
        /// The name of the hook.
        name: String,
        /// The category; `any category` if the query names none.
        category: String,
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

/// Decides on the commits of one store: runs the hooks before and after the shared decision.
#[derive(Debug, Default)]
pub struct Decider {
    // Only one writer decides at a time. The lock lets a hook start while the writer runs.
    hooks: RwLock<Vec<Arc<dyn DecisionHook>>>,
    /// The streams that prepared transactions lock. Only the writer uses them.
    locks: Mutex<Locks>,
    /// Whether the last commit got a recorded time that is ahead of the clock.
    is_ahead_of_clock: AtomicBool,
    metrics: StoreMetrics,
}

impl Decider {
    /// Returns a decider without hooks, for a store with these locks.
    #[must_use]
    pub fn new(locks: Locks) -> Self {
        Self { locks: Mutex::new(locks), ..Self::default() }
    }

    /// Decides on a commit that arrived at the time `now`. Hooks may change the commit; the store writes the changed
    /// commit.
    ///
    /// # Errors
    /// The error of a hook, or one of these:
    ///
    /// - [`CommitError::IdConflict`] if the log contains an event id of the commit, but not as part of the same commit.
    /// - [`CommitError::Invalid`] if the commit adds a tombstone after an event that was not removed.
    /// - [`CommitError::Conflict`] if a condition does not hold, or a prepared transaction locks a stream.
    /// - [`CommitError::Store`] if the view fails, or if `now` is before 1970.
    pub fn decide(
        &self,
        commit: &mut ValidCommit,
        view: &mut dyn LogView,
        now: Timestamp,
    ) -> Result<CommitDecision, CommitError> {
        let decision = self.decide_with_hooks(commit, view, now);
        self.metrics.count(&decision);
        decision
    }

    fn decide_with_hooks(
        &self,
        commit: &mut ValidCommit,
        view: &mut dyn LogView,
        now: Timestamp,
    ) -> Result<CommitDecision, CommitError> {
        check_clock(now).map_err(|error| StoreError::io("record the time of a commit", error))?;
        let hooks = self.hooks();
        for hook in hooks.iter() {
            hook.before(commit, view)?;
        }
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = decide(commit, &mut locks, view, now)?;
        if let CommitDecision::Write(committed) = &decision {
            let decided = decided_records(&committed.events);
            for hook in hooks.iter().filter(|_| !decided.is_empty()) {
                hook.check(&decided, view)?;
            }
            for hook in hooks.iter() {
                hook.after(commit, &committed.events, view)?;
            }
            let rows = locks.record(&committed.events)?;
            if !rows.is_empty() {
                commit.add_rows(rows)?;
            }
            if commit.recorded_time().is_none() {
                self.report_clock(&committed.events, now);
            }
        }
        Ok(decision)
    }

    /// Logs a warning when recorded times begin to be ahead of the clock, and a message when they no longer are.
    fn report_clock(&self, events: &[RecordedEvent], now: Timestamp) {
        let Some(last) = events.last().map(|event| event.recorded_at) else { return };
        let ahead = ahead_of_clock(Some(last), now);
        if self.is_ahead_of_clock.swap(ahead.is_some(), Ordering::Relaxed) == ahead.is_some() {
            return;
        }
        match ahead {
            Some(ahead) => tracing::warn!(
                recorded_at = %last, clock = %now, ?ahead,
                "the log is ahead of the clock; events get the time of the last event until the clock has caught up"
            ),
            None => tracing::info!("the clock has caught up with the log"),
        }
    }

    /// Prepares a hook and adds it to all later decisions.
    ///
    /// `at_end` must block decisions, call the given function with the position of the last event, and return its
    /// result. The function returns `false` if the log has grown since the hook was prepared; the hook is then prepared
    /// again.
    ///
    /// # Errors
    /// - [`StartHookError::Duplicate`] if the store has a hook with this name.
    /// - [`StartHookError::Replicated`] if a hook can reject events that another one replicates.
    /// - [`StartHookError::Prepare`] if the hook cannot be prepared.
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
            self.check_replicated(&hook)?;
            let mut start = |end: Option<Position>| end == position && self.add(&hook);
            if at_end(&mut start) {
                tracing::info!(hook = name, ?position, "a hook takes part in decisions");
                return Ok(());
            }
        }
    }

    /// Returns `true` if a hook with this name takes part in decisions.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.hooks().iter().any(|hook| hook.name() == name)
    }

    /// Returns `true` if no hook replicates streams, or if this is a present or former origin of the node.
    #[must_use]
    pub fn is_own_origin(&self, origin: OriginId) -> bool {
        self.replications().iter().all(|replication| replication.is_own_origin(origin))
    }

    /// Returns what the hook of a replica knows, or `None` if no hook replicates streams.
    #[must_use]
    pub fn replication(&self) -> Option<Arc<dyn Replication>> {
        self.replications().pop()
    }

    fn replications(&self) -> Vec<Arc<dyn Replication>> {
        self.hooks().iter().filter_map(|hook| Arc::clone(hook).replication()).collect()
    }

    /// Checks that no hook can reject events that another one replicates.
    fn check_replicated(&self, new: &Arc<dyn DecisionHook>) -> Result<(), StartHookError> {
        let hooks = self.hooks();
        for existing in hooks.iter() {
            for (replica, other) in [(new, existing), (existing, new)] {
                let replication = Arc::clone(replica).replication();
                let (Some(replication), Some(query)) = (replication, other.vetoes()) else { continue };
                if let Some(category) = replicated_category(query, &*replication) {
                    return Err(StartHookError::Replicated { name: other.name().to_owned(), category });
                }
            }
        }
        Ok(())
    }

    /// Adds a hook unless the store has one with its name. Returns `true` if it was added.
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

/// Returns the category of replicated events that a query selects.
fn replicated_category(query: &Query, replication: &dyn Replication) -> Option<String> {
    let restricted = query.items().filter(|items| items.iter().all(|item| !item.categories.is_empty()));
    let Some(items) = restricted else { return Some("any category".to_owned()) };
    let mut categories = items.iter().flat_map(|item| &item.categories);
    categories.find(|category| replication.replicates(category)).map(|category| format!("category {category:?}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::FutureExt;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};

    use super::*;
    use crate::model::{EventType, ExpectedRevision, NewEvent, StreamId};
    use crate::store::Commit;
    use crate::store::memory::MemoryStore;
    use crate::testing::ManualClock;

    /// Counts the warnings that a log is ahead of the clock.
    #[derive(Debug, Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::WARN
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    impl Visit for Warnings {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" && format!("{value:?}").starts_with("the log is ahead of the clock") {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    #[derive(Debug)]
    struct NamedHook(&'static str);

    impl DecisionHook for NamedHook {
        fn name(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn a_shared_hook_has_the_name_of_the_hook() {
        let hook = Arc::new(NamedHook("a"));
        let shared: Arc<dyn PrepareHook> = Arc::new(Arc::clone(&hook));
        assert_eq!((PrepareHook::name(&hook), PrepareHook::name(&shared)), ("a", "a"));
    }

    #[test]
    fn a_hook_is_added_once_beside_hooks_with_other_names() {
        let decider = Decider::default();
        let add = |name| decider.add(&(Arc::new(NamedHook(name)) as Arc<dyn DecisionHook>));
        assert_eq!([add("a"), add("b"), add("a"), add("b")], [true, true, false, false]);
        assert_eq!([decider.runs("a"), decider.runs("b"), decider.runs("c")], [true, true, false]);
    }

    /// Case 06: a store said nothing of recorded times that are ahead of the clock.
    #[test]
    fn a_log_ahead_of_the_clock_is_reported_once() {
        let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let clock = Arc::new(ManualClock::at(noon));
        let store = MemoryStore::with_clock(clock.clone());
        let warnings = Warnings::default();
        // With a single subscriber, a test in another thread that reaches the callsite first would disable it.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        let append = |minutes: u32| {
            clock.set(noon + Duration::from_secs(60) * minutes);
            let event = NewEvent::json(EventType::new("t").unwrap(), "1");
            let commit = Commit::to(&StreamId::new("a-1").unwrap(), ExpectedRevision::Any, [event]);
            let committed = tracing::subscriber::with_default(warnings.clone(), || store.commit(commit).now_or_never());
            committed.unwrap().unwrap();
            (warnings.0.load(Ordering::SeqCst), store.ahead_of_clock().map(|ahead| ahead.as_secs() / 60))
        };
        assert_eq!(append(60), (0, None));
        assert_eq!(append(59), (0, None), "a minute is tolerated");
        assert_eq!(append(10), (1, Some(50)));
        assert_eq!(append(11), (1, Some(49)), "it is reported once");
        assert_eq!(append(60), (1, None));
        assert_eq!(append(30), (2, Some(30)), "it is reported again after the clock had caught up");
    }
}
