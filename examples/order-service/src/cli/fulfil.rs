//! The `fulfil` command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fulfilment_args::FulfilArgs;
use super::output::Output;
use super::provider::{ProviderProcess, default_record};
use super::sagas::totals_output;
use super::{IfMissing, with_shop};
use crate::domain::{Order, OrderStatus};
use crate::failure::Failure;
use crate::fulfilment::{self, OrderToFulfil, ProviderClient, RunningFulfilment, StockAndMoney};
use crate::import::Progress;
use crate::provider::read_record;
use crate::shop::Shop;

/// The time in which the calls in progress must end at the end of the command.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// Where the provider is.
enum ProviderSource {
    Running(ProviderClient),
    Started(ProviderProcess, ProviderClient, PathBuf),
}

impl ProviderSource {
    fn of(data: &Path, args: &FulfilArgs) -> Result<Self, Failure> {
        if let Some(url) = &args.provider {
            return Ok(Self::Running(ProviderClient::new(url)));
        }
        let record = args.record.clone().map_or_else(|| default_record(data), Ok)?;
        let process = ProviderProcess::start(&record, args.faults.plan())?;
        let client = ProviderClient::new(&process.url);
        Ok(Self::Started(process, client, record))
    }

    const fn client(&self) -> &ProviderClient {
        match self {
            Self::Running(client) | Self::Started(_, client, _) => client,
        }
    }

    /// Stops a provider that was started, and computes the report.
    async fn finish(self, shop: &Shop) -> Result<StockAndMoney, Failure> {
        match self {
            Self::Running(client) => StockAndMoney::compute(shop, async || Ok(client.effects().await?)).await,
            Self::Started(process, _, record) => {
                process.stop()?;
                StockAndMoney::compute(shop, async || Ok(read_record(&record)?)).await
            }
        }
    }
}

/// Fulfils orders.
pub(super) async fn run(data: &Path, args: &FulfilArgs) -> Result<Output, Failure> {
    with_shop(data, IfMissing::Fail, async |shop| {
        let orders = orders(shop, args).await?;
        let provider = ProviderSource::of(data, args)?;
        fulfil(shop, &orders, provider.client(), args).await?;
        Ok(totals_output(&provider.finish(shop).await?))
    })
    .await
}

/// Returns the orders that the arguments select. Cancelled orders are left out of all orders.
async fn orders(shop: &Shop, args: &FulfilArgs) -> Result<Vec<OrderToFulfil>, Failure> {
    let mut selected = Vec::new();
    for id in &args.ids {
        let loaded = shop.orders.load(id).await?;
        let placed = loaded.state.placed().ok_or_else(|| Failure::NoOrder(id.clone()))?;
        selected.push(OrderToFulfil::of(id, placed)?);
    }
    if args.all {
        for (id, order) in &shop.fold::<Order>().await?.states {
            if let Some(placed) = order.placed().filter(|placed| placed.status != OrderStatus::Cancelled) {
                selected.push(OrderToFulfil::of(id, placed)?);
            }
        }
    }
    Ok(selected)
}

async fn fulfil(
    shop: &Shop,
    orders: &[OrderToFulfil],
    provider: &ProviderClient,
    args: &FulfilArgs,
) -> Result<(), Failure> {
    if !args.no_restock {
        fulfilment::restock(shop, orders).await?;
    }
    let running = RunningFulfilment::start(&shop.shared_store(), provider, args.payment_deadline()).await?;
    let mut progress = if args.verbose { Progress::per_order() } else { Progress::fulfilling(orders.len()) };
    let settled = fulfilment::fulfil(&running, orders, |order| progress.step(&order.order)).await;
    progress.finish();
    running.shutdown(SHUTDOWN).await;
    settled
}
