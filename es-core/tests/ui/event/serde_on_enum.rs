// Serde attributes that change the representation of an event enum.
use es_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[serde(tag = "type", content = "data")]
enum Tagged {
    #[event(name = "tagged")]
    Event,
}

#[derive(Serialize, Deserialize, Event)]
#[serde(rename_all = "camelCase", untagged)]
enum Untagged {
    #[event(name = "untagged")]
    Event,
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[serde(into = "String", from = "String")]
enum Converted {
    #[event(name = "converted")]
    Event,
}

impl From<String> for Converted {
    fn from(_: String) -> Self {
        Self::Event
    }
}

impl From<Converted> for String {
    fn from(_: Converted) -> Self {
        Self::new()
    }
}

fn main() {}
