//! Aggregates whose state consists of the types of this crate.

use es_core::Crdt;
use es_core::prelude::*;
use es_core::testing::{check_convergence, given_events};
use es_crdt::{BoundedCounter, Counter, Flag, GrowOnlyCounter, LwwRegister, MvRegister, OrMap, OrSet};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum ProfileEvent {
    #[event(name = "renamed")]
    Renamed(String),
    #[event(name = "moved")]
    Moved(String),
    #[event(name = "name-removed")]
    NameRemoved,
}

use ProfileEvent::{Moved, NameRemoved, Renamed};

fn renamed(name: &str) -> ProfileEvent {
    Renamed(name.to_owned())
}

fn moved(city: &str) -> ProfileEvent {
    Moved(city.to_owned())
}

/// Two independent fields, of each of which the last value counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "profile", id = u64, event = ProfileEvent, consistency = "causal", conflict = "crdt",
    snapshot(every = 10)
)]
struct Profile {
    name: LwwRegister<String>,
    city: LwwRegister<String>,
}

impl Evolve for Profile {
    fn initial(_: &u64) -> Self {
        Self { name: LwwRegister::new(), city: LwwRegister::new() }
    }

    fn evolve(&mut self, event: &ProfileEvent, at: &EventContext<'_>) {
        match event {
            Renamed(name) => self.name.set(name.clone(), at),
            Moved(city) => self.city.set(city.clone(), at),
            NameRemoved => self.name.clear(at),
        }
    }
}

impl Profile {
    fn values(&self) -> [Option<&str>; 2] {
        [&self.name, &self.city].map(|register| register.get().map(String::as_str))
    }
}

/// R39: last-writer-wins with independent fields. One time of the last write for the whole state would lose the field
/// that was written first, on the nodes on which it arrives last. Each register keeps the key of its own write.
#[test]
fn independent_fields_in_which_the_last_writer_wins_do_not_diverge() {
    let profile = given_events()
        .of::<Profile>(1, [renamed("nobody"), moved("nowhere")])
        .on_node("paris")
        .of::<Profile>(1, [renamed("Ada"), renamed("Ada L.")])
        .on_node("oslo")
        .of::<Profile>(1, [moved("Oslo")])
        .fold_in_any_order::<Profile>(1);
    assert_eq!(profile.values(), [Some("Ada L."), Some("Oslo")]);

    // Both nodes change both fields. Rome has seen the changes of Paris only.
    let profile = given_events()
        .on_node("paris")
        .of::<Profile>(1, [moved("Paris"), renamed("Ada")])
        .on_node("oslo")
        .of::<Profile>(1, [renamed("Bob"), moved("Oslo")])
        .on_node("rome")
        .pull_from("paris")
        .of::<Profile>(1, [NameRemoved])
        .fold_in_any_order::<Profile>(1);
    assert_eq!(profile.values(), [Some("Bob"), Some("Oslo")]);

    let names = ["Ada", "Bob", "Eve"].map(renamed);
    let cities = ["Paris", "Oslo", "Rome"].map(moved);
    check_convergence::<Profile>(1, names.into_iter().chain(cities).chain([NameRemoved]));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum StockEvent {
    #[event(name = "counted")]
    Counted(i64),
    #[event(name = "delivered")]
    Delivered(u64),
    #[event(name = "tagged")]
    Tagged(String),
    #[event(name = "untagged")]
    Untagged(String),
    #[event(name = "closed")]
    Closed,
    #[event(name = "opened")]
    Opened,
}

/// A state with a field of each type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    category = "stock", id = u64, event = StockEvent, consistency = "eventual", conflict = "crdt",
    snapshot(every = 1)
)]
struct Stock {
    total: Counter,
    deliveries: GrowOnlyCounter,
    shelves: BoundedCounter<u64>,
    tags: OrSet<String>,
    notes: OrMap<String, MvRegister<i64>>,
    is_open: Flag,
    last: LwwRegister<StockEvent>,
}

impl Evolve for Stock {
    fn initial(_: &u64) -> Self {
        Self::default()
    }

    fn evolve(&mut self, event: &StockEvent, at: &EventContext<'_>) {
        self.last.set(event.clone(), at);
        match event {
            StockEvent::Counted(amount) => {
                self.total.add(*amount);
                self.notes.update("count".to_owned(), at, |note| note.set(*amount, at));
            }
            StockEvent::Delivered(amount) => {
                self.deliveries.add(1);
                self.shelves.add(*amount % 3, *amount);
            }
            StockEvent::Tagged(tag) => {
                self.tags.insert(tag.clone(), at);
                self.notes.update(tag.clone(), at, |note| note.set(1, at));
            }
            StockEvent::Untagged(tag) => {
                self.tags.remove(tag, at);
                self.notes.remove(tag, at);
            }
            StockEvent::Closed => {
                self.is_open.disable(at);
                self.tags.clear(at);
            }
            StockEvent::Opened => self.is_open.enable(at),
        }
    }
}

#[test]
fn a_state_with_each_type_converges() {
    use StockEvent::{Closed, Counted, Delivered, Opened, Tagged, Untagged};
    let tag = || "count".to_owned();
    let events = [Counted(5), Counted(-2), Delivered(4), Tagged(tag()), Untagged(tag()), Closed, Opened];
    check_convergence::<Stock>(1, events);
}

/// A CRDT in a map makes the map one. With any other value the map is none, which the compiler checks.
#[test]
fn a_map_is_a_crdt_if_its_values_are() {
    fn is_crdt<T: Crdt>() {}
    is_crdt::<OrMap<String, OrMap<u8, LwwRegister<f64>>>>();
}

/// A field that is assigned as a whole is not compared with the writes of its type.
#[test]
#[should_panic(expected = "is not a CRDT")]
fn an_assigned_field_is_found() {
    #[derive(Clone, Debug, PartialEq, Aggregate)]
    #[aggregate(category = "stock", id = u64, event = StockEvent, consistency = "eventual", conflict = "crdt")]
    struct Reset(OrSet<String>);

    impl Evolve for Reset {
        fn initial(_: &u64) -> Self {
            Self(OrSet::new())
        }

        fn evolve(&mut self, event: &StockEvent, at: &EventContext<'_>) {
            match event {
                StockEvent::Tagged(tag) => self.0.insert(tag.clone(), at),
                StockEvent::Closed => self.0 = OrSet::new(), // `clear` keeps what the event has not seen
                _ => {}
            }
        }
    }

    check_convergence::<Reset>(1, [StockEvent::Tagged("new".to_owned()), StockEvent::Closed]);
}
