//! Loads the states of aggregates for a [`StateView`](crate::projection::StateView), without their types.
//!
//! ```text
//!   Rows::state --> not loaded --> Missing { states } --StateReader or records--> Rows::learn_state --> apply again
//! ```

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::aggregate::{Evolve, LoadError, Loaded, Repository};
use crate::model::panic::panic_message;
use crate::model::{ErrorChain, RecordedEvent, StreamId};
use crate::projection::kept::{AppliedOrder, is_replicated_deletion, read_kept};
use crate::retention::Erasure;
use crate::store::{EventStore, StoreError};

/// The state of an aggregate, or `None` if its stream has no events.
pub(crate) type AnyState = Option<Arc<dyn Any + Send + Sync>>;

/// A state, or the reason why its events cannot be folded.
pub(crate) type StateResult = Result<AnyState, String>;

/// The reason why a mode without access to states cannot apply an event of a view of states.
pub(crate) const NO_STATES: &str = "a view of states runs in the background only";

/// Loads the states of one type of aggregate.
#[derive(Clone, Copy)]
pub(crate) struct StateLoader {
    from_store: for<'a> fn(&'a StateReader, &'a StreamId) -> BoxFuture<'a, Result<StateResult, StoreError>>,
    from_records: fn(&[RecordedEvent], &StreamId) -> StateResult,
}

impl fmt::Debug for StateLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateLoader")
    }
}

impl StateLoader {
    pub(crate) fn of<A: Evolve>() -> Self {
        Self {
            from_store: |reader, stream| load::<A>(reader, stream).boxed(),
            from_records: |records, stream| any_state(fold::<A>(records, stream)),
        }
    }

    /// Loads the state of a stream.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails. An unreadable stream is a [`StateResult`], because it concerns one key only.
    pub(crate) async fn load(self, reader: &StateReader, stream: &StreamId) -> Result<StateResult, StoreError> {
        (self.from_store)(reader, stream).await
    }

    /// Folds the state of a stream from all events of a log.
    pub(crate) fn fold(self, records: &[RecordedEvent], stream: &StreamId) -> StateResult {
        (self.from_records)(records, stream)
    }
}

/// Reads states and the kept events of deleted streams from a store. Keeps one repository, so that the last states are
/// cached.
#[derive(Debug)]
pub(crate) struct StateReader {
    store: Arc<dyn EventStore>,
    /// The order in which the projection applies events.
    order: AppliedOrder,
    /// The `Repository` of the aggregate.
    repository: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl StateReader {
    pub(crate) const fn new(store: Arc<dyn EventStore>, order: AppliedOrder) -> Self {
        Self { store, order, repository: OnceLock::new() }
    }

    pub(crate) const fn order(&self) -> AppliedOrder {
        self.order
    }

    /// Reads the events that a deletion of a replicated stream keeps.
    pub(crate) async fn kept_by(&self, deletion: &RecordedEvent) -> Result<Vec<RecordedEvent>, StoreError> {
        read_kept(&*self.store, deletion, self.order).await
    }

    fn repository<A: Evolve>(&self) -> Arc<Repository<A>> {
        let new = || Arc::new(Repository::<A>::new(Arc::clone(&self.store)));
        let shared = self.repository.get_or_init(|| new());
        // A reader serves one projection, which has one aggregate.
        Arc::clone(shared).downcast().unwrap_or_else(|_| new())
    }
}

async fn load<A: Evolve>(reader: &StateReader, stream: &StreamId) -> Result<StateResult, StoreError> {
    let Some(id) = A::id_of(stream) else { return Ok(Err(not_an_id::<A>(stream))) };
    // A panic of `evolve` concerns one key, as one of `apply` does. It leaves nothing in the cache.
    let loaded = AssertUnwindSafe(reader.repository::<A>().load(&id)).catch_unwind().await;
    match loaded {
        Err(panic) => Ok(Err(panicked(&*panic))),
        Ok(Err(LoadError::Store(error))) if !matches!(error, StoreError::Damaged { .. }) => Err(error),
        Ok(loaded) => Ok(any_state(loaded.map_err(|error| ErrorChain(&error).to_string()))),
    }
}

fn fold<A: Evolve>(records: &[RecordedEvent], stream: &StreamId) -> Result<Loaded<A>, String> {
    let id = A::id_of(stream).ok_or_else(|| not_an_id::<A>(stream))?;
    let is_deletion = |record: &RecordedEvent| {
        let is_of_stream = Erasure::of(record).is_some_and(|erasure| erasure.stream() == Some(stream));
        // The fold applies a deletion of a replicated stream itself.
        is_of_stream && !is_replicated_deletion(record.into())
    };
    let begins = records.iter().rposition(is_deletion).map_or(0, |deletion| deletion + 1);
    let of_stream = records.iter().skip(begins).filter(|record| record.stream == *stream);
    let folded = catch_unwind(AssertUnwindSafe(|| Loaded::fold_records(&id, of_stream.cloned().collect())));
    folded.map_err(|panic| panicked(&*panic))?.map_err(|error| ErrorChain(&error).to_string())
}

/// Returns the reason why a state cannot be folded.
fn panicked(panic: &(dyn Any + Send)) -> String {
    format!("`evolve` panicked: {}", panic_message(panic))
}

fn any_state<A: Evolve>(loaded: Result<Loaded<A>, String>) -> StateResult {
    loaded.map(|loaded| loaded.revision.map(|_| Arc::new(loaded.state) as Arc<dyn Any + Send + Sync>))
}

fn not_an_id<A: Evolve>(stream: &StreamId) -> String {
    format!("the name of stream {:?} is not an id of an aggregate of category {:?}", stream.as_str(), A::CATEGORY)
}
