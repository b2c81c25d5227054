//! Random graphs with random failures and crashes, run by real coordinators against a model.
//!
//! The fates of the steps are drawn before the run. From them alone the model knows how each saga must end. The process
//! crashes at random points, and another coordinator continues. `ES_SAGAS` is the number of graphs, `ES_SEED` the first
//! seed.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use es_core::model::Entropy;
use es_core::store::memory::MemoryStore;
use es_core::testing::SeededEntropy;
use es_core::{EventStore, StreamRead};
use es_saga::instance::UnitStatus;
use es_saga::{
    Effect, HookAction, MaybeOut, NodeOut, Phase, RunningSagas, Saga, SagaAdmin, SagaCoordinator, SagaDetails,
    SagaGraph, SagaId, SagaInstance,
};
use tokio::sync::Notify;
use world::{Item, Local, Manual, Place, Work, World, fate, stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Work,
    Optional,
    Items,
    Manual,
    Local,
    Child,
    Delay,
}

/// The time of each delay.
const DELAY: Duration = Duration::from_millis(3);

#[derive(Debug)]
struct NodePlan {
    name: String,
    kind: Kind,
    after: Vec<usize>,
}

/// A random graph.
#[derive(Debug)]
struct Plan {
    name: String,
    nodes: Vec<NodePlan>,
    pivot: Option<usize>,
    input: Vec<u64>,
    child: Option<Box<Plan>>,
}

impl Plan {
    fn random(seed: u64) -> Self {
        let random = SeededEntropy::new(seed);
        let child = Self::draw(&random, format!("child-{seed}"), 3, false);
        Self { child: Some(Box::new(child)), ..Self::draw(&random, format!("random-{seed}"), 7, true) }
    }

    fn draw(random: &SeededEntropy, name: String, longest: u64, has_children: bool) -> Self {
        let below = |limit: u64| random.next_u64() % limit;
        let count = usize::try_from(1 + below(longest)).expect("small");
        let nodes = (0..count).map(|index| NodePlan {
            name: format!("n{index}"),
            kind: match below(14) {
                0 => Kind::Optional,
                1 | 2 => Kind::Items,
                3 => Kind::Manual,
                4..7 => Kind::Local,
                7 | 8 if has_children && index < 3 => Kind::Child,
                9 => Kind::Delay,
                _ => Kind::Work,
            },
            after: (0..index).filter(|_| below(100) < 35).collect(),
        });
        let nodes: Vec<NodePlan> = nodes.collect();
        let mut is_child_used = false;
        let mut nodes = nodes;
        for node in &mut nodes {
            if node.kind == Kind::Child && std::mem::replace(&mut is_child_used, true) {
                node.kind = Kind::Work;
            }
        }
        let pivot = (below(4) == 0).then(|| usize::try_from(below(longest)).expect("small")).filter(|at| *at < count);
        let input = (0..below(4)).collect();
        Self { name, nodes, pivot, input, child: None }
    }

    fn define(&self) -> Saga<Vec<u64>, ()> {
        let child = self.child.as_ref().map(|child| child.define());
        Saga::define(&self.name, 1, |saga, input| self.build(saga, input, child.as_ref())).expect("it is valid")
    }

    fn build<'g>(
        &self,
        saga: &mut SagaGraph<'g>,
        input: NodeOut<'g, Vec<u64>>,
        child: Option<&Saga<Vec<u64>, ()>>,
    ) -> NodeOut<'g, ()> {
        let mut handles: Vec<Handle<'g>> = Vec::new();
        for (index, plan) in self.nodes.iter().enumerate() {
            if self.pivot == Some(index) {
                saga.pivot();
            }
            let mut node = saga.node(&plan.name);
            for before in &plan.after {
                node = match handles[*before] {
                    Handle::One(handle) => node.after(handle),
                    Handle::Many(handle) => node.after(handle),
                    Handle::Maybe(handle) => node.after(handle),
                    Handle::Unit(handle) => node.after(handle),
                };
            }
            handles.push(match (plan.kind, child) {
                (Kind::Optional, _) => Handle::Maybe(node.step_if::<Work>(input, |list| list.len() > 1)),
                (Kind::Items, _) => Handle::Many(node.each::<Item>(input)),
                (Kind::Manual, _) => Handle::One(node.step::<Manual>(input)),
                (Kind::Local, _) => Handle::One(node.local::<Local>(input)),
                (Kind::Delay, _) => Handle::Unit(node.delay(DELAY)),
                (Kind::Child, Some(child)) => Handle::Unit(node.child(child, input)),
                (Kind::Work | Kind::Child, _) => Handle::One(node.step::<Work>(input)),
            });
        }
        saga.unit()
    }

    /// Returns the places of the steps that are executed if nothing fails. The input of a child saga is that of its
    /// parent.
    fn places(&self, input: &[u64]) -> Vec<(Place, Kind)> {
        let mut places = Vec::new();
        for node in &self.nodes {
            let place = |item| ((self.name.clone(), node.name.clone(), item), node.kind);
            match node.kind {
                Kind::Optional if input.len() <= 1 => {}
                Kind::Delay => {}
                Kind::Items => places.extend((0..u32::try_from(input.len()).expect("small")).map(place)),
                Kind::Child => places.extend(self.child.iter().flat_map(|child| child.places(input))),
                _ => places.push(place(0)),
            }
        }
        places
    }

    /// Adds the nodes that depend on each node, directly or not.
    fn add_dependents(&self, dependents: &mut BTreeMap<(String, String), BTreeSet<String>>) {
        let mut before: Vec<BTreeSet<usize>> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let mut all: BTreeSet<usize> = node.after.iter().copied().collect();
            for direct in &node.after {
                all.extend(before[*direct].iter().copied());
            }
            for earlier in &all {
                let key = (self.name.clone(), self.nodes[*earlier].name.clone());
                dependents.entry(key).or_default().insert(self.nodes[index].name.clone());
            }
            before.push(all);
        }
        self.child.iter().for_each(|child| child.add_dependents(dependents));
    }

    fn has_pivot(&self) -> bool {
        self.pivot.is_some() || self.child.as_ref().is_some_and(|child| child.has_pivot())
    }
}

/// The output of a node.
#[derive(Clone, Copy)]
enum Handle<'g> {
    One(NodeOut<'g, u64>),
    Many(NodeOut<'g, Vec<u64>>),
    Maybe(MaybeOut<'g, u64>),
    Unit(NodeOut<'g, ()>),
}

/// Waits until no saga has anything to do.
async fn at_rest(admin: &SagaAdmin) {
    let far: es_core::Timestamp = "9000-01-01T00:00:00Z".parse().expect("a time");
    loop {
        let unfinished = admin.unfinished(None, usize::MAX).await.expect("it reads");
        assert!(unfinished.iter().all(|saga| saga.quarantine.is_none()), "{unfinished:?}");
        if unfinished.iter().all(|saga| saga.due > far) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Runs all sagas until nothing is to be done, or until the process crashes after this many points.
async fn run(store: &Arc<dyn EventStore>, plans: &[Plan], world: &World, points: i64) -> u32 {
    let (crashed, left) = (Arc::new(Notify::new()), AtomicI64::new(points));
    let notify = Arc::clone(&crashed);
    let mut coordinator = SagaCoordinator::new()
        .step(Work(world.clone()))
        .step(Item(world.clone()))
        .step(Manual(world.clone()))
        .step(Local)
        .poll(Duration::from_millis(20))
        .lease(Duration::from_millis(200))
        .test_hook(move |_| {
            if left.fetch_sub(1, Ordering::SeqCst) != 1 {
                return HookAction::Continue;
            }
            notify.notify_one();
            HookAction::Crash
        });
    let admin = SagaAdmin::new(Arc::clone(store));
    for plan in plans {
        let saga = plan.define();
        admin.create(&saga, "1", &plan.input).await.expect("it is created");
        coordinator = coordinator.saga(&saga);
    }
    let sagas: RunningSagas = coordinator.start(Arc::clone(store)).await.expect("it starts");
    tokio::select! {
        () = crashed.notified() => 1,
        () = at_rest(sagas.admin()) => 0,
    }
}

/// Returns how often a local step has its effect.
async fn local_effects(store: &dyn EventStore, place: &Place) -> usize {
    let read = store.read_stream(StreamRead::new(stream(place))).await.expect("it reads");
    let events = read.collect().await.expect("it reads");
    let (mut effects, mut largest) = (0_usize, 0);
    for event in events {
        effects = if event.data.event_type.as_str() == "done" { effects + 1 } else { effects - 1 };
        largest = largest.max(effects);
    }
    assert!(largest <= 1, "{place:?} had its effect twice");
    effects
}

/// Checks that each delay ended its time after the nodes before it or later, and that nothing after it started before
/// its end.
fn check_delays(plan: &Plan, state: &SagaInstance) {
    let details = SagaDetails::of(state);
    for node in details.nodes.iter().filter(|node| matches!(node.effect, Effect::Delay { .. })) {
        let Some(end) = node.items[0].ended_at else { continue };
        if state.phase() == Phase::Completed {
            let before = details.nodes.iter().filter(|other| node.after.contains(&other.name));
            let ends = before.flat_map(|other| &other.items).filter_map(|item| item.ended_at);
            let ready = ends.chain(state.created_at()).max().expect("it was created");
            assert!(
                (end - ready).to_std().expect("in order") >= DELAY,
                "{}: a delay ended early: {details}",
                plan.name
            );
        }
        let after = details.nodes.iter().filter(|other| other.after.contains(&node.name));
        let starts = after.flat_map(|other| &other.items).filter_map(|item| item.started_at);
        assert!(starts.min().is_none_or(|next| next >= end), "{}: a step did not wait: {details}", plan.name);
    }
}

async fn check(store: &dyn EventStore, plan: &Plan, state: &SagaInstance, world: &World) {
    check_delays(plan, state);
    let places = plan.places(&plan.input);
    let is_refused = places.iter().any(|(place, _)| fate(place).is_refused);
    let name = &plan.name;
    assert_eq!(state.phase() == Phase::Completed, !is_refused, "{name}: {:?} {plan:?}", state.phase());
    let mut remaining = Vec::new();
    for (place, kind) in &places {
        let has_effect = match kind {
            Kind::Local => local_effects(store, place).await == 1,
            _ => world.lock().effects.contains(place),
        };
        if has_effect {
            remaining.push(place);
        }
    }
    match state.phase() {
        Phase::Completed => assert_eq!(remaining.len(), places.len(), "{name}: effects are missing"),
        Phase::Compensated => assert_eq!(remaining, Vec::<&Place>::new(), "{name}: effects remain"),
        phase => {
            // Something must keep it from being compensated.
            let is_kept = |(place, kind): &(Place, Kind)| fate(place).is_undo_refused || *kind == Kind::Manual;
            assert!(plan.has_pivot() || places.iter().any(is_kept), "{name}: {phase:?} without a reason: {plan:?}");
            let is_waiting = state.nodes().iter().flat_map(|node| &node.units).any(|unit| {
                matches!(unit.status, UnitStatus::AwaitingChild | UnitStatus::Undoing) && unit.error.is_some()
            });
            assert!(matches!(phase, Phase::Stuck(_)) || is_waiting, "{name}: {phase:?} without a stuck step or child");
            assert!(state.reason().is_some(), "{name}: no reason");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sagas_with_failures_and_crashes_of_coordinators_end_as_the_model_says() {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (count, first) = (number("ES_SAGAS", 500), number("ES_SEED", 0));
    let plans: Vec<Plan> = (first..first + count).map(Plan::random).collect();
    let (store, world): (Arc<dyn EventStore>, _) = (Arc::new(MemoryStore::new()), World::default());
    plans.iter().for_each(|plan| plan.add_dependents(&mut world.lock().dependents));
    let random = SeededEntropy::new(first);
    let mut crashes = 0;
    for round in 0..=12 {
        let points = if round < 12 { 1 + random.next_u64() % (count * 4) } else { u64::MAX / 4 };
        let ended = run(&store, &plans, &world, i64::try_from(points).expect("small"));
        crashes += tokio::time::timeout(Duration::from_secs(240), ended).await.expect("the sagas come to rest");
    }
    let violations = std::mem::take(&mut world.lock().violations);
    assert_eq!(violations, Vec::<String>::new());
    let admin = SagaAdmin::new(Arc::clone(&store));
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for plan in &plans {
        let id = SagaId::new(&plan.name, 1).expect("an id");
        let state = admin.status(&id).await.expect("it loads");
        check(&*store, plan, &state, &world).await;
        *ends.entry(state.phase().name()).or_default() += 1;
    }
    if count >= 500 {
        for end in ["completed", "compensated", "stuck"] {
            assert!(ends.get(end).is_some_and(|count| *count > 10), "the seeds cover every end: {ends:?}");
        }
        assert!(crashes >= 5, "{crashes} crashes");
    }
}
