//! The `report` command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::output::{Output, table};
use crate::domain::{Order, OrderStatus, Revenue};
use crate::failure::Failure;
use crate::projections::Projections;
use crate::report::Report;
use crate::shop::Shop;
use crate::views::ReadModels;

/// The time that the read models may take to catch up.
const WAIT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Shows the report from the read models. With `verify`, compares it with a replay of the log.
pub(super) async fn report(shop: &Shop, verify: bool) -> Result<Output, Failure> {
    let store = shop.shared_store();
    let caught_up = Projections::run(Arc::clone(&store), async |projections| {
        projections.catch_up(WAIT_TIMEOUT).await?;
        // A view of an earlier version is read until the new one is built.
        projections.wait_until_idle(|_| ()).await
    });
    caught_up.await?;
    let report = Report::of_views(&ReadModels::of(&store), store.head().await?).await?;
    if verify {
        let folded = shop.fold::<Order>().await?;
        let differences = report.differences(&Report::of(&folded.states, folded.log_events)?);
        if !differences.is_empty() && report.parked_events > 0 {
            return Err(Failure::ReadModelsIncomplete { parked_events: report.parked_events });
        }
        if !differences.is_empty() {
            return Err(Failure::ReadModelsDiffer { differences });
        }
    }
    let verified = if verify { "\nverified: a replay of the log gives the same report" } else { "" };
    Ok(Output::new(report_text(&report) + verified, &report))
}

fn report_text(report: &Report) -> String {
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
    let mut head = format!("{} orders, {} events, revenue {}", report.orders, report.events, report.revenue);
    if report.parked_events > 0 {
        head += &format!(
            "\nincomplete: {} events could not be applied; see `order-service projections parked`",
            report.parked_events
        );
    }
    tables.iter().fold(head, |text, table| format!("{text}\n\n{table}"))
}

fn revenues(of: &BTreeMap<String, Revenue>) -> impl Iterator<Item = [String; 2]> {
    of.iter().map(|(name, revenue)| [name.clone(), revenue.to_string()])
}
