//! Generated orders for tests with many orders.

use std::fmt::Write as _;

use crate::sample::ORDERS;

/// Generated import files.
pub(crate) struct GeneratedOrders {
    /// The content of the orders file.
    pub(crate) orders: String,
    /// The content of the lines file.
    pub(crate) lines: String,
    /// The total revenue in ten-thousandths.
    pub(crate) revenue: u64,
}

/// Generates orders with ids from 0. Orders whose id is divisible by 5 have no shipped date.
pub(crate) fn generate_orders(orders: u64) -> GeneratedOrders {
    let (header, _) = ORDERS.split_once('\n').expect("the sample has a header");
    let mut order_rows = format!("{header}\n");
    let mut line_rows = "order_id,product_id,unit_price,quantity,discount\n".to_owned();
    let mut revenue = 0;
    for n in 0..orders {
        let shipped = if n % 5 == 0 { String::new() } else { format!("2023-{:02}-28", n % 12 + 1) };
        let (month, day, customer) = (n % 12 + 1, n % 27 + 1, n % 90);
        let _ = writeln!(order_rows, "{n},C{customer},1,2023-{month:02}-{day:02},,{shipped},1,0,Köln,Land {}", n % 7);
        for k in 0..=n % 4 {
            let (cents, quantity, percent) = (100 + 37 * n + k, 1 + (n + k) % 30, 5 * ((n + k) % 6));
            let price = format!("{}.{:02}", cents / 100, cents % 100);
            let _ = writeln!(line_rows, "{n},P{},{price},{quantity},0.{percent:02}", (n * 3 + k) % 25);
            revenue += cents * quantity * (100 - percent);
        }
    }
    GeneratedOrders { orders: order_rows, lines: line_rows, revenue }
}

/// Rounds ten-thousandths to hundredths, half to even.
pub(crate) fn in_cents(amount: u64) -> String {
    let (cents, remainder) = (amount / 100, amount % 100);
    let rounds_up = remainder > 50 || (remainder == 50 && cents % 2 == 1);
    let cents = cents + u64::from(rounds_up);
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Returns a products file with all products of [`generate_orders`], each with some stock.
pub(crate) fn generate_products() -> String {
    let mut rows = "product_id,name,unit_price,units_in_stock\n".to_owned();
    for n in 0..25 {
        let _ = writeln!(rows, "P{n},Product {n},{n}.50,{}", 20 * n);
    }
    rows
}
