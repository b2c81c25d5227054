// A function of another type of id.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "account-opened")]
struct AccountOpened;

#[derive(Clone, Aggregate)]
#[aggregate(category = "account", id = u64, event = AccountOpened, consistency = "causal", owner = home_of)]
struct Account;

fn home_of(_: &String) -> String {
    "paris".to_owned()
}

fn main() {}
