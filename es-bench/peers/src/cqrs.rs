//! cqrs-es on a PostgreSQL server that the benchmark starts.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::{PersistedEventRepository, PersistedEventStore, SerializedEvent};
use cqrs_es::{Aggregate, AggregateContext, DomainEvent, EventStore};
use es_bench::domain::{ADDED, Line, REMOVED};
use es_bench::{Append, Contender, Durability, Failure, Folded, Opened, Role, Setup, Task};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use sqlx08::postgres::PgPoolOptions;
use sqlx08::{Executor, PgPool};

use crate::postgres::{CONNECTIONS, Server};
use crate::{failed, version};

/// The table of its documentation.
const TABLE: &str = "
CREATE TABLE events (
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    sequence       bigint CHECK (sequence >= 0) NOT NULL,
    event_type     text NOT NULL,
    event_version  text NOT NULL,
    payload        json NOT NULL,
    metadata       json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
)";

#[derive(Default)]
pub(crate) struct CqrsEs {
    /// One server for the whole run, with a database for each open contender.
    server: OnceLock<Server>,
    starting: tokio::sync::Mutex<()>,
    databases: AtomicU64,
}

impl CqrsEs {
    async fn server(&self, dir: &Path) -> Result<&Server, Failure> {
        let _one = self.starting.lock().await;
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        // Next to the directory of the run, the third ancestor: the user of the server needs access.
        let below = dir.ancestors().nth(3).ok_or_else(|| Failure::new("start PostgreSQL", "no directory for it"))?;
        let server = Server::start(below).await?;
        eprintln!("PostgreSQL {} started in {}", server.version(), below.display());
        Ok(self.server.get_or_init(|| server))
    }
}

#[async_trait]
impl Contender for CqrsEs {
    fn name(&self) -> &'static str {
        "cqrs-es"
    }

    fn about(&self) -> String {
        let (cqrs, postgres) = (version("cqrs-es"), version("postgres-es"));
        format!(
            "{cqrs} with {postgres} on PostgreSQL over a Unix socket, fsync=on, synchronous_commit=on, {CONNECTIONS} \
             connections"
        )
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::AppendIf | Task::ReadTag | Task::ReadType => Err("no tags, and no index by type"),
            Task::ReadAll => Err("its log has no order over aggregates"),
            Task::LoadSnapshot => Err("not measured"),
            Task::Follow => Err("the caller of a command updates the views; no subscribers"),
            Task::Sagas => Err("no sagas"),
            _ => Ok(()),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        let server = self.server(dir).await?;
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let admin = PgPoolOptions::new().max_connections(1).connect_with(server.options()).await;
        let admin = admin.map_err(failed("connect"))?;
        admin.execute(format!("CREATE DATABASE {name}").as_str()).await.map_err(failed("create a database"))?;
        admin.close().await;
        let commit = if setup.durability == Durability::Synced { "on" } else { "off" };
        let options = server.options().database(&name).options([("synchronous_commit", commit)]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(Duration::from_secs(120));
        let pool = pool.connect_with(options).await.map_err(failed("connect"))?;
        pool.execute(TABLE).await.map_err(failed("create a table"))?;
        let repository = PostgresEventRepository::new(pool.clone());
        let store = PersistedEventStore::new_event_store(PostgresEventRepository::new(pool.clone()));
        let admin = server.options();
        Ok(Box::new(OpenedCqrs { pool, repository, store, name, admin }))
    }
}

/// The events as the framework encodes them, with the variant around the content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum OrderEvent {
    Added(Line),
    Removed(Line),
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Added(_) => ADDED.into(),
            Self::Removed(_) => REMOVED.into(),
        }
    }

    fn event_version(&self) -> String {
        "1.0".into()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Order {
    events: u64,
    cents: u64,
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = ();
    type Event = OrderEvent;
    type Error = std::convert::Infallible;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        let mut folded = Folded { events: self.events, cents: self.cents };
        match event {
            OrderEvent::Added(line) => folded.add(ADDED, &line),
            OrderEvent::Removed(line) => folded.add(REMOVED, &line),
        }
        (self.events, self.cents) = (folded.events, folded.cents);
    }
}

struct OpenedCqrs {
    pool: PgPool,
    repository: PostgresEventRepository,
    store: PersistedEventStore<PostgresEventRepository, Order>,
    name: String,
    admin: sqlx08::postgres::PgConnectOptions,
}

#[async_trait]
impl Opened for OpenedCqrs {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let mut events = Vec::with_capacity(append.events.len());
        for (index, sample) in append.events.into_iter().enumerate() {
            let content: serde_json::Value =
                serde_json::from_slice(&sample.payload).map_err(failed("create an event"))?;
            let variant = if sample.event_type == ADDED { "Added" } else { "Removed" };
            let sequence = usize::try_from(append.expected).map_err(failed("number an event"))? + index + 1;
            events.push(SerializedEvent::new(
                append.stream.to_string(),
                sequence,
                Order::TYPE.into(),
                sample.event_type.into(),
                "1.0".into(),
                serde_json::json!({ variant: content }),
                serde_json::json!({}),
            ));
        }
        self.repository.persist::<Order>(&events, None).await.map_err(failed("append"))?;
        Ok(0)
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        let mut context = self.store.load_aggregate(&stream.to_string()).await.map_err(failed("load"))?;
        let order = context.aggregate();
        Ok(Folded { events: order.events, cents: order.cents })
    }

    async fn bytes_outside_directory(&self) -> Result<u64, Failure> {
        let size = sqlx08::query_scalar::<_, i64>("SELECT pg_database_size(current_database())");
        let size = size.fetch_one(&self.pool).await.map_err(failed("read the size"))?;
        Ok(size.unsigned_abs())
    }

    async fn close(&self) -> Result<(), Failure> {
        self.pool.close().await;
        let admin = PgPoolOptions::new().max_connections(1).connect_with(self.admin.clone()).await;
        let admin = admin.map_err(failed("connect"))?;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.execute(drop.as_str()).await.map_err(failed("drop a database"))?;
        admin.close().await;
        Ok(())
    }
}
