//! The read models, event by event, without a store.
#![allow(clippy::unwrap_used, reason = "tests")]

use es_core::testing::given_events;
use order_service::domain::{
    Destination, Discount, OrderEvent, OrderLine, OrderLines, OrderStatus, ProductEvent, Revenue,
};
use order_service::views::{
    BEST_FIRST, BY_CUSTOMER, COUNTRIES, DEMAND, LOWEST_FIRST, MONTHS, NEWEST_FIRST, ORDERS, OrderSummaries,
    ProductDemand, STATUSES, STOCK, Sales, StockLevels, TOTAL,
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

fn shown(revenue: Revenue) -> String {
    revenue.to_string()
}
