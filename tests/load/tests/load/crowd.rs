//! [`Crowd`]: clients that listen, idle, send half a body, or do not read.

use std::net::SocketAddr;

use futures_util::stream::{self, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::client::{Client, request};
use crate::{KIB_PER_CONNECTION, PATIENCE, Service, Size};

/// The number of connections that are opened at the same time. The queue of a listener has a bound.
const OPENED_TOGETHER: usize = 64;
/// The bytes of a body that a client sends, and declares.
const SENT: [usize; 2] = [200_000, 400_000];
/// The memory that 1,000 half-sent bodies may use, in KiB.
const KIB_OF_BODIES: u64 = 100_000;

/// The clients, which keep their connections open.
pub(crate) struct Crowd {
    listeners: Vec<Client>,
    others: Vec<Client>,
    size: Size,
}

impl Crowd {
    /// Connects all clients, and requires that each gets what the server owes it.
    pub(crate) async fn gather(service: &Service, size: Size) -> Self {
        let start = Instant::now();
        let mut others = connect(service.edge, size.idle, async |mut client| {
            assert_eq!(client.send(&request("GET", "/counters/1", "")).await.unwrap().0, 200);
            client
        })
        .await;
        let listeners = connect(service.edge, size.listeners(), async |mut client| {
            client.stream.write_all(&request("GET", "/events", "")).await.unwrap();
            let end_of_head = client.find(b"\r\n\r\n", 0).await.unwrap();
            assert!(end_of_head > 0);
            client
        })
        .await;
        let before = service.memory();
        others.extend(connect(service.edge, size.half_sent_bodies(), send_half_a_body).await);
        let bodies = service.memory().saturating_sub(before);
        assert!(bodies < KIB_OF_BODIES, "half-sent bodies use {bodies} KiB");
        others.extend(connect(service.edge, size.slow_readers(), read_nothing).await);
        println!(
            "{} idle connections, {} listeners, {} half-sent bodies ({} MiB) and {} slow readers connected within \
             {:.1} s",
            size.idle,
            size.listeners(),
            size.half_sent_bodies(),
            bodies / 1024,
            size.slow_readers(),
            start.elapsed().as_secs_f64()
        );
        Self { listeners, others, size }
    }

    /// Checks the memory and the descriptors of the server, beside those that it had before.
    pub(crate) fn expect_bounded(&self, service: &Service, memory: u64, descriptors: u64) {
        let connections = (self.listeners.len() + self.others.len()) as u64;
        let used = service.descriptors();
        assert!(used <= descriptors + connections + 10, "{used} descriptors for {connections} connections");
        let limit = KIB_OF_BODIES + KIB_PER_CONNECTION * connections;
        let grown = service.memory().saturating_sub(memory);
        assert!(grown <= limit, "expected at most {limit} KiB for {connections} connections, found {grown}");
        println!("with the crowd: {} MiB more, {used} descriptors", grown / 1024);
    }

    /// Writes one event, and waits until each listener has it.
    pub(crate) async fn expect_an_event_for_each_listener(&mut self, service: &Service) {
        let start = Instant::now();
        assert_eq!(service.post("/counters/3", r#"{"amount":1}"#).await, 200);
        for listener in &mut self.listeners {
            let event = timeout(PATIENCE, listener.find(b"data: ", 0)).await;
            event.expect("an event in time").expect("an open connection");
        }
        let elapsed = start.elapsed().as_secs_f64();
        println!("{} listeners got an event within {elapsed:.2} s", self.size.listeners());
    }
}

/// Connects clients, a bounded number at a time, and returns them in a state that `prepare` brings them to.
async fn connect(address: SocketAddr, number: usize, prepare: impl AsyncFn(Client) -> Client) -> Vec<Client> {
    let prepare = &prepare;
    let clients = stream::iter(0..number).map(|_| async move {
        let client = Client::connect(address).await.unwrap();
        timeout(PATIENCE, prepare(client)).await.expect("an answer in time")
    });
    clients.buffer_unordered(OPENED_TOGETHER).collect().await
}

async fn send_half_a_body(mut client: Client) -> Client {
    let head = String::from_utf8(request("POST", "/counters/1", "")).unwrap();
    let head = head.replace("Content-Length: 0", &format!("Content-Length: {}", SENT[1]));
    client.stream.write_all(head.as_bytes()).await.unwrap();
    // The server may refuse the body and close the connection.
    let _ = timeout(std::time::Duration::from_millis(300), client.stream.write_all(&vec![b' '; SENT[0]])).await;
    client
}

async fn read_nothing(mut client: Client) -> Client {
    client.stream.write_all(&request("GET", "/flood", "")).await.unwrap();
    client
}
