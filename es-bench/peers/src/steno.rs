//! steno, the sagas of Oxide, with the log of each saga in SQLite: the write-ahead log of SQLite, synced at each event.
//!
//! steno has no store of its own. The table is what its documentation asks for: one row for each saga, and one for each
//! event of its log.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use es_bench::{Append, Contender, Durability, Failure, Opened, Role, SagaSteps, Setup, Task};
use sqlx09::SqlitePool;
use sqlx09::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use steno::{
    Action, ActionContext, ActionError, ActionFunc, ActionRegistry, DagBuilder, Node, SagaCachedState,
    SagaCreateParams, SagaDag, SagaId, SagaName, SagaNodeEvent, SagaType, SecClient, SecStore,
};
use uuid::Uuid;

use crate::{failed, version};

const TABLES: &str = "CREATE TABLE saga (id TEXT PRIMARY KEY, name TEXT, dag TEXT, state TEXT);
    CREATE TABLE saga_event (saga TEXT, event TEXT);
    CREATE INDEX events_of_saga ON saga_event (saga);";

pub(crate) struct Steno;

#[async_trait]
impl Contender for Steno {
    fn name(&self) -> &'static str {
        "steno"
    }

    fn about(&self) -> String {
        format!("{} with its log in SQLite: WAL, synchronous=FULL, one connection", version("steno"))
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::Sagas => Ok(()),
            _ => Err("sagas only"),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        let options = SqliteConnectOptions::new()
            .filename(dir.join("steno.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match setup.durability {
                Durability::Synced => SqliteSynchronous::Full,
                Durability::Buffered => SqliteSynchronous::Normal,
            });
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(120));
        let pool = pool.connect_with(options).await.map_err(failed("open SQLite"))?;
        sqlx09::raw_sql(TABLES).execute(&pool).await.map_err(failed("create the tables"))?;
        let table = Arc::new(SagaTable { pool, failure: Mutex::default() });
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let client = steno::sec(log, Arc::clone(&table) as Arc<dyn SecStore>);
        let action: Arc<dyn Action<Calls>> = ActionFunc::new_action("call", call, undo);
        let mut registry = ActionRegistry::new();
        registry.register(Arc::clone(&action));
        Ok(Box::new(OpenedSteno { table, client, action, registry: Arc::new(registry) }))
    }
}

/// The sagas of the benchmark: steps that return at once.
#[derive(Debug)]
struct Calls;

impl SagaType for Calls {
    type ExecContextType = ();
}

async fn call(context: ActionContext<Calls>) -> Result<u64, ActionError> {
    context.saga_params()
}

async fn undo(_: ActionContext<Calls>) -> Result<(), anyhow::Error> {
    Ok(())
}

/// The log of all sagas.
struct SagaTable {
    pool: SqlitePool,
    /// The first failure of a write: steno offers no way to return it.
    failure: Mutex<Option<String>>,
}

impl fmt::Debug for SagaTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaTable").finish_non_exhaustive()
    }
}

impl SagaTable {
    fn note<T>(&self, written: Result<T, sqlx09::Error>) {
        if let Err(error) = written {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
        }
    }
}

#[async_trait]
impl SecStore for SagaTable {
    async fn saga_create(&self, saga: SagaCreateParams) -> Result<(), anyhow::Error> {
        let insert = sqlx09::query("INSERT INTO saga (id, name, dag, state) VALUES (?, ?, ?, ?)");
        let insert = insert.bind(saga.id.to_string()).bind(saga.name.to_string()).bind(saga.dag.to_string());
        insert.bind(saga.state.to_string()).execute(&self.pool).await?;
        Ok(())
    }

    async fn record_event(&self, event: SagaNodeEvent) {
        let insert = sqlx09::query("INSERT INTO saga_event (saga, event) VALUES (?, ?)");
        let text = serde_json::to_string(&event).unwrap_or_default();
        self.note(insert.bind(event.saga_id.to_string()).bind(text).execute(&self.pool).await);
    }

    async fn saga_update(&self, id: SagaId, state: SagaCachedState) {
        let update = sqlx09::query("UPDATE saga SET state = ? WHERE id = ?");
        self.note(update.bind(state.to_string()).bind(id.to_string()).execute(&self.pool).await);
    }
}

struct OpenedSteno {
    table: Arc<SagaTable>,
    client: SecClient,
    action: Arc<dyn Action<Calls>>,
    registry: Arc<ActionRegistry<Calls>>,
}

#[async_trait]
impl Opened for OpenedSteno {
    async fn append(&self, _: Append) -> Result<u64, Failure> {
        Err(Failure::new("append", "not offered"))
    }

    async fn saga(&self, _: &str, steps: SagaSteps) -> Result<(), Failure> {
        let mut graph = DagBuilder::new(SagaName::new("calls"));
        for number in 0..steps.count() {
            graph.append(Node::action(format!("call-{number}"), "call", &*self.action));
        }
        let graph = graph.build().map_err(failed("build the graph"))?;
        let graph = Arc::new(SagaDag::new(graph, serde_json::json!(1)));
        let id = SagaId(Uuid::new_v4());
        let created = self.client.saga_create(id, Arc::new(()), graph, Arc::clone(&self.registry)).await;
        let ended = created.map_err(failed("create a saga"))?;
        self.client.saga_start(id).await.map_err(failed("start a saga"))?;
        ended.await.kind.map_err(|error| Failure::new("execute a saga", error.error_source))?;
        match self.table.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(Failure::new("write the log of a saga", failure)),
            None => Ok(()),
        }
    }
}
