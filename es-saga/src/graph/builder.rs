//! [`SagaGraph`]: adds nodes to a graph.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::graph::code::{
    ChildNode, Condition, DELAY, DelayNode, External, InStore, NodeCode, StepKind, TypedNode, Wiring,
};
use crate::graph::input::{MaybeOut, NodeOut, Provides, Source, Sources, Wire};
use crate::graph::{Definition, Saga};
use crate::shape::{Effect, Fingerprint, NodeShape, Pivot, Repeat, SagaShape, Undo};
use crate::step::{DeclaredStep, LocalStep, SagaStep, Stored};

/// A saga cannot be defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefineError {
    /// A name has other characters than ASCII letters, digits, `-`, `_` and `.`, or is empty.
    #[error("the name of a {kind} consists of ASCII letters, digits, '-', '_' and '.', found {found:?}")]
    Name {
        /// What has the name.
        kind: &'static str,
        /// The name.
        found: String,
    },
    /// Two nodes have the same name. Name one of them with [`SagaGraph::node`].
    #[error("two nodes have the name {name:?}; name one of them with `node(\"...\")`")]
    DuplicateNode {
        /// The name.
        name: String,
    },
    /// A saga has at most one pivot.
    #[error("node {second:?} is a second pivot; a saga has at most one")]
    SecondPivot {
        /// The node at the second pivot.
        second: String,
    },
    /// A graph has at most 65,536 nodes. Use a node that runs for each item of a list.
    #[error("expected at most {} nodes, found {found}; use a node that runs for each item of a list", MAX_NODES)]
    TooManyNodes {
        /// The number of nodes.
        found: usize,
    },
    /// A delay is longer than 100 years.
    #[error("delay {node:?}: expected at most {MAX_DELAY_YEARS} years, found {found:?}")]
    LongDelay {
        /// The name of the node.
        node: String,
        /// The time.
        found: Duration,
    },
    /// The graph of a child saga cannot be defined.
    #[error("could not define child saga {saga:?}")]
    Child {
        /// The name of the child saga.
        saga: &'static str,
        /// The mistake in its graph.
        source: Box<Self>,
    },
}

/// The largest number of nodes.
const MAX_NODES: usize = 65_536;
/// The longest delay, in years.
const MAX_DELAY_YEARS: u64 = 100;
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(MAX_DELAY_YEARS * 366 * 24 * 60 * 60);

/// The graph of a saga under construction.
pub struct SagaGraph<'g> {
    nodes: Vec<NodeShape>,
    codes: Vec<Box<dyn NodeCode>>,
    pivot: Option<Pivot>,
    error: Option<DefineError>,
    marker: PhantomData<fn(&'g ()) -> &'g ()>,
}

impl std::fmt::Debug for SagaGraph<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SagaGraph").field("nodes", &self.nodes).field("pivot", &self.pivot).finish_non_exhaustive()
    }
}

impl<'g> SagaGraph<'g> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), codes: Vec::new(), pivot: None, error: None, marker: PhantomData }
    }

    /// Begins a node with a name of its own, for options or for a second node of one step.
    pub fn node(&mut self, name: &str) -> NodeBuilder<'_, 'g> {
        NodeBuilder { graph: self, name: name.to_owned(), after: BTreeSet::new() }
    }

    /// Adds an external step whose node has the name of the step.
    pub fn step<S: SagaStep>(&mut self, input: impl Provides<'g, S::Input>) -> NodeOut<'g, S::Output> {
        self.node(S::NAME).step::<S>(input)
    }

    /// Adds a local step whose node has the name of the step.
    pub fn local<S: LocalStep>(&mut self, input: impl Provides<'g, S::Input>) -> NodeOut<'g, S::Output> {
        self.node(S::NAME).local::<S>(input)
    }

    /// Adds a child saga whose node has the name of the child. See [`NodeBuilder::child`].
    pub fn child<I: Stored, O: Stored>(&mut self, child: &Saga<I, O>, input: impl Provides<'g, I>) -> NodeOut<'g, O> {
        self.node(&child.definition.shape.name).child(child, input)
    }

    /// Adds a delay whose node has the name `delay`. See [`NodeBuilder::delay`].
    pub fn delay(&mut self, time: Duration) -> NodeOut<'g, ()> {
        self.node(DELAY).delay(time)
    }

    /// Sets the pivot: nodes that are added later start after all earlier ones are done. When the first of them starts,
    /// the saga is not compensated any more, but goes forward until it is completed.
    pub fn pivot(&mut self) {
        self.set_pivot(Pivot { step: None, next: self.next_index() });
    }

    /// Returns the output of a saga without one.
    #[must_use]
    pub fn unit(&self) -> NodeOut<'g, ()> {
        NodeOut::new(Source::Unit)
    }

    /// Records the error of a child saga of which a node was to be added.
    pub(crate) fn refuse_child(&mut self, saga: &'static str, error: DefineError) {
        self.error.get_or_insert(DefineError::Child { saga, source: Box::new(error) });
    }

    fn set_pivot(&mut self, pivot: Pivot) {
        if self.pivot.is_some() {
            let last = pivot.step.and_then(|step| self.nodes.get(step as usize));
            let second = last.or(self.nodes.last()).map_or_else(String::new, |node| node.name.clone());
            self.error.get_or_insert(DefineError::SecondPivot { second });
        } else {
            self.pivot = Some(pivot);
        }
    }

    fn next_index(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    fn add(&mut self, node: NewNode, mut after: BTreeSet<u32>, sources: &Sources, code: Box<dyn NodeCode>) -> Source {
        let NewNode { name, step, step_version, effect, repeat, undo, is_pivot } = node;
        let index = self.next_index();
        for source in &sources.list {
            if let Source::Node(node) = source {
                after.insert(*node);
            }
        }
        match self.pivot {
            Some(Pivot { step: Some(step), .. }) => drop(after.insert(step)),
            Some(Pivot { step: None, next }) => after.extend(0..next),
            None if is_pivot => after.extend(0..index),
            None => {}
        }
        let input = self.render(&sources.wiring);
        self.check_name("node", &name);
        self.check_name("step", &step);
        if self.nodes.iter().any(|node| node.name == name) {
            self.error.get_or_insert(DefineError::DuplicateNode { name: name.clone() });
        }
        self.nodes.push(NodeShape {
            name,
            step,
            step_version,
            effect,
            repeat,
            undo,
            after: after.into_iter().collect(),
            input,
        });
        self.codes.push(code);
        if is_pivot {
            self.set_pivot(Pivot { step: Some(index), next: index.saturating_add(1) });
        }
        Source::Node(index)
    }

    fn render(&self, wiring: &[Wire]) -> String {
        let name = |source: Source| match source {
            Source::Saga => "saga",
            Source::Node(node) => self.nodes.get(node as usize).map_or("", |node| node.name.as_str()),
            Source::Unit => "()",
        };
        let mut text = String::new();
        for wire in wiring {
            match wire {
                Wire::Open => text.push('('),
                Wire::Comma => text.push_str(", "),
                Wire::Close => text.push(')'),
                Wire::Of(source) => text.push_str(name(*source)),
                Wire::Optional(source) => {
                    text.push_str(name(*source));
                    text.push('?');
                }
            }
        }
        text
    }

    fn check_name(&mut self, kind: &'static str, name: &str) {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(is_allowed) {
            self.error.get_or_insert(DefineError::Name { kind, found: name.to_owned() });
        }
    }

    pub(super) fn finish(mut self, name: &str, version: u32, output: Source) -> Result<Definition, DefineError> {
        self.check_name("saga", name);
        if self.nodes.len() > MAX_NODES {
            self.error.get_or_insert(DefineError::TooManyNodes { found: self.nodes.len() });
        }
        let rendered = self.render(&[Wire::Of(output)]);
        if let Some(error) = self.error {
            return Err(error);
        }
        let (nodes, pivot) = (self.nodes, self.pivot);
        let shape = SagaShape { name: name.to_owned(), version, nodes, output: rendered, pivot };
        let fingerprint = Fingerprint::of(&shape);
        Ok(Definition { shape, fingerprint, codes: self.codes, deadline: None, migrations: Vec::new(), output })
    }
}

/// A node without its edges.
struct NewNode {
    name: String,
    step: String,
    step_version: u32,
    effect: Effect,
    repeat: Repeat,
    undo: Undo,
    is_pivot: bool,
}

/// A node with a name and options, before its step is added.
#[must_use = "a node is added by its step"]
pub struct NodeBuilder<'a, 'g> {
    graph: &'a mut SagaGraph<'g>,
    name: String,
    after: BTreeSet<u32>,
}

impl std::fmt::Debug for NodeBuilder<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder").field("name", &self.name).field("after", &self.after).finish_non_exhaustive()
    }
}

impl<'g> NodeBuilder<'_, 'g> {
    /// Starts the node after the nodes of these handles, whose outputs it does not use.
    pub fn after<I>(mut self, handles: impl Provides<'g, I>) -> Self {
        let mut sources = Sources::default();
        handles.sources(&mut sources);
        for source in sources.list {
            if let Source::Node(node) = source {
                self.after.insert(node);
            }
        }
        self
    }

    /// Adds an external step.
    pub fn step<S: SagaStep>(self, input: impl Provides<'g, S::Input>) -> NodeOut<'g, S::Output> {
        NodeOut::new(self.whole::<S, External, _>(input))
    }

    /// Adds a local step.
    pub fn local<S: LocalStep>(self, input: impl Provides<'g, S::Input>) -> NodeOut<'g, S::Output> {
        NodeOut::new(self.whole::<S, InStore, _>(input))
    }

    /// Adds an external step that is executed if `condition` holds for its input. The condition must depend on the
    /// input only; its result is recorded.
    pub fn step_if<S: SagaStep>(
        self,
        input: impl Provides<'g, S::Input>,
        condition: impl Fn(&S::Input) -> bool + Send + Sync + 'static,
    ) -> MaybeOut<'g, S::Output> {
        MaybeOut::new(self.conditional::<S, External, _>(input, Arc::new(condition)))
    }

    /// Adds a local step that is executed if `condition` holds for its input. The condition must depend on the input
    /// only; its result is recorded.
    pub fn local_if<S: LocalStep>(
        self,
        input: impl Provides<'g, S::Input>,
        condition: impl Fn(&S::Input) -> bool + Send + Sync + 'static,
    ) -> MaybeOut<'g, S::Output> {
        MaybeOut::new(self.conditional::<S, InStore, _>(input, Arc::new(condition)))
    }

    /// Adds an external step that is executed for each item of a list, in parallel. The outputs are in the order of the
    /// items.
    pub fn each<S: SagaStep>(self, list: NodeOut<'g, Vec<S::Input>>) -> NodeOut<'g, Vec<S::Output>> {
        NodeOut::new(self.items::<S, External>(list.source()))
    }

    /// Adds a local step that is executed for each item of a list. The outputs are in the order of the items.
    pub fn local_each<S: LocalStep>(self, list: NodeOut<'g, Vec<S::Input>>) -> NodeOut<'g, Vec<S::Output>> {
        NodeOut::new(self.items::<S, InStore>(list.source()))
    }

    /// Adds a child saga: a saga of its own, with an [id](crate::SagaId::child) that is derived from this saga and the
    /// node. It is created in the commit that records its start, and its output is that of the node. If it is
    /// compensated, the step has failed; if it is stuck, this saga waits for it, with the reason. To undo the step is
    /// to compensate the child saga, also one in progress, before the steps on which it depends.
    pub fn child<I: Stored, O: Stored>(self, child: &Saga<I, O>, input: impl Provides<'g, I>) -> NodeOut<'g, O> {
        NodeOut::new(self.whole_child(child, input))
    }

    /// Adds a child saga that is created if `condition` holds for its input. The condition must depend on the input
    /// only; its result is recorded.
    pub fn child_if<I: Stored, O: Stored>(
        self,
        child: &Saga<I, O>,
        input: impl Provides<'g, I>,
        condition: impl Fn(&I) -> bool + Send + Sync + 'static,
    ) -> MaybeOut<'g, O> {
        MaybeOut::new(self.conditional_child(child, input, Arc::new(condition)))
    }

    /// Adds a child saga for each item of a list, in parallel. The outputs are in the order of the items.
    pub fn child_each<I: Stored, O: Stored>(
        self,
        child: &Saga<I, O>,
        list: NodeOut<'g, Vec<I>>,
    ) -> NodeOut<'g, Vec<O>> {
        let list = list.source();
        let sources = Sources { list: vec![list], wiring: vec![Wire::Of(list)] };
        NodeOut::new(self.add_child(child, &sources, Wiring::Item))
    }

    /// Adds a delay: the nodes that depend on it start at the earliest this time, in milliseconds, after those on which
    /// it depends are done. The end is recorded when the delay starts, and is found by the durable timer of the saga:
    /// a restart does not change it, and a clock that jumps ends the delay once. There is nothing to undo; a saga that
    /// turns back does not wait any longer. The time is at most 100 years, and part of the fingerprint.
    pub fn delay(self, time: Duration) -> NodeOut<'g, ()> {
        let sources = Sources { list: Vec::new(), wiring: vec![Wire::Open, Wire::Close] };
        NodeOut::new(self.add_delay(time, &sources, Wiring::Whole(<() as Provides<'g, ()>>::decode)))
    }

    /// Adds a delay if `condition` holds for `input`. The condition must depend on the input only; its result is
    /// recorded.
    pub fn delay_if<I: Stored>(
        self,
        time: Duration,
        input: impl Provides<'g, I>,
        condition: impl Fn(&I) -> bool + Send + Sync + 'static,
    ) -> MaybeOut<'g, ()> {
        MaybeOut::new(self.conditional_delay(time, input, Arc::new(condition)))
    }

    fn conditional_delay<I: Stored, P: Provides<'g, I>>(
        self,
        time: Duration,
        input: P,
        condition: Condition<I>,
    ) -> Source {
        let mut sources = Sources::default();
        input.sources(&mut sources);
        self.add_delay(time, &sources, Wiring::If(P::decode, condition))
    }

    fn add_delay<I: Stored>(self, time: Duration, sources: &Sources, wiring: Wiring<I>) -> Source {
        if time > MAX_DELAY {
            let node = self.name.clone();
            self.graph.error.get_or_insert(DefineError::LongDelay { node, found: time });
        }
        // At most 100 years, or the graph is not defined. A part of a millisecond is rounded up.
        let milliseconds = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let node = NewNode {
            name: self.name,
            step: DELAY.to_owned(),
            step_version: 1,
            effect: Effect::Delay { milliseconds },
            repeat: wiring.repeat(),
            undo: Undo::Ignore,
            is_pivot: false,
        };
        let code = DelayNode { sources: sources.list.clone(), wiring };
        self.graph.add(node, self.after, sources, Box::new(code))
    }

    fn whole_child<I: Stored, O, P: Provides<'g, I>>(self, child: &Saga<I, O>, input: P) -> Source {
        let mut sources = Sources::default();
        input.sources(&mut sources);
        self.add_child(child, &sources, Wiring::Whole(P::decode))
    }

    fn conditional_child<I: Stored, O, P: Provides<'g, I>>(
        self,
        child: &Saga<I, O>,
        input: P,
        condition: Condition<I>,
    ) -> Source {
        let mut sources = Sources::default();
        input.sources(&mut sources);
        self.add_child(child, &sources, Wiring::If(P::decode, condition))
    }

    fn add_child<I: Stored, O>(self, child: &Saga<I, O>, sources: &Sources, wiring: Wiring<I>) -> Source {
        let child = Arc::clone(&child.definition);
        let node = NewNode {
            name: self.name,
            step: child.shape.name.clone(),
            step_version: child.shape.version,
            effect: Effect::Child,
            repeat: wiring.repeat(),
            undo: Undo::Compensate,
            is_pivot: false,
        };
        let code = ChildNode { child, sources: sources.list.clone(), wiring };
        self.graph.add(node, self.after, sources, Box::new(code))
    }

    fn add_step<S: DeclaredStep, K: StepKind<S>>(self, sources: &Sources, wiring: Wiring<K::Input>) -> Source {
        let node = NewNode {
            name: self.name,
            step: S::NAME.to_owned(),
            step_version: S::VERSION,
            effect: K::EFFECT,
            repeat: wiring.repeat(),
            undo: S::OPTIONS.undo,
            is_pivot: S::OPTIONS.pivot,
        };
        let code = TypedNode::<S, K> { sources: sources.list.clone(), wiring };
        self.graph.add(node, self.after, sources, Box::new(code))
    }

    fn whole<S: DeclaredStep, K: StepKind<S>, P: Provides<'g, K::Input>>(self, input: P) -> Source {
        let mut sources = Sources::default();
        input.sources(&mut sources);
        self.add_step::<S, K>(&sources, Wiring::Whole(P::decode))
    }

    fn conditional<S: DeclaredStep, K: StepKind<S>, P: Provides<'g, K::Input>>(
        self,
        input: P,
        condition: Condition<K::Input>,
    ) -> Source {
        let mut sources = Sources::default();
        input.sources(&mut sources);
        self.add_step::<S, K>(&sources, Wiring::If(P::decode, condition))
    }

    fn items<S: DeclaredStep, K: StepKind<S>>(self, list: Source) -> Source {
        let sources = Sources { list: vec![list], wiring: vec![Wire::Of(list)] };
        self.add_step::<S, K>(&sources, Wiring::Item)
    }
}
