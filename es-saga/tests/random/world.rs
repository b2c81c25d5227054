//! The world of random sagas: the fates of their steps, and the effects of the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use es_core::model::Entropy;
use es_core::testing::SeededEntropy;
use es_core::{Commit, EventType, NewEvent, StreamId};
use es_saga::{
    Classify, DeclaredStep, ErrorClass, LocalStep, SagaStep, StepContext, StepKey, StepOptions, StepRetry, Undo,
};
use uuid::Uuid;

/// A step of an instance: saga, node, item.
pub(crate) type Place = (String, String, u32);

/// What happens to the calls of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// The number of attempts that fail before the last.
    pub(crate) failures: u32,
    /// Whether it is refused after them.
    pub(crate) is_refused: bool,
    /// Whether its undo is refused.
    pub(crate) is_undo_refused: bool,
}

/// Returns the fate of a step, which does not depend on the order of the calls.
pub(crate) fn fate(place: &Place) -> Fate {
    let hash = Uuid::new_v5(&Uuid::nil(), format!("{place:?}").as_bytes()).as_u128();
    let random = SeededEntropy::new((hash >> 64) as u64);
    let percent = |percent| random.next_u64() % 100 < percent;
    Fate {
        failures: u32::from(percent(30)) + u32::from(percent(15)),
        is_refused: percent(9),
        is_undo_refused: percent(4),
    }
}

/// The effects outside of the store, and what must not have happened.
#[derive(Debug, Default)]
pub(crate) struct WorldState {
    /// The steps with an effect.
    pub(crate) effects: BTreeSet<Place>,
    attempts: BTreeMap<Place, u32>,
    keys: BTreeMap<Place, BTreeSet<StepKey>>,
    in_progress: BTreeSet<StepKey>,
    /// The nodes that depend on a node, by saga and node.
    pub(crate) dependents: BTreeMap<(String, String), BTreeSet<String>>,
    pub(crate) violations: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct World(Arc<Mutex<WorldState>>);

/// A call in progress.
struct InProgress(World, StepKey);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.lock().in_progress.remove(&self.1);
    }
}

fn place(context: &StepContext) -> Place {
    (context.saga().saga().to_owned(), context.node().to_owned(), context.item())
}

impl World {
    pub(crate) fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn enter(&self, context: &StepContext) -> InProgress {
        let mut state = self.lock();
        if !state.in_progress.insert(context.key()) {
            state.violations.push(format!("two calls of {context:?} at the same time"));
        }
        drop(state);
        InProgress(self.clone(), context.key())
    }

    async fn execute(&self, context: &StepContext) -> Result<u64, WorldError> {
        let _in_progress = self.enter(context);
        tokio::task::yield_now().await;
        let place = place(context);
        let (fate, mut state) = (fate(&place), self.lock());
        state.keys.entry(place.clone()).or_default().insert(context.key());
        if state.keys[&place].len() > 1 {
            state.violations.push(format!("{place:?} was executed under two keys"));
        }
        let attempt = state.attempts.entry(place.clone()).or_default();
        *attempt += 1;
        if *attempt <= fate.failures {
            // A time-out, after which the effect may exist.
            let is_ambiguous = context.key().as_uuid().as_bytes()[usize::from(*attempt > 1)].is_multiple_of(2);
            if is_ambiguous && !fate.is_refused && *attempt == 1 {
                state.effects.insert(place);
            }
            return Err(WorldError(if is_ambiguous { ErrorClass::Ambiguous } else { ErrorClass::Transient }));
        }
        if fate.is_refused {
            return Err(WorldError(ErrorClass::Terminal));
        }
        state.effects.insert(place);
        Ok(1)
    }

    async fn compensate(&self, context: &StepContext) -> Result<(), WorldError> {
        let _in_progress = self.enter(context);
        tokio::task::yield_now().await;
        let place = place(context);
        let mut state = self.lock();
        let later = state.dependents.get(&(place.0.clone(), place.1.clone())).cloned().unwrap_or_default();
        let dependent = state.effects.iter().find(|(saga, node, _)| *saga == place.0 && later.contains(node)).cloned();
        if let Some(dependent) = dependent {
            state.violations.push(format!("{place:?} is undone before {dependent:?}"));
        }
        if fate(&place).is_undo_refused {
            return Err(WorldError(ErrorClass::Terminal));
        }
        state.effects.remove(&place);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the call failed: {0:?}")]
pub(crate) struct WorldError(ErrorClass);

impl Classify for WorldError {
    fn class(&self) -> ErrorClass {
        self.0
    }
}

const OPTIONS: StepOptions = StepOptions {
    retry: StepRetry {
        attempts: 100,
        first: Duration::from_millis(1),
        cap: Duration::from_millis(2),
        ..StepRetry::DEFAULT
    },
    ..StepOptions::DEFAULT
};

macro_rules! external {
    ($step:ident, $name:literal, $input:ty, $undo:expr) => {
        pub(crate) struct $step(pub(crate) World);

        impl DeclaredStep for $step {
            const NAME: &'static str = $name;
            const OPTIONS: StepOptions = StepOptions { undo: $undo, ..OPTIONS };
        }

        impl SagaStep for $step {
            type Input = $input;
            type Output = u64;
            type Compensation = StepKey;
            type Error = WorldError;

            fn compensation(&self, _: &$input, key: StepKey) -> StepKey {
                key
            }

            async fn execute(&self, _: $input, context: &StepContext) -> Result<u64, WorldError> {
                self.0.execute(context).await
            }

            async fn compensate(&self, _: StepKey, _: Option<u64>, context: &StepContext) -> Result<(), WorldError> {
                self.0.compensate(context).await
            }
        }
    };
}

external!(Work, "work", Vec<u64>, Undo::Compensate);
external!(Item, "item", u64, Undo::Compensate);
external!(Manual, "manual", Vec<u64>, Undo::Pause);

/// A local step, whose effects are events in a stream of its own.
pub(crate) struct Local;

impl DeclaredStep for Local {
    const NAME: &'static str = "local";
    const OPTIONS: StepOptions = OPTIONS;
}

/// Returns the stream with the effects of a local step.
pub(crate) fn stream(place: &Place) -> StreamId {
    StreamId::new(format!("effect-{}-{}-{}", place.0, place.1, place.2)).expect("a name")
}

fn append(place: &Place, event: &str) -> Commit {
    Commit::new().append(stream(place), NewEvent::json(EventType::new(event).expect("a name"), "{}"))
}

impl LocalStep for Local {
    type Input = Vec<u64>;
    type Output = u64;
    type Error = WorldError;

    async fn execute(&self, _: Vec<u64>, context: &StepContext) -> Result<(u64, Commit), WorldError> {
        let place = place(context);
        match fate(&place) {
            fate if context.attempt() <= fate.failures => Err(WorldError(ErrorClass::Transient)),
            fate if fate.is_refused => Err(WorldError(ErrorClass::Terminal)),
            _ => Ok((1, append(&place, "done"))),
        }
    }

    async fn undo(&self, _: Vec<u64>, _: u64, context: &StepContext) -> Result<Commit, WorldError> {
        let place = place(context);
        if fate(&place).is_undo_refused {
            return Err(WorldError(ErrorClass::Terminal));
        }
        Ok(append(&place, "undone"))
    }
}
