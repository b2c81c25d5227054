//! [`SagaId`], which identifies an instance, and [`StepKey`], the idempotency key of a step.

use std::fmt;
use std::str::FromStr;

use es_core::model::{CommandId, CorrelationId, NameError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a saga instance: the name of the saga and a text that is unique among its instances. Written as
/// `fulfilment:10248`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SagaId {
    saga: Box<str>,
    instance: Box<str>,
}

/// A text is not the id of a saga instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected the id of a saga, such as \"fulfilment:10248\", found {text:?}")]
pub struct ParseSagaIdError {
    /// The text.
    pub text: String,
}

impl SagaId {
    /// Returns the id of an instance of this saga. The name of the saga must not contain `:`.
    ///
    /// # Errors
    /// [`ParseSagaIdError`] if one of the texts is empty, or the name contains `:`.
    pub fn new(saga: &str, instance: impl fmt::Display) -> Result<Self, ParseSagaIdError> {
        format!("{saga}:{instance}").parse()
    }

    /// Returns the id of the child saga that a node of this saga runs: the name of the child, and an instance that
    /// consists of this id and the node. An item of a list adds its index, and a run after a restart its number.
    ///
    /// # Errors
    /// [`ParseSagaIdError`] if the name of the child is empty or contains `:`.
    pub fn child(&self, saga: &str, node: &str, item: Option<u32>, run: u32) -> Result<Self, ParseSagaIdError> {
        let item = item.map_or(String::new(), |item| format!("[{item}]"));
        let run = if run == 0 { String::new() } else { format!("#{run}") };
        Self::new(saga, format_args!("{self}/{node}{item}{run}"))
    }

    /// Returns the name of the saga.
    #[must_use]
    pub fn saga(&self) -> &str {
        &self.saga
    }

    /// Returns the part that identifies the instance.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Returns the namespace of the step keys of the instance, which is also its correlation id.
    pub(crate) fn namespace(&self) -> Uuid {
        Uuid::new_v5(&KEYS, self.to_string().as_bytes())
    }

    /// Returns the correlation id of all events and commands of the instance.
    pub(crate) fn correlation(&self) -> CorrelationId {
        CorrelationId::from_uuid(self.namespace())
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.saga, self.instance)
    }
}

impl FromStr for SagaId {
    type Err = ParseSagaIdError;

    fn from_str(text: &str) -> Result<Self, ParseSagaIdError> {
        match text.split_once(':') {
            Some((saga, instance)) if !saga.is_empty() && !instance.is_empty() => {
                Ok(Self { saga: saga.into(), instance: instance.into() })
            }
            _ => Err(ParseSagaIdError { text: text.to_owned() }),
        }
    }
}

impl From<SagaId> for String {
    fn from(id: SagaId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for SagaId {
    type Error = ParseSagaIdError;

    fn try_from(text: String) -> Result<Self, ParseSagaIdError> {
        text.parse()
    }
}

/// The direction of a call of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Towards the end of the saga: `execute`.
    Forward,
    /// Back to its start: `compensate`.
    Backward,
}

/// The namespace of step keys.
const KEYS: Uuid = Uuid::from_u128(0x5d7e_9a10_3c42_5f68_b1d9_07e4_a2c6_13f5);

/// The idempotency key of a step, or of its compensation: a UUIDv5 of the instance, the node, the item and the
/// direction.
///
/// It stays the same over attempts, restarts and coordinators. It changes only when an operator restarts a saga from a
/// step, which executes the step again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepKey(Uuid);

impl StepKey {
    /// Returns the key of an item of a node, in the given run of the node.
    #[must_use]
    pub fn of(saga: &SagaId, node: &str, item: u32, run: u32, direction: Direction) -> Self {
        Self::in_namespace(&saga.namespace(), node, item, run, direction)
    }

    /// Returns the key of an item of a node of the instance with this [namespace](SagaId::namespace).
    pub(crate) fn in_namespace(namespace: &Uuid, node: &str, item: u32, run: u32, direction: Direction) -> Self {
        let direction = match direction {
            Direction::Forward => b'f',
            Direction::Backward => b'b',
        };
        let place = [&item.to_be_bytes()[..], &run.to_be_bytes(), &[direction], node.as_bytes()].concat();
        Self(Uuid::new_v5(namespace, &place))
    }

    /// Returns the UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// Returns the key as a command id, for a command to an aggregate.
    ///
    /// # Errors
    /// None in practice: a UUID is a valid name.
    pub fn command_id(&self) -> Result<CommandId, NameError> {
        CommandId::new(self.0.to_string())
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_changes_and_differs_from_that_of_every_other_call() {
        let saga = SagaId::new("fulfilment", 7).expect("an id");
        let key = StepKey::of(&saga, "pay", 0, 0, Direction::Forward);
        // A constant, because external systems store keys for years.
        assert_eq!(key.to_string(), "25964729-21ac-5384-9f1d-551bdc46ccd1");
        let other = SagaId::new("fulfilment", 8).expect("an id");
        let others = [
            StepKey::of(&other, "pay", 0, 0, Direction::Forward),
            StepKey::of(&saga, "ship", 0, 0, Direction::Forward),
            StepKey::of(&saga, "pay", 1, 0, Direction::Forward),
            StepKey::of(&saga, "pay", 0, 1, Direction::Forward),
            StepKey::of(&saga, "pay", 0, 0, Direction::Backward),
        ];
        assert!(!others.contains(&key));
    }

    #[test]
    fn the_id_of_a_child_saga_never_changes_and_differs_by_node_item_and_run() {
        let parent = SagaId::new("fulfilment", 7).expect("an id");
        let child = |node, item, run| parent.child("packing", node, item, run).expect("an id").to_string();
        assert_eq!(child("pack", None, 0), "packing:fulfilment:7/pack");
        assert_eq!(child("pack", Some(2), 0), "packing:fulfilment:7/pack[2]");
        assert_eq!(child("pack", Some(2), 1), "packing:fulfilment:7/pack[2]#1");
    }

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = SagaId::new("fulfilment", "a:b").expect("an id");
        assert_eq!((id.saga(), id.instance()), ("fulfilment", "a:b"));
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "a", ":a", "a:"] {
            assert!(text.parse::<SagaId>().is_err(), "{text}");
        }
    }
}
