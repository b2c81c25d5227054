//! Aggregates: the declaration ([`Aggregate`]), how events become state ([`Evolve`]), and how commands become events ([`Decide`]).
//!
//! ```text
//!   events of one stream --evolve--> state --decide(command)--> Decision: events, claims | rejection
//!                                      |                             |
//!                                  snapshot                  Repository: encode, commit, retry
//!
//!   type Source = (Order, Product) --> query, decoded events: for projections, reactors and groups
//! ```
//!
//! Absent here: I/O and clocks in `decide` and `evolve`, which are synchronous; views; consumers of the log.

mod context;
pub(crate) mod decision;
pub mod repository;
pub mod snapshot;
pub mod source;

pub use context::EventContext;
pub use decision::Decision;
pub use repository::{
    AsOf, Execute, ExecuteError, Executed, InfrastructureError, LoadError, Loaded, Outcome, Plan, Repository,
    RetryPolicy, UnitError, UnitOfWork, UnitRejection,
};
pub use snapshot::{SnapshotPolicy, SnapshotSupport};
pub use source::{EventOf, RawEvents, Source};

use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use crate::model::{Category, NameError, StreamId};
use crate::model::{Consistency, Level};
use crate::model::{Revision, Timestamp};
use crate::schema::Event;

/// The identity of an aggregate within its category: a text that can be written and read back.
///
/// Every type that is shown and parsed is one: `String`, `u64`, `Uuid`, or a newtype of the domain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot identify an aggregate",
    label = "not an aggregate id",
    note = "an id is `Clone + Eq + Hash + Debug + Display + FromStr + Send + Sync + 'static`, so that it can stand in \
            the name of a stream and be read back"
)]
pub trait AggregateId: Clone + Eq + Hash + fmt::Debug + fmt::Display + FromStr + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + fmt::Debug + fmt::Display + FromStr + Send + Sync + 'static> AggregateId for T {}

/// The declaration of an aggregate: what it is called, what its events are, how it is kept.
///
/// Derive it; see [`macro@crate::Aggregate`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    label = "not an `Aggregate`",
    note = "add `#[derive(es_core::Aggregate, Clone)]` and `#[aggregate(category = \"...\", id = ..., event = ...)]` to `{Self}`"
)]
pub trait Aggregate: Clone + Send + Sync + Sized + 'static {
    /// The category of its streams: an aggregate's stream is `{CATEGORY}-{id}`.
    const CATEGORY: &'static str;
    /// The consistency level as a value. It follows from [`Level`](Self::Level).
    const CONSISTENCY: Consistency = <Self::Level as Level>::CONSISTENCY;

    /// What tells one from another.
    type Id: AggregateId;
    /// What happens to it.
    type Event: Event;
    /// The weakest consistency level that the code of the aggregate tolerates: [`Local`](crate::model::Local) for an
    /// aggregate that only one node has.
    type Level: Level;

    /// Whether and how snapshots are kept; `None` for never.
    #[must_use]
    fn snapshots() -> Option<SnapshotSupport<Self>> {
        None
    }

    /// The stream of the aggregate with this id.
    ///
    /// # Errors
    /// [`NameError`] when the id cannot stand in the name of a stream: check it where it enters the domain.
    fn stream(id: &Self::Id) -> Result<StreamId, NameError> {
        StreamId::of(Self::CATEGORY, id)
    }

    /// The id of the aggregate whose stream this is; `None` for a stream of another category, or one whose name has no id
    /// that can be read.
    fn id_of(stream: &StreamId) -> Option<Self::Id> {
        let id = stream.id_str().filter(|_| stream.category_str() == Self::CATEGORY)?;
        id.parse().ok()
    }

    /// The category of its streams, for reads of the log.
    ///
    /// # Errors
    /// [`NameError`] when [`CATEGORY`](Self::CATEGORY) is none, which the derive does not let pass.
    fn category() -> Result<Category, NameError> {
        Category::new(Self::CATEGORY)
    }
}

/// How the state of an aggregate follows from its events.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how its state follows from events",
    label = "no `Evolve`",
    note = "write `impl es_core::Evolve for {Self} {{ fn initial(id: &Self::Id) -> Self {{ ... }} fn evolve(&mut self, \
            event: &Self::Event, at: &es_core::EventContext<'_>) {{ ... }} }}`"
)]
pub trait Evolve: Aggregate {
    /// The state before the first event.
    fn initial(id: &Self::Id) -> Self;

    /// Takes an event in. It has happened: there is nothing to check and nothing to refuse. The same events always give
    /// the same state.
    fn evolve(&mut self, event: &Self::Event, at: &EventContext<'_>);
}

/// A command: a value that says what an aggregate is asked to do.
///
/// Every type that is `Clone + Send + Sync` is one. A command is cloned because it is decided again on fresh state after
/// another writer was faster.
#[diagnostic::on_unimplemented(
    message = "the command `{Self}` cannot be cloned and sent",
    label = "not `Clone + Send + Sync`",
    note = "add `#[derive(Clone)]` to `{Self}`: a command is decided again on fresh state when another writer was faster"
)]
pub trait Command: Clone + Send + Sync {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync> Command for T {}

/// A command that the aggregate `A` takes: every [`Command`] `C` with `A: Decide<C>`.
///
/// It is the bound of [`Repository::execute`](crate::Repository::execute), so that the compiler names the command that an
/// aggregate does not take. Implement [`Decide`].
#[diagnostic::on_unimplemented(
    message = "`{A}` takes no command `{Self}`",
    label = "no `Decide<{Self}>` for `{A}`",
    note = "write `impl es_core::Decide<{Self}> for {A} {{ type Rejection = ...; fn decide(&self, command: {Self}, at: \
            &es_core::CommandContext<'_, Self>) -> Result<es_core::Decision<Self>, Self::Rejection> {{ ... }} }}`"
)]
pub trait CommandFor<A>: Command {
    /// The command itself, as the type of what `execute` returns.
    #[doc(hidden)]
    type Accepted: Command;

    /// Returns the command itself.
    #[doc(hidden)]
    fn accepted(self) -> Self::Accepted;
}

#[diagnostic::do_not_recommend]
impl<A: Decide<C>, C: Command> CommandFor<A> for C {
    // Names `C` through the rejection. Without `Decide<C>` there is no rejection, the type of `execute(...)` is
    // unknown, and the compiler does not report that it cannot be awaited beside the command that `A` does not take.
    type Accepted = <A::Rejection as Beside<C>>::Second;

    fn accepted(self) -> C {
        self
    }
}

/// Every type implements this for every `C`.
#[doc(hidden)]
pub trait Beside<C> {
    /// `C`.
    type Second;
}

impl<R, C> Beside<C> for R {
    type Second = C;
}

/// How an aggregate answers a command of type `C`. One aggregate takes as many types of command as it implements.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no command `{C}`",
    label = "no `Decide<{C}>`",
    note = "write `impl es_core::Decide<{C}> for {Self} {{ type Rejection = ...; fn decide(&self, command: {C}, at: \
            &es_core::CommandContext<'_, Self>) -> Result<es_core::Decision<Self>, Self::Rejection> {{ ... }} }}`"
)]
pub trait Decide<C: Command>: Evolve {
    /// Why the domain refuses: an error type of the domain, separate from failures of the infrastructure.
    type Rejection: Send + 'static;

    /// Decides, from the state and the command alone, what happens. It is called again on fresh state when another
    /// writer was faster, and must always return the same decision for the same state and command.
    ///
    /// It is synchronous: do I/O before `execute` and pass its result in the command. For `async fn decide` the
    /// compiler reports E0053, "expected `Result<...>`, found future": remove `async`.
    ///
    /// # Errors
    /// The command is refused: nothing happens.
    fn decide(&self, command: C, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection>;
}

/// What [`Decide::decide`] may know beside state and command.
#[derive(Debug)]
pub struct CommandContext<'a, A: Aggregate> {
    id: &'a A::Id,
    revision: Option<Revision>,
    time: Timestamp,
}

impl<'a, A: Aggregate> CommandContext<'a, A> {
    /// The context of a command to the aggregate `id` at `revision`, given at `time`.
    #[must_use]
    pub const fn new(id: &'a A::Id, revision: Option<Revision>, time: Timestamp) -> Self {
        Self { id, revision, time }
    }

    /// The identity of the aggregate itself.
    #[must_use]
    pub const fn id(&self) -> &'a A::Id {
        self.id
    }

    /// The revision of its last event; `None` before the first.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// When the command takes effect in the business: the time that the caller gave, else the time of the call. It is the
    /// same when the command is decided again.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }
}
