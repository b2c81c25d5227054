// A macro of a facade crate names es_core through `$crate`, which a path in quotes cannot.
mod facade {
    pub mod inner {
        pub use es_core;
    }
}

macro_rules! house_event {
    ($name:ident, $wire:literal) => {
        #[derive(serde::Serialize, serde::Deserialize, $crate::facade::inner::es_core::Event)]
        #[event(crate = $crate::facade::inner::es_core, name = $wire)]
        pub struct $name {
            pub n: u32,
        }
    };
}

macro_rules! house_aggregate {
    ($name:ident, $event:ty, $krate:path) => {
        #[derive(Clone, serde::Serialize, serde::Deserialize, $crate::facade::inner::es_core::Aggregate)]
        #[aggregate(crate = $krate, category = "door", id = u64, event = $event, snapshot(every = 2))]
        pub struct $name {
            pub n: u32,
        }
    };
}

mod user {
    house_event!(Opened, "opened");
    house_aggregate!(Door, Opened, crate::facade::inner::es_core);
}

fn main() {
    let _ = (user::Opened { n: 1 }, user::Door { n: 1 });
}
