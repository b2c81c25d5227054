//! Commands that are forwarded over TCP with mutual TLS.

use std::sync::Arc;
use std::time::Duration;

use es_core::aggregate::Outcome;
use es_core::prelude::*;
use es_replication::{ForwardError, ForwardingRepository, Peer, Server, ServerOptions, TestCa, TlsPeer};

use crate::nodes::{self, Counts, Label, Node, Rename, within};

/// Returns the labels of a node, which forwards commands to a peer.
fn labels(node: &Node, peer: TlsPeer) -> ForwardingRepository<Label> {
    let repository = Arc::new(Repository::new(Arc::clone(node.replica.store())));
    ForwardingRepository::new(&node.replica, repository, [Arc::new(peer) as Arc<dyn Peer>])
}

fn command_id(text: &str) -> CommandId {
    CommandId::new(text).expect("a command id")
}

fn rename(text: &str) -> Rename {
    Rename(text.to_owned())
}

/// Returns nodes of which the first is the home of label 1, the server of the first, and the labels of the second.
async fn two_nodes(ca: &TestCa, options: ServerOptions) -> (Node, Node, Server, ForwardingRepository<Label>) {
    let (a, b) = (Node::open("a", ca).await, Node::open("b", ca).await);
    let server = a.serve_with(["b"], options).await;
    let nobody = TlsPeer::new("b", "127.0.0.1:1", a.tls.clone()).expect("a DNS name");
    let at_a = labels(&a, nobody).accept::<Rename>();
    at_a.execute(&1, rename("first"), command_id("first")).await.expect("executed here");
    within(b.replica.pull(&b.peer("a", &server), Duration::ZERO)).await.expect("pulled");
    let at_b = labels(&b, b.peer("a", &server));
    (a, b, server, at_b)
}

#[tokio::test]
async fn a_command_is_forwarded_over_tls() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (a, b, server, at_b) = two_nodes(&ca, ServerOptions::new()).await;
    // A repeat on a node that has the events of the command needs no home.
    for (node, outcome) in [(Some("a"), Outcome::Done), (None, Outcome::Repeated)] {
        let forwarded = within(at_b.execute(&1, rename("second"), command_id("second"))).await.expect("executed");
        assert_eq!((forwarded.node.as_deref(), forwarded.outcome), (node, outcome));
        within(b.replica.pull(&b.peer("a", &server), Duration::ZERO)).await.expect("pulled");
        b.replica.wait_for(&forwarded.token, Duration::ZERO).await.expect("the event has arrived");
        let loaded = at_b.repository().load(&1).await.expect("loaded");
        assert_eq!((loaded.state.0.as_str(), loaded.version()), ("second", forwarded.version));
    }
    let rejected = within(at_b.execute(&1, rename(""), command_id("empty"))).await.expect_err("rejected");
    assert!(matches!(&rejected, ForwardError::Rejected(text) if text == "label 1 needs a text"), "{rejected:?}");

    // The next home is asked for its origin over the connection.
    let server_b = b.serve(["a"]).await;
    let stream = Label::stream(&1).expect("a name");
    a.replica.hand_over(&stream, &a.peer("b", &server_b)).await.expect("handed over");
    within(b.replica.pull(&b.peer("a", &server), Duration::ZERO)).await.expect("pulled");
    let here = within(at_b.execute(&1, rename("third"), command_id("third"))).await.expect("executed");
    assert_eq!(here.node, None);
}

#[tokio::test]
async fn a_command_to_a_home_that_is_down_was_not_sent() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let (_a, _b, server, at_b) = two_nodes(&ca, ServerOptions::new()).await;
    within(at_b.execute(&1, rename("second"), command_id("second"))).await.expect("executed");
    server.stop().await;
    let error = within(at_b.execute(&1, rename("third"), command_id("third"))).await.expect_err("down");
    assert!(matches!(error, ForwardError::Unreachable { .. }) && !error.may_be_executed(), "{error:?}");
}

/// The server closes the connection of the last request after a while. The next command uses another one.
#[tokio::test]
async fn a_command_after_an_idle_time_uses_a_new_connection() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let options = ServerOptions::new().with_idle_timeout(Duration::from_millis(50));
    let (_a, _b, _server, at_b) = two_nodes(&ca, options).await;
    for text in ["second", "third"] {
        within(at_b.execute(&1, rename(text), command_id(text))).await.expect("executed");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Only nodes that the server answers can forward commands.
#[tokio::test]
async fn a_command_of_a_node_that_is_not_a_peer_is_refused() {
    let ca = TestCa::create(nodes::directory()).expect("an authority");
    let counts = Counts::new();
    let _guard = counts.record();
    let (a, b, server, _) = two_nodes(&ca, ServerOptions::new()).await;
    let stranger = Node::open("c", &ca).await;
    within(stranger.replica.pull(&stranger.peer("b", &b.serve(["c"]).await), Duration::ZERO)).await.expect("pulled");
    let at_c = labels(&stranger, stranger.peer("a", &server));
    let error = within(at_c.execute(&1, rename("x"), command_id("x"))).await.expect_err("unknown");
    assert!(!error.may_be_executed(), "{error:?}");
    assert!(counts.refused("unknown_peer") > 0);
    assert_eq!(labels(&a, stranger.peer("a", &server)).repository().load(&1).await.expect("loaded").state.0, "first");
}
