//! Requests per second, with the edge and without it, in interleaved rounds.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::client::{Client, request};
use crate::{Service, Size};

/// The number of connections that send requests.
pub(crate) const CONNECTIONS: usize = 64;
/// The ratio of the rates, with the edge and without it, that the edge should have.
const GOAL: f64 = 0.95;
/// The ratio below which something is wrong with the edge, also on a busy machine.
const MINIMUM: f64 = 0.5;

/// The load of one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// The number of the round. Each has counters of its own, because a load reads the events of a counter.
    pub(crate) round: usize,
    /// The number of requests of each connection: one half are commands, the other half are queries.
    pub(crate) requests: usize,
}

/// A way to serve the requests, and its measurements.
struct Contender {
    name: &'static str,
    clients: Vec<Client>,
    /// The requests per second of each round.
    rates: Vec<f64>,
    /// The processor time of the service in all rounds.
    processor: Duration,
}

impl Contender {
    async fn connect(name: &'static str, address: SocketAddr) -> Self {
        Self { name, clients: connect(address).await, rates: Vec::new(), processor: Duration::ZERO }
    }

    /// Returns the median of the ratios of the rates in each round.
    fn ratio_to(&self, other: &Self) -> f64 {
        median(self.rates.iter().zip(&other.rates).map(|(rate, other)| rate / other).collect())
    }
}

/// Compares axum alone, the same handlers with the edge, and handlers with everything that es-http has. Prints the
/// median ratio of each to axum alone, and whether it reaches the goal. It has a minimum in an optimized long form.
///
/// The connections stay open for all rounds, as those of proxies do. The first 50 requests of a connection of
/// `axum::serve` cost less than the others: hyper-util reads their first bytes separately, which doubles the buffer.
pub(crate) async fn compare(service: &Service, size: Size) {
    let (rounds, requests) = if size.is_long { (31, 100) } else { (3, 10) };
    let mut contenders = [
        Contender::connect("axum alone", service.plain).await,
        Contender::connect("the same handlers with the edge", service.same).await,
        Contender::connect("handlers with everything of es-http", service.edge).await,
    ];
    let count = contenders.len();
    // The first round fills caches and pools.
    for round in 0..=rounds {
        // The first of a round alternates, so that no order is an advantage.
        for turn in 0..count {
            let index = (round + turn) % count;
            let contender = &mut contenders[index];
            let before = service.processor_time();
            let rate = send_all(&mut contender.clients, Load { round: count * round + index, requests }).await;
            if round > 0 {
                contender.processor += service.processor_time() - before;
                contender.rates.push(rate);
            }
        }
    }
    let total = f64::from(u32::try_from(rounds * requests * CONNECTIONS).unwrap());
    println!("{CONNECTIONS} connections, {rounds} rounds; the goal is a ratio of {GOAL}");
    for contender in &contenders {
        let ratio = contender.ratio_to(&contenders[0]);
        println!(
            "{}: {:.0} requests/s, {:.1} us of processor time per request, median ratio {ratio:.3}, which {} the goal",
            contender.name,
            median(contender.rates.clone()),
            contender.processor.as_secs_f64() * 1e6 / total,
            if ratio >= GOAL { "reaches" } else { "misses" }
        );
        if size.is_long && !cfg!(debug_assertions) {
            assert!(ratio >= MINIMUM, "expected at least {MINIMUM} of the rate without the edge, found {ratio:.3}");
        }
    }
}

async fn connect(address: SocketAddr) -> Vec<Client> {
    join_all((0..CONNECTIONS).map(|_| async { Client::connect(address).await.unwrap() })).await
}

/// Sends requests on new connections, and returns the number of responses per second.
pub(crate) async fn measure(address: SocketAddr, load: Load) -> f64 {
    send_all(&mut connect(address).await, load).await
}

/// Sends requests on all connections, and returns the number of responses per second.
async fn send_all(clients: &mut Vec<Client>, load: Load) -> f64 {
    let start = Instant::now();
    let sent = clients.drain(..).enumerate().map(|(number, client)| tokio::spawn(send(client, number, load)));
    let sent = join_all(sent).await;
    let elapsed = start.elapsed();
    clients.extend(sent.into_iter().map(Result::unwrap));
    let requests = f64::from(u32::try_from(clients.len() * load.requests).unwrap());
    requests / elapsed.as_secs_f64()
}

async fn send(mut client: Client, number: usize, load: Load) -> Client {
    let path = format!("/rate/{}", load.round * CONNECTIONS + number);
    let requests = [request("POST", &path, r#"{"amount":1}"#), request("GET", &path, "")];
    for request in requests.iter().cycle().take(load.requests) {
        let (status, body) = client.send(request).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    client
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
