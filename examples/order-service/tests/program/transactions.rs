//! The products as a participant of distributed transactions: a coordinator of another program, and operators.

use std::sync::Arc;
use std::time::{Duration, Instant};

use es_core::EventStore;
use es_core::store::memory::MemoryStore;
use es_http::transactions::{HttpParticipant, HttpParticipantOptions};
use es_transaction::machine::Call;
use es_transaction::{
    CommandList, Coordinator, HookAction, HookPlace, HookPoint, LockedStreams, RunningCoordinator, TransactionError,
};
use serde_json::{Value, json};

use crate::serve::Service;
use crate::support::TestDir;

type Products = HttpParticipant<CommandList, LockedStreams>;

/// A store with ten items of the product `P-1`, and the clients of the service.
fn stocked() -> TestDir {
    let dir = TestDir::new();
    dir.write("tokens", crate::edge::TOKENS);
    dir.done(&["product", "register", "P-1", "--name", "Tofu", "--price", "1.00", "--stock", "10"]);
    dir
}

fn serve(dir: &TestDir) -> Service {
    Service::with(dir, &["--tokens", "tokens", "--coordinators", "market=shop"])
}

/// Returns the products of a service as a participant.
fn products(service: &Service) -> Products {
    let options = HttpParticipantOptions::new().token("writer");
    HttpParticipant::new("order-service", &format!("{}/participant", service.address), options).expect("a valid URL")
}

/// Starts a coordinator in this process, whose only participant is the service.
async fn coordinator(
    service: &Service,
    head: &Arc<dyn EventStore>,
    hook: impl Fn(HookPoint<'_>) -> HookAction + Send + Sync + 'static,
) -> RunningCoordinator {
    let coordinator = Coordinator::new("market", Arc::clone(head)).participant(products(service)).test_hook(hook);
    let coordinator = coordinator.timeout(Duration::from_secs(20)).lease(Duration::from_millis(500));
    coordinator.start().await.expect("the coordinator starts")
}

/// Withdraws items in a transaction of the service alone.
async fn withdraw(running: &RunningCoordinator, products: &Products, items: u32) -> Result<(), String> {
    let list = CommandList::new().command("withdraw", "P-1", &json!({ "quantity": items })).expect("JSON");
    let done = running.begin().run(async |tx| tx.enlist_participant(products, &list)).await;
    match done {
        Ok(_) => Ok(()),
        Err(TransactionError::Aborted { reason, .. }) => Err(reason),
        Err(other) => Err(format!("unexpected: {other}")),
    }
}

fn stock(service: &Service) -> Value {
    let shown = service.get("/products/P-1", &[("authorization", "Bearer reader")]);
    shown.body["stock"].clone()
}

/// Runs the program and expects this exit code, and an error with this text.
#[track_caller]
fn refused(dir: &TestDir, args: &[&str], code: i32, error: &str) {
    let ran = dir.run(args);
    assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.err);
    assert!(ran.err.contains(error), "{args:?}: {}", ran.err);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn another_program_withdraws_stock_in_a_transaction() {
    let dir = stocked();
    let service = serve(&dir);
    runtime().block_on(async {
        let head: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let running = coordinator(&service, &head, |_| HookAction::Continue).await;
        let products = products(&service);
        withdraw(&running, &products, 4).await.expect("there are enough items");
        let refused = withdraw(&running, &products, 7).await.expect_err("there are six items");
        assert!(refused.contains('6') && refused.contains('7'), "{refused}");
        let unknown = CommandList::new().command("burn", "P-1", &json!({})).expect("JSON");
        let unknown = running.begin().run(async |tx| tx.enlist_participant(&products, &unknown)).await;
        let reason = unknown.expect_err("the participant has no such command").to_string();
        assert!(reason.contains("has no command \"burn\""), "{reason}");
        running.shutdown(Duration::from_secs(10)).await;
    });
    assert_eq!(stock(&service), 6);
}

/// The coordinator is lost after the vote. Commands get 423, and an operator decides.
#[test]
fn an_operator_decides_a_transaction_whose_coordinator_is_lost() {
    let dir = stocked();
    let service = serve(&dir);
    runtime().block_on(async {
        let head: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
        let crash = |point: HookPoint<'_>| match point.place {
            HookPlace::BeforeCall { call: Call::Commit, .. } => HookAction::Crash,
            _ => HookAction::Continue,
        };
        let running = coordinator(&service, &head, crash).await;
        let lost = tokio::time::timeout(Duration::from_secs(5), withdraw(&running, &products(&service), 4)).await;
        assert!(lost.is_ok_and(|lost| lost.is_err_and(|error| error.contains("is not known yet"))));
    });
    let transactions = |token: &str, args: &[&str]| {
        dir.write("token", token);
        dir.run(&[&["transactions", "--json", "--url", &service.operations, "--token-file", "token"], args].concat())
    };
    let list = || -> Value { serde_json::from_str(&transactions("reader", &["list"]).out).expect("JSON") };
    let listed = list();
    assert_eq!(
        (listed[0]["state"].as_str(), listed[0]["participants"][0].as_str()),
        (Some("prepared"), Some("order-service"))
    );
    let writer = [("authorization", "Bearer writer")];
    let start = Instant::now();
    let locked = service.send("POST", "/products/P-1/receive", &writer, &json!({ "quantity": 1 }));
    locked.expect(423);
    assert!(start.elapsed() >= Duration::from_secs(4), "a command waits for the end of the transaction");
    let id = listed[0]["transaction"].as_str().expect("an id");
    let resolve = ["resolve", id, "abort", "--reason", "the market is lost"];
    assert_eq!(transactions("writer", &resolve).code, Some(1), "only the role operate decides");
    assert_eq!(transactions("operator", &resolve).code, Some(0));
    assert_eq!(transactions("operator", &resolve).code, Some(1), "it is decided");
    assert_eq!((list()[0]["state"].as_str(), list()[0]["is_heuristic"].as_bool()), (Some("aborted"), Some(true)));
    assert_eq!(transactions("operator", &["forget", id, "--reason", "accepted"]).code, Some(0));
    assert_eq!(list(), json!([]));
    assert_eq!(stock(&service), 10);
    service.send("POST", "/products/P-1/receive", &writer, &json!({ "quantity": 1 })).expect(200);
    service.stop();
    let text = dir.done(&["transactions", "list"]);
    assert_eq!(text.trim(), "no transactions in doubt");
    refused(&dir, &["transactions", "forget", "x", "--reason", "y"], 1, "expected the id of a transaction");
}

#[test]
fn coordinators_need_clients() {
    let dir = stocked();
    for (args, error) in [
        (&["serve", "--coordinators", "market=shop"][..], "give --tokens FILE"),
        (&["serve", "--coordinators", "market", "--tokens", "tokens"], "expected NAME=CLIENT, found \"market\""),
        (&["serve", "--coordinators", "Market=shop", "--tokens", "tokens"], "the name of a coordinator must have"),
    ] {
        refused(&dir, args, 2, error);
    }
}
