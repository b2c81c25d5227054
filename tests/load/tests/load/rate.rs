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

/// Compares the rates, and prints whether the median ratio reaches the goal. It has a minimum in an optimized long
/// form.
pub(crate) async fn compare(service: &Service, size: Size) {
    let (rounds, requests) = if size.is_long { (31, 100) } else { (3, 10) };
    let addresses = [service.plain, service.edge];
    // The first round fills caches and pools.
    for (index, address) in addresses.into_iter().enumerate() {
        measure(address, Load { round: index, requests }).await;
    }
    let (mut ratios, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut processor = [Duration::ZERO; 2];
    for round in 1..=rounds {
        let mut both = [0.0; 2];
        // The first of a round alternates, so that no order is an advantage.
        for index in [round % 2, 1 - round % 2] {
            let before = service.processor_time();
            both[index] = measure(addresses[index], Load { round: 2 * round + index, requests }).await;
            processor[index] += service.processor_time() - before;
            rates[index].push(both[index]);
        }
        ratios.push(both[1] / both[0]);
    }
    let total = f64::from(u32::try_from(rounds * requests * CONNECTIONS).unwrap());
    let [plain, edge] = processor.map(|time| time.as_secs_f64() * 1e6 / total);
    let [plain_rate, edge_rate] = rates.map(median);
    let ratio = median(ratios);
    println!(
        "{CONNECTIONS} connections, {rounds} rounds: {plain_rate:.0} requests/s and {plain:.1} us of processor time \
         per request with axum alone, {edge_rate:.0} and {edge:.1} us with the edge; median ratio {ratio:.3}, which \
         {} the goal of {GOAL}",
        if ratio >= GOAL { "reaches" } else { "misses" }
    );
    if size.is_long && !cfg!(debug_assertions) {
        assert!(ratio >= MINIMUM, "expected at least {MINIMUM} of the rate without the edge, found {ratio:.3}");
    }
}

/// Sends requests on all connections, and returns the number of responses per second.
pub(crate) async fn measure(address: SocketAddr, load: Load) -> f64 {
    let clients = (0..CONNECTIONS).map(|_| async { Client::connect(address).await.unwrap() });
    let clients = join_all(clients).await;
    let start = Instant::now();
    let clients = clients.into_iter().enumerate().map(|(number, client)| tokio::spawn(send(client, number, load)));
    for sent in join_all(clients).await {
        sent.unwrap();
    }
    let requests = f64::from(u32::try_from(CONNECTIONS * load.requests).unwrap());
    requests / start.elapsed().as_secs_f64()
}

async fn send(mut client: Client, number: usize, load: Load) {
    let path = format!("/rate/{}", load.round * CONNECTIONS + number);
    let requests = [request("POST", &path, r#"{"amount":1}"#), request("GET", &path, "")];
    for request in requests.iter().cycle().take(load.requests) {
        let (status, body) = client.send(request).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
