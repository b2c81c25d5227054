//! The termination rule of three-phase commit.

use crate::participant::{ParticipantState, ParticipantStatus};

/// The state that a participant reported when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateReport {
    /// The participant did not answer: it is down.
    Unreachable,
    /// The participant answered.
    Reached {
        /// The state.
        state: ParticipantState,
        /// Whether the participant has restarted since it was prepared.
        has_restarted: bool,
    },
}

/// Who asks for the states of the participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A coordinator that has recovered.
    Coordinator,
    /// The participant with this index, whose own state is among the reports.
    Participant(usize),
}

/// What follows from the states of the participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Termination {
    /// The transaction commits.
    Commit,
    /// The transaction aborts.
    Abort,
    /// This participant is to be pre-committed, and then all are asked again. A participant that asks gets only its
    /// own index.
    PreCommit {
        /// The index of the participant.
        participant: usize,
    },
    /// Nothing can be concluded yet. All are asked again after a pause.
    Wait,
}

impl StateReport {
    /// Returns the state if the participant was reached.
    #[must_use]
    pub const fn state(&self) -> Option<ParticipantState> {
        match self {
            Self::Unreachable => None,
            Self::Reached { state, .. } => Some(*state),
        }
    }

    fn is_in_doubt(&self) -> bool {
        matches!(self.state(), Some(ParticipantState::Prepared | ParticipantState::PreCommitted))
    }

    /// Returns whether the participant is in doubt and was never down: then it has received every sent decision.
    fn is_continuous(&self) -> bool {
        self.is_in_doubt() && matches!(self, Self::Reached { has_restarted: false, .. })
    }

    fn is_pre_committed(&self) -> bool {
        self.state() == Some(ParticipantState::PreCommitted)
    }

    fn is_prepared(&self) -> bool {
        self.state() == Some(ParticipantState::Prepared)
    }
}

impl From<&ParticipantStatus> for StateReport {
    fn from(status: &ParticipantStatus) -> Self {
        Self::Reached { state: status.state, has_restarted: status.has_restarted }
    }
}

/// Decides how a three-phase commit ends whose coordinator has crashed. `reports` has one report for each participant,
/// in the order of the plan. The first row that matches applies.
///
/// | reports | asker | result |
/// |---|---|---|
/// | one is committed | any | commit |
/// | one is aborted | any | abort |
/// | all are reached, none is pre-committed | any | abort |
/// | all are reached, none is prepared | any | commit |
/// | all are reached | coordinator | pre-commit the first that is prepared, then ask again |
/// | all are reached and have restarted | prepared | pre-commit itself, then ask again |
/// | other | coordinator, or has restarted | wait |
/// | no continuous one is pre-committed | the leader | abort |
/// | a continuous one is pre-committed | the leader, prepared | pre-commit itself, then ask again |
/// | all continuous ones are pre-committed | the leader, pre-committed | commit |
/// | the leader is pre-committed | another one, prepared | pre-commit itself, then ask again |
/// | other | any | wait |
///
/// A participant is *continuous* if it is in doubt and has not restarted since it was prepared. The *leader* is the
/// first continuous one. A participant in the state `Unknown` was read-only, or not asked to prepare; it counts for
/// nothing. One that had an outcome and may have forgotten it must not be asked.
///
/// Why a restarted participant does not count: while it was down the others may have decided, and then have crashed.
/// Why one of them leads: if all decided at once, one that reads the state of another before it is pre-committed could
/// abort while the other commits. Why a pre-committed participant waits for the others: if it committed first and
/// crashed, the others would abort. This is the central termination protocol of Skeen (1981), in which the participants
/// read the state of the backup coordinator instead of being called by it.
///
/// A participant asks in the order of the plan, one after another, so that it knows that it leads before it asks those
/// after it. It begins again if it has reported its own state in the meantime.
/// [`ParticipantRecord`](crate::machine::ParticipantRecord) does so.
#[must_use]
pub fn terminate(asker: Asker, reports: &[StateReport]) -> Termination {
    let is_reported = |state| reports.iter().any(|report| report.state() == Some(state));
    if is_reported(ParticipantState::Committed) {
        return Termination::Commit;
    }
    if is_reported(ParticipantState::Aborted) {
        return Termination::Abort;
    }
    if !reports.contains(&StateReport::Unreachable) {
        if !is_reported(ParticipantState::PreCommitted) {
            return Termination::Abort;
        }
        let Some(prepared) = reports.iter().position(StateReport::is_prepared) else { return Termination::Commit };
        if asker == Asker::Coordinator {
            return Termination::PreCommit { participant: prepared };
        }
        if !reports.iter().any(StateReport::is_continuous) {
            return pre_commit_itself(asker, reports);
        }
    }
    terminate_among_continuous(asker, reports)
}

fn terminate_among_continuous(asker: Asker, reports: &[StateReport]) -> Termination {
    let Asker::Participant(own) = asker else { return Termination::Wait };
    let Some(leader) = reports.iter().position(StateReport::is_continuous) else { return Termination::Wait };
    if !reports.get(own).is_some_and(StateReport::is_continuous) {
        return Termination::Wait;
    }
    let mut continuous = reports.iter().filter(|report| report.is_continuous());
    if own != leader {
        return if reports[leader].is_pre_committed() { pre_commit_itself(asker, reports) } else { Termination::Wait };
    }
    if continuous.clone().all(StateReport::is_pre_committed) {
        return Termination::Commit;
    }
    if continuous.any(StateReport::is_pre_committed) {
        return pre_commit_itself(asker, reports);
    }
    Termination::Abort
}

/// Returns what a participant does that can pre-commit: a pre-committed one waits for the others.
fn pre_commit_itself(asker: Asker, reports: &[StateReport]) -> Termination {
    match asker {
        Asker::Participant(own) if reports.get(own).is_some_and(StateReport::is_prepared) => {
            Termination::PreCommit { participant: own }
        }
        _ => Termination::Wait,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ParticipantState::{Aborted, Committed, PreCommitted, Prepared, Unknown};
    use super::*;

    fn up(state: ParticipantState) -> StateReport {
        StateReport::Reached { state, has_restarted: false }
    }

    fn back(state: ParticipantState) -> StateReport {
        StateReport::Reached { state, has_restarted: true }
    }

    const DOWN: StateReport = StateReport::Unreachable;

    fn own(participant: usize) -> Termination {
        Termination::PreCommit { participant }
    }

    #[test]
    fn the_table_holds() {
        use Asker::{Coordinator, Participant};
        use Termination::{Abort, Commit, Wait};
        for (asker, reports, expected) in [
            (Coordinator, vec![DOWN, up(Committed), up(Prepared)], Commit),
            (Participant(2), vec![DOWN, back(Aborted), up(PreCommitted)], Abort),
            (Coordinator, vec![back(Prepared), up(Prepared), up(Unknown)], Abort),
            (Participant(0), vec![back(Prepared), up(Prepared), up(Unknown)], Abort),
            (Coordinator, vec![back(PreCommitted), up(PreCommitted), up(Unknown)], Commit),
            (Coordinator, vec![up(PreCommitted), up(Prepared), back(Prepared)], own(1)),
            (Participant(2), vec![back(PreCommitted), back(Prepared), back(Prepared)], own(2)),
            (Participant(0), vec![back(PreCommitted), back(Prepared), back(Prepared)], Wait),
            (Coordinator, vec![DOWN, up(PreCommitted), up(PreCommitted)], Wait),
            (Participant(1), vec![DOWN, back(Prepared), back(Prepared)], Wait),
            (Participant(1), vec![DOWN, up(Prepared), up(Prepared)], Abort),
            (Participant(1), vec![back(PreCommitted), up(Prepared), up(Prepared)], Abort),
            (Participant(1), vec![DOWN, up(Prepared), up(PreCommitted)], own(1)),
            (Participant(1), vec![DOWN, up(PreCommitted), up(Prepared)], Wait),
            (Participant(1), vec![DOWN, up(PreCommitted), up(PreCommitted)], Commit),
            (Participant(1), vec![back(Prepared), up(PreCommitted), DOWN], Commit),
            (Participant(2), vec![DOWN, up(PreCommitted), up(Prepared)], own(2)),
            (Participant(2), vec![DOWN, up(Prepared), up(PreCommitted)], Wait),
            (Participant(2), vec![DOWN, up(Prepared), up(Prepared)], Wait),
            (Participant(7), vec![DOWN, up(Prepared)], Wait),
        ] {
            assert_eq!(terminate(asker, &reports), expected, "{asker:?} {reports:?}");
        }
    }

    fn report() -> impl Strategy<Value = StateReport> {
        let state = prop::sample::select(vec![Unknown, Prepared, PreCommitted, Committed, Aborted]);
        (state, 0..3u8).prop_map(|(state, kind)| match kind {
            0 => DOWN,
            1 => back(state),
            _ => up(state),
        })
    }

    proptest! {
        #[test]
        fn all_who_conclude_from_the_same_reports_conclude_the_same(reports in prop::collection::vec(report(), 1..6)) {
            let askers = (0..reports.len()).map(Asker::Participant).chain([Asker::Coordinator]);
            let results: Vec<Termination> = askers.map(|asker| terminate(asker, &reports)).collect();
            let commits = results.contains(&Termination::Commit);
            prop_assert!(!commits || !results.contains(&Termination::Abort), "{results:?}");
            for (own, result) in results.iter().enumerate().take(reports.len()) {
                let is_other = matches!(result, Termination::PreCommit { participant } if *participant != own);
                prop_assert!(!is_other, "{results:?}");
            }
        }

        #[test]
        fn a_reported_outcome_is_followed(reports in prop::collection::vec(report(), 1..6)) {
            let has = |state| reports.iter().any(|report| report.state() == Some(state));
            let result = terminate(Asker::Coordinator, &reports);
            if has(Committed) {
                prop_assert_eq!(result, Termination::Commit);
            } else if has(Aborted) {
                prop_assert_eq!(result, Termination::Abort);
            }
        }

        #[test]
        fn a_pre_committed_transaction_aborts_only_if_the_pre_committed_have_restarted(
            reports in prop::collection::vec(report(), 1..6),
            own in 0..6usize,
        ) {
            let result = terminate(Asker::Participant(own), &reports);
            let is_aborted = reports.iter().any(|report| report.state() == Some(Aborted));
            if result == Termination::Abort && !is_aborted {
                prop_assert!(!reports.contains(&up(PreCommitted)));
            }
        }
    }
}
