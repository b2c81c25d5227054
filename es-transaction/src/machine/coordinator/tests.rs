use proptest::prelude::*;
use serde_json::json;

use super::*;

const COMMITTED: Outcome = Outcome::Committed;
const ABORTED: Outcome = Outcome::Aborted;

fn begin(protocol: Protocol, participants: &[&str], allows_one_phase: bool) -> CoordinatorState {
    let participants = participants.iter().map(|name| (*name).to_owned()).collect();
    CoordinatorState::begin(TransactionPlan { protocol, participants, allows_one_phase }).0
}

fn two_phase() -> CoordinatorState {
    begin(Protocol::TwoPhase, &["a", "b"], false)
}

fn three_phase() -> CoordinatorState {
    let mut state = begin(Protocol::ThreePhase, &["a", "b"], false);
    assert_eq!(state.on(yes(0)), []);
    assert_eq!(state.on(yes(1)), [write(1, LogRecord::PreCommitting { participants: both() })]);
    state
}

fn yes(from: usize) -> CoordinatorInput {
    CoordinatorInput::Voted { from, vote: Vote::Prepared(json!(from)) }
}

fn read_only(from: usize) -> CoordinatorInput {
    CoordinatorInput::Voted { from, vote: Vote::ReadOnly }
}

fn no(from: usize) -> CoordinatorInput {
    CoordinatorInput::Voted { from, vote: Vote::No { reason: "no money".to_owned() } }
}

fn durable(record: u32) -> CoordinatorInput {
    CoordinatorInput::Durable { record }
}

fn pre_committed(from: usize, finished: Finished) -> CoordinatorInput {
    CoordinatorInput::PreCommitted { from, finished }
}

fn finished(from: usize, finished: Finished) -> CoordinatorInput {
    CoordinatorInput::Finished { from, finished }
}

fn failed(from: usize, call: Call) -> CoordinatorInput {
    CoordinatorInput::Failed { from, call }
}

fn reported(from: usize, state: crate::ParticipantState) -> CoordinatorInput {
    CoordinatorInput::Reported { from, report: StateReport::Reached { state, has_restarted: true } }
}

fn send(to: usize, call: Call) -> CoordinatorAct {
    CoordinatorAct::Send { to, call }
}

fn write(number: u32, record: LogRecord) -> CoordinatorAct {
    CoordinatorAct::Write { number, record }
}

fn report(outcome: Outcome, reason: Option<AbortReason>) -> CoordinatorAct {
    CoordinatorAct::Report { outcome, reason }
}

fn prepared(name: &str, prepared: Option<Value>) -> RecordedParticipant {
    RecordedParticipant { name: name.to_owned(), prepared }
}

fn both() -> Vec<RecordedParticipant> {
    vec![prepared("a", Some(json!(0))), prepared("b", Some(json!(1)))]
}

fn decided(outcome: Outcome, protocol: Protocol, participants: Vec<RecordedParticipant>) -> LogRecord {
    LogRecord::Decided { outcome, protocol, participants }
}

#[test]
fn the_decision_is_durable_before_anybody_is_told() {
    let mut state = two_phase();
    assert_eq!(state.outstanding(), [send(0, Call::Prepare), send(1, Call::Prepare)]);
    assert_eq!(state.on(yes(1)), []);
    assert_eq!(state.on(yes(0)), [write(1, decided(COMMITTED, Protocol::TwoPhase, both()))]);
    assert_eq!((state.outcome(), state.outstanding()), (None, vec![]));
    assert_eq!(state.on(CoordinatorInput::GiveUp), []);
    assert_eq!(state.on(durable(1)), [report(COMMITTED, None), send(0, Call::Commit), send(1, Call::Commit)]);
    assert_eq!(state.on(finished(1, Finished::Done)), []);
    assert_eq!(state.outstanding(), [send(0, Call::Commit)]);
    assert_eq!(state.on(finished(0, Finished::Done)), [write(2, LogRecord::Ended)]);
    assert_eq!(state.on(durable(2)), []);
    assert_eq!(*state.phase(), CoordinatorPhase::Ended { outcome: COMMITTED });
}

#[test]
fn an_abort_is_sent_to_all_that_may_be_prepared_and_writes_nothing() {
    let mut state = begin(Protocol::TwoPhase, &["a", "b", "c", "d"], false);
    assert_eq!(state.on(yes(0)), []);
    assert_eq!(state.on(read_only(1)), []);
    let reason = Some(AbortReason::Refused { participant: 2, reason: "no money".to_owned() });
    assert_eq!(state.on(no(2)), [report(ABORTED, reason), send(0, Call::Abort), send(3, Call::Abort)]);
    assert_eq!(state.on(yes(3)), [], "a late vote");
    assert_eq!(state.on(finished(0, Finished::Done)), []);
    assert_eq!(state.on(finished(3, Finished::Unknown)), []);
    assert_eq!((state.phase(), state.damage()), (&CoordinatorPhase::Ended { outcome: ABORTED }, None));
}

#[test]
fn a_prepare_that_fails_and_a_caller_that_gives_up_abort() {
    let aborts = [send(0, Call::Abort), send(1, Call::Abort)];
    for (input, reason) in [
        (failed(1, Call::Prepare), AbortReason::Unavailable { participant: 1 }),
        (CoordinatorInput::GiveUp, AbortReason::GivenUp),
    ] {
        let mut state = two_phase();
        let acts = state.on(input);
        assert_eq!(acts, [[report(ABORTED, Some(reason))].as_slice(), aborts.as_slice()].concat());
    }
}

#[test]
fn a_transaction_without_changes_writes_nothing() {
    let mut state = two_phase();
    assert_eq!(state.on(read_only(0)), []);
    assert_eq!(state.on(read_only(1)), [report(COMMITTED, None)]);
    assert_eq!(*state.phase(), CoordinatorPhase::Ended { outcome: COMMITTED });
    assert_eq!(*begin(Protocol::ThreePhase, &[], false).phase(), CoordinatorPhase::Ended { outcome: COMMITTED });
}

#[test]
fn the_only_prepared_participant_decides() {
    for (answer, outcome) in [
        (Finished::Done, COMMITTED),
        (Finished::Heuristic(COMMITTED), COMMITTED),
        (Finished::Heuristic(ABORTED), ABORTED),
        (Finished::Unknown, ABORTED),
    ] {
        let mut state = begin(Protocol::TwoPhase, &["a", "b"], true);
        assert_eq!(state.on(read_only(0)), []);
        assert_eq!(state.on(yes(1)), [send(1, Call::Commit)]);
        let acts = state.on(finished(1, answer));
        assert!(matches!(acts[0], CoordinatorAct::Report { outcome: told, .. } if told == outcome), "{acts:?}");
        assert!(!acts.iter().any(|act| matches!(act, CoordinatorAct::Write { .. })), "{acts:?}");
        assert_eq!((state.phase(), state.damage()), (&CoordinatorPhase::Ended { outcome }, None));
    }
}

#[test]
fn a_contradiction_stays_until_an_operator_forgets_it() {
    for (answer, damage) in [(Finished::Heuristic(ABORTED), Damage::Mixed), (Finished::Unknown, Damage::Hazard)] {
        let mut state = two_phase();
        [yes(0), yes(1), durable(1)].into_iter().for_each(|input| drop(state.on(input)));
        let record = LogRecord::Finished { participant: "a".to_owned(), finished: answer };
        assert_eq!(state.on(finished(0, answer)), [write(2, record.clone())]);
        let mut forgotten = state.clone();
        assert_eq!(forgotten.on(CoordinatorInput::Forget), [], "a participant has not answered");
        assert_eq!(forgotten.on(finished(1, Finished::Done)), [write(3, LogRecord::Forgotten)], "it is remembered");
        assert_eq!(state.on(finished(1, Finished::Done)), []);
        assert_eq!((state.phase(), state.damage()), (&CoordinatorPhase::Damaged { outcome: COMMITTED }, Some(damage)));

        let decision = decided(COMMITTED, Protocol::TwoPhase, both());
        let (mut recovered, acts) = CoordinatorState::recover(&[decision, record], Vec::new()).unwrap();
        assert_eq!((acts, recovered.damage()), (vec![send(1, Call::Commit)], Some(damage)));
        assert_eq!(recovered.on(finished(1, Finished::Done)), []);

        for mut state in [state, recovered] {
            assert_eq!(state.on(CoordinatorInput::Forget), [write(3, LogRecord::Forgotten)]);
            let forget = matches!(answer, Finished::Heuristic(_)).then(|| send(0, Call::Forget));
            assert_eq!(state.on(durable(3)), forget.into_iter().collect::<Vec<_>>());
            assert_eq!(*state.phase(), CoordinatorPhase::Ended { outcome: COMMITTED });
        }
    }
}

#[test]
fn a_heuristic_outcome_that_is_the_decision_is_forgotten() {
    let mut state = two_phase();
    [yes(0), yes(1), durable(1)].into_iter().for_each(|input| drop(state.on(input)));
    assert_eq!(state.on(finished(0, Finished::Heuristic(COMMITTED))), []);
    assert_eq!(state.on(finished(1, Finished::Done)), [write(2, LogRecord::Ended)]);
    assert_eq!(state.on(durable(2)), [send(0, Call::Forget)]);
}

#[test]
fn a_contradicted_abort_is_recorded() {
    let mut state = two_phase();
    state.on(yes(0));
    state.on(CoordinatorInput::GiveUp);
    let participants = vec![prepared("a", Some(json!(0))), prepared("b", None)];
    let contradiction = Finished::Heuristic(COMMITTED);
    assert_eq!(
        state.on(finished(0, contradiction)),
        [
            write(1, decided(ABORTED, Protocol::TwoPhase, participants)),
            write(2, LogRecord::Finished { participant: "a".to_owned(), finished: contradiction }),
        ]
    );
    assert_eq!(state.on(finished(1, Finished::Done)), []);
    assert_eq!(state.damage(), Some(Damage::Mixed));
}

#[test]
fn three_phase_commit_records_each_phase_before_it_begins() {
    let mut state = three_phase();
    assert_eq!(state.on(durable(1)), [send(0, Call::PreCommit), send(1, Call::PreCommit)]);
    assert_eq!(state.on(CoordinatorInput::GiveUp), []);
    assert_eq!(state.on(pre_committed(0, Finished::Done)), []);
    let decision = write(2, decided(COMMITTED, Protocol::ThreePhase, both()));
    assert_eq!(state.on(pre_committed(1, Finished::Done)), [decision]);
    assert_eq!(state.on(durable(2)), [report(COMMITTED, None), send(0, Call::Commit), send(1, Call::Commit)]);
}

#[test]
fn three_phase_commit_commits_without_a_participant_that_is_down() {
    let decision = write(2, decided(COMMITTED, Protocol::ThreePhase, both()));
    let mut state = three_phase();
    state.on(durable(1));
    assert_eq!(state.on(failed(0, Call::PreCommit)), []);
    assert_eq!(state.on(pre_committed(1, Finished::Done)), std::slice::from_ref(&decision));

    let mut state = three_phase();
    state.on(durable(1));
    assert_eq!(state.on(failed(0, Call::PreCommit)), []);
    assert_eq!(state.on(failed(1, Call::PreCommit)), [], "at least one must be pre-committed");
    assert_eq!(state.outstanding(), [send(0, Call::PreCommit), send(1, Call::PreCommit)]);
    assert_eq!(state.on(pre_committed(0, Finished::Done)), [decision]);
}

#[test]
fn three_phase_commit_follows_a_participant_that_has_terminated() {
    for (answer, outcome) in [(Finished::Heuristic(ABORTED), ABORTED), (Finished::Heuristic(COMMITTED), COMMITTED)] {
        let mut state = three_phase();
        state.on(durable(1));
        state.on(pre_committed(0, Finished::Done));
        let acts = state.on(pre_committed(1, answer));
        assert_eq!(acts, [write(2, decided(outcome, Protocol::ThreePhase, both()))]);
    }
    let mut state = three_phase();
    state.on(durable(1));
    state.on(pre_committed(0, Finished::Unknown));
    let acts = state.on(pre_committed(1, Finished::Unknown));
    assert_eq!(acts, [write(2, decided(ABORTED, Protocol::ThreePhase, both()))], "nothing is left to commit");
}

#[test]
fn a_transaction_without_records_is_aborted_where_it_is_in_doubt() {
    let (mut state, acts) = CoordinatorState::recover(&[], vec!["b".to_owned()]).unwrap();
    assert_eq!((acts, state.participants().next()), (vec![send(0, Call::Abort)], Some("b")));
    assert_eq!(state.on(finished(0, Finished::Done)), []);
    assert_eq!(*state.phase(), CoordinatorPhase::Ended { outcome: ABORTED });
}

#[test]
fn a_decided_transaction_is_told_again() {
    let decision = decided(COMMITTED, Protocol::TwoPhase, both());
    let (state, acts) = CoordinatorState::recover(std::slice::from_ref(&decision), Vec::new()).unwrap();
    assert_eq!(acts, [send(0, Call::Commit), send(1, Call::Commit)]);
    assert_eq!(state.prepared(1), Some(&json!(1)));
    let (state, acts) = CoordinatorState::recover(&[decision, LogRecord::Ended], Vec::new()).unwrap();
    assert_eq!((state.phase(), acts), (&CoordinatorPhase::Ended { outcome: COMMITTED }, vec![]));
}

#[test]
fn a_pre_committing_transaction_is_terminated() {
    use crate::ParticipantState::{PreCommitted, Prepared};
    let record = LogRecord::PreCommitting { participants: both() };
    let ask = vec![send(0, Call::Status), send(1, Call::Status)];
    let (mut state, acts) = CoordinatorState::recover(std::slice::from_ref(&record), Vec::new()).unwrap();
    assert_eq!(acts, ask);
    assert_eq!(state.on(reported(0, PreCommitted)), []);
    assert_eq!(state.on(failed(1, Call::Status)), [], "it waits");
    assert_eq!(state.outstanding(), ask);
    state.on(reported(0, PreCommitted));
    assert_eq!(state.on(reported(1, Prepared)), [send(1, Call::PreCommit)]);
    assert_eq!(state.outstanding(), [send(1, Call::PreCommit)]);
    assert_eq!(state.on(pre_committed(1, Finished::Done)), ask);
    state.on(reported(0, PreCommitted));
    let decision = write(2, decided(COMMITTED, Protocol::ThreePhase, both()));
    assert_eq!(state.on(reported(1, PreCommitted)), [decision]);

    let (mut state, _) = CoordinatorState::recover(&[record], Vec::new()).unwrap();
    state.on(reported(0, Prepared));
    assert_eq!(state.on(reported(1, Prepared)), [write(2, decided(ABORTED, Protocol::ThreePhase, both()))]);
}

#[test]
fn records_that_contradict_each_other_are_refused() {
    let pre_committing = LogRecord::PreCommitting { participants: both() };
    let decision = decided(COMMITTED, Protocol::TwoPhase, both());
    let other = LogRecord::Finished { participant: "x".to_owned(), finished: Finished::Unknown };
    for (records, message) in [
        (vec![LogRecord::Ended], "record 1 of the transaction is ended"),
        (vec![LogRecord::Forgotten], "record 1 of the transaction is forgotten"),
        (vec![other.clone()], "record 1 of the transaction is finished"),
        (vec![pre_committing.clone(), pre_committing.clone()], "record 2 of the transaction is pre-committing"),
        (vec![decision.clone(), decision.clone()], "record 2 of the transaction is decided"),
        (vec![decision.clone(), LogRecord::Ended, LogRecord::Ended], "record 3 of the transaction is ended"),
        (vec![decision, other], "record 2 of the transaction names \"x\""),
    ] {
        let error = CoordinatorState::recover(&records, Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

fn input() -> impl Strategy<Value = CoordinatorInput> {
    let answer = prop::sample::select(vec![
        Finished::Done,
        Finished::Unknown,
        Finished::Heuristic(COMMITTED),
        Finished::Heuristic(ABORTED),
    ]);
    let call = prop::sample::select(vec![Call::Prepare, Call::PreCommit, Call::Commit, Call::Abort, Call::Status]);
    (0..24u8, 0..4usize, answer, call).prop_map(|(kind, from, answer, call)| match kind {
        0..8 => yes(from),
        8 => read_only(from),
        9 => no(from),
        10..13 => pre_committed(from, answer),
        13..16 => finished(from, answer),
        16 => failed(from, call),
        17..22 => durable(u32::try_from(from).unwrap_or(0)),
        22 => CoordinatorInput::GiveUp,
        _ => CoordinatorInput::Forget,
    })
}

proptest! {
    #[test]
    fn the_log_says_at_every_time_what_the_caller_was_told(
        is_three_phase: bool,
        inputs in prop::collection::vec(input(), 0..60),
    ) {
        let protocol = if is_three_phase { Protocol::ThreePhase } else { Protocol::TwoPhase };
        let mut state = begin(protocol, &["a", "b", "c"], false);
        let (mut log, mut pending, mut told) = (Vec::new(), Vec::new(), None);
        for input in inputs {
            // Only what was written can become durable.
            if let CoordinatorInput::Durable { record } = input {
                let Some(last) = pending.last().filter(|(number, _)| *number <= record) else { continue };
                prop_assert!(last.0 as usize == log.len() + pending.len());
                log.extend(pending.drain(..).map(|(_, record)| record));
            }
            for act in state.on(input) {
                match act {
                    CoordinatorAct::Write { number, record } => pending.push((number, record)),
                    CoordinatorAct::Report { outcome, .. } => prop_assert!(told.replace(outcome).is_none()),
                    CoordinatorAct::Send { to, call } => {
                        prop_assert!(to < 3);
                        prop_assert!(call != Call::Commit || told == Some(COMMITTED));
                        prop_assert!(call != Call::Abort || told == Some(ABORTED));
                    }
                }
            }
            let (recovered, _) = CoordinatorState::recover(&log, Vec::new()).unwrap();
            let is_ended = matches!(state.phase(), CoordinatorPhase::Ended { .. });
            if let Some(told) = told.filter(|_| !is_ended || !log.is_empty()) {
                prop_assert_eq!((recovered.outcome(), state.outcome()), (Some(told), Some(told)));
            }
        }
    }
}

/// The own store of a coordinator refuses its changes in the commit of the decision. Nobody was told, so the
/// transaction aborts.
#[test]
fn a_decision_that_is_refused_aborts() {
    let mut state = two_phase();
    state.on(yes(0));
    assert_eq!(state.on(yes(1)), [write(1, decided(COMMITTED, Protocol::TwoPhase, both()))]);
    let refused = CoordinatorInput::Refused { record: 1, reason: "too little".to_owned() };
    let reason = Some(AbortReason::Own { reason: "too little".to_owned() });
    let report = CoordinatorAct::Report { outcome: ABORTED, reason };
    assert_eq!(state.on(refused.clone()), [report, send(0, Call::Abort), send(1, Call::Abort)]);
    assert_eq!(state.on(refused), [], "it is refused once");
    assert_eq!(state.on(finished(0, Finished::Done)), []);
    assert_eq!(state.on(finished(1, Finished::Done)), [], "an abort has no record");
    assert_eq!(*state.phase(), CoordinatorPhase::Ended { outcome: ABORTED });
}
