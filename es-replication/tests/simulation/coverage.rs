//! [`Coverage`]: how often each case occurred in all runs.

/// Counts the cases that the simulation must reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) writes: u64,
    pub(crate) pulls: u64,
    pub(crate) events_replicated: u64,
    /// Events that arrived although another link had delivered them since the pull began.
    pub(crate) held: u64,
    pub(crate) writes_while_cut: u64,
    pub(crate) answers_lost: u64,
    pub(crate) answers_delayed: u64,
    pub(crate) answers_repeated: u64,
    /// Pages that were discarded because a member had asked in the meantime.
    pub(crate) answers_outdated: u64,
    pub(crate) restarts: u64,
    pub(crate) origins_continued: u64,
    pub(crate) origins_minted: u64,
    pub(crate) rollbacks: u64,
    /// Rollbacks after which a peer had events that the node had lost.
    pub(crate) events_returned: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) clock_ahead: u64,
    /// Commands that two nodes executed under one id.
    pub(crate) commands_twice: u64,
    /// Commands whose repeat on another node returned the first result.
    pub(crate) commands_repeated: u64,
    /// Loads of a state into which a late event was folded.
    pub(crate) late_events: u64,
    pub(crate) concurrent_events: u64,
    pub(crate) sessions_waited: u64,
    pub(crate) sessions_stale: u64,
    pub(crate) refused_order: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        for (own, other) in self.counters().into_iter().zip(other.clone().counters()) {
            *own += *other;
        }
    }

    /// Asserts that every case occurred. Without it, a change of the simulation could hide a fault.
    pub(crate) fn check(&self) {
        // Only a faulty peer is refused for its order.
        let mut occurred = Self { refused_order: 1, ..self.clone() };
        assert!(occurred.counters().iter().all(|counter| **counter > 0), "a case did not occur: {self:#?}");
    }

    fn counters(&mut self) -> [&mut u64; 23] {
        let Self {
            writes,
            pulls,
            events_replicated,
            held,
            writes_while_cut,
            answers_lost,
            answers_delayed,
            answers_repeated,
            answers_outdated,
            restarts,
            origins_continued,
            origins_minted,
            rollbacks,
            events_returned,
            clock_jumps,
            clock_ahead,
            commands_twice,
            commands_repeated,
            late_events,
            concurrent_events,
            sessions_waited,
            sessions_stale,
            refused_order,
        } = self;
        [
            writes,
            pulls,
            events_replicated,
            held,
            writes_while_cut,
            answers_lost,
            answers_delayed,
            answers_repeated,
            answers_outdated,
            restarts,
            origins_continued,
            origins_minted,
            rollbacks,
            events_returned,
            clock_jumps,
            clock_ahead,
            commands_twice,
            commands_repeated,
            late_events,
            concurrent_events,
            sessions_waited,
            sessions_stale,
            refused_order,
        ]
    }
}
