//! The read models, tested without a store.
#![allow(clippy::unwrap_used, reason = "tests")]

use es_core::model::SubjectId;
use es_core::retention::DeleteKind;
use es_core::testing::given_events;
use order_service::domain::{
    Destination, Discount, Order, OrderEvent, OrderLine, OrderLines, OrderStatus, Product, ProductEvent, Revenue,
};
use order_service::views::{
    BEST_FIRST, BY_CUSTOMER, COUNTRIES, DEMAND, LOWEST_FIRST, MONTHS, NEWEST_FIRST, ORDERS, OrderSummaries,
    ProductDemand, STATUSES, STOCK, Sales, StockLevels, TOTAL, Total,
};

fn placed(customer: &str, country: &str, lines: &[(&str, &str, &str)]) -> OrderEvent {
    let line = |(product, price, quantity): &(&str, &str, &str)| OrderLine {
        product: product.parse().unwrap(),
        unit_price: price.parse().unwrap(),
        quantity: quantity.parse().unwrap(),
        discount: Discount::NONE,
    };
    OrderEvent::Placed {
        customer: customer.parse().unwrap(),
        destination: Destination { city: None, country: Some(country.parse().unwrap()) },
        lines: OrderLines::new(lines.iter().map(line).collect()).unwrap(),
    }
}

fn cancelled() -> OrderEvent {
    OrderEvent::Cancelled { reason: "too dear".parse().unwrap() }
}

fn displayed(revenue: Revenue) -> String {
    revenue.to_string()
}

fn at(day: &str) -> es_core::Timestamp {
    day.parse::<order_service::moment::Moment>().unwrap().start()
}

#[test]
fn revenue_by_month_and_country_excludes_cancelled_orders() {
    let july = given_events()
        .at(at("2016-07-04"))
        .of::<Order>("1".parse().unwrap(), [placed("VINET", "France", &[("11", "14.00", "12"), ("42", "0.333", "1")])])
        .of::<Order>("2".parse().unwrap(), [placed("HANAR", "Brazil", &[("11", "1.00", "1")])])
        .at(at("2016-08-01"))
        .of::<Order>("3".parse().unwrap(), [placed("VINET", "France", &[("72", "2.50", "2")])]);
    let _ = july.project(Sales).then(|views| {
        let months: Vec<_> = views.view(&MONTHS).scan().read();
        let months: Vec<_> = months.into_iter().map(|(month, t)| (month, t.orders, displayed(t.revenue))).collect();
        assert_eq!(months, [("2016-07".into(), 2, "169.33".into()), ("2016-08".into(), 1, "5.00".into())]);
        assert_eq!(views.view(&TOTAL).get(&0).map(|t| (t.orders, displayed(t.revenue))), Some((3, "174.33".into())));
    });
    let cancelled = july
        .of::<Order>("2".parse().unwrap(), [cancelled()])
        .of::<Order>("1".parse().unwrap(), [OrderEvent::Approved, cancelled()]);
    let _ = cancelled.project(Sales).then(|views| {
        let countries: Vec<_> = views.view(&COUNTRIES).scan().read();
        let countries: Vec<_> = countries.into_iter().map(|(name, t)| (name, t.orders, displayed(t.revenue))).collect();
        assert_eq!(countries, [("France".into(), 1, "5.00".into())]);
        assert_eq!(views.view(&MONTHS).get(&"2016-07".into()), None);
    });
}

#[test]
fn an_order_summary_has_the_current_status() {
    let events = given_events()
        .at(at("2016-07-04"))
        .of::<Order>("1".parse().unwrap(), [placed("VINET", "France", &[("11", "14.00", "12")]), OrderEvent::Approved])
        .at(at("2016-07-05"))
        .of::<Order>("2".parse().unwrap(), [placed("HANAR", "Brazil", &[("11", "1.00", "1")])])
        .of::<Order>("3".parse().unwrap(), [placed("VINET", "France", &[("11", "1.00", "1")]), cancelled()])
        .of::<Order>("1".parse().unwrap(), [OrderEvent::PaymentReminded]);
    let _ = events.project(OrderSummaries).then(|views| {
        let orders = views.view(&ORDERS);
        let one = orders.get(&"1".parse().unwrap()).unwrap();
        assert_eq!((one.status, one.revision, displayed(one.revenue)), (OrderStatus::Approved, 2, "168.00".into()));
        let ids = |rows: Vec<(order_service::domain::OrderId, _)>| -> Vec<String> {
            rows.into_iter().map(|(id, _): (_, order_service::views::OrderSummary)| id.to_string()).collect()
        };
        assert_eq!(ids(orders.scan().by(&NEWEST_FIRST).read()), ["2", "3", "1"]);
        assert_eq!(ids(orders.scan().by(&BY_CUSTOMER).prefix(&("VINET".parse().unwrap(),)).read()), ["3", "1"]);
        let statuses = views.view(&STATUSES).scan().read();
        let nonzero: Vec<_> = statuses.into_iter().filter(|(_, orders)| *orders > 0).collect();
        assert_eq!(nonzero, [(OrderStatus::Placed, 1), (OrderStatus::Approved, 1), (OrderStatus::Cancelled, 1)]);
    });
}

#[test]
fn demand_is_sorted_by_revenue() {
    let events = given_events()
        .of::<Order>(
            "1".parse().unwrap(),
            [placed("A", "X", &[("a", "1.00", "5"), ("b", "2.00", "5"), ("c", "1.00", "5")])],
        )
        .of::<Order>("2".parse().unwrap(), [placed("A", "X", &[("a", "3.00", "5")])]);
    let best = |events: &es_core::testing::GivenEvents, expected: &[(&str, u64, &str)]| {
        let _ = events.project(ProductDemand).then(|views| {
            let best = views.view(&DEMAND).scan().by(&BEST_FIRST).read();
            let best: Vec<_> = best.iter().map(|(id, d)| (id.as_str(), d.quantity, displayed(d.revenue))).collect();
            let expected: Vec<_> = expected.iter().map(|(id, n, revenue)| (*id, *n, (*revenue).to_owned())).collect();
            assert_eq!(best, expected);
        });
    };
    best(&events, &[("a", 10, "20.00"), ("b", 5, "10.00"), ("c", 5, "5.00")]);
    best(
        &events.clone().of::<Order>("2".parse().unwrap(), [cancelled()]),
        &[("b", 5, "10.00"), ("a", 5, "5.00"), ("c", 5, "5.00")],
    );
    best(&events.of::<Order>("1".parse().unwrap(), [cancelled()]), &[("a", 5, "15.00")]);
}

/// The views kept the rows of deleted orders, and counted them.
#[test]
fn a_deleted_order_leaves_every_view() {
    let line = [("a", "1.00", "5")];
    let kept = || given_events().at(at("2016-07-04")).of::<Order>("1".parse().unwrap(), [placed("A", "X", &line)]);
    let deleted = kept()
        .of::<Order>("2".parse().unwrap(), [placed("B", "X", &[("a", "2.00", "1"), ("b", "1.00", "1")])])
        .of::<Order>("3".parse().unwrap(), [placed("C", "Y", &line), cancelled()])
        .erased(SubjectId::new("B").unwrap())
        .deleted::<Order>("2".parse().unwrap(), DeleteKind::Hard)
        .deleted::<Order>("3".parse().unwrap(), DeleteKind::Soft)
        .deleted::<Order>("4".parse().unwrap(), DeleteKind::Hard)
        .deleted::<Product>("a".parse().unwrap(), DeleteKind::Hard);
    for events in [kept(), deleted] {
        let _ = events.project(OrderSummaries).then(|views| {
            let orders = views.view(&ORDERS).scan().by(&BY_CUSTOMER).read();
            assert_eq!(orders.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1"]);
            let statuses = views.view(&STATUSES).scan().read();
            assert_eq!(statuses.iter().map(|(_, orders)| orders).sum::<u64>(), 1);
        });
        let _ = events.project(Sales).then(|views| {
            let total = |total: &Total| (total.orders, displayed(total.revenue));
            let countries = views.view(&COUNTRIES).scan().read();
            assert_eq!(
                countries.iter().map(|(name, t)| (name.as_str(), total(t))).collect::<Vec<_>>(),
                [("X", (1, "5.00".into()))]
            );
            assert_eq!(views.view(&TOTAL).get(&0).map(|t| total(&t)), Some((1, "5.00".into())));
        });
        let _ = events.project(ProductDemand).then(|views| {
            let best = views.view(&DEMAND).scan().by(&BEST_FIRST).read();
            let best: Vec<_> = best.iter().map(|(id, d)| (id.as_str(), d.lines, displayed(d.revenue))).collect();
            assert_eq!(best, [("a", 1, "5.00".into())]);
        });
    }
}

#[test]
fn stock_levels_are_sorted_by_ascending_stock() {
    let registered = |name: &str, stock: u32| ProductEvent::Registered {
        name: name.parse().unwrap(),
        unit_price: "1.00".parse().unwrap(),
        stock: stock.into(),
    };
    let items = |count: &str| count.parse().unwrap();
    let order_id = || "A-1".parse().unwrap();
    let events = given_events()
        .of::<Product>("11".parse().unwrap(), [registered("Tofu", 8)])
        .of::<Product>("42".parse().unwrap(), [registered("Chai", 5), ProductEvent::Received { quantity: items("10") }])
        .of::<Product>("72".parse().unwrap(), [registered("Brie", 9), ProductEvent::Withdrawn { quantity: items("9") }])
        .of::<Product>(
            "42".parse().unwrap(),
            [ProductEvent::MovedOut { quantity: items("10"), to: "77".parse().unwrap() }],
        )
        .of::<Product>(
            "77".parse().unwrap(),
            [registered("Feta", 2), ProductEvent::MovedIn { quantity: items("10"), from: "42".parse().unwrap() }],
        );
    let quantity = items("2");
    let events = events
        .of::<Product>("11".parse().unwrap(), [ProductEvent::Reserved { quantity, order: order_id() }])
        .of::<Product>("11".parse().unwrap(), [ProductEvent::Released { quantity, order: order_id() }])
        .of::<Product>("72".parse().unwrap(), [ProductEvent::Received { quantity: items("3") }])
        .of::<Product>("72".parse().unwrap(), [ProductEvent::Reserved { quantity, order: order_id() }])
        .of::<Product>("72".parse().unwrap(), [ProductEvent::Shipped { quantity, order: order_id() }]);
    let _ = events.project(StockLevels).then(|views| {
        let low = views.view(&STOCK).scan().by(&LOWEST_FIRST).range(..=8).read();
        let low: Vec<_> = low.iter().map(|(_, product)| (product.name.as_str(), product.stock)).collect();
        assert_eq!(low, [("Brie", 1), ("Chai", 5), ("Tofu", 8)]);
    });
    let deleted = events.deleted::<Product>("42".parse().unwrap(), DeleteKind::Soft);
    let _ = deleted.project(StockLevels).then(|views| {
        let low = views.view(&STOCK).scan().by(&LOWEST_FIRST).range(..=8).read();
        let names: Vec<_> = low.iter().map(|(_, product)| product.name.as_str()).collect();
        assert_eq!(names, ["Brie", "Tofu"]);
    });
}

#[test]
fn an_event_of_an_order_that_was_never_placed_is_an_error() {
    let events = given_events().of::<Order>("1".parse().unwrap(), [cancelled()]);
    let _ = events.project(Sales).then_failed(|failure| {
        assert!(failure.to_string().contains("order 1 has an event before it was placed"), "{failure}");
    });
}
