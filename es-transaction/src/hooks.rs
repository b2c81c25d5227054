//! Test hooks: crashes and lost messages at chosen points of a transaction.

use std::time::Duration;

use es_core::model::TransactionId;

use crate::machine::Call;

/// A point of a transaction at its coordinator, at which a test can interfere.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct HookPoint<'a> {
    /// The transaction.
    pub transaction: &'a TransactionId,
    /// The place.
    pub place: HookPlace<'a>,
}

/// The place of a [`HookPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPlace<'a> {
    /// Before a participant is called.
    BeforeCall {
        /// The name of the participant.
        participant: &'a str,
        /// The call.
        call: Call,
    },
    /// After a participant was called, before its answer is used.
    AfterCall {
        /// The name of the participant.
        participant: &'a str,
        /// The call.
        call: Call,
    },
    /// Before a record is written.
    BeforeRecord {
        /// The number of the record, from 1.
        number: u32,
    },
    /// After a record was written, before anybody is told.
    AfterRecord {
        /// The number of the record, from 1.
        number: u32,
    },
}

/// What a test does at a [`HookPoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HookAction {
    /// Nothing.
    #[default]
    Continue,
    /// Stops the coordinator as a crash does: it does nothing more, and does not release its lease. Shut it down and
    /// start another one.
    Crash,
    /// Loses the message: a call is not made, or its answer is not used. Has an effect at
    /// [`HookPlace::BeforeCall`] and [`HookPlace::AfterCall`].
    Lose,
    /// Makes the call twice, one after the other. Has an effect at [`HookPlace::BeforeCall`].
    Repeat,
    /// Delays the message for this time. Has an effect at [`HookPlace::BeforeCall`] and [`HookPlace::AfterCall`].
    Delay(Duration),
}

/// Decides what happens at each point.
pub(crate) type Hook = dyn Fn(HookPoint<'_>) -> HookAction + Send + Sync;
