// Fields that serde encodes and decodes with the same value: a nested `Option` with an encoding of its own, an optional
// field that is omitted while it is `None`, and a type with one value.
use std::marker::PhantomData;

use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<Option<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_slice().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u8>>, D::Error> {
        Vec::deserialize(deserializer).map(|values| values.into_iter().next())
    }
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(name = "order-placed")]
struct OrderPlaced<T> {
    #[serde(with = "double_option")]
    gift: Option<Option<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Vec<Option<String>>>,
    #[serde(skip)]
    currency: PhantomData<T>,
}

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderPlaced<u8>, snapshot(every = 100))]
enum Order {
    Open {
        #[serde(with = "double_option")]
        gift: Option<Option<u8>>,
        #[serde(skip)]
        currency: PhantomData<u8>,
    },
}

/// Without snapshots, the state is never encoded.
#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = OrderPlaced<u8>)]
struct Cart {
    gift: Option<Option<u8>>,
}

fn main() {
    let placed = OrderPlaced::<u8> { gift: Some(None), note: None, currency: PhantomData };
    let encoded = placed.encode().expect("encodes");
    assert_eq!(OrderPlaced::<u8>::decode(encoded.raw()).expect("decodes").as_slice()[0].gift, Some(None));
    let _ = (Order::Open { gift: None, currency: PhantomData }, Cart { gift: None });
}
