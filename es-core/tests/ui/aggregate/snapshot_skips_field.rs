// A field that serde leaves out: a load from a snapshot would give another state than a load without.
use es_core::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "door-opened")]
struct DoorOpened {
    by: String,
}

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "door", id = String, event = DoorOpened, snapshot(every = 2))]
struct Door {
    times: u32,
    #[serde(skip)]
    last_by: Option<String>,
    #[serde(default, skip_deserializing)]
    quota: u32,
    #[serde(default, skip_serializing)]
    open: bool,
}

#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "gate", id = String, event = DoorOpened, snapshot(every = 2))]
enum Gate {
    Open {
        #[serde(skip)]
        by: String,
    },
    Closed(u8, #[serde(skip)] u8),
    #[serde(skip)]
    Broken,
}

fn main() {}
