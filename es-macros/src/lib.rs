//! The derive macros of `es_core`: [`macro@Event`] and [`macro@Aggregate`].
//!
//! They are used through `es_core`, which exports them, and they name everything that they use in full, so that nothing
//! has to be imported for them.
//!
//! # How it works
//!
//! ```text
//! tokens ──syn──▶ DeriveInput ──ast──▶ EventInput ──valid──▶ checked ──expand──▶ impl Event, impl EventSamples
//!                        attr: what the       │                 │
//!                        attributes say       └──── Ctxt ◀──────┘  every mistake, on its own span
//!                                                     │
//!                                                     └──fallback──▶ compile_error! and empty implementations
//! ```
//!
//! A mistake never ends the work: it goes into one `Ctxt`, and all of them are reported by one compilation. Then the
//! empty implementations keep the compiler from reporting, wherever the type is used, that a trait is missing.

mod ast;
mod attr;
mod ctxt;
mod duration;
mod expand;
mod fallback;
mod fingerprint;
mod generics;
mod suggest;
#[cfg(test)]
mod tests;
mod valid;

use proc_macro::TokenStream;

/// Makes an enum the domain events of an aggregate, or a struct a single kind of event.
///
/// Each variant is an event with a stable *wire name*, under which it is recorded. The name of the variant is the
/// program's own and may change; the wire name may not.
///
/// ```
/// use es_core::Event;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// enum OrderEvent {
///     #[event(name = "order-placed")]
///     Placed {
///         #[event(tag)]
///         customer: String,
///         total: u64,
///     },
///     #[event(name = "order-shipped")]
///     Shipped,
/// }
///
/// let placed = OrderEvent::Placed { customer: "ada".into(), total: 250 };
/// let encoded = placed.encode()?;
/// assert_eq!(encoded.event_type, "order-placed");
/// assert_eq!(encoded.payload, r#"{"customer":"ada","total":250}"#);
/// assert!(encoded.tags.iter().any(|tag| tag == "customer:ada"));
/// assert_eq!(OrderEvent::decode(encoded.raw())?.as_slice(), [placed]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The content is written and read by serde: derive `Serialize` and `Deserialize`, too. What serde is told of fields
/// (`rename`, `default`, `with`, `skip_serializing_if`, ...) has its usual effect. The content stands in the payload
/// without the name of the variant, because the wire name is stored in the record. `#[serde(tag)]`, `untagged`, `into`,
/// `rename_all` and the like on the enum, and `rename` and `alias` on a variant, are therefore errors.
///
/// # On a variant, or on a struct that is a single event
///
/// | attribute | meaning |
/// |---|---|
/// | `name = "order-placed"` | The wire name: 1 to 512 bytes without control characters. Required. |
/// | `version = 2` | The version that is written; 1 unless given. |
/// | `upcast(1 = OrderPlacedV1)` | The type of each old version that is read; see [below](#old-versions). |
/// | `oldest = 2` | The oldest version that was ever recorded, where older ones are not listed. |
/// | `alias("order-made", ...)` | Former wire names, under which it is read, too. |
/// | `codec = "json"` | How it is written: `"json"` or `"msgpack"`. It is read in either. |
/// | `sample = path::to::function` | A function without arguments that makes a sample for the golden corpus, where none can be found by trying. |
///
/// # On the enum or the struct
///
/// | attribute | meaning |
/// |---|---|
/// | `codec = "msgpack"` | How the events are written that do not say it themselves; `"json"` unless given. |
/// | `retired("order-lost", ...)` | Wire names of events that were once recorded and no longer mean anything: they are read as no event. |
/// | `crate = "path::to::es_core"` | Where `es_core` is, if not at `::es_core`. |
///
/// # On a field
///
/// | attribute | meaning |
/// |---|---|
/// | `tag` | The event gets the tag `{field}:{value}`, by which it can be found. The value is shown by `Display`. |
/// | `tag = "customer"` | The same with another key, which a field without a name needs. |
///
/// A field that is written as `Option`, `Vec`, `BTreeSet`, `HashSet`, `[T; N]` or `Box<[T]>` gives a tag for each value
/// in it.
///
/// # Old versions
///
/// An event whose content changes in a way that serde cannot bridge gets a new version. The type of the old one stays,
/// listed with `upcast`, and says how it becomes the next with `impl Upcast<Next> for Old`; the last one becomes the
/// event type itself.
///
/// ```
/// use es_core::{Event, Events, Upcast};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, Event)]
/// #[event(retired("price-blinked"))]
/// enum PriceEvent {
///     #[event(name = "price-set", version = 3, upcast(1 = PriceSetV1, 2 = PriceSetV2), alias("price-changed"))]
///     Set { cents: u64, currency: String },
/// }
///
/// /// The price in whole euros.
/// #[derive(Serialize, Deserialize)]
/// struct PriceSetV1 {
///     euros: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct PriceSetV2 {
///     cents: u64,
/// }
///
/// impl Upcast<PriceSetV2> for PriceSetV1 {
///     fn upcast(self) -> Events<PriceSetV2> {
///         PriceSetV2 { cents: self.euros * 100 }.into()
///     }
/// }
///
/// impl Upcast<PriceEvent> for PriceSetV2 {
///     fn upcast(self) -> Events<PriceEvent> {
///         PriceEvent::Set { cents: self.cents, currency: "EUR".into() }.into()
///     }
/// }
/// # use es_core::model::ContentType;
/// # use es_core::schema::RawEvent;
///
/// let old = RawEvent {
///     event_type: "price-changed",
///     version: 1,
///     content_type: &ContentType::Json,
///     payload: br#"{"euros":3}"#,
/// };
/// assert_eq!(PriceEvent::decode(old)?.as_slice(), [PriceEvent::Set { cents: 300, currency: "EUR".into() }]);
/// # Ok::<(), es_core::schema::DecodeEventError>(())
/// ```
///
/// # Generic events
///
/// A generic type is an event for those parameters with which it is `Serialize`, `DeserializeOwned`, `Send`, `Sync` and
/// `'static`, and the values of its tags are `Display`. A type with lifetimes is refused: an event owns its content.
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    expand::derive_event(input.into()).into()
}

/// Declares the state of an aggregate: what its streams are called, what its events are, how it is kept.
///
/// ```
/// use es_core::{Aggregate, Event};
/// use serde::{Deserialize, Serialize};
///
/// # #[derive(Serialize, Deserialize, Event)]
/// # enum OrderEvent {
/// #     #[event(name = "order-placed")]
/// #     Placed,
/// # }
/// #[derive(Clone, Serialize, Deserialize, Aggregate)]
/// #[aggregate(
///     category = "order",
///     id = u64,
///     event = OrderEvent,
///     consistency = "causal",
///     snapshot(every = 100, load_cost = "5ms")
/// )]
/// struct Order {
///     total: u64,
/// }
///
/// assert_eq!(Order::stream(&10248)?, "order-10248");
/// # Ok::<(), es_core::model::NameError>(())
/// ```
///
/// How the state follows from events, and events from commands, is code: implement `Evolve` and `Decide`.
///
/// | attribute | meaning |
/// |---|---|
/// | `category = "order"` | The category of the streams, `{category}-{id}`: 1 to 400 bytes without control characters and without `-`. Required. |
/// | `id = OrderId` | The type of the id. Required. |
/// | `event = OrderEvent` | The type of the events. Required. |
/// | `consistency = "causal"` | The weakest consistency level that the code tolerates: `"local"` unless given, `"causal"`, `"eventual"`, `"sequential"` or `"linearizable"`. It becomes `Aggregate::Level`. A store on one node serves every level. |
/// | `snapshot(...)` | That snapshots are kept; see [below](#snapshots). Never unless given. |
/// | `crate = "path::to::es_core"` | Where `es_core` is, if not at `::es_core`. |
///
/// # Snapshots
///
/// The state is kept beside its events, so that a load is cheaper; it must be `Serialize` and `Deserialize`. At least one
/// of the two conditions is given, and each is enough.
///
/// | attribute | meaning |
/// |---|---|
/// | `every = 100` | A snapshot is taken when this many events came after the last. |
/// | `load_cost = "5ms"` | A snapshot is taken when a load took this long: a number and `ns`, `us`, `ms` or `s`. |
/// | `keep = 2` | How many are kept; 2 unless given. |
/// | `version = 1` | To be raised when the state means something else although its definition is the same. |
///
/// A snapshot of a state type that has changed is ignored, and the state is folded from the events. The definition (fields,
/// types, and their `#[serde]` attributes, but not comments and layout) and the versions of the events are part of a
/// fingerprint. A change of a nested type is detected when the snapshot is read: the decoded state must be the state that
/// was encoded. See `es_core::aggregate::snapshot`.
#[proc_macro_derive(Aggregate, attributes(aggregate))]
pub fn aggregate(input: TokenStream) -> TokenStream {
    expand::derive_aggregate(input.into()).into()
}
