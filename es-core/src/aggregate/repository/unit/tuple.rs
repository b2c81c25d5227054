//! Tuples of commands: a unit of work with several calls returns a tuple of their results.

use crate::aggregate::Aggregate;
use crate::aggregate::repository::command_id::{CommandIdentity, FirstResult, Identified, ResultRow};
use crate::aggregate::repository::error::InfrastructureError;
use crate::aggregate::repository::options::Precondition;
use crate::aggregate::repository::plan::Draft;
use crate::aggregate::repository::unit::commands::{Commands, Many, One, Target};
use crate::aggregate::repository::unit::{Stop, UnitRejection};
use crate::model::NameError;
use crate::store::Committed;

/// Commands to which more can be added.
pub trait Push<N> {
    /// The commands including the added ones.
    type Output;

    /// Adds `next` at the end.
    fn push(self, next: N) -> Self::Output;
}

/// Commands whose last one was added by `execute`.
pub trait Last {
    /// The aggregate of the last command.
    type Aggregate: Aggregate;

    /// Returns the precondition of the last command.
    fn precondition(&mut self) -> &mut Precondition;
}

impl<N> Push<N> for () {
    type Output = N;

    fn push(self, next: N) -> N {
        next
    }
}

impl<'a, A: Aggregate, C, N> Push<N> for One<'a, A, C> {
    type Output = (Self, N);

    fn push(self, next: N) -> Self::Output {
        (self, next)
    }
}

impl<'a, A: Aggregate, C, N> Push<N> for Many<'a, A, C> {
    type Output = (Self, N);

    fn push(self, next: N) -> Self::Output {
        (self, next)
    }
}

impl<A: Aggregate, C> Last for One<'_, A, C> {
    type Aggregate = A;

    fn precondition(&mut self) -> &mut Precondition {
        &mut self.precondition
    }
}

/// Implements [`Push`] for a tuple.
macro_rules! push {
    ($($T:ident $name:ident),+) => {
        impl<$($T,)+ N> Push<N> for ($($T,)+) {
            type Output = ($($T,)+ N,);

            fn push(self, next: N) -> Self::Output {
                let ($($name,)+) = self;
                ($($name,)+ next,)
            }
        }
    };
}

/// Implements [`Commands`] and [`Last`] for a tuple. The last element of the tuple is the first argument.
macro_rules! tuple {
    ($Z:ident $last:ident $wrap_last:ident; $($T:ident $name:ident $wrap:ident),+) => {
        impl<$($T: Commands,)+ $Z: Commands> Commands for ($($T,)+ $Z) {
            type Plans = ($($T::Plans,)+ $Z::Plans);
            type Results = ($($T::Results,)+ $Z::Results);
            type Rejection = UnitRejection<$($T::Rejection,)+ $Z::Rejection>;

            fn targets<'s>(&'s self, targets: &mut Vec<Target<'s>>) -> Result<(), NameError> {
                let ($($name,)+ $last) = self;
                $($name.targets(targets)?;)+
                $last.targets(targets)
            }

            fn types(&self, types: &mut Vec<&'static str>) {
                let ($($name,)+ $last) = self;
                $($name.types(types);)+
                $last.types(types);
            }

            async fn plan(&self, draft: &mut Draft<'_>) -> Result<Self::Plans, Stop<Self::Rejection>> {
                let ($($name,)+ $last) = self;
                $(let $name = $name.plan(draft).await.map_err(|stop| stop.map(UnitRejection::$wrap))?;)+
                let $last = $last.plan(draft).await.map_err(|stop| stop.map(UnitRejection::$wrap_last))?;
                Ok(($($name,)+ $last))
            }

            fn complete(plans: Self::Plans, committed: &Committed) -> Result<Self::Results, InfrastructureError> {
                let ($($name,)+ $last) = plans;
                Ok(($($T::complete($name, committed)?,)+ $Z::complete($last, committed)?))
            }

            async fn first_results(
                &self,
                row: &ResultRow,
                first: &mut (impl Iterator<Item = FirstResult> + Send),
            ) -> Result<Self::Results, InfrastructureError> {
                let ($($name,)+ $last) = self;
                Ok(($($name.first_results(row, first).await?,)+ $last.first_results(row, first).await?))
            }

            fn evict(&self) {
                let ($($name,)+ $last) = self;
                $($name.evict();)+
                $last.evict();
            }
        }

        impl<$($T: Identified,)+ $Z: Identified> Identified for ($($T,)+ $Z) {
            fn identify(&self, identities: &mut Vec<Option<CommandIdentity>>) {
                let ($($name,)+ $last) = self;
                $($name.identify(identities);)+
                $last.identify(identities);
            }
        }

        impl<$($T,)+ $Z: Last> Last for ($($T,)+ $Z) {
            type Aggregate = $Z::Aggregate;

            fn precondition(&mut self) -> &mut Precondition {
                let (.., last) = self;
                last.precondition()
            }
        }
    };
}

push!(A a, B b);
push!(A a, B b, C c);
push!(A a, B b, C c, D d);
push!(A a, B b, C c, D d, E e);
push!(A a, B b, C c, D d, E e, F f);
push!(A a, B b, C c, D d, E e, F f, G g);

/// The ninth call begins a new tuple, whose first element is the eight calls before it.
impl<A, B, C, D, E, F, G, H, N> Push<N> for (A, B, C, D, E, F, G, H) {
    type Output = (Self, N);

    fn push(self, next: N) -> Self::Output {
        (self, next)
    }
}

tuple!(B b Second; A a First);
tuple!(C c Third; A a First, B b Second);
tuple!(D d Fourth; A a First, B b Second, C c Third);
tuple!(E e Fifth; A a First, B b Second, C c Third, D d Fourth);
tuple!(F f Sixth; A a First, B b Second, C c Third, D d Fourth, E e Fifth);
tuple!(G g Seventh; A a First, B b Second, C c Third, D d Fourth, E e Fifth, F f Sixth);
tuple!(H h Eighth; A a First, B b Second, C c Third, D d Fourth, E e Fifth, F f Sixth, G g Seventh);
