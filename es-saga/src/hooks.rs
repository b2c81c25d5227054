//! Test hooks: failures, repeats and crashes at chosen points of a saga.

use crate::failure::StepFailure;
use crate::id::{Direction, SagaId};

/// A point of the execution of a step, at which a test can interfere.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HookPoint<'a> {
    /// The saga.
    pub saga: &'a SagaId,
    /// The name of the node.
    pub node: &'a str,
    /// The index of the item.
    pub item: u32,
    /// Whether the step is executed or undone.
    pub direction: Direction,
    /// The place.
    pub place: HookPlace,
}

/// The place of a [`HookPoint`] between the commits and the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPlace {
    /// Before the intent is recorded. A local step has no intent: before its call. Before the start of a delay.
    BeforeIntent,
    /// After the intent is recorded, before the call. Not reached for a local step.
    BeforeCall,
    /// After the call, before its outcome is recorded. Before the end of a delay is recorded.
    BeforeOutcome,
    /// After the outcome is recorded. Not reached for a delay.
    AfterOutcome,
}

impl HookPlace {
    /// All places, in the order in which they are reached.
    pub const ALL: [Self; 4] = [Self::BeforeIntent, Self::BeforeCall, Self::BeforeOutcome, Self::AfterOutcome];
}

/// What a test does at a [`HookPoint`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HookAction {
    /// Nothing.
    #[default]
    Continue,
    /// Stops the coordinator as a crash does: it does nothing more, and does not release its leases. Shut it down and
    /// start another one.
    Crash,
    /// Fails the attempt without a call. Has an effect at [`HookPlace::BeforeIntent`] of a local step and at
    /// [`HookPlace::BeforeCall`] of an external one.
    Fail(StepFailure),
    /// Makes the call twice, one after the other. Has an effect where [`Fail`](Self::Fail) has.
    Repeat,
    /// Makes the call and discards its result: the outcome is ambiguous. Has an effect at [`HookPlace::BeforeCall`].
    TimeOutAfterCall,
}

/// Decides what happens at each point.
pub(crate) type Hook = dyn Fn(HookPoint<'_>) -> HookAction + Send + Sync;
