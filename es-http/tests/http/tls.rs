//! TLS over real sockets. `tls/` has certificates of a test authority, whose private key does not exist any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use es_http::{Authenticated, Edge, Role, ServeOptions, Tls, Tokens, require_role};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{Answer, PATIENCE, Server, closed};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/tls").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap()
}

/// Connects with the certificate of this name, or without one.
async fn connect(server: &Server, client: Option<&str>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority")).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key.pem"))).unwrap();
            config.with_client_auth_cert(vec![certificate(name)], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await
}

async fn get_root(server: &Server, client: Option<&str>) -> std::io::Result<Answer> {
    send(server, client, "GET", "/").await
}

async fn send(server: &Server, client: Option<&str>, method: &str, path: &str) -> std::io::Result<Answer> {
    let mut stream = connect(server, client).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // In TLS 1.3 a client learns that its certificate was refused when it reads.
    let mut peeked = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut peeked).await?;
    Ok(Answer::read(&mut peeked.as_slice()).await)
}

#[tokio::test]
async fn a_client_certificate_is_an_identity() {
    let hash = "e2e61c8122ab27eb7e69a841dcc683b1ef46286a2939116c66306746f9cbeaa0";
    let tokens: Tokens = format!("certificate-sha256:{hash} read reports").parse().unwrap();
    let router =
        Router::new().route("/", get(async |client: Authenticated| client.name)).layer(Edge::new().tokens(tokens));
    let tls = Tls::load_mutual(file("server.pem"), file("server.key.pem"), file("authority.pem")).unwrap();
    let server = Server::start(router, ServeOptions::new().tls(tls)).await;
    assert_eq!(get_root(&server, Some("client")).await.unwrap().body, "reports");
    get_root(&server, None).await.unwrap_err();
    get_root(&server, Some("foreign")).await.unwrap_err();
    assert_eq!(get_root(&server, Some("client")).await.unwrap().status, 200, "the server continues");
}

#[tokio::test]
async fn a_client_certificate_has_the_role_of_its_line() {
    let hash = "e2e61c8122ab27eb7e69a841dcc683b1ef46286a2939116c66306746f9cbeaa0";
    for (role, [read, write, operate]) in
        [("read", [200, 403, 403]), ("write", [200, 200, 403]), ("operate", [200, 200, 200])]
    {
        let tokens: Tokens = format!("certificate-sha256:{hash} {role} reports").parse().unwrap();
        let operators = Router::new()
            .route("/operate", get(async || "done"))
            .route_layer(from_fn_with_state(Role::Operate, require_role));
        let router = Router::new().route("/", get(async || "read").post(async || "written")).merge(operators);
        let tls = Tls::load_mutual(file("server.pem"), file("server.key.pem"), file("authority.pem")).unwrap();
        let server = Server::start(router.layer(Edge::new().tokens(tokens)), ServeOptions::new().tls(tls)).await;
        for (method, path, status) in [("GET", "/", read), ("POST", "/", write), ("GET", "/operate", operate)] {
            let answer = send(&server, Some("client"), method, path).await.unwrap();
            assert_eq!(answer.status, status, "{role} {method} {path}: {answer:?}");
        }
    }
}

/// The authorities of clients are read again, too.
#[tokio::test]
async fn a_replaced_authority_of_clients_is_used_without_a_restart() {
    let authorities = std::env::temp_dir().join(format!("es-http-authorities-{}.pem", std::process::id()));
    std::fs::copy(file("authority.pem"), &authorities).unwrap();
    let tls = Tls::load_mutual(file("server.pem"), file("server.key.pem"), &authorities).unwrap();
    let router = Router::new().route("/", get(async || "hello"));
    let server = Server::start(router, ServeOptions::new().tls(tls)).await;
    assert_eq!(get_root(&server, Some("client")).await.unwrap().status, 200);
    std::fs::copy(file("foreign.pem"), &authorities).unwrap();
    let start = Instant::now();
    while get_root(&server, Some("client")).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "the file is not read again");
        sleep(Duration::from_millis(100)).await;
    }
    std::fs::remove_file(&authorities).unwrap();
}

#[tokio::test]
async fn a_connection_without_a_handshake_is_closed() {
    let tls = Tls::load(file("server.pem"), file("server.key.pem")).unwrap();
    let options = ServeOptions::new().header_deadline(Duration::from_secs(2)).tls(tls);
    let server = Server::start(Router::new().route("/", get(async || "hello")), options).await;
    let mut silent = server.connect().await;
    closed(&mut silent).await;
    let mut plain = server.connect().await;
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (_, received) = closed(&mut plain).await;
    assert!(!received.starts_with(b"HTTP"), "{received:?}");
    assert_eq!(get_root(&server, None).await.unwrap().body, "hello");
}

/// A connection in its handshake delayed the drain until its deadline.
#[tokio::test]
async fn a_drain_ends_handshakes_at_once() {
    let tls = Tls::load(file("server.pem"), file("server.key.pem")).unwrap();
    let options = ServeOptions::new().header_deadline(PATIENCE * 3).drain_deadline(PATIENCE * 3).tls(tls);
    let server = Server::start(Router::new(), options).await;
    let mut silent = server.connect().await;
    sleep(Duration::from_millis(300)).await;
    let (drained, elapsed) = server.stop().await;
    assert!(drained.aborted == 0 && elapsed < PATIENCE, "{drained:?} {elapsed:?}");
    closed(&mut silent).await;
}

/// Connections without a handshake kept others from being answered until their deadline.
#[tokio::test]
async fn a_connection_without_a_handshake_is_closed_for_a_new_one() {
    let tls = Tls::load(file("server.pem"), file("server.key.pem")).unwrap();
    let options = ServeOptions::new().header_deadline(PATIENCE * 3).max_connections(1).tls(tls);
    let server = Server::start(Router::new().route("/", get(async || "hello")), options).await;
    let _silent = server.connect().await;
    let answer = tokio::time::timeout(PATIENCE, get_root(&server, None)).await.expect("a response in time");
    assert_eq!(answer.unwrap().body, "hello");
}

/// The buffer of TLS accepted the end of a response at once, and nothing that the client read after that was progress.
#[tokio::test]
async fn a_client_of_tls_that_reads_slowly_receives_the_whole_response() {
    let tls = Tls::load(file("server.pem"), file("server.key.pem")).unwrap();
    let router = Router::new().route("/", get(async || vec![b'x'; 5_000_000]));
    let options = ServeOptions::new().stall_deadline(Duration::from_millis(300)).minimum_rate(40_000).tls(tls);
    let server = Server::start(router, options).await;
    let mut stream = connect(&server, None).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut received, mut buffer) = (0, vec![0; 65_536]);
    loop {
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.expect("the client remains connected");
        received += read;
        if read == 0 {
            break;
        }
        // At the beginning, so that the rest is in the buffers of the server.
        if received < 400_000 {
            sleep(Duration::from_millis(300)).await;
        }
    }
    assert!(received > 5_000_000, "{received}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let directory = std::env::temp_dir().join(format!("es-http-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (certificates, key) = (directory.join("server.pem"), directory.join("server.key.pem"));
    let install = |name: &str| {
        std::fs::copy(file(&format!("{name}.pem")), &certificates).unwrap();
        std::fs::copy(file(&format!("{name}.key.pem")), &key).unwrap();
    };
    install("server");
    let tls = Tls::load(&certificates, &key).unwrap();
    let server = Server::start(Router::new(), ServeOptions::new().tls(tls)).await;
    let presented = async || {
        let stream = connect(&server, None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    assert_eq!(presented().await, certificate("server"));
    std::fs::write(&key, "broken").unwrap();
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(presented().await, certificate("server"), "the former certificate remains");
    install("renewed");
    let start = Instant::now();
    while presented().await != certificate("renewed") {
        assert!(start.elapsed() < PATIENCE, "the files are not read again");
        sleep(Duration::from_millis(100)).await;
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn an_error_names_the_file_and_what_it_should_have() {
    let error = |certificates: &str, key: &str| Tls::load(file(certificates), file(key)).unwrap_err().to_string();
    assert!(error("absent.pem", "server.key.pem").starts_with("could not read certificates in PEM from "));
    assert!(error("server.key.pem", "server.key.pem").starts_with("could not read certificates in PEM from "));
    assert!(error("server.pem", "server.pem").starts_with("could not read a private key in PEM from "));
    assert!(error("server.pem", "client.key.pem").starts_with("could not use the certificate or the key in "));
}
