//! Tests of the implementations that `#[derive(Aggregate)]` generates.

use std::time::Duration;

use es_core::aggregate::SnapshotPolicy;
use es_core::model::{ConflictAnswer, Consistency, Level};
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "counted")]
struct Counted<T> {
    by: T,
}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "plain", id = u64, event = Counted<u8>)]
struct Plain;

#[derive(Debug, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "full", id = String, event = Counted<u8>, consistency = "causal", conflict = "canonical",
    snapshot(every = 100, load_cost = "250us", keep = 3, version = 2),
)]
enum Full {
    New,
    Counting { count: u64 },
}

#[derive(Debug, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "generic", id = I, event = Counted<T>, snapshot(load_cost = "1s"))]
struct Generic<T, I>
where
    T: Default,
{
    count: T,
    #[serde(skip)]
    id: std::marker::PhantomData<I>,
}

#[test]
fn undeclared_keys_have_defaults() {
    assert_eq!(Plain::CATEGORY, "plain");
    assert_eq!(Plain::CONSISTENCY, Consistency::Local);
    assert!(Plain::snapshots().is_none());
    assert_eq!(Plain::CONFLICT, None);
    assert_eq!(Plain::stream(&7).expect("a stream"), "plain-7");
}

#[test]
fn declared_keys_are_used() {
    assert_eq!(Full::CONSISTENCY, Consistency::Causal);
    assert_eq!(Full::CONFLICT, Some(ConflictAnswer::Canonical));
    let policy = Full::snapshots().expect("declared").policy;
    let expected = SnapshotPolicy { every: Some(100), load_cost: Some(Duration::from_micros(250)), keep: 3 };
    assert_eq!(policy, expected);
    let _ = (Full::New, Full::Counting { count: 1 });
}

#[test]
fn a_state_can_be_generic() {
    let policy = Generic::<u8, String>::snapshots().expect("declared").policy;
    assert_eq!(policy, SnapshotPolicy::load_cost(Duration::from_secs(1)));
    assert_eq!(Generic::<u8, u64>::stream(&1).expect("a stream"), "generic-1");
}

/// A text that no event changes.
#[derive(Debug, Clone)]
struct Fixed;

impl es_core::Crdt for Fixed {}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "merged", id = u64, event = Counted<u8>, consistency = "causal", conflict = "crdt")]
struct Merged<T: es_core::Crdt, I> {
    value: T,
    id: std::marker::PhantomData<I>,
}

#[test]
fn the_fields_of_a_crdt_can_be_generic() {
    type FixedById = Merged<Fixed, u64>;
    assert_eq!(FixedById::CONFLICT, Some(ConflictAnswer::Crdt));
    let Merged { value: Fixed, id: _ } = FixedById { value: Fixed, id: std::marker::PhantomData };
}

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "owned", id = u64, event = Counted<u8>, consistency = "causal", owner)]
struct OwnedByWriter;

#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "owned", id = I, event = Counted<u8>, consistency = "causal", owner = Self::creator_of)]
struct OwnedById<I: es_core::aggregate::AggregateId>(std::marker::PhantomData<I>);

impl<I: es_core::aggregate::AggregateId> OwnedById<I> {
    fn creator_of(id: &I) -> String {
        format!("node-{id}")
    }
}

#[test]
fn an_owner_is_declared_with_and_without_a_function() {
    fn creator<A: es_core::aggregate::Owned>(id: &A::Id) -> Option<String> {
        A::OWNER.expect("declared").creator(id)
    }
    assert_eq!(creator::<OwnedByWriter>(&7), None);
    assert_eq!(creator::<OwnedById<u64>>(&7).as_deref(), Some("node-7"));
    assert_eq!(OwnedByWriter::CONFLICT, None);
    assert!(Plain::OWNER.is_none());
    let (OwnedByWriter, OwnedById::<u64>(_)) = (OwnedByWriter, OwnedById(std::marker::PhantomData));
}

fn has_level<A: Aggregate<Level = L>, L: Level>() {}

macro_rules! level {
    ($($name:ident $level:literal $expected:ident $(, $conflict:literal $answer:ident)?;)*) => {$(
        #[derive(Debug, Clone, Aggregate)]
        #[aggregate(category = "level", id = u64, event = Counted<u8>, consistency = $level $(, conflict = $conflict)?)]
        struct $name;
        has_level::<$name, es_core::model::$expected>();
        assert_eq!($name::CONSISTENCY, Consistency::$expected);
        assert_eq!($name::CONSISTENCY.as_str(), $level);
        $(assert_eq!($name::CONFLICT, Some(ConflictAnswer::$answer));)?
    )*};
}

#[test]
fn each_level_of_consistency_can_be_declared() {
    level! {
        Local "local" Local;
        Causal "causal" Causal, "canonical" Canonical;
        Eventual "eventual" Eventual;
        EventualWithAnswer "eventual" Eventual, "canonical" Canonical;
        EventualCrdt "eventual" Eventual, "crdt" Crdt;
        Sequential "sequential" Sequential;
        Linearizable "linearizable" Linearizable;
    }
}

/// Returns the fingerprint of a state from the `Debug` output: it is not public.
fn fingerprint<A: Aggregate + std::fmt::Debug>() -> String {
    let shown = format!("{:?}", A::snapshots().expect("declared"));
    let (_, declared) = shown.split_once("declared: ").expect("the field `declared`");
    declared.split(',').next().unwrap_or_default().to_owned()
}

macro_rules! state {
    ($module:ident: $($definition:tt)*) => {
        mod $module {
            use super::*;
            #[derive(Debug, Clone, Serialize, Deserialize, Aggregate)]
            $($definition)*
        }
    };
}

state! { original:
    #[aggregate(category = "state", id = u64, event = Counted<u8>, snapshot(every = 1))]
    pub(super) struct State { count: u64, name: String }
}
state! { documented:
    /// A state.
    #[aggregate(category = "other", id = String, event = Counted<u16>, snapshot(every = 2, keep = 9))]
    pub(super) struct State {
        /// How many.
        pub(super) count : u64,

        name:String,
    }
}
state! { renamed:
    #[aggregate(category = "state", id = u64, event = Counted<u8>, snapshot(every = 1))]
    pub(super) struct State { counted: u64, name: String }
}
state! { retyped:
    #[aggregate(category = "state", id = u64, event = Counted<u8>, snapshot(every = 1))]
    pub(super) struct State { count: u32, name: String }
}
state! { serde_renamed:
    #[aggregate(category = "state", id = u64, event = Counted<u8>, snapshot(every = 1))]
    pub(super) struct State { #[serde(rename = "c")] count: u64, name: String }
}
state! { next_version:
    #[aggregate(category = "state", id = u64, event = Counted<u8>, snapshot(every = 1, version = 2))]
    pub(super) struct State { count: u64, name: String }
}

#[test]
fn the_fingerprint_depends_on_fields_serde_attributes_and_version() {
    let original = fingerprint::<original::State>();
    assert_eq!(original, fingerprint::<documented::State>());
    let others = [
        fingerprint::<renamed::State>(),
        fingerprint::<retyped::State>(),
        fingerprint::<serde_renamed::State>(),
        fingerprint::<next_version::State>(),
    ];
    assert!(!others.contains(&original), "{others:?}");
}
