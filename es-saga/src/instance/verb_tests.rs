//! The verbs of operators that must be refused.

use serde_json::json;

use super::tests::{Drive, RETRY, node, now, saga, stuck_backward, unit, verb};
use super::{Act, Phase, Transition, Unit, UnitStatus, VerbRefused};
use crate::failure::{ErrorClass, Exhausted, StepFailure, StepRetry};
use crate::id::Direction;
use crate::shape::{Repeat, SagaShape};

fn has_effect(steps: &[&str]) -> Result<(), VerbRefused> {
    let steps = steps.iter().map(|step| (*step).to_owned()).collect();
    Err(VerbRefused::HasEffect { saga: "test:1".to_owned(), steps })
}

/// Regression: a restart executed the items of a list again that had succeeded, under new keys, and lost their
/// compensations: only the named step and those after it were checked for effects.
#[test]
fn a_restart_does_not_execute_an_item_again_that_has_an_effect() {
    let mut pay = node("pay", &[]);
    pay.repeat = Repeat::Each;
    let nodes = vec![pay, node("ship", &[0])];
    let shape = SagaShape { name: "test".to_owned(), version: 1, nodes, output: "ship".to_owned(), pivot: None };
    let mut saga = saga(shape, None);
    saga.go(Transition::List { node: 0, count: 2 });
    saga.start(0);
    saga.succeed(0);
    let failure = StepFailure::new(ErrorClass::Transient, "busy");
    let retry = StepRetry { attempts: 1, exhausted: Exhausted::Pause, ..RETRY };
    saga.go(Transition::Fail { unit: Unit { node: 0, item: 1 }, failure, retry, roll: 0 });
    assert_eq!(saga.phase(), Phase::Stuck(Direction::Forward));
    assert_eq!(saga.operate_as(verb("restart", "ship", None)), has_effect(&["pay"]));
    assert_eq!((saga.status(0), saga.nodes()[0].run), (UnitStatus::Succeeded, 0));
}

/// Regression: a retry or a restart of a failed step of a saga whose undo had failed left a saga with nothing to do,
/// which no list showed as stuck, and whose effects remained.
#[test]
fn a_saga_whose_undo_failed_does_not_go_forward() {
    let mut saga = stuck_backward();
    let refused = saga.operate_as(verb("retry", "b", None));
    assert!(matches!(refused, Err(VerbRefused::NotFailed { .. })), "{refused:?}");
    let refused = saga.operate_as(verb("skip", "b", Some(json!(1))));
    assert!(matches!(refused, Err(VerbRefused::NotFailed { .. })), "{refused:?}");
    assert_eq!(saga.operate_as(verb("restart", "b", None)), has_effect(&["a"]));
    saga.operate_as(verb("retry", "a", None)).expect("its undo failed");
    assert_eq!((saga.phase(), saga.next(now())), (Phase::Compensating, vec![Act::Undo(unit(0))]));
}
