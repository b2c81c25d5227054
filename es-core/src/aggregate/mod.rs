//! Aggregates: their declaration ([`Aggregate`]), and the functions that derive state from events ([`Evolve`]) and
//! events from commands ([`Decide`]).
//!
//! ```text
//!   events of one stream --evolve--> state --decide(command)--> Decision: events, claims | rejection
//!                                      |                             |
//!                                  snapshot                  Repository: encode, commit, retry
//!
//!   type Source = (Order, Product) --> query, decoded events: for projections, reactors and groups
//! ```
//!
//! `decide` and `evolve` are synchronous and have no access to I/O or clocks. Views and consumers of the log are in
//! [`projection`](crate::projection) and [`consumer`](crate::consumer).

pub(crate) mod conflict;
mod context;
mod crdt;
pub(crate) mod decision;
pub(crate) mod history;
mod owner;
pub mod repository;
pub mod snapshot;
mod snapshot_list;
pub mod source;

pub use conflict::{ConcurrentEvents, Resolve};
pub use context::EventContext;
pub use crdt::Crdt;
pub use decision::Decision;
pub use owner::{Owned, Ownership};
pub use repository::{
    AsOf, CommandBatch, Execute, ExecuteError, Executed, InfrastructureError, LoadError, Loaded, Locked, Outcome, Plan,
    Repository, RetryPolicy, UnitError, UnitOfWork, UnitRejection,
};
pub use snapshot::{SnapshotPolicy, SnapshotSupport};
pub use snapshot_list::{SnapshotPage, SnapshotSummary, snapshots};
pub use source::{EventOf, OrderOf, RawEvents, Source};

use std::fmt;
use std::hash::Hash;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{Category, NameError, StreamId};
use crate::model::{ConflictAnswer, Consistency, Level};
use crate::model::{Revision, Timestamp};
use crate::schema::Event;

/// The id of an aggregate within its category. It is formatted into the stream name and parsed back.
///
/// Every type with the required traits implements this: `String`, `u64`, `Uuid`, or a newtype of the domain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot identify an aggregate",
    label = "not an aggregate id",
    note = "an id is `Clone + Eq + Hash + Debug + Display + FromStr + Send + Sync + 'static`, so that it can be part \
            of the name of a stream and be read back"
)]
pub trait AggregateId: Clone + Eq + Hash + fmt::Debug + fmt::Display + FromStr + Send + Sync + 'static {}

impl<T: Clone + Eq + Hash + fmt::Debug + fmt::Display + FromStr + Send + Sync + 'static> AggregateId for T {}

/// What a participant does if a distributed transaction stays in doubt for too long. A heuristic outcome can contradict
/// the decision of the coordinator. It is recorded, compared with the decision, and reported to operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heuristic {
    /// It waits for the coordinator or an operator, and stays locked. The default.
    #[default]
    Never,
    /// It commits.
    Commit,
    /// It aborts.
    Abort,
}

/// The declaration of an aggregate: its category, its id, its events, its consistency level and its snapshots.
///
/// Derive it; see [`macro@crate::Aggregate`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    label = "not an `Aggregate`",
    note = "add `#[derive(es_core::Aggregate, Clone)]` and `#[aggregate(category = \"...\", id = ..., event = ...)]` \
            to `{Self}`"
)]
pub trait Aggregate: Clone + Send + Sync + Sized + 'static {
    /// The category of its streams. The stream of an aggregate is `{CATEGORY}-{id}`.
    const CATEGORY: &'static str;
    /// The consistency level as a value, derived from [`Level`](Self::Level).
    const CONSISTENCY: Consistency = <Self::Level as Level>::CONSISTENCY;
    /// The answer to events that two nodes append without knowing of each other. The derive requires one for the level
    /// [`Causal`](crate::model::Causal), unless one node [decides](Self::OWNER) each stream. `None` for a level with
    /// [one order](crate::model::OneOrder), which has no conflicts.
    const CONFLICT: Option<ConflictAnswer> = None;

    /// How the node that decides each stream is chosen; `None` if every node decides. The derive writes it, and
    /// implements [`Owned`], for `owner`.
    const OWNER: Option<Ownership<Self>> = None;

    /// What the aggregate does if it takes part in a distributed transaction that stays in doubt for too long.
    const HEURISTIC: Heuristic = Heuristic::Never;

    /// The type that identifies an aggregate within the category.
    type Id: AggregateId;
    /// The domain events of the aggregate.
    type Event: Event;
    /// The weakest consistency level that the code of the aggregate tolerates: [`Local`](crate::model::Local) for an
    /// aggregate that only one node has.
    type Level: Level;

    /// Returns how snapshots are taken, or `None` if the aggregate has no snapshots.
    #[must_use]
    fn snapshots() -> Option<SnapshotSupport<Self>> {
        None
    }

    /// Returns the stream of the aggregate with this id. It is the inverse of [`id_of`](Self::id_of).
    ///
    /// # Errors
    /// - [`NameError`] if the id is empty or cannot be part of a stream name. Check it where it enters the domain.
    /// - [`NameError::Id`] if the text of the id is not parsed as an equal id.
    fn stream(id: &Self::Id) -> Result<StreamId, NameError> {
        let stream = StreamId::of(Self::CATEGORY, id)?;
        let text = stream.id_str().unwrap_or_default();
        match text.parse::<Self::Id>() {
            Ok(parsed) if parsed == *id => Ok(stream),
            parsed => {
                let found = parsed.ok().map(|parsed| parsed.to_string());
                Err(NameError::Id { category: Self::CATEGORY, text: text.to_owned(), found })
            }
        }
    }

    /// Returns the id of the aggregate that a stream belongs to, or `None` if the stream has another category, or if
    /// [`stream`](Self::stream) returns this name for no id. For example, `order-007` is not the stream of the number
    /// 7.
    fn id_of(stream: &StreamId) -> Option<Self::Id> {
        let id = stream.id_str().filter(|_| stream.category_str() == Self::CATEGORY)?;
        Self::parse_id(id).ok()
    }

    /// Parses an id that comes from outside, for example from the path of a request. Accepts only the text that
    /// [`stream`](Self::stream) writes, so that one aggregate has one address: `7`, but not `007` or `+7`.
    ///
    /// # Errors
    /// - [`NameError::Id`] for a text that is not an id, or for another spelling of one.
    /// - The errors of [`stream`](Self::stream).
    fn parse_id(text: &str) -> Result<Self::Id, NameError> {
        let other = |found| NameError::Id { category: Self::CATEGORY, text: text.to_owned(), found };
        let id = text.parse::<Self::Id>().map_err(|_| other(None))?;
        let stream = Self::stream(&id)?;
        let written = stream.id_str().unwrap_or_default();
        if written == text { Ok(id) } else { Err(other(Some(written.to_owned()))) }
    }

    /// Returns the category of its streams, for reads of the log.
    ///
    /// # Errors
    /// [`NameError`] if [`CATEGORY`](Self::CATEGORY) is not a valid category, which the derive rejects.
    fn category() -> Result<Category, NameError> {
        Category::new(Self::CATEGORY)
    }
}

/// Derives the state of an aggregate from its events.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not define how its state follows from events",
    label = "no `Evolve`",
    note = "write `impl es_core::Evolve for {Self} {{ fn initial(id: &Self::Id) -> Self {{ ... }} fn evolve(&mut self, \
            event: &Self::Event, at: &es_core::EventContext<'_>) {{ ... }} }}`"
)]
pub trait Evolve: Aggregate {
    /// Returns the state before the first event.
    fn initial(id: &Self::Id) -> Self;

    /// Applies an event to the state. The event has happened, so this cannot fail. The result must depend only on the
    /// state and the event.
    fn evolve(&mut self, event: &Self::Event, at: &EventContext<'_>);
}

/// A request to an aggregate, as a value.
///
/// Every type that is `Clone + Send + Sync` implements this. A command is cloned because it is decided again on fresh
/// state if another writer was faster. A command with a [command id](crate::aggregate::Execute::with_id) implements
/// `serde::Serialize`, too.
#[diagnostic::on_unimplemented(
    message = "the command `{Self}` cannot be cloned and sent",
    label = "not `Clone + Send + Sync`",
    note = "add `#[derive(Clone)]` to `{Self}`: a command is decided again on fresh state when another writer was \
            faster"
)]
pub trait Command: Clone + Send + Sync {}

#[diagnostic::do_not_recommend]
impl<T: Clone + Send + Sync> Command for T {}

/// A command that the aggregate `A` accepts: every [`Command`] `C` with `A: Decide<C>`. Implement [`Decide`] instead.
///
/// It is the bound of [`Repository::execute`](crate::Repository::execute). With it, the compiler names the command that
/// an aggregate does not accept.
#[diagnostic::on_unimplemented(
    message = "`{A}` takes no command `{Self}`",
    label = "no `Decide<{Self}>` for `{A}`",
    note = "write `impl es_core::Decide<{Self}> for {A} {{ type Rejection = ...; fn decide(&self, command: {Self}, at: \
            &es_core::CommandContext<'_, Self>) -> Result<es_core::Decision<Self>, Self::Rejection> {{ ... }} }}`"
)]
pub trait CommandFor<A>: Command {
    /// The command type itself.
    #[doc(hidden)]
    type Accepted: Command;

    /// Returns the command itself.
    #[doc(hidden)]
    fn accepted(self) -> Self::Accepted;
}

// The compiler may name the bounds of this implementation: a command that is not `Clone` is then not reported as one
// that the aggregate does not take.
impl<A: Decide<C>, C: Command> CommandFor<A> for C {
    // Names `C` through the rejection. Without `Decide<C>` there is no rejection, so the type of `execute(...)` is
    // unknown. The compiler then reports only the command that `A` does not accept, and not also that the result cannot
    // be awaited.
    type Accepted = <A::Rejection as Beside<C>>::Second;

    fn accepted(self) -> C {
        self
    }
}

/// A helper that every type implements for every `C`.
#[doc(hidden)]
pub trait Beside<C> {
    /// `C`.
    type Second;
}

impl<R, C> Beside<C> for R {
    type Second = C;
}

/// Decides on commands of type `C`. An aggregate implements it once for each type of command that it accepts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no command `{C}`",
    label = "no `Decide<{C}>`",
    note = "write `impl es_core::Decide<{C}> for {Self} {{ type Rejection = ...; fn decide(&self, command: {C}, at: \
            &es_core::CommandContext<'_, Self>) -> Result<es_core::Decision<Self>, Self::Rejection> {{ ... }} }}`"
)]
pub trait Decide<C: Command>: Evolve {
    /// The error of the domain for a rejected command, separate from failures of the infrastructure.
    type Rejection: Send + 'static;

    /// Decides which events a command produces. It is called again on fresh state if another writer was faster, and
    /// must return the same decision for the same state and command.
    ///
    /// It is synchronous: do I/O before `execute` and pass its result in the command. For `async fn decide` the
    /// compiler reports E0053, "expected `Result<...>`, found future": remove `async`.
    ///
    /// # Errors
    /// The rejection, if the domain rejects the command. Nothing is written.
    fn decide(&self, command: C, at: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection>;
}

/// The context of a command in [`Decide::decide`].
#[derive(Debug)]
pub struct CommandContext<'a, A: Aggregate> {
    id: &'a A::Id,
    revision: Option<Revision>,
    time: Timestamp,
}

impl<'a, A: Aggregate> CommandContext<'a, A> {
    /// Returns the context of a command to the aggregate `id` at `revision`, which takes effect at `time`.
    #[must_use]
    pub const fn new(id: &'a A::Id, revision: Option<Revision>, time: Timestamp) -> Self {
        Self { id, revision, time }
    }

    /// Returns the id of the aggregate.
    #[must_use]
    pub const fn id(&self) -> &'a A::Id {
        self.id
    }

    /// Returns the revision of its last event, or `None` if it has no events.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Returns the time in the domain at which the command takes effect: the time that the caller set, otherwise the
    /// time of the call. It does not change when the command is decided again.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }
}
