// A state that is declared as a CRDT, and has a field that is none.
use std::marker::PhantomData;

use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "cart-renamed")]
struct CartRenamed;

#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = CartRenamed, consistency = "causal", conflict = "crdt")]
struct Cart {
    name: String,
    kind: PhantomData<u8>,
}

#[derive(Clone, Aggregate)]
#[aggregate(category = "list", id = u64, event = CartRenamed, consistency = "eventual", conflict = "crdt")]
struct List<T: Clone + Send + Sync + 'static>(Vec<T>);

fn main() {}
