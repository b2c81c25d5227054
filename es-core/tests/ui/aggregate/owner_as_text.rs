// A name of a node instead of a function.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "account-opened")]
struct AccountOpened;

#[derive(Clone, Aggregate)]
#[aggregate(category = "account", id = u64, event = AccountOpened, consistency = "causal", owner = "paris")]
struct Account;

fn main() {}
