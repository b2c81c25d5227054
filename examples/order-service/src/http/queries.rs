//! Questions about all orders and products, answered from the read models.
//!
//! `at_least=P`, where P is what a command said in `ES-Position`, waits until the answer shows that command; 503 says that it
//! does not yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use es_core::projection::Projection;
use es_core::projection::view::{Page, ViewKey, ViewReader, ViewScan, Views};
use es_core::{Position, Timestamp};
use serde::{Deserialize, Serialize};

use super::Api;
use super::problem::Problem;
use crate::domain::{City, Country, CustomerId, OrderId, OrderStatus, ProductId, Revenue};
use crate::report::{Report, TopProduct, revenues};
use crate::views::{
    BEST_FIRST, BY_CUSTOMER, COUNTRIES, DEMAND, LOWEST_FIRST, MONTHS, NEWEST_FIRST, ORDERS, OrderSummaries,
    OrderSummary, ProductDemand, STOCK, Sales, StockLevel, StockLevels,
};

/// How long a question waits for a view.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many rows a page has, unless it is said.
const PAGE: usize = 100;
/// How many rows a page has at the most.
const LONGEST_PAGE: usize = 1000;

/// Which rows are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    at_least: Option<u64>,
    limit: Option<usize>,
    after: Option<String>,
    customer: Option<CustomerId>,
    at_most: Option<u64>,
}

impl Wanted {
    /// The wanted page of a view.
    fn page<'a, K: ViewKey, V>(&self, view: &ViewReader<'a, K, V>) -> Result<ViewScan<'a, &'a Views, K, V>, Problem> {
        let scan = view.scan().limit(self.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE));
        let Some(text) = &self.after else { return Ok(scan) };
        let after = text.parse();
        let after = after.map_err(|_| Problem::not_understood("after", "what `next` of the page before said", text))?;
        Ok(scan.after(after))
    }

    async fn wait<P: Projection>(&self, service: &Api) -> Result<(), Problem> {
        let position = self.at_least.and_then(Position::new);
        Ok(service.projections.wait_for(P::NAME, position, PATIENCE).await?)
    }
}

type Asked = Result<Parameters<Wanted>, QueryRejection>;

/// Rows, and how to ask for more of them.
#[derive(Debug, Serialize)]
pub(super) struct Rows<T> {
    rows: Vec<T>,
    next: Option<String>,
}

impl<T> Rows<T> {
    fn of<K, V>(page: Page<K, V>, shown: impl FnMut((K, V)) -> T) -> Json<Self> {
        let next = page.next.map(|next| next.to_string());
        Json(Self { rows: page.rows.into_iter().map(shown).collect(), next })
    }
}

/// An order in short, as it is shown.
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

/// Orders, those placed last first; of one customer, where it is asked for.
pub(super) async fn orders(State(service): State<Arc<Api>>, wanted: Asked) -> Result<Json<Rows<ListedOrder>>, Problem> {
    let Parameters(wanted) = wanted?;
    wanted.wait::<OrderSummaries>(&service).await?;
    let orders = wanted.page(&service.models.orders.view(&ORDERS))?;
    let page = match &wanted.customer {
        Some(customer) => orders.by(&BY_CUSTOMER).prefix(&(customer.clone(),)).read().await?,
        None => orders.by(&NEWEST_FIRST).read().await?,
    };
    Ok(Rows::of(page, ListedOrder::from))
}

/// A product with its stock.
#[derive(Debug, Serialize)]
pub(super) struct ListedProduct {
    product_id: ProductId,
    #[serde(flatten)]
    level: StockLevel,
}

/// Products, those with the lowest stock first; with `at_most=N`, only those of which there are at most so many.
pub(super) async fn stock(
    State(service): State<Arc<Api>>,
    wanted: Asked,
) -> Result<Json<Rows<ListedProduct>>, Problem> {
    let Parameters(wanted) = wanted?;
    wanted.wait::<StockLevels>(&service).await?;
    let products = wanted.page(&service.models.stock.view(&STOCK))?;
    let products = products.by(&LOWEST_FIRST);
    let products = match wanted.at_most {
        Some(most) => products.range(..=most),
        None => products,
    };
    Ok(Rows::of(products.read().await?, |(product_id, level)| ListedProduct { product_id, level }))
}

/// The products that earn most, best first.
pub(super) async fn demand(State(service): State<Arc<Api>>, wanted: Asked) -> Result<Json<Rows<TopProduct>>, Problem> {
    let Parameters(wanted) = wanted?;
    wanted.wait::<ProductDemand>(&service).await?;
    let products = wanted.page(&service.models.demand.view(&DEMAND))?;
    Ok(Rows::of(products.by(&BEST_FIRST).read().await?, TopProduct::from))
}

/// Revenue by month and by country.
#[derive(Debug, Serialize)]
pub(super) struct ShownRevenue {
    by_month: BTreeMap<String, Revenue>,
    by_country: BTreeMap<String, Revenue>,
}

pub(super) async fn revenue(State(service): State<Arc<Api>>, wanted: Asked) -> Result<Json<ShownRevenue>, Problem> {
    let Parameters(wanted) = wanted?;
    wanted.wait::<Sales>(&service).await?;
    let models = &service.models;
    let (by_month, by_country) = (revenues(models, &MONTHS).await?, revenues(models, &COUNTRIES).await?);
    Ok(Json(ShownRevenue { by_month, by_country }))
}

/// What all orders come to.
pub(super) async fn report(State(service): State<Arc<Api>>) -> Result<Json<Report>, Problem> {
    service.projections.catch_up(PATIENCE).await?;
    Ok(Json(Report::of_views(&service.models, service.shop.store().head().await?).await?))
}
