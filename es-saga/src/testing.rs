//! Given-when-then tests of sagas, without a store, a runtime and the steps.
//!
//! The test decides the outcomes of the steps, and asserts what the saga does next. Conditions and lists are computed
//! from the recorded values, as a coordinator does; delays start, and end when their time has passed. To run a saga
//! with its steps, with injected failures, repeats, time-outs and crashes, use a coordinator with a
//! [test hook](crate::SagaCoordinator::test_hook).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use es_core::{Event, Evolve, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{ErrorClass, StepFailure, StepRetry};
use crate::graph::{Definition, Saga};
use crate::id::{Direction, SagaId, StepKey};
use crate::instance::{Act, Operate, OperatorNote, Phase, SagaInstance, SagaVerb, Transition, Unit, UnitStatus};
use crate::shape::{Effect, Repeat};
use crate::show::SagaDetails;
use crate::step::Stored;

/// Starts a test of a saga: given an instance with this input, when steps have outcomes, then these acts follow.
///
/// ```
/// # use es_saga::{Classify, DeclaredStep, ErrorClass, Phase, Saga, SagaStep, StepContext, StepKey};
/// # #[derive(Debug, thiserror::Error)] #[error("unreachable")] struct Unreachable;
/// # impl Classify for Unreachable {}
/// # macro_rules! step {
/// #     ($step:ident, $name:literal) => {
/// #         struct $step;
/// #         impl DeclaredStep for $step { const NAME: &'static str = $name; }
/// #         impl SagaStep for $step {
/// #             type Input = u64; type Output = u64; type Compensation = StepKey; type Error = Unreachable;
/// #             fn compensation(&self, _: &u64, key: StepKey) -> StepKey { key }
/// #             async fn execute(&self, input: u64, _: &StepContext) -> Result<u64, Unreachable> { Ok(input) }
/// #             async fn compensate(&self, _: StepKey, _: Option<u64>, _: &StepContext) -> Result<(), Unreachable> {
/// #                 Ok(())
/// #             }
/// #         }
/// #     };
/// # }
/// # step!(Reserve, "reserve");
/// # step!(Pay, "pay");
/// use es_saga::testing::given_saga;
///
/// let fulfilment = Saga::<u64, u64>::define("fulfilment", 1, |saga, order| {
///     let stock = saga.step::<Reserve>(order);
///     saga.step::<Pay>(stock)
/// })?;
/// given_saga(&fulfilment, &7)
///     .then_acts(["execute reserve"])
///     .when_succeeds("reserve", &7_u64)
///     .then_acts(["execute pay"])
///     .when_fails("pay", ErrorClass::Terminal, "no money")
///     .then_acts(["undo reserve"])
///     .when_undone("reserve")
///     .then_phase(Phase::Compensated);
/// # Ok::<(), es_saga::DefineError>(())
/// ```
///
/// # Panics
/// If the input cannot be encoded.
#[track_caller]
pub fn given_saga<I: Stored, O: Stored>(saga: &Saga<I, O>, input: &I) -> GivenSaga {
    let definition = Arc::clone(&saga.definition);
    let now = Timestamp::UNIX_EPOCH;
    let Ok(id) = SagaId::new(&definition.shape.name, "test") else { panic!("the name of a saga is part of an id") };
    let input = encoded(input);
    let deadline = definition.deadline.and_then(|deadline| chrono::TimeDelta::from_std(deadline).ok());
    let create = Transition::Create {
        shape: definition.shape.clone(),
        input,
        deadline: deadline.map(|deadline| now + deadline),
        parent: None,
    };
    let mut given = GivenSaga { state: SagaInstance::initial(&id), definition, now, events: Vec::new() };
    given.apply(create);
    given
}

/// A saga with its outcomes so far. Each method panics if the saga does not expect the outcome, or is not as asserted.
#[derive(Clone)]
pub struct GivenSaga {
    state: SagaInstance,
    definition: Arc<Definition>,
    now: Timestamp,
    events: Vec<String>,
}

impl fmt::Debug for GivenSaga {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenSaga").field("state", &self.state).field("now", &self.now).finish_non_exhaustive()
    }
}

/// A step of the test: `node`, or `node[3]` for an item of a list.
#[track_caller]
fn unit_of(state: &SagaInstance, step: &str) -> Unit {
    let (name, item) = match step.strip_suffix(']').and_then(|step| step.split_once('[')) {
        Some((name, item)) => (name, item.parse().ok()),
        None => (step, Some(0)),
    };
    let unit = state.shape().position(name).zip(item).map(|(node, item)| Unit { node, item });
    match unit.filter(|unit| state.unit(*unit).is_some()) {
        Some(unit) => unit,
        None => panic!("the saga has no step {step:?}:\n{}", SagaDetails::of(state)),
    }
}

#[track_caller]
fn encoded<T: Serialize>(value: &T) -> serde_json::Value {
    match serde_json::to_value(value) {
        Ok(value) => value,
        Err(error) => panic!("the value cannot be stored with a saga: {error}"),
    }
}

impl GivenSaga {
    /// Lets time pass. Retries, delays and the deadline become due.
    #[must_use]
    #[track_caller]
    pub fn when_time_passes(mut self, time: Duration) -> Self {
        let time = chrono::TimeDelta::from_std(time).ok();
        let Some(later) = time.and_then(|time| self.now.checked_add_signed(time)) else { panic!("too long a time") };
        self.now = later;
        self.settle();
        self
    }

    /// Records the success of a step or of a child saga.
    #[must_use]
    #[track_caller]
    pub fn when_succeeds<T: Serialize>(mut self, step: &str, output: &T) -> Self {
        let unit = self.started(step);
        self.apply(Transition::Succeed { unit, output: encoded(output) });
        self
    }

    /// Records a failed attempt of a step. It is retried as the options of the step say, without jitter: just
    /// before the end of the longest pause.
    #[must_use]
    #[track_caller]
    pub fn when_fails(mut self, step: &str, class: ErrorClass, message: &str) -> Self {
        let unit = self.started(step);
        let (failure, retry) = (StepFailure::new(class, message), self.retry(unit));
        self.apply(Transition::Fail { unit, failure, retry, roll: u64::MAX });
        self
    }

    /// Starts an external step and does not record its outcome, as a process that ends during the call.
    #[must_use]
    #[track_caller]
    pub fn when_interrupted(mut self, step: &str) -> Self {
        self.started(step);
        self
    }

    /// Records that a step was undone.
    #[must_use]
    #[track_caller]
    pub fn when_undone(mut self, step: &str) -> Self {
        let unit = self.undo_started(step);
        self.apply(Transition::SucceedUndo { unit });
        self
    }

    /// Records a failed attempt to undo a step.
    #[must_use]
    #[track_caller]
    pub fn when_undo_fails(mut self, step: &str, class: ErrorClass, message: &str) -> Self {
        let unit = self.undo_started(step);
        let (failure, retry) = (StepFailure::new(class, message), self.retry(unit));
        self.apply(Transition::FailUndo { unit, failure, retry, roll: u64::MAX });
        self
    }

    /// Performs an action of an operator.
    #[must_use]
    #[track_caller]
    pub fn when_operated(mut self, verb: SagaVerb) -> Self {
        let note = OperatorNote::new("test", "test");
        match self.state.operate(Operate { verb, note }, self.now) {
            Ok(events) => self.events.extend(events.iter().map(name_of)),
            Err(refused) => panic!("the action was refused: {refused}"),
        }
        self.settle();
        self
    }

    /// Asserts what the saga does now, in the order of the graph: `execute pay`, `undo pay`, `execute pack[1]` for an
    /// item of a list. Steps that were started are done again, because no call of them is in progress.
    #[track_caller]
    pub fn then_acts<'a>(self, expected: impl IntoIterator<Item = &'a str>) -> Self {
        let mut acts: Vec<(Unit, &str)> = self.state.next(self.now).into_iter().filter_map(described).collect();
        acts.sort_by_key(|(unit, _)| *unit);
        let found: Vec<String> = acts.into_iter().map(|(unit, act)| format!("{act} {}", self.name(unit))).collect();
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(found, expected, "{}", SagaDetails::of(&self.state));
        self
    }

    /// Asserts the phase.
    #[track_caller]
    pub fn then_phase(self, expected: Phase) -> Self {
        assert_eq!(self.state.phase(), expected, "{}", SagaDetails::of(&self.state));
        self
    }

    /// Asserts the reason of the last change of the phase.
    #[track_caller]
    pub fn then_reason(self, expected: &str) -> Self {
        assert_eq!(self.state.reason(), Some(expected), "{}", SagaDetails::of(&self.state));
        self
    }

    /// Asserts the time from now at which the saga has something to do if nothing happens before.
    #[track_caller]
    pub fn then_wakes_after(self, expected: Option<Duration>) -> Self {
        let found = self.state.wake_at().map(|at| (at - self.now).to_std().unwrap_or_default());
        assert_eq!(found, expected, "{}", SagaDetails::of(&self.state));
        self
    }

    /// Asserts the types of all events so far.
    #[track_caller]
    pub fn then_events<'a>(self, expected: impl IntoIterator<Item = &'a str>) -> Self {
        assert_eq!(self.events, expected.into_iter().collect::<Vec<_>>());
        self
    }

    /// Asserts the output of a completed saga.
    #[track_caller]
    pub fn then_output<T: DeserializeOwned + PartialEq + fmt::Debug>(self, expected: &T) -> Self {
        let this = self.then_phase(Phase::Completed);
        let output = this.definition.output(&this.state);
        let output = output.map_err(|error| error.to_string());
        let output = output.and_then(|output| serde_json::from_value::<T>(output).map_err(|error| error.to_string()));
        assert_eq!(output.as_ref(), Ok(expected));
        this
    }

    /// Inspects the state.
    pub fn then_state(self, inspect: impl FnOnce(&SagaInstance)) -> Self {
        inspect(&self.state);
        self
    }

    #[track_caller]
    fn apply(&mut self, transition: Transition) {
        match self.state.transition(transition, self.now) {
            Ok(events) => self.events.extend(events.iter().map(name_of)),
            Err(stale) => panic!("{stale}:\n{}", SagaDetails::of(&self.state)),
        }
        self.settle();
    }

    /// Does what needs no step: counts lists, evaluates conditions, starts and ends delays, and turns back after the
    /// deadline.
    #[track_caller]
    fn settle(&mut self) {
        let due = self.state.next(self.now);
        let Some(transition) = due.into_iter().find_map(|act| self.settled(act)) else { return };
        self.apply(transition);
    }

    #[track_caller]
    fn settled(&self, act: Act) -> Option<Transition> {
        let code = |node: u32| self.definition.codes.get(node as usize);
        match act {
            Act::Expire => Some(Transition::Expire),
            Act::Interrupt(unit) => Some(Transition::Interrupt { unit }),
            Act::List(node) => {
                let count = code(node).map(|code| code.count(&self.state)).transpose();
                let count = count.map(|count| u32::try_from(count.unwrap_or_default()).unwrap_or(u32::MAX));
                let Ok(count) = count else { panic!("the list of {:?} cannot be read", self.state.node_name(node)) };
                Some(Transition::List { node, count })
            }
            Act::Execute(unit) => self.omitted(unit),
            Act::Delay(unit) => Some(self.omitted(unit).unwrap_or(Transition::StartDelay { unit })),
            Act::EndDelay(unit) => Some(Transition::EndDelay { unit }),
            Act::Undo(_) => None,
        }
    }

    /// Returns the transition of a node that was not started and whose condition does not hold.
    #[track_caller]
    fn omitted(&self, unit: Unit) -> Option<Transition> {
        let node = self.state.shape().nodes.get(unit.node as usize)?;
        let is_new = self.state.unit(unit)?.status == UnitStatus::Pending;
        if node.repeat != Repeat::Optional || !is_new {
            return None;
        }
        let Ok(is_included) = self.definition.codes.get(unit.node as usize)?.includes(&self.state) else {
            panic!("the input of {:?} cannot be read", node.name)
        };
        (!is_included).then_some(Transition::Omit { node: unit.node })
    }

    /// Starts an external step or a child saga that is not in progress.
    #[track_caller]
    fn started(&mut self, step: &str) -> Unit {
        let unit = unit_of(&self.state, step);
        let status = self.state.unit(unit).map(|state| state.status);
        let is_in_progress = matches!(status, Some(UnitStatus::Running | UnitStatus::AwaitingChild));
        if is_in_progress {
            return unit;
        }
        let is_due = self.state.next(self.now).contains(&Act::Execute(unit));
        assert!(is_due, "step {step:?} is not executed now:\n{}", SagaDetails::of(&self.state));
        let Some(node) = self.state.shape().nodes.get(unit.node as usize) else { return unit };
        let input = String::new();
        match node.effect {
            // The acts of a delay are done already: see `settle`.
            Effect::Local | Effect::Delay { .. } => {}
            Effect::External => {
                let key = self.key(unit, Direction::Forward);
                self.apply(Transition::Start { unit, key, input, compensation: serde_json::Value::Null });
            }
            Effect::Child => {
                let item = (node.repeat == Repeat::Each).then_some(unit.item);
                let Ok(child) = self.state.id().child(&node.step, &node.name, item, 0) else { return unit };
                self.apply(Transition::StartChild { unit, child, input });
            }
        }
        unit
    }

    /// Starts to undo a step.
    #[track_caller]
    fn undo_started(&mut self, step: &str) -> Unit {
        let unit = unit_of(&self.state, step);
        if self.state.unit(unit).is_some_and(|state| state.status == UnitStatus::Undoing) {
            return unit;
        }
        let is_due = self.state.next(self.now).contains(&Act::Undo(unit));
        assert!(is_due, "step {step:?} is not undone now:\n{}", SagaDetails::of(&self.state));
        let effect = self.state.shape().nodes.get(unit.node as usize).map(|node| node.effect);
        if effect != Some(Effect::Local) {
            let key = self.key(unit, Direction::Backward);
            self.apply(Transition::StartUndo { unit, key });
        }
        unit
    }

    fn key(&self, unit: Unit, direction: Direction) -> StepKey {
        StepKey::of(self.state.id(), self.state.node_name(unit.node), unit.item, 0, direction)
    }

    fn retry(&self, unit: Unit) -> StepRetry {
        self.definition.codes.get(unit.node as usize).map_or(StepRetry::DEFAULT, |code| code.options().retry)
    }

    fn name(&self, unit: Unit) -> String {
        let name = self.state.node_name(unit.node);
        match self.state.shape().nodes.get(unit.node as usize).map(|node| node.repeat) {
            Some(Repeat::Each) => format!("{name}[{}]", unit.item),
            _ => name.to_owned(),
        }
    }
}

fn described(act: Act) -> Option<(Unit, &'static str)> {
    match act {
        Act::Execute(unit) => Some((unit, "execute")),
        Act::Undo(unit) => Some((unit, "undo")),
        // They are done already: see `settle`.
        Act::List(_) | Act::Delay(_) | Act::EndDelay(_) | Act::Interrupt(_) | Act::Expire => None,
    }
}

fn name_of(event: &crate::instance::SagaEvent) -> String {
    event.encode().map_or_else(|error| error.to_string(), |encoded| encoded.event_type.to_string())
}
