// An answer to conflicts of an aggregate that one node decides.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "account-opened")]
struct AccountOpened;

#[derive(Clone, Aggregate)]
#[aggregate(
    category = "account", id = u64, event = AccountOpened, consistency = "causal", conflict = "canonical", owner
)]
struct Account;

fn main() {}
