//! Random graphs with random failures and crashes, against a model of the world outside.
//!
//! The world has the effects of the calls, by key. The fate of each step is drawn before the run: how often it fails,
//! and whether it succeeds in the end. From the fates alone the model knows how the saga must end.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use es_core::{Evolve, Timestamp};
use serde_json::json;

use super::{Act, Operate, OperatorNote, Phase, SagaEvent, SagaInstance, SagaVerb, Transition, Unit, UnitStatus};
use crate::failure::{ErrorClass, StepFailure, StepRetry};
use crate::id::{Direction, SagaId, StepKey};
use crate::shape::{Effect, NodeShape, Pivot, Repeat, SagaShape, Undo};

struct Random(SeededEntropy);

impl Random {
    fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What happens to the calls of a step.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// The number of attempts that fail before the last.
    failures: u32,
    /// Whether it fails for good after them.
    is_refused: bool,
    /// Whether its compensation fails for good.
    is_undo_refused: bool,
}

/// A call of which the process waits for the outcome.
#[derive(Debug, Clone)]
struct Call {
    key: StepKey,
    direction: Direction,
    outcome: Option<Result<(), ErrorClass>>,
}

struct Simulation {
    random: Random,
    shape: SagaShape,
    fates: BTreeMap<Unit, Fate>,
    /// The log.
    events: Vec<(SagaEvent, Timestamp)>,
    /// What the process holds in memory.
    state: SagaInstance,
    calls: BTreeMap<Unit, Call>,
    /// The number of calls of each unit that reached the world.
    reached: BTreeMap<Unit, u32>,
    /// Steps with an effect in the world.
    effects: BTreeSet<Unit>,
    keys: BTreeMap<(Unit, Direction), BTreeSet<StepKey>>,
    /// The ends of the delays in progress.
    delays: BTreeMap<Unit, Timestamp>,
    /// The delays that ended.
    ended: BTreeSet<Unit>,
    now: Timestamp,
    crashes: u32,
}

const RETRY: StepRetry = StepRetry { attempts: u32::MAX, ..StepRetry::DEFAULT };

fn random_shape(random: &Random) -> SagaShape {
    let count = 1 + random.below(9);
    let pivot_at = random.percent(30).then(|| random.below(count));
    let mut nodes: Vec<NodeShape> = Vec::new();
    for index in 0..count {
        let index = u32::try_from(index).expect("small");
        let mut after: BTreeSet<u32> = (0..index).filter(|_| random.percent(30)).collect();
        if let Some(pivot) = pivot_at.and_then(|pivot| u32::try_from(pivot).ok()) {
            match index.cmp(&pivot) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => after.extend(0..index),
                std::cmp::Ordering::Greater => drop(after.insert(pivot)),
            }
        }
        let effect = match random.below(10) {
            0..3 => Effect::Local,
            3 => Effect::Delay { milliseconds: random.below(100_000) },
            _ => Effect::External,
        };
        let is_delay = matches!(effect, Effect::Delay { .. });
        nodes.push(NodeShape {
            name: format!("n{index}"),
            step: "s".to_owned(),
            step_version: 1,
            effect,
            repeat: match random.below(6) {
                0 => Repeat::Optional,
                1 if !is_delay => Repeat::Each,
                _ => Repeat::Once,
            },
            undo: match random.below(12) {
                _ if is_delay => Undo::Ignore,
                0 => Undo::Pause,
                1 => Undo::Ignore,
                _ => Undo::Compensate,
            },
            after: after.into_iter().collect(),
            input: "saga".to_owned(),
        });
    }
    let pivot = pivot_at.and_then(|pivot| u32::try_from(pivot).ok());
    let pivot = pivot.map(|pivot| Pivot { step: Some(pivot), next: pivot + 1 });
    SagaShape { name: "random".to_owned(), version: 1, nodes, output: "saga".to_owned(), pivot }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let random = Random(SeededEntropy::new(seed));
        let shape = random_shape(&random);
        let id = SagaId::new("random", seed).expect("an id");
        let mut simulation = Self {
            state: SagaInstance::initial(&id),
            shape: shape.clone(),
            random,
            fates: BTreeMap::new(),
            events: Vec::new(),
            calls: BTreeMap::new(),
            reached: BTreeMap::new(),
            effects: BTreeSet::new(),
            keys: BTreeMap::new(),
            delays: BTreeMap::new(),
            ended: BTreeSet::new(),
            now: "2026-01-31T12:00:00Z".parse().expect("a time"),
            crashes: 0,
        };
        simulation.log(Transition::Create { shape, input: json!(null), deadline: None, parent: None });
        simulation
    }

    fn log(&mut self, transition: Transition) {
        let events = self.state.transition(transition, self.now).expect("the transition fits the state");
        self.events.extend(events.into_iter().map(|event| (event, self.now)));
    }

    /// Loses everything but the log.
    fn crash(&mut self) {
        self.crashes += 1;
        self.calls.clear();
        self.state = SagaInstance::initial(&self.state.id.clone());
        for (event, at) in &self.events {
            self.state.evolve_at(event, *at);
        }
        assert_eq!(self.state.defect(), None);
    }

    fn fate(&mut self, unit: Unit) -> Fate {
        let random = &self.random;
        *self.fates.entry(unit).or_insert_with(|| Fate {
            failures: if random.percent(40) { u32::try_from(random.below(3)).expect("small") } else { 0 },
            is_refused: random.percent(12),
            is_undo_refused: random.percent(4),
        })
    }

    fn is_local(&self, unit: Unit) -> bool {
        self.shape.nodes[unit.node as usize].effect == Effect::Local
    }

    fn key(&mut self, unit: Unit, direction: Direction) -> StepKey {
        let node = &self.shape.nodes[unit.node as usize].name;
        let key = StepKey::of(&self.state.id, node, unit.item, 0, direction);
        self.keys.entry((unit, direction)).or_default().insert(key);
        key
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::List(node) => {
                let count = u32::try_from(self.random.below(4)).expect("small");
                self.log(Transition::List { node, count });
            }
            Act::Execute(unit) if self.calls.contains_key(&unit) => {}
            Act::Execute(unit) => self.execute(unit),
            Act::Delay(unit) => self.delay(unit),
            Act::EndDelay(unit) => {
                let until = self.delays.remove(&unit).expect("it started, and ends once");
                assert!(until <= self.now, "a delay ends before its time");
                assert!(self.ended.insert(unit), "a delay ends twice");
                self.log(Transition::EndDelay { unit });
            }
            Act::Interrupt(unit) if self.calls.contains_key(&unit) => {}
            Act::Interrupt(unit) => self.log(Transition::Interrupt { unit }),
            Act::Undo(unit) if self.calls.contains_key(&unit) => {}
            Act::Undo(unit) => self.undo(unit),
            Act::Expire => panic!("the saga has no deadline"),
        }
    }

    fn assert_predecessors_are_done(&self, unit: Unit) {
        for before in &self.shape.nodes[unit.node as usize].after {
            assert!(self.state.nodes[*before as usize].is_done(), "a step started before its predecessor was done");
        }
    }

    fn delay(&mut self, unit: Unit) {
        self.assert_predecessors_are_done(unit);
        let node = &self.shape.nodes[unit.node as usize];
        let Effect::Delay { milliseconds } = node.effect else { panic!("{node:?} is not a delay") };
        if node.repeat == Repeat::Optional && milliseconds % 2 == 0 {
            return self.log(Transition::Omit { node: unit.node });
        }
        self.log(Transition::StartDelay { unit });
        let until = self.now + TimeDelta::milliseconds(i64::try_from(milliseconds).expect("small"));
        assert_eq!(self.delays.insert(unit, until), None, "a delay starts twice");
    }

    fn execute(&mut self, unit: Unit) {
        self.assert_predecessors_are_done(unit);
        let fate = self.fate(unit);
        let node = &self.shape.nodes[unit.node as usize];
        let is_first = self.state.unit(unit).expect("it exists").attempts == 0;
        if node.repeat == Repeat::Optional && is_first && unit.item == 0 && fate.failures == 0 && !fate.is_refused {
            return self.log(Transition::Omit { node: unit.node });
        }
        if self.is_local(unit) {
            return self.execute_local(unit, fate);
        }
        let key = self.key(unit, Direction::Forward);
        self.log(Transition::Start { unit, key, input: String::new(), compensation: json!(key) });
        self.calls.insert(unit, Call { key, direction: Direction::Forward, outcome: None });
    }

    fn execute_local(&mut self, unit: Unit, fate: Fate) {
        let reached = self.reached.entry(unit).or_default();
        *reached += 1;
        if *reached > fate.failures && !fate.is_refused {
            self.effects.insert(unit);
            return self.log(Transition::Succeed { unit, output: json!(1) });
        }
        let class = if *reached > fate.failures { ErrorClass::Terminal } else { ErrorClass::Transient };
        let roll = self.random.0.next_u64();
        self.log(Transition::Fail { unit, failure: StepFailure::new(class, "local"), retry: RETRY, roll });
    }

    fn undo(&mut self, unit: Unit) {
        self.assert_dependents_have_no_effect(unit.node);
        let is_refused = self.fate(unit).is_undo_refused;
        if self.is_local(unit) {
            if is_refused {
                let failure = StepFailure::new(ErrorClass::Terminal, "undo refused");
                return self.log(Transition::FailUndo { unit, failure, retry: RETRY, roll: 0 });
            }
            self.effects.remove(&unit);
            return self.log(Transition::SucceedUndo { unit });
        }
        let key = self.key(unit, Direction::Backward);
        self.log(Transition::StartUndo { unit, key });
        assert!(
            self.state.unit(unit).is_some_and(|unit| unit.compensation.is_some()),
            "it was computed before the call"
        );
        self.calls.insert(unit, Call { key, direction: Direction::Backward, outcome: None });
    }

    fn assert_dependents_have_no_effect(&self, node: u32) {
        let mut dependents = BTreeSet::from([node]);
        for (index, shape) in (0..).zip(&self.shape.nodes) {
            if !shape.after.iter().any(|before| dependents.contains(before)) {
                continue;
            }
            dependents.insert(index);
            let has_effect = self.effects.iter().any(|unit| unit.node == index) && shape.undo != Undo::Ignore;
            let is_called = self.calls.keys().any(|unit| unit.node == index);
            assert!(!has_effect && !is_called, "n{node} is undone before n{index}");
        }
    }

    /// Lets a call reach the world.
    fn reach(&mut self, unit: Unit) {
        let (fate, direction) = (self.fate(unit), self.calls[&unit].direction);
        let outcome = if direction == Direction::Backward {
            if !fate.is_undo_refused {
                self.effects.remove(&unit);
            }
            if fate.is_undo_refused { Err(ErrorClass::Terminal) } else { Ok(()) }
        } else {
            let reached = self.reached.entry(unit).or_default();
            *reached += 1;
            match (*reached > fate.failures, fate.is_refused) {
                (true, true) => Err(ErrorClass::Terminal),
                (true, false) => {
                    self.effects.insert(unit);
                    Ok(())
                }
                (false, is_refused) => {
                    // A timeout, after which the effect may exist; a step that is refused later has none.
                    let is_ambiguous = self.random.percent(50);
                    if is_ambiguous && !is_refused && self.random.percent(50) {
                        self.effects.insert(unit);
                    }
                    Err(if is_ambiguous { ErrorClass::Ambiguous } else { ErrorClass::Transient })
                }
            }
        };
        if let Some(call) = self.calls.get_mut(&unit) {
            call.outcome = Some(outcome);
        }
    }

    fn record(&mut self, unit: Unit) {
        let Some(call) = self.calls.remove(&unit) else { return };
        let key_of_direction = self.key(unit, call.direction);
        assert_eq!(call.key, key_of_direction);
        let roll = self.random.0.next_u64();
        let failed = |class| StepFailure::new(class, "remote");
        self.log(match (call.direction, call.outcome.expect("it reached the world")) {
            (Direction::Forward, Ok(())) => Transition::Succeed { unit, output: json!(1) },
            (Direction::Forward, Err(class)) => Transition::Fail { unit, failure: failed(class), retry: RETRY, roll },
            (Direction::Backward, Ok(())) => Transition::SucceedUndo { unit },
            (Direction::Backward, Err(class)) => {
                Transition::FailUndo { unit, failure: failed(class), retry: RETRY, roll }
            }
        });
    }

    /// Runs until the saga ends or is stuck.
    fn run(&mut self) {
        for _ in 0..100_000 {
            let acts = self.state.next(self.now);
            assert_eq!(self.state.has_next(self.now), !acts.is_empty());
            let is_waiting = acts.is_empty() && self.calls.is_empty();
            if is_waiting && !matches!(self.state.phase, Phase::Running | Phase::Compensating) {
                return;
            }
            if self.crashes < 6 && self.random.percent(4) {
                self.crash();
                continue;
            }
            if is_waiting {
                let wake = self.state.wake_at().expect("an unfinished saga has something to do at some time");
                self.now = self.now.max(wake);
                continue;
            }
            self.now += TimeDelta::milliseconds(1);
            if !acts.is_empty() && (self.calls.is_empty() || self.random.percent(50)) {
                let index = usize::try_from(self.random.below(acts.len() as u64)).expect("small");
                self.act(acts[index]);
                continue;
            }
            let Some(unit) = self
                .calls
                .keys()
                .nth(usize::try_from(self.random.below(self.calls.len() as u64)).expect("small"))
                .copied()
            else {
                continue;
            };
            if self.calls[&unit].outcome.is_none() { self.reach(unit) } else { self.record(unit) }
        }
        panic!("the saga does not end: {:#?}", self.state);
    }

    fn check_end(&mut self) {
        let refused = |unit: &Unit, fates: &BTreeMap<Unit, Fate>| fates.get(unit).is_some_and(|fate| fate.is_refused);
        let units: Vec<Unit> = self.state.units().map(|(unit, _)| unit).collect();
        let dead: Vec<Unit> = units.iter().filter(|unit| refused(unit, &self.fates)).copied().collect();
        let pivot = self.shape.pivot.map_or(u32::MAX, |pivot| pivot.next);
        match self.state.phase {
            Phase::Completed => {
                assert!(dead.is_empty(), "a refused step is part of a completed saga");
                for (unit, state) in self.state.units() {
                    let is_omitted = self.state.nodes[unit.node as usize].is_omitted;
                    let is_ended = self.ended.contains(&unit) || self.effects.contains(&unit);
                    assert!(is_omitted || is_ended, "{unit:?} has no effect: {state:?}");
                }
            }
            Phase::Compensated => {
                let left: Vec<&Unit> =
                    self.effects.iter().filter(|unit| self.state.undo_of(unit.node) != Undo::Ignore).collect();
                assert!(left.is_empty(), "effects remain: {left:?}");
                assert!(!dead.is_empty() && dead.iter().all(|unit| unit.node < pivot));
            }
            Phase::Stuck(Direction::Forward) => assert!(dead.iter().any(|unit| unit.node >= pivot)),
            Phase::Stuck(Direction::Backward) => {
                assert!(!dead.is_empty());
                let culprit = self.state.units().find(|(_, state)| state.status == UnitStatus::UndoFailed);
                let (unit, _) = culprit.expect("a step that cannot be undone");
                assert!(self.fates[&unit].is_undo_refused || self.state.undo_of(unit.node) == Undo::Pause);
            }
            phase => panic!("the saga ended as {phase:?}"),
        }
        assert!(self.keys.values().all(|keys| keys.len() == 1), "a key changed");
        let live = format!("{:?}", self.state.nodes);
        self.crash();
        assert_eq!(format!("{:?}", self.state.nodes), live, "the fold of the log is the state");
    }
}

/// Tries each action of an operator on the saga as it ended. One that is accepted leaves something to do, and keeps the
/// effects of all steps.
fn check_verbs(saga: &SagaInstance, now: Timestamp) -> u32 {
    let mut accepted = 0;
    for (unit, _) in saga.units() {
        let (step, item) = (saga.node_name(unit.node).to_owned(), unit.item);
        for verb in [
            SagaVerb::Retry { step: step.clone(), item },
            SagaVerb::Skip { step: step.clone(), item, output: Some(json!(1)) },
            SagaVerb::Restart { step },
        ] {
            let mut after = saga.clone();
            let operate = Operate { verb: verb.clone(), note: OperatorNote::new("ann", "test") };
            if after.operate(operate, now).is_err() {
                continue;
            }
            accepted += 1;
            let is_active = matches!(after.phase, Phase::Running | Phase::Compensating);
            let has_more = after.has_next(now) || after.wake_at().is_some();
            assert!(!is_active || has_more, "{verb:?} leaves nothing to do: {after:#?}");
            for (unit, before) in saga.units().filter(|(_, before)| !before.is_clear()) {
                let is_same = after
                    .unit(unit)
                    .is_some_and(|after| (after.status, after.attempts) == (before.status, before.attempts));
                let is_named = matches!(&verb, SagaVerb::Retry { .. } | SagaVerb::Skip { .. });
                let is_delay = saga.delay_of(unit.node).is_some();
                assert!(is_same || is_named || is_delay, "{verb:?} loses {unit:?}: {before:?}");
            }
        }
    }
    accepted
}

#[test]
fn an_action_of_an_operator_leaves_something_to_do_and_loses_no_effect() {
    let mut accepted = 0;
    for seed in 0..500 {
        let mut simulation = Simulation::new(seed);
        simulation.run();
        accepted += check_verbs(&simulation.state, simulation.now);
    }
    assert!(accepted > 100, "{accepted} accepted actions");
}

#[test]
fn random_sagas_with_failures_and_crashes_end_as_the_model_says() {
    let mut ends: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut crashes = 0;
    for seed in 0..500 {
        let mut simulation = Simulation::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            simulation.run();
            simulation.check_end();
        }));
        if let Err(panic) = result {
            panic!(
                "seed {seed}: {:?}",
                panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied())
            );
        }
        *ends.entry(simulation.state.phase.name()).or_default() += 1;
        crashes += simulation.crashes;
    }
    for end in ["completed", "compensated", "stuck"] {
        assert!(ends.get(end).is_some_and(|count| *count > 20), "the seeds cover every end: {ends:?}");
    }
    assert!(crashes > 100, "{crashes} crashes");
}
