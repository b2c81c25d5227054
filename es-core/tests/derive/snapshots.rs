//! A field of a nested type that serde skips: the derive does not see it, so a test of the domain has to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use es_core::testing::{Given, given};
use es_core::{Aggregate, CommandContext, Decide, Decision, Event, EventContext, Evolve};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "door-opened")]
struct Opened {
    by: String,
}

#[derive(Debug, Clone, Copy)]
struct Open;

/// Defines a door that opens twice, with a nested type.
macro_rules! door {
    ($module:ident, $(#[$attribute:meta])* $type:ty) => {
        mod $module {
            use super::*;

            #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
            pub(super) struct Log {
                $(#[$attribute])*
                pub(super) times: $type,
            }

            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Aggregate)]
            #[aggregate(category = "door", id = String, event = Opened, snapshot(every = 2))]
            pub(super) struct Door {
                pub(super) log: Log,
            }

            impl Evolve for Door {
                fn initial(_: &String) -> Self {
                    Self { log: Log::default() }
                }
                fn evolve(&mut self, _: &Opened, _: &EventContext<'_>) {
                    self.log.times += 1;
                }
            }

            impl Decide<Open> for Door {
                type Rejection = String;
                fn decide(&self, _: Open, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, String> {
                    let opened = || Opened { by: format!("visitor {}", self.log.times) }.into();
                    if self.log.times < 2 { Ok(opened()) } else { Err("worn out".to_owned()) }
                }
            }
        }
    };
}

door!(complete, u32);
door!(
    skipped,
    #[serde(skip)]
    u32
);
door!(
    not_decoded,
    #[serde(default, skip_deserializing)]
    u32
);

fn opened(times: u32) -> Vec<Opened> {
    (0..times).map(|visitor| Opened { by: format!("visitor {visitor}") }).collect()
}

fn door<A: Aggregate<Id = String, Event = Opened> + Evolve>(times: u32) -> Given<A> {
    given("front".to_owned(), opened(times))
}

/// Returns the message of the panic of a test.
fn failure(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("the test fails");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_state_without_skipped_fields_passes() {
    let after_one = opened(2).split_off(1);
    door::<complete::Door>(1).when(Open).then(after_one).then_state(|door| assert_eq!(door.log.times, 2));
    door::<complete::Door>(2).when(Open).then_rejected("worn out");
    door::<complete::Door>(2).when(Open).then_rejected_with(|reason| assert_eq!(reason, "worn out"));
    let _ = door::<complete::Door>(2).then_snapshot_is_equal();
}

#[test]
fn a_skipped_field_of_a_nested_type_fails_every_expectation_that_depends_on_it() {
    let hint = "on the state from a snapshot only: look for a field of a type in the state that serde skips";
    let after_one = opened(2).split_off(1);
    let message = failure(|| drop(door::<skipped::Door>(1).when(Open).then(after_one)));
    assert!(message.contains(hint), "{message}");
    let message = failure(|| drop(door::<skipped::Door>(2).when(Open).then_rejected("worn out")));
    assert!(message.contains(hint), "{message}");
    let message = failure(|| drop(door::<skipped::Door>(2).when(Open).then_rejected_with(|_| ())));
    assert!(message.contains(hint), "{message}");
    let state = |door: &skipped::Door| assert_eq!(door.log.times, 2);
    let message = failure(|| drop(door::<skipped::Door>(1).when(Open).then_state(state)));
    assert!(message.contains("left: 0"), "{message}");
    let message = failure(|| {
        let _ = door::<skipped::Door>(1).then_snapshot_is_equal();
    });
    assert!(message.contains("look for a field that serde skips"), "{message}");
}

#[test]
fn a_state_that_its_snapshot_changes_is_reported_with_its_revision() {
    let message = failure(|| drop(door::<not_decoded::Door>(1)));
    let expected = "no snapshot of the state at revision 0: log.times: 1 would be read back from application/msgpack";
    assert!(message.starts_with(expected), "{message}");
}
