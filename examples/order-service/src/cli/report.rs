//! `report`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, table};
use crate::domain::{Order, OrderStatus, Revenue};
use crate::failure::Failure;
use crate::projections::Projections;
use crate::report::Report;
use crate::shop::Shop;
use crate::views::ReadModels;

/// How long the read models may take to come up to date.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Shows what all orders come to, from the read models; compared with the log where that is asked for.
pub(super) async fn report(shop: &Shop, verify: bool) -> Result<Answer, Failure> {
    let store = shop.shared_store();
    Projections::run(Arc::clone(&store), async |projections| projections.catch_up(PATIENCE).await).await?;
    let report = Report::of_views(&ReadModels::of(&store), store.head().await?).await?;
    if verify {
        let folded = shop.fold::<Order>().await?;
        let what = report.differences(&Report::of(&folded.states, folded.log_events)?);
        if !what.is_empty() {
            return Err(Failure::Differs { what });
        }
    }
    let verified = if verify { "\nverified: the log, folded anew, says the same" } else { "" };
    Ok(Answer::new(in_words(&report) + verified, &report))
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
