//! The server under load, in a process of its own: three listeners over the same stores. One has axum alone, one the
//! same handlers with the edge, one everything that es-http has.

use std::convert::Infallible;
use std::path::{Path as Directory, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use es_core::prelude::*;
use es_core::store::implement::StoreLayer;
use es_core::store::{Committed, Query};
use es_core::{Commit, CommitError, StoreError, Subscription};
use es_http::{
    Draining, Edge, EntityTag, EsPosition, Health, Json, Metrics, Path, Preconditions, Problem, RequestContext,
    ServeOptions, serve,
};
use es_rocksdb::{Options, RocksDbStore};
use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::domain::{Add, Counter};
use crate::{DIRECTORY, Size};

/// The token `writer`.
const TOKENS: &str = "sha256:b93006774cbdd4b299389a03ac3d88c3a76b460d538795bc12718011a909fba5 write w";

/// A store that can be told to refuse commits. Listeners follow its log.
#[derive(Debug)]
struct Refusing {
    inner: RocksDbStore,
    refuses: AtomicBool,
}

#[async_trait]
impl StoreLayer for Refusing {
    fn inner(&self) -> &dyn EventStore {
        &self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        if self.refuses.load(Ordering::Acquire) {
            return Err(StoreError::io("write", std::io::Error::other("the disk is full")).into());
        }
        self.inner.commit(commit).await
    }
}

type Counters = Arc<Repository<Counter>>;

async fn add(
    State(counters): State<Counters>,
    Path(id): Path<u32>,
    preconditions: Preconditions,
    context: RequestContext,
    Json(command): Json<Add>,
) -> Result<(Option<EntityTag>, EsPosition, String), Problem> {
    let condition = preconditions.condition(&counters, &id).await?;
    let command = condition.apply(counters.execute(&id, command)).with_metadata(context.metadata());
    let added = command.await.map_err(|error| preconditions.problem(error))?;
    let position = EsPosition::in_store(&**counters.store(), added.position);
    Ok((added.version().map(EntityTag::from), position, added.state.sum.to_string()))
}

async fn show(
    State(counters): State<Counters>,
    Path(id): Path<u32>,
    preconditions: Preconditions,
) -> Result<Response, Problem> {
    let counter = counters.load(&id).await?;
    Ok(preconditions.respond(counter.version(), counter.state.sum.to_string()))
}

/// Returns a server-sent event for each event that is written from now on.
async fn listen(
    State(store): State<Arc<Refusing>>,
    draining: Draining,
) -> Result<Sse<impl Stream<Item = Result<Event, StoreError>>>, Problem> {
    let head = store.inner.head().await?;
    let subscription = Subscription::new(store, Query::all(), head).map_err(|ahead| Problem::internal(&ahead))?;
    let events = subscription.into_stream().flat_map(|batch| match batch {
        Ok(batch) => {
            let positions = batch.events.into_iter().map(|event| event.position.to_string());
            stream::iter(positions).map(|position| Ok(Event::default().data(position))).left_stream()
        }
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    Ok(Sse::new(events.take_until(Box::pin(draining.requested()))))
}

async fn flood() -> Body {
    Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(vec![0; 65536])))
}

/// Returns the routes of a service with everything that es-http has.
fn edge(followed: &Arc<Refusing>, rated: &Counters, metrics: &Metrics) -> Router {
    let refuse = async |State(store): State<Arc<Refusing>>, Path(refuses): Path<bool>| {
        store.refuses.store(refuses, Ordering::Release);
    };
    let counters = |counters| Router::new().route("/{id}", post(add).get(show)).with_state(counters);
    Router::new()
        .route("/events", get(listen))
        .route("/flood", get(flood))
        .route("/refuse/{refuses}", post(refuse))
        .with_state(followed.clone())
        .nest("/counters", counters(Arc::new(Repository::new(followed.clone()))))
        .nest("/rate", counters(rated.clone()))
        .layer(Edge::new().tokens(TOKENS.parse().unwrap()))
        .merge(Health::new().store(followed.clone()).router())
        .merge(metrics.router())
}

async fn plain_add(
    State(counters): State<Counters>,
    axum::extract::Path(id): axum::extract::Path<u32>,
    axum::Json(command): axum::Json<Add>,
) -> Response {
    match counters.execute(&id, command).await {
        Ok(added) => ([(header::ETAG, tag(added.version()))], added.state.sum.to_string()).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn plain_show(
    State(counters): State<Counters>,
    axum::extract::Path(id): axum::extract::Path<u32>,
    headers: HeaderMap,
) -> Response {
    let Ok(counter) = counters.load(&id).await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let tag = tag(counter.version());
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, tag)], counter.state.sum.to_string()).into_response()
}

fn tag(version: Option<es_core::model::Version>) -> String {
    version.map_or_else(String::new, |version| format!("\"{version}\""))
}

/// Returns the same commands and queries with the extractors of axum.
fn plain(rated: &Counters) -> Router {
    let counters = Router::new().route("/{id}", post(plain_add).get(plain_show)).with_state(rated.clone());
    Router::new().nest("/rate", counters)
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn open(directory: &Directory) -> RocksDbStore {
    Options::new().open(directory).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs in a process of its own"]
async fn service() {
    let size = Size::from_environment();
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let [followed, rated] = [open(&directory.join("followed")).await, open(&directory.join("rated")).await];
    let counters = Arc::new(Repository::new(Arc::new(rated.clone())));
    let refusing = Arc::new(Refusing { inner: followed.clone(), refuses: AtomicBool::new(false) });
    let [full, same, axum_alone] = [bind().await, bind().await, bind().await];
    let [full_address, same_address, alone] =
        [&full, &same, &axum_alone].map(|listener| listener.local_addr().unwrap());
    println!("addresses {full_address} {same_address} {alone}");

    let router = plain(&counters);
    tokio::spawn(async move { axum::serve(axum_alone, router).await.unwrap() });
    let options = ServeOptions::new()
        .max_connections(size.connections() * 2)
        .idle_deadline(size.idle_deadline())
        .stall_deadline(size.stall_deadline())
        .drain_deadline(Duration::from_secs(20));
    let router = plain(&counters).layer(Edge::new().tokens(TOKENS.parse().unwrap()));
    tokio::spawn(serve(same, router, options.clone(), std::future::pending()));
    let (stop, stopped) = oneshot::channel();
    let router = edge(&refusing, &counters, &Metrics::install().unwrap());
    let served = tokio::spawn(serve(full, router, options, async { stopped.await.unwrap() }));
    // The parent ends the process by closing its standard input.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    stop.send(()).unwrap();
    assert_eq!(served.await.unwrap().aborted, 0);
    for store in [followed, rated] {
        store.close().await.unwrap();
    }
}
