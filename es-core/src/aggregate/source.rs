//! [`Source`]: the aggregates whose events a projection, a reactor or a consumer group follows.
//!
//! ```text
//!   type Source = Order;              --> query(): category "order" AND the wire names of OrderEvent
//!   type Source = (Order, Product);   --> one query item for each aggregate
//!   type Source = RawEvents;          --> every event, not decoded
//!
//!   record --decode()--> the category of its stream selects the aggregate
//!                        --> OrderEvent | OneOf2<OrderEvent, ProductEvent> | record
//! ```

use crate::aggregate::Aggregate;
use crate::model::{EventOrder, EventType, Level, OneOrder, RecordedEvent, SingleOrder};
use crate::schema::{DecodeEventError, Event, EventSchema, Events, KnownNames, RawEvent};
use crate::store::{Query, QueryItem};

/// The events of one aggregate, of a tuple of two to eight aggregates, or of the whole log ([`RawEvents`]).
///
/// Every [`Aggregate`] is a source of its own events. Two aggregates may use the same wire name: the category of the
/// stream selects the aggregate. A tuple of two aggregates that share a category and a wire name does not compile.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, Serialize, Deserialize, es_core::Event)]
/// # enum OrderEvent { #[event(name = "created")] Created }
/// # #[derive(Clone, Debug, Serialize, Deserialize, es_core::Event)]
/// # enum ProductEvent { #[event(name = "created")] Created }
/// use es_core::aggregate::source::OneOf2;
/// use es_core::prelude::*;
///
/// #[derive(Clone, Aggregate)]
/// #[aggregate(category = "order", id = u64, event = OrderEvent)]
/// struct Order;
///
/// #[derive(Clone, Aggregate)]
/// #[aggregate(category = "product", id = u64, event = ProductEvent)]
/// struct Product;
///
/// struct Created;
///
/// impl Projection for Created {
///     type Source = (Order, Product);
///     const NAME: &'static str = "created";
///
///     fn apply(
///         &self,
///         event: &OneOf2<OrderEvent, ProductEvent>,
///         _: &ProjectedContext<'_>,
///         rows: &mut Rows,
///     ) -> Result<(), ApplyError> {
///         let table = es_core::model::Table::new("created")?;
///         match event {
///             OneOf2::First(OrderEvent::Created) => rows.put(&table, "last", "an order"),
///             OneOf2::Second(ProductEvent::Created) => rows.put(&table, "last", "a product"),
///         }
///         Ok(())
///     }
/// }
///
/// use es_core::testing::given_events;
/// let table = es_core::model::Table::new("created")?;
/// given_events()
///     .of::<Order>(1, [OrderEvent::Created])
///     .of::<Product>(1, [ProductEvent::Created])
///     .project(Created)
///     .then(|views| assert_eq!(views.row(&table, b"last").map(AsRef::as_ref), Some(&b"a product"[..])));
/// # Ok::<(), es_core::model::NameError>(())
/// ```
///
/// Two aggregates that share a category and a wire name do not compile. Here the shared name is a former name of one
/// event:
///
/// ```compile_fail,E0080
/// # use serde::{Deserialize, Serialize};
/// # use es_core::{RecordedEvent, prelude::*};
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(name = "created")]
/// struct Created;
///
/// #[derive(Serialize, Deserialize, Event)]
/// #[event(name = "opened", alias("created"))]
/// struct Opened;
///
/// #[derive(Clone, Aggregate)]
/// #[aggregate(category = "order", id = u64, event = Created)]
/// struct Order;
///
/// #[derive(Clone, Aggregate)]
/// #[aggregate(category = "order", id = u64, event = Opened)]
/// struct ShopOrder;
///
/// let decodes: fn(&RecordedEvent) -> bool = |record| <(Order, ShopOrder)>::decode(record).is_ok();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of events",
    label = "not a `Source`",
    note = "name an aggregate (`type Source = Order`), a tuple of two to eight aggregates (`type Source = (Order, \
            Product)`), or `es_core::aggregate::RawEvents` for records that are not decoded"
)]
pub trait Source: Send + Sync + 'static {
    /// The event that a consumer receives: the event of the aggregate, [`OneOf2`] to [`OneOf8`] for a tuple, or
    /// [`RecordedEvent`] for [`RawEvents`].
    type Event: Send + Sync + 'static;

    /// The order in which a consumer receives the events: [`SingleOrder`] if the streams of all aggregates have one
    /// order, [`CanonicalOrder`](crate::model::CanonicalOrder) if events of one of them can arrive late. A projection
    /// can be registered only if it [accepts](crate::projection::AcceptsOrder) this order.
    ///
    /// [`RawEvents`] has [`SingleOrder`]: that of the log of this node, in which replicated events are in the order of
    /// their arrival.
    type Order: 'static;

    /// Returns the query that selects the events of the source: for each aggregate its category and its wire names,
    /// including former names.
    fn query() -> Query;

    /// Decodes a recorded event of any version. The category of the stream selects the aggregate.
    ///
    /// # Errors
    /// - [`DecodeEventError::UnknownType`] if no aggregate of the source has the category and the wire name.
    /// - The errors of [`Event::decode`].
    fn decode(record: &RecordedEvent) -> Result<SourceEvents<'_, Self::Event>, DecodeEventError>;
}

/// A source whose streams have one order on every node: an aggregate whose level is [`OneOrder`], or a tuple of such
/// aggregates.
///
/// A consumer of any other source may receive late events, which precede events that it has already applied.
/// [`RawEvents`] follows the log of this node, which has one order; a store with a replica checks its query when an
/// inline projection starts.
#[diagnostic::on_unimplemented(
    message = "the streams of the source `{Self}` have no single order of events",
    label = "not available for this source",
    note = "an inline projection of `{Self}` could refuse an event that has already happened on another node, or would \
            have to load an aggregate in a commit: run it in the background with a `Supervisor`"
)]
pub trait OneOrderSource: Source {}

impl<A: Aggregate<Level: OneOrder>> OneOrderSource for A {}
impl OneOrderSource for RawEvents {}

/// The event type of a [`Source`].
pub type EventOf<S> = <S as Source>::Event;

/// The order of the events of a [`Source`].
pub type OrderOf<S> = <S as Source>::Order;

/// The events that a [`Source`] decodes from one record: one event, or the events that its upcasters return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvents<'a, E> {
    /// The decoded events.
    Decoded(Events<E>),
    /// The record itself, for [`RawEvents`].
    Record(&'a E),
}

impl<E> SourceEvents<'_, E> {
    /// Returns the events in order.
    #[must_use]
    pub fn as_slice(&self) -> &[E] {
        match self {
            Self::Decoded(events) => events.as_slice(),
            Self::Record(record) => std::slice::from_ref(*record),
        }
    }
}

impl<A: Aggregate> Source for A {
    type Event = A::Event;
    type Order = LevelOrder<A>;

    fn query() -> Query {
        Query::any_of(query_item::<A>())
    }

    fn decode(record: &RecordedEvent) -> Result<SourceEvents<'_, Self::Event>, DecodeEventError> {
        if !has_category::<A>(record) {
            return Err(unknown_type(record, A::Event::SCHEMA));
        }
        A::Event::decode(RawEvent::from(record)).map(SourceEvents::Decoded)
    }
}

/// All events of the log, as recorded and not decoded.
///
/// A projection, reactor or group restricts them with its own query. A projection never receives events of reserved
/// streams (`es.*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEvents;

impl Source for RawEvents {
    type Event = RecordedEvent;
    type Order = SingleOrder;

    fn query() -> Query {
        Query::all()
    }

    fn decode(record: &RecordedEvent) -> Result<SourceEvents<'_, Self::Event>, DecodeEventError> {
        Ok(SourceEvents::Record(record))
    }
}

/// Returns the query item of one aggregate: its category and its wire names. Returns `None` if its category is invalid,
/// which the derive rejects.
fn query_item<A: Aggregate>() -> Option<QueryItem> {
    let names = A::Event::SCHEMA.iter().flat_map(|schema| std::iter::once(&schema.name).chain(schema.aliases));
    let types = names.filter_map(|name| EventType::new(name).ok());
    Some(types.fold(QueryItem::new().category(A::category().ok()?), QueryItem::event_type))
}

fn has_category<A: Aggregate>(record: &RecordedEvent) -> bool {
    record.stream.category_str() == A::CATEGORY
}

/// Returns `true` if an event belongs to an aggregate. Both checks are needed: two aggregates may share a category or a
/// wire name.
fn belongs_to<A: Aggregate>(record: &RecordedEvent) -> bool {
    has_category::<A>(record) && A::Event::SCHEMA.iter().any(|schema| schema.reads(record.data.event_type.as_str()))
}

fn unknown_type(record: &RecordedEvent, known: &'static [EventSchema]) -> DecodeEventError {
    DecodeEventError::UnknownType { found: record.data.event_type.to_string(), known: KnownNames(known) }
}

/// Fails the compilation if an event could belong to two of these aggregates.
const fn check_events_have_one_owner(aggregates: &[(&str, &[EventSchema])]) {
    let mut later = 1;
    while later < aggregates.len() {
        let mut earlier = 0;
        while earlier < later {
            let (a, b) = (&aggregates[earlier], &aggregates[later]);
            assert!(
                !same_text(a.0, b.0) || !share_a_name(a.1, b.1),
                "two aggregates of one source have the same category and share a wire name: \
                 give one of them another category"
            );
            earlier += 1;
        }
        later += 1;
    }
}

const fn share_a_name(a: &[EventSchema], b: &[EventSchema]) -> bool {
    let mut i = 0;
    while i < a.len() {
        if reads_one_of(b, &[a[i].name]) || reads_one_of(b, a[i].aliases) {
            return true;
        }
        i += 1;
    }
    false
}

const fn reads_one_of(schemas: &[EventSchema], names: &[&str]) -> bool {
    let mut i = 0;
    while i < schemas.len() {
        if contains_one_of(&[schemas[i].name], names) || contains_one_of(schemas[i].aliases, names) {
            return true;
        }
        i += 1;
    }
    false
}

const fn contains_one_of(texts: &[&str], names: &[&str]) -> bool {
    let mut i = 0;
    while i < texts.len() {
        let mut j = 0;
        while j < names.len() {
            if same_text(texts[i], names[j]) {
                return true;
            }
            j += 1;
        }
        i += 1;
    }
    false
}

/// Compares two strings like `==`, which is not const.
const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    a.len() == b.len()
}

/// The order of the streams of an aggregate.
type LevelOrder<A> = <<A as Aggregate>::Level as Level>::Order;

/// The order of several aggregates together.
macro_rules! both_orders {
    ($last:ident) => { LevelOrder<$last> };
    ($first:ident, $($rest:ident),+) => { <LevelOrder<$first> as EventOrder>::And<both_orders!($($rest),+)> };
}

macro_rules! tuple_sources {
    ($($name:ident = $first:ident First $(, $aggregate:ident $variant:ident $ordinal:literal)+;)+) => {$(
        /// An event of a tuple of aggregates. The variants are in the order of the tuple.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name<$first, $($aggregate),+> {
            /// An event of the first aggregate.
            First($first),
            $(
                #[doc = concat!("An event of the ", $ordinal, " aggregate.")]
                $variant($aggregate),
            )+
        }

        impl<$first: Aggregate, $($aggregate: Aggregate),+> Source for ($first, $($aggregate),+) {
            type Event = $name<$first::Event, $($aggregate::Event),+>;
            type Order = both_orders!($first, $($aggregate),+);

            fn query() -> Query {
                Query::any_of([query_item::<$first>(), $(query_item::<$aggregate>()),+].into_iter().flatten())
            }

            fn decode(record: &RecordedEvent) -> Result<SourceEvents<'_, Self::Event>, DecodeEventError> {
                const {
                    check_events_have_one_owner(&[
                        ($first::CATEGORY, <$first::Event as Event>::SCHEMA),
                        $(($aggregate::CATEGORY, <$aggregate::Event as Event>::SCHEMA)),+
                    ]);
                }
                let raw = RawEvent::from(record);
                if belongs_to::<$first>(record) {
                    let events = $first::Event::decode(raw)?;
                    return Ok(SourceEvents::Decoded(events.into_iter().map($name::First).collect()));
                }
                $(if belongs_to::<$aggregate>(record) {
                    let events = $aggregate::Event::decode(raw)?;
                    return Ok(SourceEvents::Decoded(events.into_iter().map($name::$variant).collect()));
                })+
                let mut known = $first::Event::SCHEMA;
                $(if has_category::<$aggregate>(record) {
                    known = $aggregate::Event::SCHEMA;
                })+
                Err(unknown_type(record, known))
            }
        }

        impl<$first: Aggregate<Level: OneOrder>, $($aggregate: Aggregate<Level: OneOrder>),+> OneOrderSource
            for ($first, $($aggregate),+)
        {
        }
    )+};
}

tuple_sources! {
    OneOf2 = A First, B Second "second";
    OneOf3 = A First, B Second "second", C Third "third";
    OneOf4 = A First, B Second "second", C Third "third", D Fourth "fourth";
    OneOf5 = A First, B Second "second", C Third "third", D Fourth "fourth", E Fifth "fifth";
    OneOf6 = A First, B Second "second", C Third "third", D Fourth "fourth", E Fifth "fifth", F Sixth "sixth";
    OneOf7 = A First, B Second "second", C Third "third", D Fourth "fourth", E Fifth "fifth", F Sixth "sixth",
        G Seventh "seventh";
    OneOf8 = A First, B Second "second", C Third "third", D Fourth "fourth", E Fifth "fifth", F Sixth "sixth",
        G Seventh "seventh", H Eighth "eighth";
}
