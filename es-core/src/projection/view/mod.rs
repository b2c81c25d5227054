//! Views: typed tables in the event store. A projection writes them. Any process that has the store open can read them.
//!
//! ```text
//!   apply --> Rows::view --> rows of the view and of its orders --> one commit together with the checkpoint
//!                                            |
//!   Views::of::<P>(store) --> get, scan, scan by an order <-- the active generation, looked up on each call
//! ```
//!
//! A [`View`] is a constant that declares a name, a key type and a value type. An [`Order`] is a secondary index,
//! updated in the same commit: with it, reading the ten products with the highest demand is a scan of ten rows.
//!
//! Not in this module: joins, aggregations at read time, and any write outside of a projection.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
//! # enum ShopEvent {
//! #     #[event(name = "sold")] Sold { product: String, pieces: u64 },
//! # }
//! # #[derive(Clone, es_core::Aggregate)]
//! # #[aggregate(category = "shop", id = u64, event = ShopEvent)]
//! # struct Shop;
//! use es_core::prelude::*;
//! use es_core::projection::view::{Order, View, Views};
//!
//! #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
//! struct Demand {
//!     pieces: u64,
//! }
//!
//! const DEMAND: View<String, Demand> = View::new("demand").ordered_by(&BY_PIECES);
//! const BY_PIECES: Order<String, Demand, u64> = Order::new("by-pieces", |_, demand| demand.pieces);
//!
//! struct DemandOfProducts;
//!
//! impl Projection for DemandOfProducts {
//!     type Source = Shop;
//!     const NAME: &'static str = "demand-of-products";
//!
//!     fn apply(&self, event: &ShopEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
//!         let ShopEvent::Sold { product, pieces } = event;
//!         rows.view(&DEMAND)?.update(product, |demand| demand.pieces += pieces)
//!     }
//! }
//!
//! // A test of the projection needs no store. See `testing`.
//! use es_core::testing::given_events;
//! let sold = |product: &str, pieces| ShopEvent::Sold { product: product.into(), pieces };
//! given_events()
//!     .of::<Shop>(1, [sold("Chai", 3), sold("Tofu", 5), sold("Chai", 4)])
//!     .project(DemandOfProducts)
//!     .then(|views| {
//!         assert_eq!(views.view(&DEMAND).get(&"Chai".into()), Some(Demand { pieces: 7 }));
//!         assert_eq!(views.view(&DEMAND).scan().by(&BY_PIECES).backward().limit(1).read()[0].0, "Chai");
//!     });
//!
//! // Inline: the view changes in the commit of the events.
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! use std::sync::Arc;
//! use es_core::{projection::inline::Inline, store::memory::MemoryStore};
//!
//! let store = Arc::new(MemoryStore::new().with_hook(Inline::new(DemandOfProducts)).await?);
//! let views = Views::of::<DemandOfProducts>(store.clone());
//! let top = views.view(&DEMAND).scan().by(&BY_PIECES).backward().limit(10).read().await?;
//! assert!(top.rows.is_empty() && top.next.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod key;
mod memory;
mod reader;
mod rows;
mod scan;

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::ViewError;
pub use key::{Beginning, KeyPrefix, ViewKey};
pub use memory::{MemoryReader, MemoryViews};
pub use reader::{Page, ViewReader, Views};
pub use rows::ViewRows;
pub use scan::{Continuation, ViewScan};

use crate::model::ContentType;
use crate::model::Table;
use crate::schema::codec::{self, DecodeContentError, EncodeError, Json, MessagePack};
use crate::schema::encode_and_decode;

/// The maximum number of orders of a view.
pub const MAX_ORDERS: usize = 8;

/// The maximum length of the name of a view or an order, in bytes.
pub const MAX_VIEW_NAME_BYTES: usize = 64;

/// A typed table of a projection: rows of `V`, ordered by keys of `K`.
///
/// Declare it as a constant and use it by reference. Values are encoded as JSON by default; see
/// [`message_pack`](Self::message_pack). The store holds a description of the keys, the codec and the orders together
/// with the rows. A reader whose declaration differs gets [`ViewError::Redeclared`]. Increment
/// [`Projection::VERSION`](crate::projection::Projection::VERSION) when the declaration or the meaning of the values
/// changes.
pub struct View<K: 'static, V: 'static> {
    name: &'static str,
    codec: ValueCodec<V>,
    orders: [Option<&'static dyn AnyOrder<K, V>>; MAX_ORDERS],
    of: PhantomData<fn(K) -> V>,
}

/// The codec of the values.
struct ValueCodec<V: 'static> {
    name: &'static str,
    encode: fn(&V) -> Result<Bytes, EncodeError>,
    decode: fn(&[u8]) -> Result<V, DecodeContentError>,
}

impl<K: 'static, V: 'static> View<K, V> {
    /// Declares a view. The name has 1 to 64 visible ASCII characters other than `:`, `/` and `$`.
    ///
    /// # Panics
    /// If the name is invalid. In a constant this is a compile error.
    #[must_use]
    pub const fn new(name: &'static str) -> Self
    where
        K: ViewKey,
        V: Serialize + DeserializeOwned,
    {
        check_name(name);
        let codec = ValueCodec {
            name: "json",
            encode: |value| encode_and_decode::<Json, V>(value).map(|(bytes, _)| bytes),
            decode: |bytes| codec::decode(&ContentType::Json, bytes),
        };
        Self { name, codec, orders: [None; MAX_ORDERS], of: PhantomData }
    }

    /// Encodes the values as MessagePack, which is smaller than JSON.
    #[must_use]
    pub const fn message_pack(self) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        let codec = ValueCodec {
            name: "msgpack",
            encode: |value| encode_and_decode::<MessagePack, V>(value).map(|(bytes, _)| bytes),
            decode: |bytes| codec::decode(&ContentType::MessagePack, bytes),
        };
        Self { name: self.name, codec, orders: self.orders, of: PhantomData }
    }

    /// Adds an order. It stores one more row, with a copy of the value, for each row of the view.
    ///
    /// # Panics
    /// If the view has more than [`MAX_ORDERS`] orders. In a constant this is a compile error.
    #[must_use]
    pub const fn ordered_by<O: ViewKey + 'static>(mut self, order: &'static Order<K, V, O>) -> Self
    where
        K: 'static,
        V: 'static,
    {
        let mut free = 0;
        while self.orders[free].is_some() {
            free += 1;
            assert!(free < MAX_ORDERS, "a view has at most 8 orders");
        }
        self.orders[free] = Some(order);
        self
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn orders(&self) -> impl Iterator<Item = &'static dyn AnyOrder<K, V>> {
        self.orders.into_iter().flatten()
    }

    fn has_order(&self, name: &str) -> bool {
        self.orders().any(|order| order.name() == name)
    }

    /// Returns the table of the rows, within a generation.
    fn table(&self) -> Table {
        Table::well_known(self.name)
    }

    /// Returns the table of the rows of an order.
    fn order_table(&self, order: &str) -> Table {
        Table::well_known(format!("{}/{order}", self.name))
    }

    fn encode(&self, value: &V) -> Result<Bytes, EncodeError> {
        (self.codec.encode)(value)
    }

    fn decode(&self, value: &[u8]) -> Result<V, DecodeContentError> {
        (self.codec.decode)(value)
    }
}

impl<K: ViewKey, V: 'static> View<K, V> {
    /// Returns the description of the declaration, which is stored with the rows.
    fn description(&self) -> String {
        let orders: Vec<String> = self.orders().map(|order| format!("{} {}", order.name(), order.shape())).collect();
        let orders = if orders.is_empty() { "none".to_owned() } else { orders.join(", ") };
        format!("key {}; values {}; orders {orders}", K::shape(), self.codec.name)
    }
}

impl<K: 'static, V: 'static> fmt::Debug for View<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A secondary order of the rows of a [`View`], by a sort key that is computed from key and value. Rows with the same
/// sort key are ordered by their keys.
///
/// Stored rows keep their sort keys. If the computation changes, rename the order or increment the version of the
/// projection; otherwise a scan by it fails with [`ViewError::Misplaced`].
pub struct Order<K: 'static, V: 'static, O> {
    name: &'static str,
    by: fn(&K, &V) -> O,
}

impl<K: 'static, V: 'static, O> Order<K, V, O> {
    /// Declares an order. Its name must be unique within the view; the rules are those of [`View::new`].
    ///
    /// # Panics
    /// If the name is invalid. In a constant this is a compile error.
    #[must_use]
    pub const fn new(name: &'static str, by: fn(&K, &V) -> O) -> Self {
        check_name(name);
        Self { name, by }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<K: 'static, V: 'static, O> fmt::Debug for Order<K, V, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An order without the type of its sort key.
trait AnyOrder<K: 'static, V: 'static>: Send + Sync {
    fn name(&self) -> &'static str;
    fn shape(&self) -> String;
    /// Returns the encoded sort key of a row.
    fn sort_key(&self, key: &K, value: &V) -> Vec<u8>;
}

impl<K: 'static, V: 'static, O: ViewKey> AnyOrder<K, V> for Order<K, V, O> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn shape(&self) -> String {
        O::shape()
    }

    fn sort_key(&self, key: &K, value: &V) -> Vec<u8> {
        let mut bytes = Vec::new();
        (self.by)(key, value).encode_key(&mut bytes);
        bytes
    }
}

/// Returns the table of the descriptions of the views of a generation. No view can have this name.
fn descriptions() -> Table {
    Table::well_known("$views")
}

const fn check_name(name: &str) {
    let bytes = name.as_bytes();
    assert!(
        !bytes.is_empty() && bytes.len() <= MAX_VIEW_NAME_BYTES,
        "the name of a view or an order has 1 to 64 bytes"
    );
    let mut index = 0;
    while index < bytes.len() {
        let is_valid = bytes[index].is_ascii_graphic() && !matches!(bytes[index], b':' | b'/' | b'$');
        assert!(is_valid, "the name of a view or an order has visible ASCII characters only, and none of : / $");
        index += 1;
    }
}
