//! Queries over all orders and products, from the read models.
//!
//! `at_least=P`, where P is the `ES-Position` of a command's response, waits until the read model includes the command.
//! The response is 503 if this takes longer than [`WAIT_TIMEOUT`], and 409 at once if P is not a position of the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use es_core::Timestamp;
use es_core::model::LogPosition;
use es_core::projection::Projection;
use es_core::projection::view::{Page, ViewKey, ViewReader, ViewScan, Views};
use serde::{Deserialize, Serialize};

use super::Api;
use super::problem::Problem;
use crate::domain::{City, Country, CustomerId, OrderId, OrderStatus, ProductId, Revenue};
use crate::report::{MAX_PARKED_EVENTS, Report, TopProduct, is_zero, revenues};
use crate::views::{
    BEST_FIRST, BY_CUSTOMER, COUNTRIES, DEMAND, LOWEST_FIRST, MONTHS, NEWEST_FIRST, ORDERS, OrderSummaries,
    OrderSummary, ProductDemand, STOCK, Sales, StockLevel, StockLevels,
};

/// The time that a query waits for its read model.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows per page without `limit`.
const DEFAULT_PAGE: usize = 100;
/// Maximum rows per page.
const MAX_PAGE: usize = 1000;

/// The query parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryParameters {
    at_least: Option<LogPosition>,
    limit: Option<usize>,
    after: Option<String>,
    customer: Option<CustomerId>,
    at_most: Option<u64>,
}

impl QueryParameters {
    /// Returns the scan of the requested page.
    fn page<'a, K: ViewKey, V>(&self, view: &ViewReader<'a, K, V>) -> Result<ViewScan<'a, &'a Views, K, V>, Problem> {
        let scan = view.scan().limit(self.limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE));
        let Some(text) = &self.after else { return Ok(scan) };
        let after = text.parse();
        let after = after.map_err(|_| Problem::invalid("after", "the value of `next` in the previous page", text))?;
        Ok(scan.after(after))
    }

    async fn wait<P: Projection>(&self, service: &Api) -> Result<(), Problem> {
        let Some(at_least) = self.at_least else { return Ok(()) };
        let position = at_least.resolve(service.shop.store())?;
        Ok(service.projections.wait_for(P::NAME, position, WAIT_TIMEOUT).await?)
    }
}

type ParsedParameters = Result<Parameters<QueryParameters>, QueryRejection>;

/// A page of rows.
#[derive(Debug, Serialize)]
pub(super) struct PageJson<T> {
    rows: Vec<T>,
    /// The value of `after` for the next page; `None` on the last page.
    next: Option<String>,
    /// The number of events that the read model lacks because they could not be applied; absent if there are none.
    #[serde(skip_serializing_if = "is_zero")]
    parked_events: usize,
}

impl<T> PageJson<T> {
    async fn of<K, V>(
        views: &Views,
        page: Page<K, V>,
        row: impl FnMut((K, V)) -> T + Send,
    ) -> Result<Json<Self>, Problem> {
        let next = page.next.map(|next| next.to_string());
        let parked_events = views.parked_events(MAX_PARKED_EVENTS).await?;
        Ok(Json(Self { rows: page.rows.into_iter().map(row).collect(), next, parked_events }))
    }
}

/// A row of `GET /orders`.
#[derive(Debug, Serialize)]
pub(super) struct ListedOrder {
    order_id: OrderId,
    customer_id: CustomerId,
    status: OrderStatus,
    ship_city: Option<City>,
    ship_country: Option<Country>,
    products: usize,
    revenue: Revenue,
    placed_at: Timestamp,
    revision: u64,
}

impl From<(OrderId, OrderSummary)> for ListedOrder {
    fn from((order_id, order): (OrderId, OrderSummary)) -> Self {
        let OrderSummary { customer, status, city, country, products, revenue, placed_at, revision } = order;
        let (customer_id, ship_city, ship_country) = (customer, city, country);
        Self { order_id, customer_id, status, ship_city, ship_country, products, revenue, placed_at, revision }
    }
}

/// Lists orders, newest first; with `customer=C`, only the orders of that customer.
pub(super) async fn orders(
    State(service): State<Arc<Api>>,
    parameters: ParsedParameters,
) -> Result<Json<PageJson<ListedOrder>>, Problem> {
    let Parameters(parameters) = parameters?;
    parameters.wait::<OrderSummaries>(&service).await?;
    let orders = parameters.page(&service.models.orders.view(&ORDERS))?;
    let page = match &parameters.customer {
        Some(customer) => orders.by(&BY_CUSTOMER).prefix(&(customer.clone(),)).read().await?,
        None => orders.by(&NEWEST_FIRST).read().await?,
    };
    PageJson::of(&service.models.orders, page, ListedOrder::from).await
}

/// A row of `GET /products`.
#[derive(Debug, Serialize)]
pub(super) struct ListedProduct {
    product_id: ProductId,
    #[serde(flatten)]
    level: StockLevel,
}

/// Lists products, lowest stock first; with `at_most=N`, only products with at most N items in stock.
pub(super) async fn stock(
    State(service): State<Arc<Api>>,
    parameters: ParsedParameters,
) -> Result<Json<PageJson<ListedProduct>>, Problem> {
    let Parameters(parameters) = parameters?;
    parameters.wait::<StockLevels>(&service).await?;
    let products = parameters.page(&service.models.stock.view(&STOCK))?;
    let products = products.by(&LOWEST_FIRST);
    let products = match parameters.at_most {
        Some(limit) => products.range(..=limit),
        None => products,
    };
    let page = products.read().await?;
    PageJson::of(&service.models.stock, page, |(product_id, level)| ListedProduct { product_id, level }).await
}

/// Lists products, highest revenue first.
pub(super) async fn demand(
    State(service): State<Arc<Api>>,
    parameters: ParsedParameters,
) -> Result<Json<PageJson<TopProduct>>, Problem> {
    let Parameters(parameters) = parameters?;
    parameters.wait::<ProductDemand>(&service).await?;
    let products = parameters.page(&service.models.demand.view(&DEMAND))?;
    PageJson::of(&service.models.demand, products.by(&BEST_FIRST).read().await?, TopProduct::from).await
}

/// The response of `GET /revenue`.
#[derive(Debug, Serialize)]
pub(super) struct RevenueJson {
    by_month: BTreeMap<String, Revenue>,
    by_country: BTreeMap<String, Revenue>,
    /// As in [`PageJson`].
    #[serde(skip_serializing_if = "is_zero")]
    parked_events: usize,
}

pub(super) async fn revenue(
    State(service): State<Arc<Api>>,
    parameters: ParsedParameters,
) -> Result<Json<RevenueJson>, Problem> {
    let Parameters(parameters) = parameters?;
    parameters.wait::<Sales>(&service).await?;
    let models = &service.models;
    let (by_month, by_country) = (revenues(models, &MONTHS).await?, revenues(models, &COUNTRIES).await?);
    let parked_events = models.sales.parked_events(MAX_PARKED_EVENTS).await?;
    Ok(Json(RevenueJson { by_month, by_country, parked_events }))
}

/// Returns the report, after all read models have caught up with the log.
pub(super) async fn report(State(service): State<Arc<Api>>) -> Result<Json<Report>, Problem> {
    service.projections.catch_up(WAIT_TIMEOUT).await?;
    Ok(Json(Report::of_views(&service.models, service.shop.store().head().await?).await?))
}
