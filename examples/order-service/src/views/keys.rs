//! View keys of the domain types: ids are stored as their text.

use es_core::projection::view::ViewKey;

use crate::domain::{CustomerId, OrderId, OrderStatus, ProductId};

macro_rules! text_key {
    ($($name:ident)*) => {$(
        impl ViewKey for $name {
            fn shape() -> String {
                String::shape()
            }

            fn encode_key(&self, bytes: &mut Vec<u8>) {
                self.as_str().to_owned().encode_key(bytes);
            }

            fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
                String::decode_key(bytes)?.parse().ok()
            }
        }
    )*};
}

text_key!(OrderId CustomerId ProductId);

/// Sorts in the order of an order's life cycle.
impl ViewKey for OrderStatus {
    fn shape() -> String {
        u8::shape()
    }

    fn encode_key(&self, bytes: &mut Vec<u8>) {
        (*self as u8).encode_key(bytes);
    }

    fn decode_key(bytes: &mut &[u8]) -> Option<Self> {
        let number = u8::decode_key(bytes)?;
        Self::ALL.into_iter().find(|status| *status as u8 == number)
    }
}
