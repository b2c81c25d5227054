//! [`Crdt`]: marks types of state that do not depend on the order of concurrent events.

use std::marker::PhantomData;

/// A type of state that does not depend on the order in which concurrent events are applied (conflict-free replicated
/// data type, Shapiro et al. 2011).
///
/// `#[aggregate(conflict = "crdt")]` requires it of each field of the state. The types of the crate es-crdt implement
/// it. Numbers, texts and collections of the standard library do not: an assignment keeps the value of the event that
/// is applied last.
///
/// # Implement it for your own type
///
/// The compiler cannot check the type. You promise, for two events of which neither node had seen the other:
///
/// - The changes that `evolve` makes give equal values in both orders. A sum or a set that only grows does.
/// - They depend on the value, the event, its [`dot`](crate::EventContext::dot), its
///   [`canonical_key`](crate::EventContext::canonical_key) and what its node [had seen](crate::EventContext::follows),
///   but not on its [`revision`](crate::EventContext::revision), which is its index in one fold.
///
/// A struct whose fields are CRDTs is one if `evolve` changes the fields by their own methods, and so is a value that
/// [`initial`](crate::Evolve::initial) sets and no event changes.
/// [`check_convergence`](crate::testing::check_convergence) tests the promise, also for assignments of a whole field.
///
/// ```
/// use es_core::prelude::*;
/// use es_core::testing::check_convergence;
/// use es_core::{Crdt, model::ConflictAnswer};
/// use std::collections::BTreeSet;
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// #[event(name = "guest-invited")]
/// struct GuestInvited(String);
///
/// /// Names that are never removed.
/// #[derive(Clone, Debug, Default, PartialEq)]
/// struct Names(BTreeSet<String>);
///
/// impl Crdt for Names {}
///
/// #[derive(Clone, Debug, PartialEq, Aggregate)]
/// #[aggregate(category = "party", id = u64, event = GuestInvited, consistency = "causal", conflict = "crdt")]
/// struct Party {
///     guests: Names,
/// }
///
/// impl Evolve for Party {
///     fn initial(_: &u64) -> Self {
///         Self { guests: Names::default() }
///     }
///
///     fn evolve(&mut self, GuestInvited(name): &GuestInvited, _: &EventContext<'_>) {
///         self.guests.0.insert(name.clone());
///     }
/// }
///
/// assert_eq!(Party::CONFLICT, Some(ConflictAnswer::Crdt));
/// check_convergence::<Party>(1, [GuestInvited("Ada".into()), GuestInvited("Bob".into())]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a CRDT",
    label = "not a `Crdt`",
    note = "with `conflict = \"crdt\"` the state must not depend on the order of concurrent events: use a type of \
            es-crdt, such as `LwwRegister<{Self}>`, or a type of your own that implements `es_core::Crdt`, and test it \
            with `es_core::testing::check_convergence`; otherwise declare `conflict = \"canonical\"`"
)]
pub trait Crdt {}

impl<T: ?Sized> Crdt for PhantomData<T> {}
