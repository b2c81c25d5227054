//! Queries over all orders and products, from the read models.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use es_core::Timestamp;
use es_core::model::LogPosition;
use es_core::projection::view::{Page, ViewKey, ViewReader, ViewScan, Views};
use es_http::{Json, Problem};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::reads::{AtLeast, Read, ReadParameters, WAIT_TIMEOUT};
use crate::domain::{City, Country, CustomerId, OrderId, OrderStatus, ProductId, Revenue};
use crate::report::{MAX_PARKED_EVENTS, Report, TopProduct, is_zero, revenues};
use crate::views::{
    BEST_FIRST, BY_CUSTOMER, COUNTRIES, DEMAND, LOWEST_FIRST, MONTHS, NEWEST_FIRST, ORDERS, OrderSummaries,
    OrderSummary, ProductDemand, STOCK, Sales, StockLevel, StockLevels,
};

/// Rows per page without `limit`.
const DEFAULT_PAGE: usize = 100;
/// Maximum rows per page.
const MAX_PAGE: usize = 1000;

/// The parameters of `GET /demand`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DemandParameters {
    /// Waits until the result includes this position, `LOG:POSITION`.
    #[param(value_type = Option<String>)]
    at_least: Option<LogPosition>,
    /// The maximum number of rows, at most 1000; 100 by default.
    limit: Option<usize>,
    /// The value of `next` in the previous page.
    after: Option<String>,
}

/// The parameters of `GET /orders`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderParameters {
    /// Waits until the result includes this position, `LOG:POSITION`.
    #[param(value_type = Option<String>)]
    at_least: Option<LogPosition>,
    /// The maximum number of rows, at most 1000; 100 by default.
    limit: Option<usize>,
    /// The value of `next` in the previous page.
    after: Option<String>,
    /// Only the orders of this customer.
    customer: Option<CustomerId>,
}

/// The parameters of `GET /products`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ProductParameters {
    /// Waits until the result includes this position, `LOG:POSITION`.
    #[param(value_type = Option<String>)]
    at_least: Option<LogPosition>,
    /// The maximum number of rows, at most 1000; 100 by default.
    limit: Option<usize>,
    /// The value of `next` in the previous page.
    after: Option<String>,
    /// Only the products with at most this many items in stock.
    at_most: Option<u64>,
}

// The structs have no common part with `serde(flatten)`, because it does not refuse unknown parameters.
macro_rules! read_parameters {
    ($($parameters:ident)*) => {$(
        impl ReadParameters for $parameters {
            fn at_least(&self) -> Option<LogPosition> {
                self.at_least
            }
        }
    )*};
}

read_parameters!(DemandParameters OrderParameters ProductParameters);

/// Returns the scan of the requested page.
fn page<'a, K: ViewKey, V>(
    view: &ViewReader<'a, K, V>,
    limit: Option<usize>,
    after: Option<&String>,
) -> Result<ViewScan<'a, &'a Views, K, V>, Problem> {
    let scan = view.scan().limit(limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE));
    let Some(text) = after else { return Ok(scan) };
    let after = text.parse();
    let after = after.map_err(|_| Problem::invalid("after", "the value of `next` in the previous page", text))?;
    Ok(scan.after(after))
}

/// A page of rows.
#[derive(Debug, Serialize, ToSchema)]
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
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedOrder {
    order_id: OrderId,
    customer_id: CustomerId,
    status: OrderStatus,
    ship_city: Option<City>,
    ship_country: Option<Country>,
    products: usize,
    revenue: Revenue,
    #[schema(value_type = String, format = DateTime)]
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
#[utoipa::path(
    get, path = "/orders", tag = "queries",
    params(Read<OrderParameters>),
    responses(
        (status = 200, description = "A page of orders.", body = PageJson<ListedOrder>),
        Read<OrderParameters>,
    )
)]
pub(super) async fn orders(
    State(api): State<Arc<Api>>,
    query: Read<OrderParameters>,
) -> Result<Json<PageJson<ListedOrder>>, Problem> {
    let parameters = query.wait::<OrderSummaries>(&api).await?;
    let orders = page(&api.models.orders.view(&ORDERS), parameters.limit, parameters.after.as_ref())?;
    let page = match &parameters.customer {
        Some(customer) => orders.by(&BY_CUSTOMER).prefix(&(customer.clone(),)).read().await?,
        None => orders.by(&NEWEST_FIRST).read().await?,
    };
    PageJson::of(&api.models.orders, page, ListedOrder::from).await
}

/// A row of `GET /products`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedProduct {
    product_id: ProductId,
    #[serde(flatten)]
    level: StockLevel,
}

/// Lists products, lowest stock first; with `at_most=N`, only products with at most N items in stock.
#[utoipa::path(
    get, path = "/products", tag = "queries",
    params(Read<ProductParameters>),
    responses(
        (status = 200, description = "A page of products.", body = PageJson<ListedProduct>),
        Read<ProductParameters>,
    )
)]
pub(super) async fn stock(
    State(api): State<Arc<Api>>,
    query: Read<ProductParameters>,
) -> Result<Json<PageJson<ListedProduct>>, Problem> {
    let parameters = query.wait::<StockLevels>(&api).await?;
    let products = page(&api.models.stock.view(&STOCK), parameters.limit, parameters.after.as_ref())?;
    let products = products.by(&LOWEST_FIRST);
    let products = match parameters.at_most {
        Some(limit) => products.range(..=limit),
        None => products,
    };
    let page = products.read().await?;
    PageJson::of(&api.models.stock, page, |(product_id, level)| ListedProduct { product_id, level }).await
}

/// Lists products, highest revenue first.
#[utoipa::path(
    get, path = "/demand", tag = "queries",
    params(Read<DemandParameters>),
    responses(
        (status = 200, description = "A page of products.", body = PageJson<TopProduct>),
        Read<DemandParameters>,
    )
)]
pub(super) async fn demand(
    State(api): State<Arc<Api>>,
    query: Read<DemandParameters>,
) -> Result<Json<PageJson<TopProduct>>, Problem> {
    let parameters = query.wait::<ProductDemand>(&api).await?;
    let products = page(&api.models.demand.view(&DEMAND), parameters.limit, parameters.after.as_ref())?;
    PageJson::of(&api.models.demand, products.by(&BEST_FIRST).read().await?, TopProduct::from).await
}

/// The response of `GET /revenue`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevenueJson {
    by_month: BTreeMap<String, Revenue>,
    by_country: BTreeMap<String, Revenue>,
    /// As in [`PageJson`].
    #[serde(skip_serializing_if = "is_zero")]
    parked_events: usize,
}

/// Returns the revenue by month and by country.
#[utoipa::path(
    get, path = "/revenue", tag = "queries",
    params(Read<AtLeast>),
    responses(
        (status = 200, description = "The revenue.", body = RevenueJson),
        Read<AtLeast>,
    )
)]
pub(super) async fn revenue(State(api): State<Arc<Api>>, query: Read<AtLeast>) -> Result<Json<RevenueJson>, Problem> {
    query.wait::<Sales>(&api).await?;
    let models = &api.models;
    let (by_month, by_country) = (revenues(models, &MONTHS).await?, revenues(models, &COUNTRIES).await?);
    let parked_events = models.sales.parked_events(MAX_PARKED_EVENTS).await?;
    Ok(Json(RevenueJson { by_month, by_country, parked_events }))
}

/// Returns the report, after all read models have caught up with the log.
#[utoipa::path(
    get, path = "/report", tag = "queries",
    params(Read<AtLeast>),
    responses(
        (status = 200, description = "The report.", body = Report),
        Read<AtLeast>,
    )
)]
pub(super) async fn report(State(api): State<Arc<Api>>, _: Read<AtLeast>) -> Result<Json<Report>, Problem> {
    api.projections.catch_up(WAIT_TIMEOUT).await?;
    Ok(Json(Report::of_views(&api.models, api.shop.store().head().await?).await?))
}
