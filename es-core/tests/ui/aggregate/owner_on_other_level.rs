// An owner of streams that are not replicated, or of which every node decides.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "account-opened")]
struct AccountOpened;

#[derive(Clone, Aggregate)]
#[aggregate(category = "account", id = u64, event = AccountOpened, owner)]
struct Account;

#[derive(Clone, Aggregate)]
#[aggregate(category = "seat", id = u64, event = AccountOpened, consistency = "linearizable", owner)]
struct Seat;

#[derive(Clone, Aggregate)]
#[aggregate(category = "cart", id = u64, event = AccountOpened, consistency = "eventual", owner = home_of)]
struct Cart;

fn home_of(_: &u64) -> String {
    "paris".to_owned()
}

fn main() {}
