//! The commands of a unit of work: [`One`], or [`Many`] of one type. [Tuples](super::tuple) of them implement
//! [`Commands`], too.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;

use crate::aggregate::repository::Repository;
use crate::aggregate::repository::command_id::{CommandIdentity, FirstResult, Identified, ResultRow};
use crate::aggregate::repository::error::InfrastructureError;
use crate::aggregate::repository::execute::Executed;
use crate::aggregate::repository::options::Precondition;
use crate::aggregate::repository::plan::{Draft, Plan};
use crate::aggregate::repository::turns::Turns;
use crate::aggregate::repository::unit::Stop;
use crate::aggregate::{Aggregate, Command, Decide};
use crate::model::{NameError, StreamId};
use crate::store::{Committed, EventStore};

/// The aggregate of a command: its stream, its store, and the turns of its repository.
#[derive(Debug)]
pub struct Target<'a> {
    pub(in crate::aggregate::repository) stream: StreamId,
    pub(in crate::aggregate::repository) turns: &'a Turns,
    pub(in crate::aggregate::repository) store: &'a Arc<dyn EventStore>,
}

/// Commands that are decided in order and committed together.
pub trait Commands: Send + Sync {
    /// The plans of the commands.
    type Plans: Send;
    /// The results of the commands.
    type Results: Send;
    /// The rejection of a command.
    type Rejection: Send;

    /// Appends the aggregates of the commands to `targets`, in order.
    fn targets<'s>(&'s self, targets: &mut Vec<Target<'s>>) -> Result<(), NameError>;

    /// Appends the types of the commands, in order.
    fn types(&self, types: &mut Vec<&'static str>);

    /// Decides on the commands and adds their events to the draft.
    fn plan(&self, draft: &mut Draft<'_>) -> impl Future<Output = Result<Self::Plans, Stop<Self::Rejection>>> + Send;

    /// Folds the committed events into the results.
    fn complete(plans: Self::Plans, committed: &Committed) -> Result<Self::Results, InfrastructureError>;

    /// Returns the results of an earlier execution of the same commands. Takes one item of `stored` for each command.
    ///
    /// # Errors
    /// [`InfrastructureError`] if the row has no result for a command, or the events of a result cannot be read.
    fn first_results(
        &self,
        row: &ResultRow,
        stored: &mut (impl Iterator<Item = FirstResult> + Send),
    ) -> impl Future<Output = Result<Self::Results, InfrastructureError>> + Send;

    /// Removes the aggregates from the caches.
    fn evict(&self);
}

/// A command to one aggregate.
pub struct One<'a, A: Aggregate, C> {
    pub(in crate::aggregate::repository) repository: &'a Repository<A>,
    pub(in crate::aggregate::repository) id: A::Id,
    stream: Result<StreamId, NameError>,
    command: C,
    pub(in crate::aggregate::repository) precondition: Precondition,
}

impl<A: Aggregate, C> fmt::Debug for One<'_, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("One").field("id", &self.id).field("precondition", &self.precondition).finish_non_exhaustive()
    }
}

impl<'a, A: Aggregate, C> One<'a, A, C> {
    pub(in crate::aggregate::repository) fn new(repository: &'a Repository<A>, id: A::Id, command: C) -> Self {
        let stream = A::stream(&id);
        Self { repository, id, stream, command, precondition: Precondition::None }
    }

    fn stream(&self) -> Result<&StreamId, NameError> {
        self.stream.as_ref().map_err(Clone::clone)
    }
}

impl<A: Aggregate, C: Serialize> Identified for One<'_, A, C> {
    fn identify(&self, identities: &mut Vec<Option<CommandIdentity>>) {
        identities.push(CommandIdentity::of(&self.command));
    }
}

impl<'a, A: Decide<C>, C: Command> Commands for One<'a, A, C> {
    type Plans = Plan<'a, A>;
    type Results = Executed<A>;
    type Rejection = A::Rejection;

    fn targets<'s>(&'s self, targets: &mut Vec<Target<'s>>) -> Result<(), NameError> {
        let Repository { turns, loader, .. } = self.repository;
        targets.push(Target { stream: self.stream()?.clone(), turns, store: &loader.store });
        Ok(())
    }

    fn types(&self, types: &mut Vec<&'static str>) {
        types.push(std::any::type_name::<C>());
    }

    async fn plan(&self, draft: &mut Draft<'_>) -> Result<Plan<'a, A>, Stop<A::Rejection>> {
        let stream = self.stream()?;
        self.repository.check_tags(draft.conditions()).await?;
        let plan = self.repository.plan_after(&self.id, stream, self.command.clone(), self.precondition, draft).await;
        let mut plan = plan?;
        draft.add(&mut plan);
        Ok(plan)
    }

    fn complete(plan: Plan<'a, A>, committed: &Committed) -> Result<Executed<A>, InfrastructureError> {
        plan.complete(committed)
    }

    async fn first_results(
        &self,
        row: &ResultRow,
        first: &mut (impl Iterator<Item = FirstResult> + Send),
    ) -> Result<Executed<A>, InfrastructureError> {
        let first = first.next().ok_or_else(|| row.unusable("fewer results than commands"))?;
        self.repository.first_result(&self.id, self.stream()?, row, &first).await
    }

    fn evict(&self) {
        if let Ok(stream) = &self.stream {
            self.repository.loader.evict(stream);
        }
    }
}

/// Commands of one type to aggregates of one type.
#[derive(Debug)]
pub struct Many<'a, A: Aggregate, C>(Vec<One<'a, A, C>>);

impl<'a, A: Aggregate, C> Many<'a, A, C> {
    pub(super) const fn new(commands: Vec<One<'a, A, C>>) -> Self {
        Self(commands)
    }
}

impl<A: Aggregate, C: Serialize> Identified for Many<'_, A, C> {
    fn identify(&self, identities: &mut Vec<Option<CommandIdentity>>) {
        self.0.iter().for_each(|command| command.identify(identities));
    }
}

impl<'a, A: Decide<C>, C: Command> Commands for Many<'a, A, C> {
    type Plans = Vec<Plan<'a, A>>;
    type Results = Vec<Executed<A>>;
    type Rejection = A::Rejection;

    fn targets<'s>(&'s self, targets: &mut Vec<Target<'s>>) -> Result<(), NameError> {
        self.0.iter().try_for_each(|command| command.targets(targets))
    }

    fn types(&self, types: &mut Vec<&'static str>) {
        self.0.iter().for_each(|command| command.types(types));
    }

    async fn plan(&self, draft: &mut Draft<'_>) -> Result<Self::Plans, Stop<A::Rejection>> {
        let mut plans = Vec::with_capacity(self.0.len());
        for command in &self.0 {
            plans.push(command.plan(draft).await?);
        }
        Ok(plans)
    }

    fn complete(plans: Self::Plans, committed: &Committed) -> Result<Self::Results, InfrastructureError> {
        plans.into_iter().map(|plan| plan.complete(committed)).collect()
    }

    async fn first_results(
        &self,
        row: &ResultRow,
        first: &mut (impl Iterator<Item = FirstResult> + Send),
    ) -> Result<Self::Results, InfrastructureError> {
        let mut results = Vec::with_capacity(self.0.len());
        for command in &self.0 {
            results.push(command.first_results(row, first).await?);
        }
        Ok(results)
    }

    fn evict(&self) {
        self.0.iter().for_each(One::evict);
    }
}
