//! Handles of outputs, and the inputs that they give.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::instance::{NodeState, SagaInstance};
use crate::shape::Repeat;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The input of the saga.
    Saga,
    /// The output of a node.
    Node(u32),
    /// The unit value.
    Unit,
}

/// A type that is invariant in the lifetime of a graph.
type Graph<'g> = PhantomData<fn(&'g ()) -> &'g ()>;

/// The output of a node, or the input of the saga, in the graph `'g`.
pub struct NodeOut<'g, T> {
    source: Source,
    marker: PhantomData<(Graph<'g>, fn() -> T)>,
}

/// The output of a node with a condition: `None` if the condition did not hold.
pub struct MaybeOut<'g, T> {
    source: Source,
    marker: PhantomData<(Graph<'g>, fn() -> T)>,
}

macro_rules! handle {
    ($name:ident) => {
        impl<T> Clone for $name<'_, T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $name<'_, T> {}

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.source).finish()
            }
        }

        impl<T> $name<'_, T> {
            pub(super) const fn new(source: Source) -> Self {
                Self { source, marker: PhantomData }
            }
        }
    };
}

handle!(NodeOut);
handle!(MaybeOut);

impl<T> NodeOut<'_, T> {
    pub(super) const fn source(self) -> Source {
        self.source
    }
}

/// The recorded values from which the input of a step is decoded, in the order of the handles.
#[derive(Debug)]
pub struct InputReader<'a> {
    instance: &'a SagaInstance,
    sources: std::slice::Iter<'a, Source>,
}

/// A recorded value does not have the type that a step expects. The saga was recorded by other code: give the graph
/// another version.
#[derive(Debug, thiserror::Error)]
#[error("could not decode the input of a step from {place}")]
pub struct DecodeInputError {
    /// The source of the value.
    place: String,
    source: serde_json::Error,
}

impl<'a> InputReader<'a> {
    pub(crate) fn new(instance: &'a SagaInstance, sources: &'a [Source]) -> Self {
        Self { instance, sources: sources.iter() }
    }

    /// Decodes the next value.
    pub(crate) fn next_value<T: DeserializeOwned>(&mut self) -> Result<T, DecodeInputError> {
        let source = self.sources.next().copied().unwrap_or(Source::Unit);
        let Source::Node(node) = source else { return self.decode(source, self.plain(source)) };
        let repeat = self.instance.shape().nodes.get(node as usize).map(|node| node.repeat);
        match (repeat, self.node(node)) {
            (Some(Repeat::Each), Some(state)) => {
                let outputs = state.units.iter().map(|unit| unit.output.clone().unwrap_or_default()).collect();
                self.decode(source, &Value::Array(outputs))
            }
            _ => self.decode(source, self.plain(source)),
        }
    }

    /// Decodes the next value, which is absent if its node was omitted.
    fn next_optional<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DecodeInputError> {
        let source = self.sources.next().copied().unwrap_or(Source::Unit);
        let output = match source {
            Source::Node(node) => self.node(node).and_then(|node| node.units.first()?.output.as_ref()),
            _ => None,
        };
        output.map(|output| self.decode(source, output)).transpose()
    }

    /// Returns the number of items of the next value, which is a list.
    pub(super) fn count(&mut self) -> Result<usize, DecodeInputError> {
        let source = self.sources.as_slice().first().copied().unwrap_or(Source::Unit);
        match (self.list(source), self.plain(source)) {
            (Some(state), _) => Ok(state.units.len()),
            (None, Value::Array(items)) => Ok(items.len()),
            (None, other) => self.decode::<Vec<Value>>(source, other).map(|items| items.len()),
        }
    }

    /// Decodes an item of the next value, which is a list.
    pub(super) fn item<T: DeserializeOwned>(&mut self, index: u32) -> Result<T, DecodeInputError> {
        let source = self.sources.next().copied().unwrap_or(Source::Unit);
        let item = match self.list(source) {
            Some(state) => state.units.get(index as usize).and_then(|unit| unit.output.as_ref()),
            None => self.plain(source).get(index as usize),
        };
        self.decode(source, item.unwrap_or(&Value::Null))
    }

    fn node(&self, node: u32) -> Option<&'a NodeState> {
        self.instance.nodes().get(node as usize)
    }

    /// Returns the state of a node whose output is a list of the outputs of its items.
    fn list(&self, source: Source) -> Option<&'a NodeState> {
        let Source::Node(node) = source else { return None };
        let repeat = self.instance.shape().nodes.get(node as usize)?.repeat;
        self.node(node).filter(|_| repeat == Repeat::Each)
    }

    fn plain(&self, source: Source) -> &'a Value {
        match source {
            Source::Saga => &self.instance.input,
            Source::Node(node) => {
                self.node(node).and_then(|node| node.units.first()?.output.as_ref()).unwrap_or(&Value::Null)
            }
            Source::Unit => &Value::Null,
        }
    }

    fn decode<T: DeserializeOwned>(&self, source: Source, value: &Value) -> Result<T, DecodeInputError> {
        T::deserialize(value).map_err(|error| {
            let place = match source {
                Source::Saga => "the input of the saga".to_owned(),
                Source::Node(node) => format!("the output of {:?}", self.instance.node_name(node)),
                Source::Unit => "the unit value".to_owned(),
            };
            DecodeInputError { place, source: error }
        })
    }
}

/// Handles that give a step the input `I`: one handle, or a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "these handles do not give a saga step its input `{I}`",
    label = "expected handles of `{I}`",
    note = "pass the handles in the order of the input: `NodeOut<T>` gives `T`, `MaybeOut<T>` gives `Option<T>`, and a \
            tuple of handles gives the tuple of their values"
)]
pub trait Provides<'g, I>: Copy {
    /// Appends the sources, in order.
    #[doc(hidden)]
    fn sources(&self, sources: &mut Sources);

    /// Decodes the input from the sources.
    #[doc(hidden)]
    fn decode(reader: &mut InputReader<'_>) -> Result<I, DecodeInputError>;
}

/// The sources of an input, and their rendering with the indexes of the nodes.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Sources {
    pub(super) list: Vec<Source>,
    /// The parts of the rendering, in order.
    pub(super) wiring: Vec<Wire>,
}

/// A part of the rendering of an input.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire {
    Open,
    Comma,
    Close,
    Of(Source),
    Optional(Source),
}

impl<'g, T: DeserializeOwned> Provides<'g, T> for NodeOut<'g, T> {
    fn sources(&self, sources: &mut Sources) {
        sources.list.push(self.source);
        sources.wiring.push(Wire::Of(self.source));
    }

    fn decode(reader: &mut InputReader<'_>) -> Result<T, DecodeInputError> {
        reader.next_value()
    }
}

impl<'g, T: DeserializeOwned> Provides<'g, Option<T>> for MaybeOut<'g, T> {
    fn sources(&self, sources: &mut Sources) {
        sources.list.push(self.source);
        sources.wiring.push(Wire::Optional(self.source));
    }

    fn decode(reader: &mut InputReader<'_>) -> Result<Option<T>, DecodeInputError> {
        reader.next_optional()
    }
}

impl<'g> Provides<'g, ()> for () {
    fn sources(&self, sources: &mut Sources) {
        sources.wiring.extend([Wire::Open, Wire::Close]);
    }

    fn decode(_: &mut InputReader<'_>) -> Result<(), DecodeInputError> {
        Ok(())
    }
}

macro_rules! provides_tuple {
    ($($handle:ident $value:ident $index:tt),+) => {
        impl<'g, $($handle, $value),+> Provides<'g, ($($value,)+)> for ($($handle,)+)
        where
            $($handle: Provides<'g, $value>),+
        {
            fn sources(&self, sources: &mut Sources) {
                sources.wiring.push(Wire::Open);
                $(
                    if $index > 0 {
                        sources.wiring.push(Wire::Comma);
                    }
                    self.$index.sources(sources);
                )+
                sources.wiring.push(Wire::Close);
            }

            fn decode(reader: &mut InputReader<'_>) -> Result<($($value,)+), DecodeInputError> {
                Ok(($($handle::decode(reader)?,)+))
            }
        }
    };
}

provides_tuple!(A0 V0 0);
provides_tuple!(A0 V0 0, A1 V1 1);
provides_tuple!(A0 V0 0, A1 V1 1, A2 V2 2);
provides_tuple!(A0 V0 0, A1 V1 1, A2 V2 2, A3 V3 3);
provides_tuple!(A0 V0 0, A1 V1 1, A2 V2 2, A3 V3 3, A4 V4 4);
provides_tuple!(A0 V0 0, A1 V1 1, A2 V2 2, A3 V3 3, A4 V4 4, A5 V5 5);
provides_tuple!(A0 V0 0, A1 V1 1, A2 V2 2, A3 V3 3, A4 V4 4, A5 V5 5, A6 V6 6);
provides_tuple!(A0 V0 0, A1 V1 1, A2 V2 2, A3 V3 3, A4 V4 4, A5 V5 5, A6 V6 6, A7 V7 7);
