//! Orders made by rule, as many as a test wants.

use std::fmt::Write as _;

use crate::sample::ORDERS;

/// Orders made by rule, and what they come to in ten-thousandths.
pub(crate) fn made(orders: u64) -> (String, String, u64) {
    let (head, _) = ORDERS.split_once('\n').expect("the sample has a header");
    let mut order_rows = format!("{head}\n");
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
    (order_rows, line_rows, revenue)
}

/// Rounds ten-thousandths to hundredths, half to even.
pub(crate) fn in_cents(amount: u64) -> String {
    let (cents, rest) = (amount / 100, amount % 100);
    let up = rest > 50 || (rest == 50 && cents % 2 == 1);
    let cents = cents + u64::from(up);
    format!("{}.{:02}", cents / 100, cents % 100)
}
