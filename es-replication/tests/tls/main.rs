//! Replicas over TCP with mutual TLS.

mod forwarding;
mod keys;
mod nodes;
mod raw;
mod refusals;

use std::time::Duration;

use es_replication::{Claim, Peer, PeerError, PullError, Server, ServerOptions, TestCa, TlsError, TlsPeer};
use nodes::{Counts, Node, TIMEOUT, within};

/// Pulls until the peer has no further event.
async fn pull_all(node: &Node, peer: &TlsPeer) -> Result<usize, PullError> {
    let mut events = 0;
    loop {
        let pulled = node.replica.pull(peer, Duration::ZERO).await?;
        events += pulled.events;
        if pulled.is_last {
            return Ok(events);
        }
    }
}

#[tokio::test]
async fn two_nodes_replicate_in_both_directions() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let (server_a, server_b) = (a.serve(["b"]).await, b.serve(["a"]).await);
    for text in ["x".repeat(10_000), "from a".to_owned()] {
        a.note(1, &text).await;
    }
    for number in 0..200 {
        b.note(2, &format!("from b, {number}")).await;
    }
    b.note(1, "from b").await;

    let (to_a, to_b) = (b.peer("a", &server_a), a.peer("b", &server_b));
    assert_eq!(within(pull_all(&b, &to_a)).await.expect("pulls"), 2);
    assert_eq!(within(pull_all(&a, &to_b)).await.expect("pulls"), 201);
    assert_eq!(a.texts(1).await, b.texts(1).await);
    assert_eq!(a.texts(1).await.len(), 3);
    assert_eq!(a.texts(2).await, b.texts(2).await);
    assert_eq!(a.replica.knowledge().await.expect("knowledge"), b.replica.knowledge().await.expect("knowledge"));

    let origin = a.replica.origin().await.expect("an origin");
    let confirmation = to_b.confirm(Claim { node: "a".to_owned(), origin }).await.expect("a confirmation");
    assert_eq!(confirmation.last.map(|(dot, _)| dot.sequence.get()), Some(2));
}

#[tokio::test]
async fn a_waiting_pull_is_answered_when_an_event_arrives() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let peer = b.peer("a", &server);
    assert_eq!(pull_all(&b, &peer).await.expect("pulls"), 0);

    let mut pull = Box::pin(b.replica.pull(&peer, Duration::from_secs(600)));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut pull).await;
    assert!(early.is_err(), "nothing to answer: {early:?}");
    a.note(1, "hello").await;
    assert_eq!(within(pull).await.expect("a page").events, 1);
    assert_eq!(b.texts(1).await, ["hello"]);
}

/// Without heartbeats, the peer would be unreachable after its timeout.
#[tokio::test]
async fn a_pull_that_waits_longer_than_the_timeout_is_answered() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let peer = b.peer("a", &server).with_timeout(Duration::from_secs(6));
    let pulled = b.replica.pull(&peer, Duration::from_secs(7)).await.expect("an answer");
    assert!(pulled.is_last && pulled.events == 0);
}

#[tokio::test]
async fn a_dropped_pull_frees_its_connection() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve_with(["b"], ServerOptions::new().with_max_connections(1)).await;
    let peer = b.peer("a", &server);
    pull_all(&b, &peer).await.expect("pulls");
    let waiting = b.replica.pull(&peer, Duration::from_secs(600));
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
    // The server has one connection, and notices that it was closed before a second heartbeat fails.
    let again = async { while pull_all(&b, &peer).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("the connection is free");
}

#[tokio::test]
async fn a_server_has_a_maximum_number_of_connections() {
    let counts = Counts::new();
    let _guard = counts.record();
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve_with(["b"], ServerOptions::new().with_max_connections(1)).await;
    let (first, second) = (b.peer("a", &server), b.peer("a", &server));
    pull_all(&b, &first).await.expect("pulls");
    let error = pull_all(&b, &second).await.expect_err("too many connections");
    assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");
    assert_eq!(counts.refused("connections"), 1);
    pull_all(&b, &first).await.expect("the first connection is unharmed");
}

#[tokio::test]
async fn a_request_that_fails_is_answered_with_its_error() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve_with(["b"], ServerOptions::new().with_max_connections(1).with_max_frame_bytes(3_000)).await;
    let peer = b.peer("a", &server);
    for number in 0..5 {
        a.note(number, &"x".repeat(1_000)).await;
    }
    // All commits need too long a frame, so each of them is a page.
    assert_eq!(pull_all(&b, &peer).await.expect("pulls"), 5);

    a.note(9, &"x".repeat(5_000)).await;
    let error = pull_all(&b, &peer).await.expect_err("the commit does not fit");
    let PullError::Peer(PeerError::Failed(message)) = error else { panic!("{error:?}") };
    assert!(message.contains("needs a frame of more than 3000 bytes"), "{message}");
    // The only connection remains usable.
    let origin = a.replica.origin().await.expect("an origin");
    assert_eq!(
        peer.confirm(Claim { node: "b".to_owned(), origin })
            .await
            .expect("a confirmation")
            .last
            .map(|(dot, _)| dot.sequence.get()),
        Some(6)
    );
}

#[tokio::test]
async fn certificates_are_renewed_without_a_restart() {
    let counts = Counts::new();
    let _guard = counts.record();
    let directory = nodes::directory();
    let ca = TestCa::create(&directory).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let former = b.peer("a", &server);
    pull_all(&b, &former).await.expect("pulls");
    let other_ca = nodes::directory();
    let copied = ["b.pem", "b.key", "ca.pem"].map(|file| {
        std::fs::copy(directory.join(file), other_ca.join(file)).expect("copies");
        other_ca.join(file)
    });
    let [certificates, key, authorities] = copied;
    let not_renewed = es_replication::TlsConfig::load(certificates, key, authorities).expect("certificates");

    // Another authority, and certificates of it in the same files.
    let ca = TestCa::create(&directory).expect("an authority");
    for node in ["a", "b"] {
        ca.issue(node).expect("a certificate");
    }
    a.note(1, "hello").await;
    assert_eq!(pull_all(&b, &b.peer("a", &server)).await.expect("pulls with the new certificates"), 1);
    pull_all(&b, &former).await.expect("a connection keeps its certificates");
    let not_renewed = TlsPeer::new("a", server.local_addr().to_string(), not_renewed).expect("a DNS name");
    let error = pull_all(&b, &not_renewed).await.expect_err("the former authority");
    assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");

    // An invalid file and the certificate of another node have no effect.
    let file = directory.join("a.pem");
    std::fs::write(&file, "not a certificate").expect("writes");
    pull_all(&b, &b.peer("a", &server)).await.expect("pulls with the former certificate");
    let files = ca.issue("c").expect("a certificate");
    std::fs::copy(files.certificates, &file).expect("copies");
    std::fs::copy(files.key, directory.join("a.key")).expect("copies");
    pull_all(&b, &b.peer("a", &server)).await.expect("pulls with the former certificate");
}

#[tokio::test]
async fn a_stopped_server_interrupts_pulls_and_a_peer_reconnects() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let address = server.local_addr();
    let (waiting, idle) = (b.peer("a", &server), b.peer("a", &server));
    pull_all(&b, &idle).await.expect("pulls");
    let mut pull = Box::pin(b.replica.pull(&waiting, Duration::from_secs(600)));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut pull).await.is_err());

    // The server does not wait for clients that send nothing.
    let _silent = tokio::net::TcpStream::connect(address).await.expect("connects");
    let _authenticated = raw::RawClient::connect(&server, &ca.issue("b").expect("a certificate")).await;
    let stop = async { tokio::join!(server.stop(), pull) };
    let ((), interrupted) = tokio::time::timeout(Duration::from_secs(4), stop).await.expect("stops early");
    let error = interrupted.expect_err("the server stops");
    assert!(matches!(&error, PullError::Peer(PeerError::Failed(message)) if message.contains("stopping")), "{error:?}");
    for peer in [&waiting, &idle] {
        let error = pull_all(&b, peer).await.expect_err("no server");
        assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");
    }

    let tls = a.tls.clone();
    let server = Server::bind(address, a.replica.source(), tls, ["b"], ServerOptions::new()).await.expect("binds");
    a.note(1, "hello").await;
    assert_eq!(pull_all(&b, &waiting).await.expect("pulls"), 1);
    pull_all(&b, &idle).await.expect("pulls");
    drop(server);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let (address, peer) = (server.local_addr(), b.peer("a", &server));
    pull_all(&b, &peer).await.expect("pulls");
    within(server.stop()).await;
    let (source, tls) = (a.replica.source(), a.tls.clone());
    let _server = Server::bind(address, source, tls, ["b"], ServerOptions::new()).await.expect("binds");
    a.note(1, "hello").await;
    assert_eq!(pull_all(&b, &peer).await.expect("pulls over another connection"), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let options = ServerOptions::new().with_max_connections(1).with_idle_timeout(Duration::from_millis(100));
    let server = a.serve_with(["b"], options).await;
    let (idle, other) = (b.peer("a", &server), b.peer("a", &server));
    pull_all(&b, &idle).await.expect("pulls");
    // The other peer is refused until the server closes its only connection.
    within(async { while pull_all(&b, &other).await.is_err() {} }).await;
}

#[test]
fn the_name_of_a_peer_is_a_dns_name() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let tls = nodes::tls(&ca, "a");
    for name in ["", "node a", "127.0.0.1"] {
        let error = TlsPeer::new(name, "127.0.0.1:1", tls.clone()).expect_err(name);
        assert!(matches!(error, TlsError::PeerName(_)), "{error:?}");
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_a_key() {
    use std::os::unix::fs::PermissionsExt as _;
    // The directory is created.
    let ca = TestCa::create(nodes::directory().join("certificates")).expect("an authority");
    for _ in 0..2 {
        let files = ca.issue("a").expect("a certificate");
        let mode = std::fs::metadata(files.key).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_times_out() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let b = Node::open("b", &ca).await;
    // It accepts connections, and never completes a handshake.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("an address").to_string();
    let peer = TlsPeer::new("a", address, b.tls.clone()).expect("a DNS name").with_timeout(Duration::from_millis(100));
    let error = tokio::time::timeout(TIMEOUT, pull_all(&b, &peer)).await.expect("ends").expect_err("no answer");
    assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");
}
