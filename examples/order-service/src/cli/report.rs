//! `report`

use std::collections::BTreeMap;

use super::answer::{Answer, table};
use crate::domain::{Order, OrderStatus, Revenue};
use crate::failure::Failure;
use crate::report::Report;
use crate::shop::Shop;

/// Folds all orders and shows what they come to.
pub(super) async fn report(shop: &Shop) -> Result<Answer, Failure> {
    let folded = shop.fold::<Order>().await?;
    let report = Report::of(&folded.states, folded.log_events)?;
    Ok(Answer::new(in_words(&report), &report))
}

fn in_words(report: &Report) -> String {
    let by_status = OrderStatus::ALL.map(|status| [status.to_string(), report.by_status.get(status).to_string()]);
    let products = report
        .top_products
        .iter()
        .map(|top| [top.product_id.to_string(), top.quantity.to_string(), top.revenue.to_string()]);
    let tables = [
        table(["status", "orders"], 1, by_status),
        table(["month", "revenue"], 1, revenues(&report.revenue_by_month)),
        table(["country", "revenue"], 1, revenues(&report.revenue_by_country)),
        table(["product", "quantity", "revenue"], 1, products),
    ];
    let head = format!("{} orders, {} events, revenue {}", report.orders, report.events, report.revenue);
    tables.iter().fold(head, |text, table| format!("{text}\n\n{table}"))
}

fn revenues(of: &BTreeMap<String, Revenue>) -> impl Iterator<Item = [String; 2]> {
    of.iter().map(|(name, revenue)| [name.clone(), revenue.to_string()])
}
