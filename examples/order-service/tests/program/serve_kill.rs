//! Twelve clients place orders over HTTP with idempotency keys, and others listen or idle, while the service is killed
//! (SIGKILL) again and again. Its descriptors are bounded, and it is ready after each restart.
//! After each restart, every acknowledged order is there exactly once with its content, the client that did not get its
//! answer repeats its request, and the read models continue at once: a query for the last acknowledged order waits less
//! than the lease of a projection.
//!
//! A kill does not show that orders survive a power failure: data that was written but not synced survives a kill.
//!
//! `ES_SERVICE_KILLS=25` runs the long form.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use es_core::EventStore;
use es_rocksdb::RocksDbStore;
use order_service::domain::Order;
use order_service::shop::{Folded, Shop};
use serde_json::{Value, json};
use ureq::Agent;

use crate::serve::Service;
use crate::support::TestDir;

const CLIENTS: usize = 12;
/// The number of other connections, half of which listen to events and half of which are idle.
const OTHERS: usize = 40;
/// More descriptors than the program has for its store, listeners and runtime.
const OTHER_DESCRIPTORS: usize = 300;
/// The default lease of a projection.
const LEASE: Duration = Duration::from_secs(10);

/// A client that places its orders one after the other. Each order has its number as quantity.
#[derive(Default)]
struct Client {
    customer: String,
    /// The number of the next order.
    next: u64,
    /// Whether the order `next` was sent and not answered.
    is_pending: bool,
    /// The position of the last acknowledged order.
    position: u64,
    /// The number of requests that were repeated and had been executed before.
    executed_before: u64,
}

impl Client {
    fn order_id(&self, number: u64) -> String {
        format!("{}-{number}", self.customer)
    }

    /// Places orders until the service does not answer.
    fn place_until_killed(&mut self, address: &str) {
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        while let Some((status, position, outcome)) = self.place(&agent, address) {
            match (status, outcome.as_str()) {
                (201, "done") => {}
                (200, "repeated") if self.is_pending => self.executed_before += 1,
                other => panic!("{}: order {} was answered with {other:?}", self.customer, self.next),
            }
            self.position = self.position.max(position);
            (self.next, self.is_pending) = (self.next + 1, false);
        }
        self.is_pending = true;
    }

    /// Sends the next order. Returns the status, the position and the outcome, or `None` without a complete answer.
    fn place(&self, agent: &Agent, address: &str) -> Option<(u16, u64, String)> {
        let id = self.order_id(self.next);
        let line = json!({"product_id": "11", "unit_price": "2.50", "quantity": self.next});
        let request = agent.put(format!("{address}/orders/{id}")).header("idempotency-key", format!("\"key of {id}\""));
        let mut reply = request.send_json(json!({"customer_id": self.customer, "lines": [line]})).ok()?;
        let position = reply.headers().get("es-position")?.to_str().ok()?.rsplit(':').next()?.parse().ok();
        let body: Value = serde_json::from_str(&reply.body_mut().read_to_string().ok()?).ok()?;
        let outcome = body["outcome"].as_str().unwrap_or("none").to_owned();
        Some((reply.status().as_u16(), position.unwrap_or_default(), outcome))
    }

    /// Checks that the service lists each acknowledged order once, and at most the unanswered one in addition.
    fn check_list(&self, service: &Service) {
        let mut listed = BTreeMap::new();
        let mut after = String::new();
        loop {
            let path = format!("/orders?customer={}&limit=1000&at_least={}{after}", self.customer, self.position);
            let page = service.get(&path, &[]).expect(200).body;
            for row in page["rows"].as_array().expect("rows") {
                let id = row["order_id"].as_str().expect("an id").to_owned();
                assert!(listed.insert(id, row["revenue"].clone()).is_none(), "listed twice: {row}");
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        for number in 1..self.next {
            let revenue = listed.remove(&self.order_id(number));
            assert_eq!(revenue, Some(revenue_of(number)), "{} was acknowledged", self.order_id(number));
        }
        listed.remove(&self.order_id(self.next));
        assert!(listed.is_empty(), "orders that nobody placed: {listed:?}");
    }

    /// Checks the content of the orders from `first` on: one event, and the lines as they were sent.
    fn check_content(&self, service: &Service, first: u64) {
        for number in first..self.next {
            let id = self.order_id(number);
            let order = service.get(&format!("/orders/{id}"), &[]).expect(200).body;
            assert_eq!(order["customer_id"], json!(self.customer));
            assert_eq!(order["lines"][0]["quantity"], json!(number));
            let history = service.get(&format!("/orders/{id}/events"), &[]).expect(200).body;
            assert_eq!(history["events"].as_array().expect("events").len(), 1, "{history}");
        }
    }
}

/// Opens a connection that listens to events or is idle.
fn connect(address: &str, number: usize) -> TcpStream {
    let address = address.strip_prefix("http://").expect("an address");
    let mut stream = TcpStream::connect(address).expect("the service accepts connections");
    let path = if number.is_multiple_of(2) { "/events" } else { "/livez" };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the service accepts connections");
    stream
}

fn revenue_of(number: u64) -> Value {
    json!(format!("{}.{:02}", number * 250 / 100, number * 250 % 100))
}

#[test]
fn a_killed_service_loses_no_acknowledged_order_and_continues_at_once() {
    let kills: u32 = std::env::var("ES_SERVICE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let dir = TestDir::new();
    let mut clients: Vec<Client> = (1..=CLIENTS)
        .map(|number| Client { customer: format!("CLIENT-{number}"), next: 1, ..Client::default() })
        .collect();
    let mut slowest = Duration::ZERO;
    let mut service = Service::new(&dir);
    for kill in 0..kills {
        let before: Vec<u64> = clients.iter().map(|client| client.next).collect();
        // The delays differ, in a shuffled order, so that kills meet the first commits, full load and compactions.
        let delay = Duration::from_millis(100 + u64::from(kill * 17 % kills.max(1)) * 900 / u64::from(kills));
        let address = service.address.clone();
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| client.place_until_killed(&address));
            }
            let others: Vec<TcpStream> = (0..OTHERS).map(|number| connect(&address, number)).collect();
            std::thread::sleep(delay);
            let descriptors = service.descriptors();
            assert!(descriptors < OTHER_DESCRIPTORS + CLIENTS + OTHERS, "{descriptors} descriptors");
            service.kill();
            drop(others);
        });
        service = Service::new(&dir);
        let restarted = Instant::now();
        service.get("/readyz", &[]).expect(200);
        clients.iter().for_each(|client| client.check_list(&service));
        slowest = slowest.max(restarted.elapsed());
        assert!(slowest < LEASE / 2, "the read models continued {slowest:?} after the restart");
        clients.iter().zip(before).for_each(|(client, first)| client.check_content(&service, first));
    }
    let acknowledged: u64 = clients.iter().map(|client| client.next - 1).sum();
    assert!(acknowledged >= u64::from(kills), "only {acknowledged} orders were acknowledged");
    service.stop();
    let placed = expect_log(&dir, &clients);
    let repeated: u64 = clients.iter().map(|client| client.executed_before).sum();
    println!(
        "{kills} kills under {CLIENTS} clients: {acknowledged} orders acknowledged, none lost; {placed} in the log; \
         {repeated} were executed without an answer and repeated; all lists were complete within {slowest:?} after a \
         restart"
    );
}

/// Opens the store and checks that the log has each acknowledged order once. Returns the number of events.
fn expect_log(dir: &TestDir, clients: &[Client]) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = RocksDbStore::open(dir.path("shop")).await.expect("the directory opens");
        let shop = Shop::new(std::sync::Arc::new(store.clone()));
        let Folded { states, log_events } = shop.fold::<Order>().await.expect("the log can be read");
        for client in clients {
            for number in 1..client.next {
                let order = states.get(&client.order_id(number).parse().expect("an id")).and_then(Order::placed);
                assert!(order.is_some(), "{} was acknowledged", client.order_id(number));
            }
        }
        let acknowledged: u64 = clients.iter().map(|client| client.next - 1).sum();
        assert!(states.len() as u64 <= acknowledged + clients.len() as u64);
        assert_eq!(log_events, states.len() as u64, "each order has one event");
        drop(shop);
        store.close().await.expect("closed");
        log_events
    })
}
