//! Context, origin, authentication, and probes, over the memory store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::routing::{get, post};
use axum::{Router, middleware};
use es_core::model::CorrelationId;
use es_core::prelude::*;
use es_core::store::Committed;
use es_core::store::implement::StoreLayer;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, CommitError, LogRead, RecordedEvent, StoreError};
use es_http::{
    AllowedOrigins, Authenticated, ContextOptions, Edge, Health, PeerAddress, Problem, RequestContext, Role,
    ServeOptions, Tokens, require_role,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::counter::{Add, Counter};
use crate::support::{Answer, PATIENCE, Server};

pub(crate) async fn send(server: &Server, method: &str, path: &str, headers: &[&str]) -> Answer {
    let headers: String = headers.iter().flat_map(|header| [*header, "\r\n"]).collect();
    server.send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 0\r\n\r\n")).await
}

type Counters = Arc<Repository<Counter>>;

async fn add(State(counters): State<Counters>, context: RequestContext) -> Result<String, Problem> {
    let added = counters.execute(&1, Add { amount: 1 }).with_metadata(context.metadata()).await?;
    Ok(added.state.sum.to_string())
}

fn counters() -> (Router, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let counters: Counters = Arc::new(Repository::new(store.clone()));
    (Router::new().route("/", post(add)).with_state(counters), store)
}

async fn last_event(store: &MemoryStore) -> RecordedEvent {
    store.read_log(LogRead::all()).await.unwrap().collect().await.unwrap().pop().unwrap()
}

#[tokio::test]
async fn events_have_the_correlation_id_the_trace_and_the_tenant_of_their_request() {
    let (router, store) = counters();
    let options = ContextOptions::new().tenant_header(HeaderName::from_static("x-tenant"));
    let router = router.layer(Edge::new().context(options));
    let server = Server::start(router, ServeOptions::new()).await;

    let id = CorrelationId::new();
    let answer = send(&server, "POST", "/", &[&format!("X-Correlation-ID: {id}"), "X-Tenant: acme"]).await;
    assert_eq!((answer.status, answer.header("x-correlation-id")), (200, Some(id.to_string().as_str())), "{answer:?}");
    let event = last_event(&store).await;
    assert_eq!(event.data.correlation_id, Some(id));
    assert_eq!(event.data.metadata.get_str("tenant"), Some("acme"));
    assert_eq!(event.data.metadata.get_str("traceparent"), None);

    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = send(&server, "POST", "/", &[&format!("traceparent: {trace}"), "X-Tenant: acme"]).await;
    let event = last_event(&store).await;
    assert_eq!(event.data.correlation_id, Some("0af76519-16cd-43dd-8448-eb211c80319c".parse().unwrap()));
    assert_eq!(event.data.metadata.get_str("traceparent"), Some(trace));
    assert_eq!(answer.header("x-correlation-id"), Some("0af76519-16cd-43dd-8448-eb211c80319c"));

    send(&server, "POST", "/", &["traceparent: nonsense", "X-Tenant: acme"]).await;
    let event = last_event(&store).await;
    assert!(event.data.correlation_id.is_some_and(|new| new != id));

    let head = store.head().await.unwrap();
    send(&server, "POST", "/", &[]).await.problem(400);
    send(&server, "POST", "/", &["X-Tenant: a b"]).await.problem(400);
    send(&server, "POST", "/", &["X-Tenant: a", "X-Tenant: b"]).await.problem(400);
    send(&server, "POST", "/", &["X-Tenant: a", "X-Correlation-ID: 7"]).await.problem(400);
    assert_eq!(store.head().await.unwrap(), head);
}

/// Fault: any page that a user opens could send commands to a service in the network of the user.
#[tokio::test]
async fn a_page_of_another_origin_cannot_send_commands() {
    let (router, store) = counters();
    let router = router.layer(Edge::new().origins(AllowedOrigins::new(["https://shop.example"])));
    let server = Server::start(router, ServeOptions::new()).await;
    for origin in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        send(&server, "POST", "/", &[origin]).await.problem(403);
    }
    assert_eq!(store.head().await.unwrap(), None);
    for (sum, origin) in ["Origin: https://shop.example", "Origin: http://a", "Accept: */*"].iter().enumerate() {
        assert_eq!(send(&server, "POST", "/", &[origin]).await.body, (sum + 1).to_string());
    }
}

// The SHA-256 hashes of `reader`, `writer` and `operator`.
pub(crate) const READER: &str = "sha256:3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 read r";
pub(crate) const WRITER: &str = "sha256:b93006774cbdd4b299389a03ac3d88c3a76b460d538795bc12718011a909fba5 write w acme";
const OPERATOR: &str = "sha256:06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23 operate o";

pub(crate) fn protected(tokens: Tokens) -> Router {
    let operators = Router::new()
        .route("/operate", get(async || "done"))
        .route_layer(middleware::from_fn_with_state(Role::Operate, require_role));
    Router::new()
        .route("/", get(async |client: Authenticated| client.name).post(async || "written"))
        .route(
            "/tenant",
            get(async |context: RequestContext| context.tenant.map_or(String::new(), |it| it.as_str().into())),
        )
        .merge(operators)
        .layer(Edge::new().tokens(tokens))
        .merge(Health::new().router())
}

#[tokio::test]
async fn each_route_demands_a_role() {
    let tokens = format!("{READER}\n{WRITER}\n{OPERATOR}\n").parse().unwrap();
    let server = Server::start(protected(tokens), ServeOptions::new()).await;
    for (token, [read, write, operate]) in
        [("reader", [200, 403, 403]), ("writer", [200, 200, 403]), ("operator", [200, 200, 200])]
    {
        let header = format!("Authorization: Bearer {token}");
        for (method, path, status) in [("GET", "/", read), ("POST", "/", write), ("GET", "/operate", operate)] {
            let answer = send(&server, method, path, &[&header]).await;
            assert_eq!(answer.status, status, "{token} {method} {path}: {answer:?}");
            assert!(status == 200 || answer.problem(403).starts_with("expected the role "));
        }
    }
    assert_eq!(send(&server, "GET", "/", &["Authorization: bearer reader"]).await.body, "r");
    assert_eq!(send(&server, "GET", "/tenant", &["Authorization: Bearer writer"]).await.body, "acme");
    for headers in [
        &[][..],
        &["Authorization: Bearer"],
        &["Authorization: Bearer "],
        &["Authorization: Bearer other"],
        &["Authorization: Basic reader"],
        &["Authorization: Bearer reader", "Authorization: Bearer operator"],
    ] {
        let answer = send(&server, "GET", "/", headers).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{headers:?}");
        answer.problem(401);
    }
    assert_eq!(send(&server, "GET", "/livez", &[]).await.body, "ok");
}

/// A role without authentication refuses everything: a forgotten layer opens nothing.
#[tokio::test]
async fn a_role_without_authentication_is_401() {
    let demand = middleware::from_fn_with_state(Role::Read, require_role);
    let router = Router::new().route("/", get(async || "secret")).layer(demand).layer(Edge::new());
    let server = Server::start(router, ServeOptions::new()).await;
    send(&server, "GET", "/", &["Authorization: Bearer reader"]).await.problem(401);
}

#[tokio::test]
async fn a_changed_file_of_tokens_is_read_again_and_a_broken_one_is_not() {
    let path = std::env::temp_dir().join(format!("es-http-tokens-{}", std::process::id()));
    std::fs::write(&path, READER).unwrap();
    let server = Server::start(protected(Tokens::load(&path).unwrap()), ServeOptions::new()).await;
    let status =
        async |token: &str| send(&server, "GET", "/", &[&format!("Authorization: Bearer {token}")]).await.status;
    assert_eq!((status("reader").await, status("writer").await), (200, 401));
    std::fs::write(&path, "broken").unwrap();
    sleep(Duration::from_millis(1200)).await;
    assert_eq!((status("reader").await, status("writer").await), (200, 401), "the former tokens remain");
    std::fs::write(&path, WRITER).unwrap();
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(status("writer").await, 200, "the first request after a second waits for the changed file");
    assert_eq!(status("reader").await, 401);
    std::fs::remove_file(&path).unwrap();
}

/// A layer that counts how often it is applied.
#[derive(Clone, Default)]
struct CountedLayer(Arc<AtomicUsize>);

impl<S> tower::Layer<S> for CountedLayer {
    type Service = S;

    fn layer(&self, routes: S) -> S {
        self.0.fetch_add(1, Ordering::SeqCst);
        routes
    }
}

/// The server was given handlers without a state, and axum built their routes with all layers at each request: an edge
/// registered its metrics again each time.
#[tokio::test]
async fn a_layer_is_applied_before_the_first_request() {
    let layer = CountedLayer::default();
    let router = Router::new().route("/", get(async || "")).layer(layer.clone());
    let server = Server::start(router, ServeOptions::new()).await;
    assert_eq!(send(&server, "GET", "/", &[]).await.status, 200);
    let applied = layer.0.load(Ordering::SeqCst);
    for path in ["/", "/", "/nowhere"] {
        send(&server, "GET", path, &[]).await;
    }
    assert_eq!(layer.0.load(Ordering::SeqCst), applied);
}

#[tokio::test]
async fn a_service_is_ready_while_all_checks_succeed() {
    let store = Arc::new(MemoryStore::new());
    let (is_ready, runs) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let flag = (Arc::clone(&is_ready), Arc::clone(&runs));
    let health = Health::new().store(store.clone()).check("cache", move || {
        let (is_ready, runs) = flag.clone();
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            if is_ready.load(Ordering::SeqCst) { Ok(()) } else { Err("/etc/secret: refused".into()) }
        }
    });
    let server = Server::start(health.router(), ServeOptions::new()).await;
    for _ in 0..5 {
        assert_eq!(
            send(&server, "GET", "/readyz", &[]).await.body,
            r#"{"checks":{"cache":"ok","store":"ok"},"status":"ok"}"#
        );
    }
    assert!(runs.load(Ordering::SeqCst) < 5, "the result is used again");
    is_ready.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(1100)).await;
    let answer = send(&server, "GET", "/readyz", &[]).await;
    assert!(!answer.problem(503).contains("secret"));
    assert!(answer.body.contains(r#""checks":{"cache":"failed","store":"ok"}"#), "{answer:?}");
    is_ready.store(true, Ordering::SeqCst);
    store.close().await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    let answer = send(&server, "GET", "/readyz", &[]).await;
    assert!(answer.body.contains(r#""checks":{"cache":"ok","store":"failed"}"#), "{answer:?}");
    assert_eq!(send(&server, "GET", "/livez", &[]).await.body, "ok");
}

#[tokio::test]
async fn a_check_that_hangs_fails_at_its_deadline() {
    let health = Health::new().deadline(Duration::from_millis(50)).check("hangs", std::future::pending);
    let server = Server::start(health.router(), ServeOptions::new()).await;
    assert!(send(&server, "GET", "/readyz", &[]).await.body.contains(r#""hangs":"failed""#));
}

#[cfg(unix)]
#[tokio::test]
async fn a_disk_without_enough_space_is_not_ready() {
    let directory = std::env::temp_dir();
    for (directory, minimum, state) in [
        (directory.clone(), 1, "ok"),
        (directory.clone(), u64::MAX, "failed"),
        (directory.join("es-http-no-such-directory"), 1, "failed"),
    ] {
        let server = Server::start(Health::new().disk_space(directory, minimum).router(), ServeOptions::new()).await;
        let answer = send(&server, "GET", "/readyz", &[]).await;
        assert!(answer.body.contains(&format!(r#""disk space":"{state}""#)), "{answer:?}");
    }
}

/// A projection that parks a key has a view without some events: the service is not ready.
#[tokio::test]
async fn a_projection_with_a_parked_key_is_not_ready() {
    use es_core::projection::{ProjectionOptions, Supervisor};

    struct Picky;
    impl Projection for Picky {
        type Source = Counter;
        const NAME: &'static str = "picky";
        fn apply(
            &self,
            event: &crate::counter::Added,
            _: &ProjectedContext<'_>,
            _: &mut Rows,
        ) -> Result<(), ApplyError> {
            if event.amount == 9 { Err(ApplyError::new("nine")) } else { Ok(()) }
        }
    }

    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let running = Supervisor::new().projection(Picky, ProjectionOptions::new()).start(store.clone()).await.unwrap();
    let projection = running.projection("picky").unwrap().clone();
    let server = Server::start(Health::new().projection(projection.clone()).router(), ServeOptions::new()).await;
    assert!(send(&server, "GET", "/readyz", &[]).await.body.contains(r#""projection picky":"ok""#));
    let counters = Repository::<Counter>::new(store);
    let added = counters.execute(&1, Add { amount: 9 }).await.unwrap();
    projection.wait_for(added.position, PATIENCE).await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    assert!(send(&server, "GET", "/readyz", &[]).await.body.contains(r#""projection picky":"failed""#));
}

/// Sends a request on an open connection.
async fn send_on(client: &mut TcpStream, method: &str, path: &str, headers: &[&str]) -> Answer {
    let headers: String = headers.iter().flat_map(|header| [*header, "\r\n"]).collect();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    Answer::read(client).await
}

/// A connection remembers its client: that must not answer for another token, nor for one that was revoked.
#[tokio::test]
async fn each_request_of_a_connection_has_the_client_of_its_own_token() {
    let path = std::env::temp_dir().join(format!("es-http-known-client-{}", std::process::id()));
    std::fs::write(&path, format!("{READER}\n{WRITER}\n")).unwrap();
    let server = Server::start(protected(Tokens::load(&path).unwrap()), ServeOptions::new()).await;
    let mut client = server.connect().await;
    let [reader, writer] = ["reader", "writer"].map(|token| format!("Authorization: Bearer {token}"));
    for _ in 0..2 {
        for (headers, name) in [
            (&[reader.as_str()][..], Some("r")),
            (&[reader.as_str()], Some("r")),
            (&[writer.as_str()], Some("w")),
            (&["Authorization: Bearer writes"], None),
            (&["Authorization: Bearer write"], None),
            (&[writer.as_str(), reader.as_str()], None),
            (&[], None),
        ] {
            let answer = send_on(&mut client, "GET", "/", headers).await;
            assert_eq!(answer.status, if name.is_some() { 200 } else { 401 }, "{headers:?}: {answer:?}");
            assert!(name.is_none_or(|name| answer.body == name), "{headers:?}: {answer:?}");
        }
    }
    assert_eq!(send_on(&mut client, "POST", "/", &[&writer]).await.status, 200);
    std::fs::write(&path, WRITER.replace("write w", "read w")).unwrap();
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(send_on(&mut client, "POST", "/", &[&writer]).await.status, 403, "the role has changed");
    assert_eq!(send_on(&mut client, "GET", "/", &[&reader]).await.status, 401, "the token was revoked");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn each_request_of_a_connection_has_a_correlation_id_of_its_own() {
    let router = Router::new().route("/", get(async || "")).layer(Edge::new());
    let server = Server::start(router, ServeOptions::new()).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        for _ in 0..3 {
            let answer = send_on(&mut client, "GET", "/", &[]).await;
            let id: CorrelationId = answer.header("x-correlation-id").unwrap().parse().unwrap();
            assert_eq!(id.as_uuid().get_version_num(), 7);
            assert!(ids.insert(id), "{id} is repeated");
        }
    }
}

/// The layer of the documentation gives `ConnectInfo` to other layers.
#[tokio::test]
async fn the_address_of_the_client_is_that_of_its_connection() {
    let add_connect_info = middleware::from_fn(async |peer: PeerAddress, mut request: Request, next: Next| {
        if let PeerAddress::Tcp(address) = peer {
            request.extensions_mut().insert(ConnectInfo(address));
        }
        next.run(request).await
    });
    let show = async |peer: PeerAddress, ConnectInfo(address): ConnectInfo<SocketAddr>| {
        assert_eq!(peer, PeerAddress::Tcp(address));
        address.to_string()
    };
    let server = Server::start(Router::new().route("/", get(show)).layer(add_connect_info), ServeOptions::new()).await;
    let mut client = server.connect().await;
    let address = client.local_addr().unwrap().to_string();
    assert_eq!(send_on(&mut client, "GET", "/", &[]).await.body, address);
}

/// A store that refuses commits once it is told to.
#[derive(Debug, Default)]
struct Refusing {
    inner: MemoryStore,
    refuses: AtomicBool,
}

#[async_trait]
impl StoreLayer for Refusing {
    fn inner(&self) -> &dyn EventStore {
        &self.inner
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(StoreError::io("write", std::io::Error::other("the disk is full")).into());
        }
        self.inner.commit(commit).await
    }
}

/// A projection that has failed does not update its view until it is restarted: the service is not ready.
#[tokio::test]
async fn a_failed_projection_is_not_ready() {
    use es_core::projection::{ProjectionOptions, Supervisor};

    struct Sums;
    impl Projection for Sums {
        type Source = Counter;
        const NAME: &'static str = "sums";
        fn apply(&self, _: &crate::counter::Added, _: &ProjectedContext<'_>, _: &mut Rows) -> Result<(), ApplyError> {
            Ok(())
        }
    }

    let store = Arc::new(Refusing::default());
    let options = ProjectionOptions::new().restart(PATIENCE * 3, PATIENCE * 3);
    let running = Supervisor::new().projection(Sums, options).start(store.clone()).await.unwrap();
    let projection = running.projection("sums").unwrap().clone();
    let counters = Repository::<Counter>::new(Arc::new(store.inner.clone()));
    let added = counters.execute(&1, Add { amount: 1 }).await.unwrap();
    projection.wait_for(added.position, PATIENCE).await.unwrap();
    let server = Server::start(Health::new().projection(projection).router(), ServeOptions::new()).await;
    assert_eq!(send(&server, "GET", "/readyz", &[]).await.status, 200);
    store.refuses.store(true, Ordering::SeqCst);
    counters.execute(&1, Add { amount: 1 }).await.unwrap();
    let start = Instant::now();
    let answer = loop {
        let answer = send(&server, "GET", "/readyz", &[]).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(start.elapsed() < PATIENCE, "a service whose projection has failed is ready");
        sleep(Duration::from_millis(100)).await;
    };
    answer.problem(503);
    assert!(answer.body.contains(r#""projection sums":"failed""#), "{answer:?}");
    assert_eq!(send(&server, "GET", "/livez", &[]).await.status, 200);
}
