//! Connections that a server refuses. The server answers other nodes afterwards.

use std::time::Duration;

use es_replication::{PeerError, PullError, ServerOptions, TestCa, TlsPeer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::nodes::{self, Counts, Node, within};
use crate::pull_all;
use crate::raw::{ASK_KEY, COMMAND, COMMAND_ANSWER, HEARTBEAT, KEY, PAGE, PULL, RawClient, frame, hello};

#[tokio::test]
async fn a_node_of_another_authority_is_refused() {
    let counts = Counts::new();
    let _guard = counts.record();
    let (ca, other_ca) = (TestCa::create(nodes::directory()), TestCa::create(nodes::directory()));
    let (ca, other_ca) = (ca.expect("an authority"), other_ca.expect("an authority"));
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;

    // The client does not trust the server.
    let stranger = Node::open("b", &other_ca).await;
    let error = pull_all(&stranger, &stranger.peer("a", &server)).await.expect_err("another authority");
    assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");
    counts.wait_for("handshake", 1).await;

    // The server does not trust the client, which trusts the server.
    let issued = other_ca.issue("b").expect("a certificate");
    let trusted = ca.issue("a").expect("a certificate").authorities;
    let tls = es_replication::TlsConfig::load(issued.certificates, issued.key, trusted).expect("certificates");
    let peer = TlsPeer::new("a", server.local_addr().to_string(), tls).expect("a DNS name");
    let error = pull_all(&b, &peer).await.expect_err("another authority");
    assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");
    counts.wait_for("handshake", 2).await;

    // The server has the certificate of another node.
    let error = pull_all(&b, &b.peer("c", &server)).await.expect_err("another name");
    assert!(matches!(error, PullError::Peer(PeerError::Unreachable(_))), "{error:?}");
    pull_all(&b, &b.peer("a", &server)).await.expect("the server is unharmed");
}

#[tokio::test]
async fn a_node_that_is_not_a_peer_is_refused() {
    let counts = Counts::new();
    let _guard = counts.record();
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b, c) = (Node::open("a", &ca).await, Node::open("b", &ca).await, Node::open("c", &ca).await);
    let server = a.serve(["b"]).await;
    let peer = b.peer("a", &server);
    pull_all(&b, &peer).await.expect("pulls");

    let error = pull_all(&c, &c.peer("a", &server)).await.expect_err("not a peer");
    let PullError::Peer(PeerError::Failed(message)) = error else { panic!("{error:?}") };
    assert_eq!(message, "the node \"c\" is not a peer of this node");
    assert_eq!(counts.refused("unknown_peer"), 1);
    a.note(1, "hello").await;
    assert_eq!(pull_all(&b, &peer).await.expect("its connection is unharmed"), 1);
}

/// Returns a request for a key in the name of a node.
fn ask_key(node: &str) -> Vec<u8> {
    let length = u8::try_from(node.len()).expect("a short name");
    let payload = [&[0x0a, length][..], node.as_bytes(), &[0x12, 1, b's', 0x1a, 16], &[7; 16]].concat();
    frame(4, ASK_KEY, &payload)
}

/// What a client sends, and the reason for which the server refuses it.
#[tokio::test]
async fn invalid_frames_are_refused() {
    let counts = Counts::new();
    let _guard = counts.record();
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let peer = b.peer("a", &server);
    pull_all(&b, &peer).await.expect("pulls");
    let files = ca.issue("b").expect("a certificate");

    let mut flipped = hello("b");
    flipped[17] ^= 1;
    let mut too_long = hello("b");
    too_long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let truncated = &hello("b")[..10];
    let after_hello = |frame: &[u8]| [&hello("b")[..], frame].concat();
    let pull = frame(4, PULL, &[0x28, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let cases = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "invalid", "expected a frame"),
        (flipped, "invalid", "checksum"),
        (frame(4, 99, &[]), "invalid", "kind"),
        (frame(1, 1, b"\n\x01b"), "version", "expected version 4 of the replication protocol, found version 1"),
        (too_long, "too_long", "at most 2097152 bytes"),
        (truncated.to_vec(), "truncated", ""),
        (hello("c"), "other_node", "expected the node \"b\", found \"c\""),
        (frame(4, PULL, b"\x3a\x03\x0a\x01b"), "unexpected", "the name of the client"),
        (after_hello(&frame(4, HEARTBEAT, &[])), "unexpected", "a request"),
        (after_hello(&pull), "invalid", "nanoseconds"),
        (after_hello(&frame(4, PULL, b"\x3a\x03\x0a\x01c")), "other_node", "expected the node \"b\", found \"c\""),
        (after_hello(&frame(4, PULL, &[0xff; 40])), "invalid", "not a message"),
        (after_hello(&frame(4, COMMAND, &[0xff; 40])), "invalid", "not a message"),
        (after_hello(&frame(4, COMMAND, &[])), "invalid", "a command id"),
        (after_hello(&frame(4, COMMAND_ANSWER, &[0x0a, 2, b'{', b'}', 0x32, 0])), "unexpected", "a request"),
        (after_hello(&frame(4, ASK_KEY, &[0; 1025])), "too_long", "at most 1024 bytes, found one of 1025 bytes"),
        (after_hello(&frame(4, ASK_KEY, b"\x0a\x01b\x12\x01s\x1a\x01k")), "invalid", "16 bytes as the id of a key"),
        (after_hello(&ask_key("c")), "other_node", "expected the node \"b\", found \"c\""),
        (ask_key("b"), "unexpected", "the name of the client"),
        (after_hello(&frame(4, KEY, &[0; 40])), "unexpected", "a request"),
        (after_hello(&frame(4, KEY, &[0; 65])), "too_long", "at most 64 bytes"),
        // Of a message that is no request, only the header is read.
        (frame(4, PAGE, &[0xff; 40])[..16].to_vec(), "unexpected", "the name of the client"),
        (after_hello(&frame(4, PAGE, &[0xff; 40])[..16]), "unexpected", "a request"),
    ];
    for (bytes, reason, message) in cases {
        let before = counts.refused(reason);
        let mut client = RawClient::connect(&server, &files).await;
        client.send(&bytes).await;
        client.0.shutdown().await.expect("the end of the client");
        let received = String::from_utf8_lossy(&client.read_to_end().await).into_owned();
        assert!(received.contains(message), "{reason}: {received:?}");
        assert_eq!(counts.refused(reason), before + 1, "{reason}: {received:?}");
    }
    a.note(1, "hello").await;
    assert_eq!(pull_all(&b, &peer).await.expect("its connection is unharmed"), 1);
    pull_all(&b, &b.peer("a", &server)).await.expect("the server accepts connections");
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_refused() {
    let counts = Counts::new();
    let _guard = counts.record();
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let server = a.serve(["b"]).await;
    let mut stream = TcpStream::connect(server.local_addr()).await.expect("connects");
    stream.write_all(&[7; 1000]).await.expect("writes");
    // The server may reset the connection.
    let _ = within(stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(counts.refused("handshake"), 1);
    pull_all(&b, &b.peer("a", &server)).await.expect("the server is unharmed");
}

#[tokio::test]
async fn a_slow_client_is_refused() {
    let counts = Counts::new();
    let _guard = counts.record();
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b) = (Node::open("a", &ca).await, Node::open("b", &ca).await);
    let options = ServerOptions::new().with_timeout(Duration::from_secs(2));
    let server = a.serve_with(["b"], options).await;
    let files = ca.issue("b").expect("a certificate");

    // It connects, and sends nothing.
    let mut silent = TcpStream::connect(server.local_addr()).await.expect("connects");
    // It completes the handshake, and sends nothing.
    let mut authenticated = RawClient::connect(&server, &files).await;
    // It sends a byte from time to time.
    let mut slow = RawClient::connect(&server, &files).await;
    let drip = async {
        for byte in hello("b") {
            if !slow.try_send(&[byte]).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let wait = async {
        let _ = silent.read_to_end(&mut Vec::new()).await;
        authenticated.read_to_end().await;
    };
    within(async { tokio::join!(drip, wait) }).await;
    counts.wait_for("timeout", 3).await;
    pull_all(&b, &b.peer("a", &server)).await.expect("the server is unharmed");
}
