//! An order service in one file: domain, RocksDB, one read model in the background, HTTP. Copy it and grow it.
//!
//! ```text
//! $ cargo run -p quickstart                      # arguments: the data directory and the address
//! $ curl -d '{"customer": "ada", "cents": 500}' -H 'content-type: application/json' localhost:8080/orders/1
//! $ curl -X POST localhost:8080/orders/1/ship
//! $ curl localhost:8080/orders/1
//! $ curl localhost:8080/customers -H 'es-position: POSITION'   # waits until the view has applied the position
//! ```

use std::{sync::Arc, time::Duration};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use es_core::prelude::*;
use es_core::projection::view::{Order as ViewOrder, View, Views};
use es_core::projection::{ProjectionHandle, ProjectionOptions};
use es_core::retention::Erasure;
use es_core::{Command, Service};
use es_http::{Edge, EntityTag, EsPosition, Health, Json, Path, Problem, ServeOptions};
use es_http::{IdempotencyKey, NoInput, NoParameters, Preconditions};
use es_rocksdb::RocksDbStore;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

// --- The domain: events, state, commands. No I/O, no clock. ---

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum OrderEvent {
    #[event(name = "order-placed")]
    Placed {
        #[event(tag)]
        customer: String,
        cents: u64,
    },
    #[event(name = "order-shipped")]
    Shipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
enum Status {
    New,
    Placed,
    Shipped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent)]
struct Order {
    status: Status,
    cents: u64,
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self { status: Status::New, cents: 0 }
    }

    fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
        match event {
            OrderEvent::Placed { cents, .. } => (self.status, self.cents) = (Status::Placed, *cents),
            OrderEvent::Shipped => self.status = Status::Shipped,
        }
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum OrderError {
    #[error("the order was placed before")]
    Exists,
    #[error("there is no such order")]
    NotFound,
}

#[derive(Clone, Serialize, Deserialize)]
struct Place {
    customer: String,
    cents: u64,
}

impl Decide<Place> for Order {
    type Rejection = OrderError;

    fn decide(&self, command: Place, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderError> {
        match self.status {
            Status::New => Ok(OrderEvent::Placed { customer: command.customer, cents: command.cents }.into()),
            Status::Placed | Status::Shipped => Err(OrderError::Exists),
        }
    }
}

#[derive(Clone, Serialize)]
struct Ship;

impl Decide<Ship> for Order {
    type Rejection = OrderError;

    fn decide(&self, Ship: Ship, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, OrderError> {
        match self.status {
            Status::New => Err(OrderError::NotFound),
            Status::Placed => Ok(OrderEvent::Shipped.into()),
            Status::Shipped => Ok(Decision::unchanged()), // a repeat is no error
        }
    }
}

// --- A read model: the sum of the orders of each customer, also in the order of the sums. ---

const CUSTOMERS: View<String, u64> = View::new("customers").ordered_by(&BY_CENTS);
const BY_CENTS: ViewOrder<String, u64, u64> = ViewOrder::new("by-cents", |_customer, cents| *cents);
const PLACED: View<String, (String, u64)> = View::new("placed"); // the customer and the cents of each stream

struct Customers;

impl Projection for Customers {
    type Source = Order;
    const NAME: &'static str = "customers";
    const VERSION: u32 = 2; // version 1 had no `erased`

    fn apply(&self, event: &OrderEvent, at: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let OrderEvent::Placed { customer, cents } = event else { return Ok(()) };
        rows.view(&PLACED)?.put(&at.stream().to_string(), &(customer.clone(), *cents))?;
        rows.view(&CUSTOMERS)?.change(customer, |sum| Some(sum.unwrap_or(0) + cents).filter(|sum| *sum > 0))
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let deleted = erasure.name().to_owned(); // the events of a deleted order cannot be read
        let Some((customer, cents)) = rows.view(&PLACED)?.get(&deleted)? else { return Ok(()) };
        rows.view(&PLACED)?.delete(&deleted)?;
        rows.view(&CUSTOMERS)?.change(&customer, |sum| sum.map(|sum| sum - cents).filter(|sum| *sum > 0))
    }
}

// --- HTTP ---

struct App {
    orders: Repository<Order>,
    views: Views,
    customers: ProjectionHandle,
}

type Shared = State<Arc<App>>;
type Reply = Result<Response, Problem>;
type Headers = (Preconditions, Option<IdempotencyKey>, NoParameters);
type ReadHeaders = (Preconditions, Option<EsPosition>);

impl App {
    /// Executes a command. Its position is the header `ES-Position`: a read with this header shows the effect.
    async fn execute<C: Command + Serialize>(&self, id: &str, command: C, (conditions, key, _): Headers) -> Reply
    where
        Order: Decide<C, Rejection = OrderError>,
    {
        let id = Order::parse_id(id)?;
        let mut command = conditions.condition(&self.orders, &id).await?.apply(self.orders.execute(&id, command));
        if let Some(IdempotencyKey(key)) = key {
            command = command.with_id(key);
        }
        let done = command.await.map_err(|error| conditions.problem(error))?;
        let position = EsPosition::in_store(&**self.orders.store(), done.position);
        Ok((done.version().map(EntityTag::from), position, Json(done.state)).into_response())
    }

    fn resolve(&self, at_least: Option<EsPosition>) -> Result<Option<Position>, Problem> {
        Ok(at_least.map(|at_least| at_least.resolve(&**self.orders.store())).transpose()?.flatten())
    }
}

async fn place(State(app): Shared, Path(id): Path<String>, headers: Headers, Json(command): Json<Place>) -> Reply {
    app.execute(&id, command, headers).await
}

async fn ship(State(app): Shared, Path(id): Path<String>, headers: Headers, _: NoInput) -> Reply {
    app.execute(&id, Ship, headers).await
}

async fn show(State(app): Shared, Path(id): Path<String>, headers: ReadHeaders, _: NoInput) -> Reply {
    let (conditions, at_least) = headers;
    app.resolve(at_least)?; // the order includes every position of the log
    let order = app.orders.load(&Order::parse_id(&id)?).await?;
    Ok(conditions.respond(order.version(), order.state))
}

async fn customers(State(app): Shared, at_least: Option<EsPosition>, _: NoInput) -> Reply {
    app.customers.wait_for(app.resolve(at_least)?, Duration::from_secs(5)).await?;
    let page = app.views.view(&CUSTOMERS).scan().by(&BY_CENTS).backward().limit(20).read().await?;
    Ok(Json(page.rows).into_response())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "data".into());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let store: Arc<dyn EventStore> = Arc::new(RocksDbStore::open(directory).await?);
    let mut service = Service::new(store.clone()).projection(Customers, ProjectionOptions::new()).start().await?;
    let app = App {
        orders: Repository::new(store.clone()),
        views: Views::of::<Customers>(store.clone()),
        customers: service.projection(Customers::NAME).expect("it was added").clone(),
    };
    let health = Health::new().store(store).projection(app.customers.clone());
    let router = Router::new()
        .route("/orders/{id}", get(show).post(place))
        .route("/orders/{id}/ship", post(ship))
        .route("/customers", get(customers))
        .with_state(Arc::new(app))
        .layer(Edge::new())
        .merge(health.router()); // GET /livez, /readyz
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    service.intake("http", |stop| async {
        es_http::serve(listener, router, ServeOptions::new(), stop.requested()).await.complete()
    });
    service.run_until_signal().await?; // answers requests in progress, drains the projection, closes the store
    Ok(())
}
