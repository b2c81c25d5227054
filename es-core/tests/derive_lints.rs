//! Generated code causes no warning in a crate that denies many lints.
#![cfg(feature = "derive")]
#![deny(missing_docs, unused_qualifications, unreachable_pub, unused, rust_2018_idioms, missing_debug_implementations)]
#![deny(deprecated, single_use_lifetimes, trivial_casts, unused_lifetimes, unused_results, unused_import_braces)]
#![deny(let_underscore_drop, non_ascii_idents, explicit_outlives_requirements, variant_size_differences)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::absolute_paths)]
#![deny(clippy::missing_docs_in_private_items, clippy::question_mark_used)]
#![allow(clippy::missing_trait_methods, clippy::wildcard_imports)]

use std::marker::PhantomData;

use es_core::schema::EventSamples;
use es_core::{Aggregate, Crdt, Event, Events, Upcast};
use serde::{Deserialize, Serialize};

/// An event type with all attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(codec = "msgpack", retired("order-blinked"))]
pub enum OrderEvent {
    /// A variant.
    #[event(name = "order-placed", version = 3, upcast(1 = PlacedV1, 2 = PlacedV2), alias("order-made"))]
    Placed {
        /// A tag.
        #[event(tag)]
        customer: String,
        /// Several tags.
        #[event(tag = "line")]
        lines: Vec<u16>,
    },
    /// A variant.
    #[event(name = "order-shipped", sample = shipped)]
    Shipped(#[event(tag = "parcel")] Option<u64>, u8),
    /// A deprecated variant.
    #[deprecated]
    #[event(name = "order-closed", codec = "json")]
    Closed,
}

/// A single event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(name = "single")]
pub struct Single<T> {
    /// A tag.
    #[event(tag)]
    value: T,
}

/// An old version.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlacedV1;

/// An old version.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlacedV2;

impl Upcast<PlacedV2> for PlacedV1 {
    fn upcast(self) -> Events<PlacedV2> {
        Events::one(PlacedV2)
    }
}

impl Upcast<OrderEvent> for PlacedV2 {
    fn upcast(self) -> Events<OrderEvent> {
        Events::none()
    }
}

/// A sample.
const fn shipped() -> OrderEvent {
    OrderEvent::Shipped(None, 1)
}

/// A state.
#[derive(Debug, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "order",
    id = u64,
    event = OrderEvent,
    consistency = "causal",
    conflict = "canonical",
    snapshot(every = 100_000, load_cost = "5ms", keep = 2)
)]
pub struct Order<T> {
    /// A field.
    value: T,
}

/// A state that is a CRDT.
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderEvent, consistency = "eventual", conflict = "crdt")]
pub struct Cart<T: Crdt> {
    /// A field.
    pub value: T,
    /// Another one.
    pub kind: PhantomData<u8>,
}

/// A deprecated event.
#[deprecated]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(name = "old")]
pub struct Old;

/// A deprecated state.
#[deprecated]
#[derive(Debug, Clone, Aggregate)]
#[aggregate(category = "old", id = u64, event = OrderEvent, consistency = "causal", owner)]
pub struct OldOrder;

#[test]
fn generated_code_causes_no_warning() {
    assert_eq!(OrderEvent::samples().len(), 3);
    assert_eq!(Single::<u8>::samples().len(), 1);
    assert!(Order::<u8>::snapshots().is_some());
    assert!(Cart::<PhantomData<u8>>::CONFLICT.is_some());
    #[allow(deprecated, reason = "the test uses the deprecated types on purpose")]
    {
        assert_eq!(Old::samples().len(), 1);
        assert!(OldOrder::OWNER.is_some());
    }
}
