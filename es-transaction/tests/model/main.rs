//! Two-phase and three-phase commit in a model checker, with the state machines of the crate.
//!
//! The network, the log, the crashes and the restarts are those of the file `world`; the properties are in `checked`.
//! Each test prints the number of states. Those that take longer are ignored: run them with `--ignored --nocapture`.
#![allow(clippy::print_stdout, reason = "the numbers of states are part of the result")]

mod checked;
mod world;

use std::time::Instant;

use es_transaction::Protocol;
use stateright::{Checker, HasDiscoveries, Model};

use crate::checked::{
    ABORTS, ABORTS_ALONE, AGREED, ATOMIC, BLOCKS, COMMITS, COMMITS_ALONE, DURABLE, NON_BLOCKING, RECOVERS, UNDAMAGED,
    VALID,
};
use crate::world::{Answers, Bug, Choice, Network, Settings};

const RULES: [&str; 6] = [ATOMIC, VALID, DURABLE, AGREED, UNDAMAGED, NON_BLOCKING];

fn two_phase() -> Settings {
    Settings {
        protocol: Protocol::TwoPhase,
        network: Network::Lossy,
        answers: Answers::AtOnce,
        allows_one_phase: false,
        gives_up: true,
        votes: vec![vec![Choice::Yes; 3]],
        epochs: 2,
        crashes: 0,
        bug: None,
    }
}

fn three_phase() -> Settings {
    Settings { protocol: Protocol::ThreePhase, network: Network::Synchronous, crashes: 1, ..two_phase() }
}

/// Three participants, one of which at least does not vote yes.
fn other_votes() -> Vec<Vec<Choice>> {
    use Choice::{No, ReadOnly, Yes};
    vec![
        vec![Yes, Yes, No],
        vec![No, Yes, Yes],
        vec![Yes, No, No],
        vec![Yes, ReadOnly, No],
        vec![Yes, Yes, ReadOnly],
        vec![ReadOnly, Yes, Yes],
        vec![Yes, ReadOnly, ReadOnly],
        vec![ReadOnly, ReadOnly, ReadOnly],
    ]
}

/// Explores all states. Asserts that the rules hold in each of them, and that an example of each of the others exists.
fn check(settings: Settings, rules: &[&'static str], examples: &[&'static str]) {
    let start = Instant::now();
    let title = format!("{:?}, {:?}, {} epochs", settings.protocol, settings.network, settings.epochs);
    let checker = settings.checker().threads(2).spawn_bfs().join();
    let (unique, all) = (checker.unique_state_count(), checker.state_count());
    println!("{title}: {unique} states, {all} steps, depth {}, {:?}", checker.max_depth(), start.elapsed());
    rules.iter().for_each(|rule| checker.assert_no_discovery(rule));
    examples.iter().for_each(|example| drop(checker.assert_any_discovery(example)));
}

/// Asserts that the checker finds a state in which a rule is broken.
fn find(settings: Settings, rule: &'static str) {
    let title = settings.bug.map_or_else(|| "no bug".to_owned(), |bug| format!("{bug:?}"));
    let is_shallow = settings.protocol == Protocol::TwoPhase;
    let start = Instant::now();
    let checker = settings.checker().finish_when(HasDiscoveries::AnyOf([rule].into()));
    // A violation of three-phase commit takes many steps, which a search in depth finds earlier.
    let (steps, states) =
        if is_shallow { length(&checker.spawn_bfs().join(), rule) } else { length(&checker.spawn_dfs().join(), rule) };
    println!("{title}: not \"{rule}\" after {steps} steps; {states} states, {:?}", start.elapsed());
}

/// Returns the length of the path on which a rule is broken, and the number of states.
fn length(checker: &impl Checker<Settings>, rule: &'static str) -> (usize, usize) {
    let path = checker.assert_any_discovery(rule);
    (path.into_actions().len(), checker.unique_state_count())
}

#[test]
fn two_phase_commit_is_atomic_in_a_lossy_network() {
    check(two_phase(), &RULES, &[COMMITS, ABORTS, RECOVERS, BLOCKS]);
}

#[test]
fn two_phase_commit_is_atomic_if_answers_are_late() {
    let votes = vec![vec![Choice::Yes; 2]];
    check(Settings { votes, answers: Answers::Late, ..two_phase() }, &RULES, &[COMMITS, ABORTS, RECOVERS, BLOCKS]);
}

#[test]
fn two_phase_commit_follows_the_votes() {
    check(Settings { votes: other_votes(), epochs: 1, ..two_phase() }, &RULES, &[]);
}

#[test]
fn one_phase_commit_has_the_outcome_that_is_told() {
    let votes = vec![vec![Choice::Yes], vec![Choice::Yes, Choice::ReadOnly]];
    let one_phase = Settings { allows_one_phase: true, votes, ..two_phase() };
    check(one_phase.clone(), &[ATOMIC, VALID, DURABLE], &[COMMITS, ABORTS]);
    check(Settings { network: Network::Synchronous, crashes: 1, ..one_phase }, &RULES, &[COMMITS, ABORTS]);
}

#[test]
fn three_phase_commit_is_atomic_if_sites_crash() {
    let settings = Settings { gives_up: false, ..three_phase() };
    check(settings, &RULES, &[COMMITS, ABORTS, RECOVERS, COMMITS_ALONE, ABORTS_ALONE]);
}

#[test]
fn three_phase_commit_is_atomic_without_a_recovery() {
    let settings = Settings { epochs: 1, crashes: 2, gives_up: false, ..three_phase() };
    check(settings, &RULES, &[COMMITS, COMMITS_ALONE, ABORTS_ALONE]);
}

#[test]
fn three_phase_commit_follows_the_votes() {
    check(Settings { votes: other_votes(), crashes: 0, ..three_phase() }, &RULES, &[]);
}

#[test]
fn three_phase_commit_is_not_atomic_in_a_partition() {
    find(Settings { network: Network::Lossy, epochs: 1, crashes: 0, ..three_phase() }, ATOMIC);
}

#[test]
#[ignore = "takes minutes"]
fn three_phase_commit_is_atomic_if_all_sites_crash() {
    check(Settings { epochs: 1, crashes: 4, ..three_phase() }, &RULES, &[COMMITS, ABORTS, COMMITS_ALONE, ABORTS_ALONE]);
}

#[test]
#[ignore = "takes minutes"]
fn three_phase_commit_is_atomic_if_sites_crash_twice() {
    check(Settings { crashes: 2, ..three_phase() }, &RULES, &[COMMITS, ABORTS, RECOVERS, COMMITS_ALONE]);
}

#[test]
#[ignore = "takes minutes"]
fn three_phase_commit_is_atomic_if_answers_are_late() {
    check(Settings { answers: Answers::Late, ..three_phase() }, &RULES, &[COMMITS, ABORTS, RECOVERS, COMMITS_ALONE]);
}

#[test]
#[ignore = "takes minutes"]
fn two_phase_commit_is_atomic_in_three_epochs() {
    check(Settings { epochs: 3, ..two_phase() }, &RULES, &[COMMITS, ABORTS, RECOVERS, BLOCKS]);
}

#[test]
fn a_commit_before_its_decision_is_durable_is_found() {
    let bug = Some(Bug::CommitsBeforeDurable);
    find(Settings { bug, ..two_phase() }, ATOMIC);
    find(Settings { bug, ..three_phase() }, ATOMIC);
}

#[test]
fn a_participant_that_forgets_is_found() {
    let bug = Some(Bug::ForgetsPrepared);
    find(Settings { bug, crashes: 1, ..two_phase() }, UNDAMAGED);
    find(Settings { bug, ..three_phase() }, UNDAMAGED);
}

#[test]
fn a_participant_that_aborts_by_itself_is_found() {
    find(Settings { bug: Some(Bug::AbortsOnTimeout), ..two_phase() }, ATOMIC);
}

#[test]
fn a_recovery_that_commits_without_a_decision_is_found() {
    let bug = Some(Bug::RecoveryCommits);
    find(Settings { bug, ..two_phase() }, ATOMIC);
    find(Settings { bug, votes: other_votes(), ..two_phase() }, VALID);
}

#[test]
fn a_three_phase_commit_without_pre_commit_is_found() {
    find(Settings { bug: Some(Bug::SkipsPreCommit), ..three_phase() }, ATOMIC);
}

#[test]
fn a_decision_of_an_old_epoch_is_found() {
    find(Settings { bug: Some(Bug::NoFencing), ..two_phase() }, ATOMIC);
}

#[test]
fn a_participant_that_decides_alone_after_a_restart_is_found() {
    find(Settings { bug: Some(Bug::IgnoresRestart), epochs: 1, crashes: 3, ..three_phase() }, ATOMIC);
}

#[test]
fn a_participant_that_reports_its_state_in_a_round_is_found() {
    find(Settings { bug: Some(Bug::KeepsRound), epochs: 1, crashes: 2, ..three_phase() }, ATOMIC);
}

#[test]
fn a_decision_without_a_pre_committed_participant_is_found() {
    let votes = vec![vec![Choice::Yes; 2]];
    let bug = Some(Bug::CountsFailedPreCommits);
    find(Settings { bug, votes, epochs: 1, crashes: 2, ..three_phase() }, DURABLE);
}

#[test]
fn a_recovery_that_aborts_while_pre_committing_is_found() {
    find(Settings { bug: Some(Bug::RecoveryIgnoresPreCommit), ..three_phase() }, ATOMIC);
}
