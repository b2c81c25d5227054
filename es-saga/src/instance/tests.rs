//! The state machine, one rule after the other.

use std::time::Duration;

use es_core::{Evolve, Timestamp};
use serde_json::{Value, json};

use super::{Act, Operate, OperatorNote, Phase, SagaInstance, SagaVerb, Transition, Unit, UnitStatus, VerbRefused};
use crate::failure::{ErrorClass, Exhausted, StepFailure, StepRetry};
use crate::id::{Direction, SagaId, StepKey};
use crate::shape::{Effect, NodeShape, Pivot, Repeat, SagaShape, Undo};

pub(super) fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().expect("a time")
}

fn later(seconds: i64) -> Timestamp {
    now() + chrono::TimeDelta::seconds(seconds)
}

pub(super) fn node(name: &str, after: &[u32]) -> NodeShape {
    NodeShape {
        name: name.to_owned(),
        step: name.to_owned(),
        step_version: 1,
        effect: Effect::External,
        repeat: Repeat::Once,
        undo: Undo::Compensate,
        after: after.to_vec(),
        input: after.first().map_or("saga".to_owned(), |first| ["a", "b", "c"][*first as usize].to_owned()),
    }
}

/// A saga of three steps: `a`, then `b` and `c` in parallel.
pub(super) fn shape() -> SagaShape {
    let nodes = vec![node("a", &[]), node("b", &[0]), node("c", &[0])];
    SagaShape { name: "test".to_owned(), version: 1, nodes, output: "b".to_owned(), pivot: None }
}

pub(super) fn saga(shape: SagaShape, deadline: Option<Timestamp>) -> SagaInstance {
    let mut saga = SagaInstance::initial(&SagaId::new("test", 1).expect("an id"));
    saga.transition(Transition::Create { parent: None, shape, input: json!(7), deadline }, now()).expect("it is new");
    saga
}

pub(super) fn unit(node: u32) -> Unit {
    Unit { node, item: 0 }
}

pub(super) const RETRY: StepRetry = StepRetry { attempts: 2, first: Duration::from_secs(1), ..StepRetry::DEFAULT };

pub(super) trait Drive {
    fn go(&mut self, transition: Transition);
    fn start(&mut self, node: u32);
    fn succeed(&mut self, node: u32);
    fn fail(&mut self, node: u32, class: ErrorClass);
    fn status(&self, node: u32) -> UnitStatus;
    fn operate_as(&mut self, verb: SagaVerb) -> Result<(), VerbRefused>;
}

impl Drive for SagaInstance {
    fn go(&mut self, transition: Transition) {
        self.transition(transition, now()).expect("the transition fits");
    }

    fn start(&mut self, node: u32) {
        let key = StepKey::of(&self.id, "x", 0, 0, Direction::Forward);
        self.go(Transition::Start { unit: unit(node), key, input: "i".to_owned(), compensation: json!("undo") });
    }

    fn succeed(&mut self, node: u32) {
        self.go(Transition::Succeed { unit: unit(node), output: json!(node) });
    }

    fn fail(&mut self, node: u32, class: ErrorClass) {
        let failure = StepFailure::new(class, "no");
        self.go(Transition::Fail { unit: unit(node), failure, retry: RETRY, roll: u64::MAX });
    }

    fn status(&self, node: u32) -> UnitStatus {
        self.unit(unit(node)).expect("it exists").status
    }

    fn operate_as(&mut self, verb: SagaVerb) -> Result<(), VerbRefused> {
        self.operate(Operate { verb, note: OperatorNote::new("ann", "test") }, now()).map(drop)
    }
}

pub(super) fn verb(name: &str, step: &str, output: Option<Value>) -> SagaVerb {
    let step = step.to_owned();
    match name {
        "retry" => SagaVerb::Retry { step, item: 0 },
        "skip" => SagaVerb::Skip { step, item: 0, output },
        _ => SagaVerb::Restart { step },
    }
}

#[test]
fn a_dependent_step_starts_after_the_outcome_and_parallel_steps_start_together() {
    let mut saga = saga(shape(), None);
    assert_eq!(saga.next(now()), [Act::Execute(unit(0))]);
    saga.start(0);
    assert_eq!(saga.next(now()), [Act::Execute(unit(0))], "its call is in progress, or was interrupted");
    saga.succeed(0);
    assert_eq!(saga.next(now()), [Act::Execute(unit(1)), Act::Execute(unit(2))]);
    saga.succeed(1);
    saga.succeed(2);
    assert_eq!(saga.phase(), Phase::Completed);
}

#[test]
fn a_transient_failure_is_retried_after_its_pause() {
    let mut saga = saga(shape(), None);
    saga.start(0);
    saga.fail(0, ErrorClass::Transient);
    assert_eq!(saga.next(now()), []);
    let wake = saga.wake_at().expect("a retry");
    assert!(wake > now() && wake <= later(1), "{wake}");
    assert_eq!(saga.next(wake), [Act::Execute(unit(0))]);
    saga.start(0);
    saga.fail(0, ErrorClass::Transient);
    assert_eq!((saga.phase(), saga.status(0)), (Phase::Compensated, UnitStatus::Failed));
}

#[test]
fn no_attempt_starts_after_the_longest_time_of_a_retry() {
    let mut saga = saga(shape(), None);
    saga.start(0);
    let retry = StepRetry {
        max_elapsed: Some(Duration::from_secs(10)),
        first: Duration::from_secs(8),
        attempts: u32::MAX,
        ..StepRetry::DEFAULT
    };
    let fail = |roll| {
        let failure = StepFailure::new(ErrorClass::Transient, "busy");
        Transition::Fail { unit: unit(0), failure, retry, roll }
    };
    let mut late = saga.clone();
    late.transition(fail(u64::MAX), later(3)).expect("it fits");
    assert_eq!(late.phase, Phase::Compensated, "the next attempt would start after 11 seconds");
    saga.transition(fail(u64::MAX), later(1)).expect("it fits");
    assert!(matches!(saga.status(0), UnitStatus::Waiting(_)), "the next attempt starts after 9 seconds");
}

#[test]
fn a_terminal_failure_turns_the_saga_back_and_steps_are_undone_in_reverse_order() {
    let mut saga = saga(shape(), None);
    saga.start(0);
    saga.succeed(0);
    saga.start(1);
    saga.start(2);
    saga.fail(2, ErrorClass::Terminal);
    assert_eq!(saga.phase(), Phase::Compensating);
    assert_eq!(saga.next(now()), [Act::Interrupt(unit(1))], "a waits for b, whose call is in progress");
    saga.succeed(1);
    assert_eq!(saga.next(now()), [Act::Undo(unit(1))]);
    saga.go(Transition::SucceedUndo { unit: unit(1) });
    assert_eq!(saga.next(now()), [Act::Undo(unit(0))]);
    saga.go(Transition::SucceedUndo { unit: unit(0) });
    assert_eq!(saga.phase(), Phase::Compensated);
}

/// Restate's guide to sagas: a step that times out may have had its effect. (R31)
#[test]
fn a_step_whose_effect_is_unknown_owes_its_compensation() {
    let mut saga = saga(shape(), None);
    saga.start(0);
    saga.fail(0, ErrorClass::Ambiguous);
    saga.start(0);
    saga.fail(0, ErrorClass::Terminal);
    assert_eq!((saga.phase(), saga.status(0)), (Phase::Compensating, UnitStatus::Owed), "the first attempt counts");
    assert_eq!(saga.next(now()), [Act::Undo(unit(0))]);
    let state = saga.unit(unit(0)).expect("it exists");
    assert_eq!((&state.compensation, &state.output), (&Some(json!("undo")), &None));
}

/// Restate #5196: an invocation that was suspended with its own step in progress was never resumed. (R32)
#[test]
fn a_step_that_was_in_progress_at_a_crash_is_executed_again_and_its_first_attempt_counts_as_unknown() {
    let mut saga = saga(shape(), None);
    saga.start(0);
    assert_eq!(saga.next(later(999)), [Act::Execute(unit(0))]);
    saga.start(0);
    assert!(saga.unit(unit(0)).is_some_and(|unit| unit.is_ambiguous && unit.attempts == 2));
}

/// Returns a saga that is stuck because the undo of `a` failed for the last time, after `b` had failed.
pub(super) fn stuck_backward() -> SagaInstance {
    let mut saga = saga(shape(), None);
    saga.start(0);
    saga.succeed(0);
    saga.start(1);
    saga.fail(1, ErrorClass::Terminal);
    let failure = StepFailure::new(ErrorClass::Terminal, "refund refused");
    saga.go(Transition::FailUndo { unit: unit(0), failure, retry: RETRY, roll: 0 });
    assert_eq!(saga.phase(), Phase::Stuck(Direction::Backward));
    saga
}

#[test]
fn an_undo_that_fails_for_good_makes_the_saga_stuck_until_a_person_retries_or_skips_it() {
    for choice in ["retry", "skip"] {
        let mut saga = stuck_backward();
        assert_eq!((saga.phase(), saga.next(later(999))), (Phase::Stuck(Direction::Backward), vec![]));
        assert_eq!(saga.reason(), Some("a: refund refused"));
        saga.operate_as(verb(choice, "a", None)).expect("it is stuck");
        match choice {
            "retry" => assert_eq!((saga.phase(), saga.next(now())), (Phase::Compensating, vec![Act::Undo(unit(0))])),
            _ => assert_eq!(saga.phase(), Phase::Compensated),
        }
    }
}

#[test]
fn a_step_that_cannot_be_undone_stops_the_saga_when_it_has_to_be_undone() {
    let mut shape = shape();
    shape.nodes[0].undo = Undo::Pause;
    let mut saga = saga(shape, None);
    saga.start(0);
    saga.succeed(0);
    saga.start(1);
    saga.fail(1, ErrorClass::Terminal);
    assert_eq!((saga.phase(), saga.status(0)), (Phase::Stuck(Direction::Backward), UnitStatus::UndoFailed));
}

#[test]
fn after_its_pivot_a_saga_only_goes_forward() {
    let mut shape = shape();
    shape.pivot = Some(Pivot { step: Some(0), next: 1 });
    let mut saga = saga(shape, Some(later(60)));
    saga.start(0);
    assert_eq!(saga.next(later(60)), [Act::Expire], "the deadline counts before the pivot");
    saga.succeed(0);
    assert!(!saga.next(later(60)).contains(&Act::Expire));
    saga.start(1);
    saga.fail(1, ErrorClass::Terminal);
    assert_eq!(saga.phase(), Phase::Stuck(Direction::Forward));
    assert!(matches!(saga.operate_as(SagaVerb::Cancel), Err(VerbRefused::PastPivot { .. })));
    saga.operate_as(verb("skip", "b", Some(json!(1)))).expect("it failed");
    saga.succeed(2);
    assert_eq!(saga.phase(), Phase::Completed);
}

#[test]
fn a_saga_turns_back_at_its_deadline_but_not_while_it_is_paused() {
    let mut saga = saga(shape(), Some(later(60)));
    assert_eq!(saga.wake_at(), Some(later(60)));
    saga.operate_as(SagaVerb::Pause).expect("it runs");
    assert_eq!((saga.next(later(60)), saga.wake_at()), (vec![], None));
    saga.operate_as(SagaVerb::Resume).expect("it is paused");
    assert_eq!(saga.next(later(60)), [Act::Expire]);
    saga.transition(Transition::Expire, later(60)).expect("it is late");
    assert_eq!(saga.phase(), Phase::Compensated);
}

#[test]
fn the_policy_of_a_step_decides_what_follows_its_last_attempt() {
    for (exhausted, phase) in [
        (Exhausted::Compensate, Phase::Compensated),
        (Exhausted::Pause, Phase::Stuck(Direction::Forward)),
        (Exhausted::Kill, Phase::Killed),
    ] {
        let mut saga = saga(shape(), None);
        saga.start(0);
        let retry = StepRetry { attempts: 1, exhausted, ..RETRY };
        let failure = StepFailure::new(ErrorClass::Transient, "no");
        saga.go(Transition::Fail { unit: unit(0), failure, retry, roll: 0 });
        assert_eq!(saga.phase(), phase);
    }
}

#[test]
fn a_step_whose_output_is_used_is_skipped_with_an_output() {
    let mut shape = shape();
    shape.pivot = Some(Pivot { step: None, next: 0 });
    let mut saga = saga(shape, None);
    saga.start(0);
    saga.fail(0, ErrorClass::Terminal);
    let refused = saga.operate_as(verb("skip", "a", None));
    assert_eq!(refused, Err(VerbRefused::OutputNeeded { step: "a".to_owned(), by: "b".to_owned() }));
    saga.operate_as(verb("skip", "a", Some(json!(3)))).expect("it failed");
    assert_eq!(saga.next(now()), [Act::Execute(unit(1)), Act::Execute(unit(2))]);
}

#[test]
fn a_completed_saga_can_be_compensated_and_a_compensated_one_restarted_under_new_keys() {
    let mut saga = saga(shape(), None);
    for node in 0..3 {
        saga.start(node);
        saga.succeed(node);
    }
    let refused = saga.operate_as(verb("restart", "b", None));
    assert!(matches!(refused, Err(VerbRefused::Phase { .. })), "{refused:?}");
    saga.operate_as(SagaVerb::Cancel).expect("it has no pivot");
    for node in [2, 1, 0] {
        saga.go(Transition::SucceedUndo { unit: unit(node) });
    }
    assert_eq!(saga.phase(), Phase::Compensated);
    saga.operate_as(verb("restart", "b", None)).expect("nothing has an effect");
    assert_eq!(saga.next(now()), [Act::Execute(unit(0))], "b needs a, which is undone");
    assert!(saga.nodes().iter().all(|node| node.run == 1));
}

#[test]
fn a_saga_is_not_restarted_from_a_step_with_an_effect() {
    let mut saga = saga(shape(), None);
    saga.start(0);
    saga.succeed(0);
    saga.operate_as(SagaVerb::Pause).expect("it runs");
    let refused = saga.operate_as(verb("restart", "a", None));
    assert!(matches!(refused, Err(VerbRefused::HasEffect { ref steps, .. }) if steps == &["a"]), "{refused:?}");
    saga.operate_as(verb("restart", "b", None)).expect("b was not started");
    assert_eq!(saga.status(0), UnitStatus::Succeeded, "a is kept");
}

#[test]
fn only_a_saga_that_cannot_go_on_is_abandoned_and_any_unfinished_one_is_killed() {
    let mut saga = saga(shape(), None);
    assert!(matches!(saga.operate_as(SagaVerb::Abandon), Err(VerbRefused::Phase { found: "running", .. })));
    let mut other = saga.clone();
    other.operate_as(SagaVerb::Kill).expect("it runs");
    assert_eq!((other.phase(), other.next(now())), (Phase::Killed, vec![]));
    saga.operate_as(SagaVerb::Pause).expect("it runs");
    saga.operate_as(SagaVerb::Abandon).expect("it is paused");
    assert_eq!(saga.phase(), Phase::Abandoned);
    assert!(saga.operate_as(SagaVerb::Resume).is_err());
}

#[test]
fn a_node_with_an_empty_list_is_done_and_one_with_items_waits_for_all_of_them() {
    let mut shape = shape();
    shape.nodes[0].repeat = Repeat::Each;
    let mut empty = saga(shape.clone(), None);
    assert_eq!(empty.next(now()), [Act::List(0)]);
    empty.go(Transition::List { node: 0, count: 0 });
    assert_eq!(empty.next(now()), [Act::Execute(unit(1)), Act::Execute(unit(2))]);
    let mut two = saga(shape, None);
    two.go(Transition::List { node: 0, count: 2 });
    two.succeed(0);
    assert_eq!(two.next(now()), [Act::Execute(Unit { node: 0, item: 1 })]);
}

const DAY: i64 = 24 * 60 * 60;

/// The saga of three steps with a delay of one day in place of `b`, and `c` after it.
fn with_delay() -> SagaShape {
    let mut shape = shape();
    let delay = Effect::Delay { milliseconds: 86_400_000 };
    shape.nodes[1] = NodeShape { effect: delay, undo: Undo::Ignore, input: "()".to_owned(), ..node("b", &[0]) };
    shape.nodes[2].after = vec![0, 1];
    shape
}

/// Returns the saga with its delay in progress.
fn delayed() -> SagaInstance {
    let mut saga = saga(with_delay(), None);
    saga.start(0);
    saga.succeed(0);
    assert_eq!(saga.next(now()), [Act::Delay(unit(1))]);
    saga.go(Transition::StartDelay { unit: unit(1) });
    saga
}

#[test]
fn a_delay_ends_once_at_its_recorded_time_and_its_dependents_start_after_it() {
    let mut saga = delayed();
    assert_eq!((saga.status(1), saga.wake_at()), (UnitStatus::Delayed(later(DAY)), Some(later(DAY))));
    assert_eq!(saga.next(later(DAY - 1)), []);
    let end = Transition::EndDelay { unit: unit(1) };
    assert!(saga.transition(end.clone(), later(DAY - 1)).is_err(), "its time has not passed");
    assert!(saga.transition(Transition::StartDelay { unit: unit(1) }, now()).is_err(), "it has started");
    assert_eq!(saga.next(later(999 * DAY)), [Act::EndDelay(unit(1))]);
    saga.transition(end.clone(), later(999 * DAY)).expect("its time has passed");
    assert!(saga.transition(end, later(999 * DAY)).is_err(), "it has ended");
    assert_eq!(saga.next(now()), [Act::Execute(unit(2))], "it stays ended when the clock is set back");
    saga.start(2);
    saga.succeed(2);
    assert_eq!(saga.phase(), Phase::Completed);
    assert_eq!(saga.unit(unit(1)).map(|delay| (delay.attempts, &delay.output)), Some((0, &Some(Value::Null))));
}

#[test]
fn a_saga_that_turns_back_does_not_wait_and_waits_again_when_it_is_restarted() {
    let mut saga = delayed();
    saga.operate_as(SagaVerb::Cancel).expect("it runs");
    assert_eq!((saga.status(1), saga.wake_at()), (UnitStatus::Undone, None));
    assert_eq!(saga.next(now()), [Act::Undo(unit(0))]);
    saga.go(Transition::SucceedUndo { unit: unit(0) });
    assert_eq!(saga.phase(), Phase::Compensated);
    saga.operate_as(verb("restart", "c", None)).expect("nothing has an effect");
    saga.start(0);
    saga.succeed(0);
    assert_eq!(saga.next(now()), [Act::Delay(unit(1))], "c waits for the delay, which starts again");
}

#[test]
fn a_delay_that_ended_is_no_effect_and_starts_again_with_the_steps_before_it() {
    let mut saga = delayed();
    saga.transition(Transition::EndDelay { unit: unit(1) }, later(DAY)).expect("its time has passed");
    saga.start(2);
    saga.fail(2, ErrorClass::Terminal);
    assert_eq!((saga.status(1), saga.next(now())), (UnitStatus::Undone, vec![Act::Undo(unit(0))]));
    saga.go(Transition::SucceedUndo { unit: unit(0) });
    saga.operate_as(verb("restart", "a", None)).expect("nothing has an effect");
    assert_eq!((saga.status(1), saga.next(now())), (UnitStatus::Pending, vec![Act::Execute(unit(0))]));
}

#[test]
fn a_delay_is_skipped_but_not_retried_and_its_time_passes_while_the_saga_is_paused() {
    let mut saga = delayed();
    let refused = saga.operate_as(verb("retry", "b", None));
    assert!(matches!(refused, Err(VerbRefused::NotFailed { .. })), "{refused:?}");
    let mut skipped = saga.clone();
    skipped.operate_as(verb("skip", "b", Some(json!("ignored")))).expect("it is in progress");
    assert_eq!(skipped.next(now()), [Act::Execute(unit(2))]);
    assert_eq!(skipped.unit(unit(1)).and_then(|delay| delay.output.clone()), Some(Value::Null));
    saga.operate_as(SagaVerb::Pause).expect("it runs");
    assert_eq!((saga.next(later(DAY)), saga.wake_at()), (vec![], None));
    saga.operate_as(SagaVerb::Resume).expect("it is paused");
    assert_eq!((saga.next(later(DAY - 1)), saga.next(later(DAY))), (vec![], vec![Act::EndDelay(unit(1))]));
    saga.operate_as(SagaVerb::Pause).expect("it runs");
    saga.operate_as(verb("restart", "c", None)).expect("c was not started");
    assert_eq!(saga.status(1), UnitStatus::Delayed(later(DAY)), "it does not start again");
}

#[test]
fn a_delay_in_progress_keeps_its_end_in_another_version_and_can_be_removed() {
    let mut longer = with_delay();
    longer.nodes[1].effect = Effect::Delay { milliseconds: 172_800_000 };
    assert_ne!(crate::Fingerprint::of(&longer), crate::Fingerprint::of(&with_delay()));
    let mut without = with_delay();
    without.nodes.remove(1);
    without.nodes[1].after = vec![0];
    let migrate = |shape: &SagaShape| {
        let mut saga = delayed();
        saga.go(Transition::Migrate { shape: shape.clone(), input: None, outputs: Vec::new() });
        saga
    };
    assert_eq!(migrate(&longer).status(1), UnitStatus::Delayed(later(DAY)));
    assert_eq!(migrate(&without).next(now()), [Act::Execute(unit(1))], "c is the second node of this version");
}

/// omicron #5948 and #10531: a truncated log, and a state that the program never wrote. (R29)
#[test]
fn events_that_no_saga_can_have_are_a_defect_and_nothing_is_executed() {
    use super::SagaEvent;
    let start = |saga: &mut SagaInstance, event: SagaEvent| saga.evolve_at(&event, now());
    let mut truncated = SagaInstance::initial(&SagaId::new("test", 1).expect("an id"));
    start(&mut truncated, SagaEvent::StepSucceeded { unit: unit(0), output: json!(1) });
    assert!(truncated.defect().is_some());
    let mut illegal = saga(shape(), None);
    start(&mut illegal, SagaEvent::StepSucceeded { unit: unit(9), output: json!(1) });
    assert_eq!(illegal.defect(), Some("no item 0 of node 9"));
    assert_eq!((illegal.next(now()), illegal.wake_at()), (vec![], None));
    let mut circular = shape();
    circular.nodes[0].after = vec![1];
    assert!(saga(circular, None).defect().is_some());
}
