//! [`GivenEvents::project_in_any_order`]: whether a projection gives the same rows for every order of arrival.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::{ErrorChain, RecordedEvent};
use crate::projection::view::MemoryViews;
use crate::projection::{ApplyFailure, Arrival, BatchApplier, HandlesLateEvents, Projection};
use crate::testing::orders::{OrderDependence, have_one_order};
use crate::testing::projected::{GivenEvents, Projected, selected};

/// The rows of a projection, or the failure of an event.
type RowsOrFailure = Result<MemoryViews, String>;

impl GivenEvents {
    /// Applies the events in every order in which they can arrive on a node, and expects the same rows each time, also
    /// while some events have not arrived yet. The events that are known to all nodes come first, and an event comes
    /// after those that its node had.
    ///
    /// Position, revision and recorded time of an event are those of the order, as on a node.
    ///
    /// The cost grows with the number of sets of events that a node can have: the numbers of events of the nodes,
    /// multiplied. If there are more than 64 sets of equally many events, 64 of them are drawn, the same ones in each
    /// run: this begins with more than 63 events on each of two nodes, or 8 on each of three.
    ///
    /// For an example see [`HandlesLateEvents`]. A test with generated events calls it in the body of a property.
    ///
    /// # Panics
    /// - If two orders give different rows: the projection does not commute. The message names two orders that differ
    ///   in two events only.
    /// - If there is only one order: give events to at least two nodes.
    #[must_use = "check the result with one of the `then` methods"]
    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a projection is often a unit type: the test reads better without a reference"
    )]
    pub fn project_in_any_order<P>(&self, projection: P) -> Projected
    where
        P: HandlesLateEvents<Mode = Arrival>,
    {
        assert!(
            !have_one_order(&self.records),
            "there is one order of arrival; give concurrent events to two nodes with `on_node`"
        );
        let apply = |rows: &MemoryViews, events: &[RecordedEvent], log: &[RecordedEvent]| {
            let mut views = rows.clone();
            let applied = fold(&projection, events, &mut views, log);
            applied.map(|()| views).map_err(|(_, failure)| ErrorChain(&failure).to_string())
        };
        let (empty, known) = (MemoryViews::default(), self.known_to_all());
        let compared = self.apply_in_any_order(
            apply(&empty, known, known),
            |before, log| {
                let last = log.len().saturating_sub(1);
                before.as_ref().map_err(Clone::clone).and_then(|rows| apply(rows, &log[last..], log))
            },
            RowsOrFailure::eq,
        );
        if let Err(found) = compared {
            panic!("{}", self.message_of_rows(P::NAME, &found));
        }
        let mut views = MemoryViews::default();
        let applied = fold(&projection, &self.records, &mut views, &self.records);
        Projected(applied.map(|()| views))
    }

    fn message_of_rows(&self, projection: &str, found: &OrderDependence<RowsOrFailure>) -> String {
        let [one, other] = found.events().map(|index| self.name_of(index));
        let mut text =
            format!("projection {projection:?} does not commute: its rows depend on the order of {one} and {other}");
        for (order, result) in found.orders.iter().zip(&found.results) {
            let _ = write!(text, "\n  order: {}\n   rows: ", self.names_of(order));
            match result {
                Ok(views) => {
                    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let rows = views.rows().filter(|(table, ..)| !table.as_str().starts_with('$'));
                    let rows = rows.map(|(table, key, value)| (table.as_str().to_owned(), lossy(key), lossy(value)));
                    let _ = write!(text, "{:?}", rows.collect::<Vec<_>>());
                }
                Err(failure) => text.push_str(failure),
            }
        }
        text
    }
}

/// Applies events of a log to the rows.
fn fold<P: Projection>(
    projection: &P,
    events: &[RecordedEvent],
    views: &mut MemoryViews,
    log: &[RecordedEvent],
) -> Result<(), (usize, ApplyFailure)> {
    views.fold(BatchApplier::new(projection, selected(projection, events), &BTreeSet::new()), log)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use serde::{Deserialize, Serialize};

    use crate::aggregate::Aggregate;
    use crate::model::Causal;
    use crate::model::panic::panic_message;
    use crate::projection::view::View;
    use crate::projection::{ApplyError, Arrival, HandlesLateEvents, ProjectedContext, Projection, Rows};
    use crate::schema::{DecodeEventError, EncodeEventError, EncodedEvent, Event, EventSchema, Events, RawEvent};
    use crate::testing::given_events;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Named(String);

    impl Event for Named {
        const SCHEMA: &'static [EventSchema] =
            &[EventSchema { name: "named", version: 1, aliases: &[], oldest: 1, tags: &[] }];

        fn encode(&self) -> Result<EncodedEvent, EncodeEventError> {
            crate::__private::encode_struct::<crate::schema::Json, _>("named", 1, self).map(|(encoded, _)| encoded)
        }

        fn decode(event: RawEvent<'_>) -> Result<Events<Self>, DecodeEventError> {
            crate::__private::decode_struct::<Self>("named", event).map(Events::from)
        }
    }

    #[derive(Clone)]
    struct Person;

    impl Aggregate for Person {
        const CATEGORY: &'static str = "person";
        type Id = u64;
        type Event = Named;
        type Level = Causal;
    }

    const LAST: View<(), String> = View::new("last");
    const COUNT: View<String, u64> = View::new("count");

    /// Keeps the name that arrived last.
    struct LastName;

    impl Projection for LastName {
        type Source = Person;
        const NAME: &'static str = "last-name";

        fn apply(&self, Named(name): &Named, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            rows.view(&LAST)?.put(&(), name)
        }
    }

    impl HandlesLateEvents for LastName {
        type Mode = Arrival;
    }

    /// Counts names, or keeps the revision of the last event with each name.
    struct Names {
        keeps_revisions: bool,
    }

    impl Projection for Names {
        type Source = Person;
        const NAME: &'static str = "names";

        fn apply(&self, Named(name): &Named, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
            let revision = at.revision().get();
            let change = |count: &mut u64| if self.keeps_revisions { *count = revision } else { *count += 1 };
            rows.view(&COUNT)?.update(name, change)
        }
    }

    impl HandlesLateEvents for Names {
        type Mode = Arrival;
    }

    fn named(name: &str) -> [Named; 1] {
        [Named(name.to_owned())]
    }

    fn failure(project: impl FnOnce()) -> String {
        panic_message(&*catch_unwind(AssertUnwindSafe(project)).expect_err("the rows differ"))
    }

    #[test]
    fn a_projection_that_does_not_commute_is_found_with_two_orders() {
        let given = given_events().of::<Person>(1, named("Ada"));
        let given = given.on_node("paris").of::<Person>(1, named("Ada L.")).of::<Person>(2, named("Bob"));
        let given = given.on_node("oslo").of::<Person>(1, named("Countess"));
        let text = failure(|| drop(given.project_in_any_order(LastName)));
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let differ = r#"projection "last-name" does not commute: its rows depend on"#;
        assert_eq!(lines[0], format!("{differ} the order of paris 1 \"named\" and oslo 1 \"named\""));
        let orders = [r#"order: paris 1 "named", oslo 1 "named""#, r#"order: oslo 1 "named", paris 1 "named""#];
        assert_eq!([lines[1], lines[3]], orders);
        assert!(lines[2].contains("Countess") && lines[4].contains("Ada L."), "{text}");
    }

    #[test]
    fn a_projection_that_commutes_has_equal_rows_in_every_order() {
        let given = given_events().of::<Person>(1, named("Ada"));
        let given = given.on_node("paris").of::<Person>(1, named("Ada")).of::<Person>(1, named("Bob"));
        let given = given.on_node("oslo").of::<Person>(1, named("Ada"));
        let projected = given.project_in_any_order(Names { keeps_revisions: false });
        let _ = projected.then(|views| assert_eq!(views.view(&COUNT).get(&"Ada".to_owned()), Some(3)));
        let text = failure(|| drop(given.project_in_any_order(Names { keeps_revisions: true })));
        assert!(text.contains("does not commute"), "a revision is a number of one node: {text}");
    }

    /// An event comes after those that its node had, so these two cannot be exchanged.
    #[test]
    fn an_event_comes_after_those_that_its_node_pulled() {
        let given = given_events().on_node("paris").of::<Person>(1, named("Ada"));
        let given = given.on_node("oslo").pull_from("paris").of::<Person>(1, named("Bob"));
        let text = failure(|| drop(given.project_in_any_order(LastName)));
        assert!(text.contains("there is one order of arrival"), "{text}");
        let given = given.on_node("rome").of::<Person>(2, named("Eve")).on_node("paris").pull_from("oslo");
        let given = given.of::<Person>(1, named("Ada"));
        let projected = given.project_in_any_order(Names { keeps_revisions: false });
        let _ = projected.then(|views| assert_eq!(views.view(&COUNT).get(&"Ada".to_owned()), Some(2)));
        let text = failure(|| drop(given.project_in_any_order(LastName)));
        assert!(text.contains(r#"the order of paris 1 "named" and rome 1 "named""#), "{text}");
    }

    /// With 12 events of each of three nodes there are more sets of events than can be compared.
    #[test]
    fn many_orders_are_sampled() {
        let node = |given: crate::testing::GivenEvents, name: &str| {
            (0..12).fold(given.on_node(name), |given, _| given.of::<Person>(1, named(name)))
        };
        let given = ["paris", "oslo", "rome"].into_iter().fold(given_events(), node);
        let projected = given.project_in_any_order(Names { keeps_revisions: false });
        let _ = projected.then(|views| assert_eq!(views.view(&COUNT).get(&"oslo".to_owned()), Some(12)));
        assert!(failure(|| drop(given.project_in_any_order(LastName))).contains("does not commute"));
    }
}
