//! Tests of convergence: a state that depends on the order of concurrent events is found.
#![cfg(feature = "derive")]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use es_core::model::{ConflictAnswer, Dot, HybridTime};
use es_core::prelude::*;
use es_core::testing::{GivenEvents, check_convergence, given_events};
use es_core::{Crdt, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum CartEvent {
    #[event(name = "item-added")]
    Added(String),
    #[event(name = "item-removed")]
    Removed(String),
    #[event(name = "cart-renamed")]
    Renamed(String),
}

use CartEvent::{Added, Removed, Renamed};

fn added(item: &str) -> CartEvent {
    Added(item.to_owned())
}

fn removed(item: &str) -> CartEvent {
    Removed(item.to_owned())
}

fn renamed(name: &str) -> CartEvent {
    Renamed(name.to_owned())
}

fn all() -> [CartEvent; 6] {
    [added("tea"), added("milk"), removed("tea"), removed("milk"), renamed("mine"), renamed("ours")]
}

/// A value that the promise of `Crdt` is made for, rightly or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Promised<T>(T);

impl<T> Crdt for Promised<T> {}

/// Declares a causal aggregate over `CartEvent` whose state is one value.
macro_rules! cart {
    ($(#[$doc:meta])* $name:ident($value:ty), $conflict:literal $($snapshot:ident)?, $evolve:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
        #[aggregate(
            category = "cart", id = u64, event = CartEvent, consistency = "causal", conflict = $conflict,
            $($snapshot(every = 1))?
        )]
        struct $name(Promised<$value>);

        impl Evolve for $name {
            fn initial(_: &u64) -> Self {
                Self(Promised::default())
            }
            fn evolve(&mut self, event: &CartEvent, at: &EventContext<'_>) {
                let evolve: fn(&mut $value, &CartEvent, &EventContext<'_>) = $evolve;
                evolve(&mut self.0.0, event, at);
            }
        }
    };
}

cart! {
    /// Items that were ever added.
    Seen(BTreeSet<String>), "crdt", |items, event, _| if let Added(item) = event { items.insert(item.clone()); }
}

cart! {
    /// The name that is last in canonical order, found by its key.
    LastName(Option<(HybridTime, Dot, String)>), "crdt", |last, event, at| if let Renamed(name) = event {
        let written = (at.canonical_key().time, at.dot(), name.clone());
        if last.as_ref().is_none_or(|last| *last < written) {
            *last = Some(written);
        }
    }
}

cart! {
    /// The items, each with the additions that no removal has seen, as in an `OrSet`.
    Items(BTreeMap<String, BTreeSet<Dot>>), "crdt", |items, event, at| match event {
        Added(item) => { items.entry(item.clone()).or_default().insert(at.dot()); }
        Removed(item) => {
            if let Some(dots) = items.get_mut(item) {
                dots.retain(|dot| !at.follows(*dot));
            }
            items.retain(|_, dots| !dots.is_empty());
        }
        Renamed(_) => {}
    }
}

cart! {
    /// Wrong: the name that is applied last.
    Overwritten(String), "crdt", |last, event, _| if let Renamed(name) = event { last.clone_from(name); }
}

cart! {
    /// Wrong: whether an item is there depends on what is applied last.
    PlainSet(BTreeSet<String>), "crdt", |items, event, _| match event {
        Added(item) => { items.insert(item.clone()); }
        Removed(item) => { items.remove(item); }
        Renamed(_) => {}
    }
}

cart! {
    /// Wrong: a revision is the index in one fold.
    Numbered(BTreeMap<String, u64>), "crdt", |numbers, event, at| if let Added(item) = event {
        numbers.insert(item.clone(), at.revision().get());
    }
}

cart! {
    /// Wrong while events are missing: a removal hides it later.
    Forgotten(Vec<String>), "crdt", |items, event, _| match event {
        Added(item) => items.push(item.clone()),
        Removed(_) => items.clear(),
        Renamed(_) => {}
    }
}

cart! {
    /// The name that is last in canonical order, because the events are folded in this order.
    Canonical(String), "canonical" snapshot, |last, event, _| if let Renamed(name) = event { last.clone_from(name); }
}

static CALLS: AtomicU64 = AtomicU64::new(0);

cart! {
    /// Wrong in every order: the state has a number that is not in the events.
    Impure(u64), "canonical", |last, _, _| *last = CALLS.fetch_add(1, Ordering::Relaxed)
}

/// A type in the state, which the derive does not see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct WithSkippedField {
    #[serde(skip)]
    names: Vec<String>,
}

cart! {
    /// Wrong with snapshots.
    Skipping(WithSkippedField), "canonical" snapshot, |state, event, _| if let Renamed(name) = event {
        state.names.push(name.clone());
    }
}

#[track_caller]
fn failure(check: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(check)).expect_err("the states differ");
    let constant = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    panic.downcast_ref::<String>().cloned().or(constant).expect("a message")
}

#[test]
fn states_that_do_not_depend_on_the_order_converge() {
    check_convergence::<Seen>(1, all());
    check_convergence::<LastName>(1, all());
    check_convergence::<Items>(1, all());
    check_convergence::<Canonical>(1, all());
    assert_eq!(Seen::CONFLICT, Some(ConflictAnswer::Crdt));
}

#[test]
fn a_field_that_is_overwritten_by_the_last_event_is_found_with_two_orders_and_states() {
    let text = failure(|| check_convergence::<Overwritten>(1, [added("tea"), renamed("mine"), renamed("ours")]));
    let [one, other] = [r#"n1 1 "cart-renamed""#, r#"n2 1 "cart-renamed""#];
    let expected = [
        format!("is not a CRDT: it depends on the order of the concurrent events {one} and {other}"),
        format!("order: {one}, {other}"),
        r#"state: Overwritten(Promised("ours"))"#.to_owned(),
        format!("order: {other}, {one}"),
        r#"state: Overwritten(Promised("mine"))"#.to_owned(),
        format!(r#"{one}: "mine""#),
        format!(r#"{other}: "ours""#),
    ];
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines.len(), expected.len(), "{text}");
    assert!(lines[0].starts_with("the state of ") && lines[0].contains("Overwritten"), "{text}");
    lines.iter().zip(&expected).for_each(|(line, end)| assert!(line.ends_with(end), "{line:?}, expected {end:?}"));
}

#[test]
fn other_states_that_depend_on_the_order_are_found() {
    for text in [
        failure(|| check_convergence::<PlainSet>(1, [added("tea"), removed("tea")])),
        failure(|| check_convergence::<Numbered>(1, [added("tea"), added("milk")])),
        failure(|| check_convergence::<Forgotten>(1, [added("tea"), added("milk"), removed("milk")])),
    ] {
        assert!(text.contains("is not a CRDT"), "{text}");
    }
}

/// The last event hides that nodes without it have different states.
#[test]
fn states_are_compared_while_events_are_missing() {
    let given = given_events().on_node("paris").of::<Forgotten>(1, [added("tea")]);
    let given = given.on_node("oslo").of::<Forgotten>(1, [added("milk")]).pull_from("paris");
    let given = given.of::<Forgotten>(1, [removed("milk")]);
    let text = failure(|| drop(given.fold_in_any_order::<Forgotten>(1)));
    let two = [r#"order: paris 1 "item-added", oslo 1 "item-added""#, r#"Forgotten(Promised(["tea", "milk"]))"#];
    assert!(two.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_state_with_something_that_is_not_in_the_events_is_found() {
    let text = failure(|| check_convergence::<Impure>(1, [added("tea")]));
    assert!(text.contains("does not follow from its events alone"), "{text}");
}

#[test]
fn a_field_that_a_snapshot_does_not_contain_is_found() {
    let text = failure(|| check_convergence::<Skipping>(1, [renamed("mine")]));
    assert!(text.contains("look for a field that serde skips"), "{text}");
}

/// Paris and Oslo have an item. Rome removes it, and has seen that of Paris only.
fn removed_in_rome() -> GivenEvents {
    let given = given_events().of::<Items>(1, [added("milk")]);
    let given = given.on_node("paris").of::<Items>(1, [added("tea")]).on_node("oslo").of::<Items>(1, [added("tea")]);
    given.on_node("rome").pull_from("paris").of::<Items>(1, [removed("tea"), removed("milk")])
}

#[test]
fn an_event_has_seen_what_its_node_pulled_and_what_is_known_to_all() {
    let Items(Promised(items)) = removed_in_rome().fold_in_any_order(1);
    assert_eq!(items.into_keys().collect::<Vec<_>>(), ["tea"], "the tea of Oslo");
    let given = removed_in_rome().pull_from("oslo").of::<Items>(1, [removed("tea")]);
    let Items(Promised(items)) = given.on_node("paris").of::<Items>(2, [added("tea")]).fold_in_any_order(1);
    assert_eq!(items, BTreeMap::new());
}

/// The clock of Oslo is an hour late.
#[test]
fn an_event_follows_those_that_its_node_had_in_canonical_order() {
    let time = |text: &str| text.parse::<Timestamp>().expect("a time");
    let given = given_events().at(time("2026-01-31T12:00:00Z")).of::<Canonical>(1, [renamed("all")]);
    let given = given.on_node("paris").of::<Canonical>(1, [renamed("paris")]);
    let given = given.on_node("rome").of::<Canonical>(1, [added("tea")]);
    let given = given.at(time("2026-01-31T11:00:00Z")).on_node("oslo").of::<Canonical>(1, [renamed("oslo")]);
    assert_eq!(given.fold_in_any_order::<Canonical>(1).0.0, "paris");
    let given = given.pull_from("paris").of::<Canonical>(1, [renamed("oslo")]);
    assert_eq!(given.fold_in_any_order::<Canonical>(1).0.0, "oslo");
}

#[test]
fn a_test_without_concurrent_events_of_the_aggregate_is_an_error() {
    let given = given_events().on_node("paris").of::<Seen>(1, [added("tea")]);
    let given = given.on_node("oslo").of::<Seen>(2, [added("tea")]);
    let text = failure(|| drop(given.fold_in_any_order::<Seen>(1)));
    assert!(text.contains("concurrent events of cart-1"), "{text}");
    let text = failure(|| drop(given_events().on_node("paris").pull_from("oslo")));
    assert!(text.contains(r#"no node "oslo""#), "{text}");
    let text = failure(|| check_convergence::<Seen>(1, []));
    assert!(text.contains("there is no event"), "{text}");
}
