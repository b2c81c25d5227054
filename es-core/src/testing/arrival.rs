//! [`GivenEvents::project_in_any_order`]: whether a projection gives the same rows for every order of arrival.
//!
//! ```text
//!   events known to all, then those of paris and of oslo --> p1 p2 o1 | p1 o1 p2 | o1 p1 p2 --> equal rows?
//!                                                                 +-- no: exchange neighbours one after the other
//!                                                                     until the rows change: these two events
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::{Entropy, ErrorChain, Position, RecordedEvent, Revision};
use crate::projection::view::MemoryViews;
use crate::projection::{Arrival, BatchApplier, HandlesLateEvents, Projection};
use crate::testing::SeededEntropy;
use crate::testing::projected::{GivenEvents, Projected, selected};

/// The largest number of orders that are compared.
const MAX_ORDERS: usize = 2_000;

/// An order of arrival: the indexes of the records of all nodes.
type ArrivalOrder = Vec<usize>;

impl GivenEvents {
    /// Applies the events in every order in which they can arrive on a node, and expects the same rows each time. The
    /// events that are known to all nodes come first, and the events of a node keep their order. If there are more than
    /// 2,000 orders, 2,000 of them are drawn, the same ones in each run.
    ///
    /// Position, revision and recorded time of an event are those of the order, as on a node.
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
        let orders = self.orders();
        assert!(orders.len() > 1, "there is one order of arrival; give events to two nodes with `on_node`");
        let (first, others) = orders.split_first().expect("there is at least one order");
        let expected = self.rows_of(&projection, first);
        for other in others {
            if self.rows_of(&projection, other) != expected {
                panic!("{}", self.difference(&projection, first, other));
            }
        }
        let records = self.in_order(first);
        let mut views = MemoryViews::default();
        let applied = fold(&projection, &records, &mut views);
        Projected(applied.map(|()| views))
    }

    /// Returns all orders, or some of them if there are too many.
    fn orders(&self) -> Vec<ArrivalOrder> {
        let nodes: Vec<ArrivalOrder> = self.nodes.iter().map(|node| node.records.clone().collect()).collect();
        let mut orders = Vec::new();
        add_orders(&nodes, &mut vec![0; nodes.len()], &mut Vec::new(), &mut orders);
        if orders.len() > MAX_ORDERS {
            let entropy = SeededEntropy::new(0);
            orders = (1..MAX_ORDERS).map(|_| random_order(&nodes, &entropy)).collect();
            orders.push(nodes.concat());
        }
        orders
    }

    /// Returns the records as a node has them on which they arrived in this order.
    fn in_order(&self, order: &[usize]) -> Vec<RecordedEvent> {
        let known = self.nodes.first().map_or(self.records.len(), |first| first.records.start);
        let mut arrived: Vec<RecordedEvent> = Vec::new();
        for index in (0..known).chain(order.iter().copied()) {
            let mut record = self.records[index].clone();
            let before = arrived.iter().rev().find(|before| before.stream == record.stream);
            record.revision = Revision::following(before.map(|before| before.revision));
            record.position = arrived.last().map_or(Position::FIRST, |before| before.position.next());
            if index >= known {
                record.recorded_at += std::time::Duration::from_millis(record.position.get());
            }
            arrived.push(record);
        }
        arrived
    }

    /// Returns the rows after the events in this order, or the failure.
    fn rows_of<P: Projection>(&self, projection: &P, order: &[usize]) -> Result<MemoryViews, String> {
        let mut views = MemoryViews::default();
        let records = self.in_order(order);
        fold(projection, &records, &mut views).map_err(|(_, failure)| ErrorChain(&failure).to_string())?;
        Ok(views)
    }

    /// Describes two orders that differ in two neighbours only and give different rows. They lie on the way from
    /// `first` to `other`, two orders with different rows.
    fn difference<P: Projection>(&self, projection: &P, first: &[usize], other: &[usize]) -> String {
        let rank = |index: usize| other.iter().position(|found| *found == index);
        let mut order = first.to_vec();
        for sorted in 1..order.len() {
            for at in (1..=sorted).rev() {
                if rank(order[at - 1]) < rank(order[at]) {
                    break;
                }
                let before = order.clone();
                order.swap(at - 1, at);
                let (left, right) = (self.rows_of(projection, &before), self.rows_of(projection, &order));
                if left != right {
                    let events = [self.name_of(before[at - 1]), self.name_of(before[at])];
                    let orders = [&before, &order].map(|order| self.text_of(order));
                    return message(P::NAME, &events, &orders, &[left, right]);
                }
            }
        }
        format!("projection {:?} does not depend on its arguments alone: one order gave two results", P::NAME)
    }

    fn text_of(&self, order: &[usize]) -> String {
        order.iter().map(|index| self.name_of(*index)).collect::<Vec<_>>().join(", ")
    }

    /// Returns the name of an event, such as `paris 1 "task-renamed"`.
    fn name_of(&self, index: usize) -> String {
        let event_type = &self.records[index].data.event_type;
        let node = self.nodes.iter().find(|node| node.records.contains(&index));
        let (name, first) = node.map_or(("", 0), |node| (node.name.as_str(), node.records.start));
        format!("{name} {} {:?}", index - first + 1, event_type.as_str())
    }
}

/// Adds the orders that begin with `order`, which has the first `taken` events of each node. Stops after
/// [`MAX_ORDERS`] orders.
fn add_orders(nodes: &[ArrivalOrder], taken: &mut [usize], order: &mut ArrivalOrder, orders: &mut Vec<ArrivalOrder>) {
    if orders.len() > MAX_ORDERS {
        return;
    }
    let mut is_complete = true;
    for (node, records) in nodes.iter().enumerate() {
        let Some(record) = records.get(taken[node]) else { continue };
        is_complete = false;
        order.push(*record);
        taken[node] += 1;
        add_orders(nodes, taken, order, orders);
        taken[node] -= 1;
        order.pop();
    }
    if is_complete {
        orders.push(order.clone());
    }
}

/// Draws an order, each with the same probability.
fn random_order(nodes: &[ArrivalOrder], entropy: &SeededEntropy) -> ArrivalOrder {
    let mut remaining: Vec<&[usize]> = nodes.iter().map(Vec::as_slice).collect();
    let mut order = Vec::new();
    loop {
        let events: usize = remaining.iter().map(|records| records.len()).sum();
        if events == 0 {
            return order;
        }
        let mut drawn = usize::try_from(entropy.next_u64() % events as u64).unwrap_or(0);
        for records in &mut remaining {
            if let Some((first, rest)) = records.split_first().filter(|_| drawn < records.len()) {
                order.push(*first);
                *records = rest;
                break;
            }
            drawn -= records.len();
        }
    }
}

fn fold<P: Projection>(
    projection: &P,
    records: &[RecordedEvent],
    views: &mut MemoryViews,
) -> Result<(), (usize, crate::projection::ApplyFailure)> {
    views.fold(BatchApplier::new(projection, selected(projection, records), &BTreeSet::new()), records)
}

fn message(
    projection: &str,
    [one, other]: &[String; 2],
    orders: &[String; 2],
    results: &[Result<MemoryViews, String>; 2],
) -> String {
    let mut text =
        format!("projection {projection:?} does not commute: its rows depend on the order of {one} and {other}");
    for (order, result) in orders.iter().zip(results) {
        let _ = write!(text, "\n  order: {order}\n   rows: ");
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
        let [one, other] = [
            r#"order: paris 1 "named", paris 2 "named", oslo 1 "named""#,
            r#"order: paris 1 "named", oslo 1 "named", paris 2 "named""#,
        ];
        assert_eq!(lines[0], format!("{differ} the order of paris 2 \"named\" and oslo 1 \"named\""));
        assert_eq!((lines[1], lines[3]), (one, other));
        assert!(lines[2].contains("Countess") && lines[4].contains("Bob"), "{text}");
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

    /// With 20 events of each of two nodes there are more orders than can be compared.
    #[test]
    fn many_orders_are_sampled() {
        let node = |given: crate::testing::GivenEvents, name: &str| {
            (0..20).fold(given.on_node(name), |given, _| given.of::<Person>(1, named(name)))
        };
        let given = node(node(given_events(), "paris"), "oslo");
        let projected = given.project_in_any_order(Names { keeps_revisions: false });
        let _ = projected.then(|views| assert_eq!(views.view(&COUNT).get(&"oslo".to_owned()), Some(20)));
        assert!(failure(|| drop(given.project_in_any_order(LastName))).contains("does not commute"));
    }
}
