//! [`Coverage`]: how often each case occurred in all runs.

/// Defines [`Coverage`] with these counters.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts the cases that the simulation must reach.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct Coverage {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl Coverage {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Returns the names of the cases that did not occur.
            fn missing(&self) -> Vec<&'static str> {
                let counters = [$((stringify!($name), self.$name),)*];
                counters.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
            }
        }
    };
}

counters! {
    writes,
    pulls,
    events_replicated,
    /// Events that arrived although another link had delivered them since the pull began.
    held,
    writes_while_cut,
    answers_lost,
    answers_delayed,
    answers_repeated,
    /// Pages that were discarded because a member had asked in the meantime.
    answers_outdated,
    restarts,
    /// Restarts of several nodes at once.
    restarts_together,
    /// Nodes that restarted with others and kept their origins.
    origins_continued_together,
    origins_continued,
    origins_minted,
    rollbacks,
    /// Rollbacks after which a peer had events that the node had lost.
    events_returned,
    clock_jumps,
    clock_ahead,
    /// Commands that two nodes executed under one id.
    commands_twice,
    /// Commands whose repeat on another node returned the first result.
    commands_repeated,
    /// Loads of a state into which a late event was folded.
    late_events,
    concurrent_events,
    /// Answers that a node wrote to conflicts.
    answers_written,
    /// Answers that the fold skips, because another node wrote one, too.
    answers_skipped,
    filters_changed,
    /// Steps after which a node withheld events.
    withheld,
    /// Withheld events that were stored after events that depend on them.
    late_admissions,
    /// Commits whose events a filter had divided.
    commits_divided,
    settled_runs,
    settled_events,
    /// Runs of a settled view that another member held back.
    settled_stalls,
    /// Events that arrived below the settled time.
    settled_late_events,
    sessions_waited,
    sessions_stale,
    nodes_taken_down,
    /// Retirements of nodes that were down.
    retired_down,
    joined,
    departures_completed,
    origins_retired,
    /// Events whose clock omits a retired origin, each time a node receives one.
    clocks_compressed,
    /// Pulls from a node that has departed.
    departed_refused,
    /// Pulls of a node that has departed.
    departed_answered,
    /// Commands that were not given to a node because it departs.
    writes_omitted,
    stable_checked,
    /// Departed nodes that joined again at the end.
    joined_again,
    /// Departed nodes at the end.
    left_out,
    /// Nodes among them that have left, and that lost no event before.
    left,
    refused_order,
}

impl Coverage {
    /// Asserts that every case occurred. Without it, a change of the simulation could hide a fault.
    pub(crate) fn check(&self) {
        // Only a faulty peer is refused for its order.
        assert_eq!(self.missing(), ["refused_order"], "a case did not occur: {self:#?}");
    }
}
