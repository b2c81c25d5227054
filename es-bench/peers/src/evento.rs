//! evento on SQLite, through its executor: the write-ahead log of SQLite, synced at each commit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use es_bench::{Append, Contender, Durability, Failure, Folded, Opened, Role, Selection, Setup, Task};
use evento::cursor::{Args, Value};
use evento::migrator::{Migrate, Plan};
use evento::sql::RwSqlite;
use evento::{Event, EventFilter, Executor, TenantFilter};
use sqlx09::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use ulid::Ulid;

use crate::{failed, version};

const AGGREGATE: &str = "order";
/// The number of events in a page, a `u16`.
const PAGE: u16 = 10_000;

pub(crate) struct Evento;

#[async_trait]
impl Contender for Evento {
    fn name(&self) -> &'static str {
        "evento"
    }

    fn about(&self) -> String {
        let version = version("evento");
        format!("{version} on SQLite: WAL, synchronous=FULL, one connection writes, four read; no bulk or group commit")
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        match task {
            Task::AppendIf | Task::ReadTag => Err("no tags"),
            Task::LoadSnapshot => Err("its snapshots belong to projections, which are not comparable"),
            Task::Follow => Err("its subscriptions wait for a time margin by design; not measured"),
            Task::Sagas => Err("its sagas are subscriptions, which are not measured"),
            _ => Ok(()),
        }
    }

    async fn open(&self, dir: &Path, setup: Setup) -> Result<Box<dyn Opened>, Failure> {
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        let options = SqliteConnectOptions::new()
            .filename(dir.join("evento.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match setup.durability {
                Durability::Synced => SqliteSynchronous::Full,
                Durability::Buffered => SqliteSynchronous::Normal,
            })
            .busy_timeout(Duration::from_secs(60));
        let pool = |connections| {
            let options = options.clone();
            let pool = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(120));
            async move { pool.connect_with(options).await.map_err(failed("open SQLite")) }
        };
        let writes = pool(1).await?;
        let mut connection = writes.acquire().await.map_err(failed("open SQLite"))?;
        let migrator = evento::sql_migrator::new::<sqlx09::Sqlite>().map_err(failed("create the tables"))?;
        migrator.run(&mut *connection, &Plan::apply_all()).await.map_err(failed("create the tables"))?;
        drop(connection);
        let reads = pool(4).await?;
        let executor: RwSqlite = (evento::Sqlite::from(reads), evento::Sqlite::from(writes)).into();
        Ok(Box::new(OpenedEvento(executor)))
    }
}

struct OpenedEvento(RwSqlite);

impl OpenedEvento {
    /// Calls `each` with the matching events, page by page.
    async fn pages(
        &self,
        filter: Option<EventFilter>,
        mut each: impl FnMut(&Event) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        let filter: Option<Arc<[EventFilter]>> = filter.map(|filter| Arc::from([filter]));
        let mut after: Option<Value> = None;
        loop {
            let args = Args::forward(PAGE, after.take());
            let page = self.0.read(filter.clone(), None, TenantFilter::Only(String::new()), args, None).await;
            let page = page.map_err(failed("read"))?;
            page.edges.iter().try_for_each(|edge| each(&edge.node))?;
            match page.page_info.end_cursor {
                Some(cursor) if page.page_info.has_next_page => after = Some(cursor),
                _ => return Ok(()),
            }
        }
    }
}

#[async_trait]
impl Opened for OpenedEvento {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(failed("read the clock"))?;
        let mut events = Vec::with_capacity(append.events.len());
        for (index, sample) in append.events.into_iter().enumerate() {
            let version = u16::try_from(append.expected + index as u64 + 1);
            events.push(Event {
                id: Ulid::generate(),
                aggregate_id: append.stream.to_string(),
                aggregate_type: AGGREGATE.into(),
                version: version.map_err(|_| Failure::new("append", "a stream of evento has at most 65,535 events"))?,
                name: sample.event_type.into(),
                data: sample.payload,
                timestamp: now.as_secs(),
                timestamp_subsec: now.subsec_millis(),
                ..Event::default()
            });
        }
        self.0.write(events).await.map_err(failed("append"))?;
        Ok(0)
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        let mut folded = Folded::default();
        let filter = EventFilter::by_id_raw(AGGREGATE, stream.to_string());
        self.pages(Some(filter), |event| folded.add_encoded(&event.name, &event.data)).await?;
        Ok(folded)
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        let filter = match selection {
            Selection::Type(name) => Some(EventFilter::by_event_raw(AGGREGATE, name)),
            Selection::All | Selection::Tag(_) => None,
        };
        let mut events = 0;
        self.pages(filter, |_| {
            events += 1;
            Ok(())
        })
        .await?;
        Ok(events)
    }
}
