//! `kill -9` of the server under load: after a restart, every acknowledged write is there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::client::{Client, request};
use crate::rate::CONNECTIONS;
use crate::{Service, Size};

/// The counters of the writers come after those of the other clients.
const FIRST_COUNTER: usize = 1000;

/// Returns the sum of the first counter.
async fn sum_of_first(address: SocketAddr) -> String {
    let get = request("GET", &format!("/counters/{FIRST_COUNTER}"), "");
    let (_, body) = Client::connect(address).await.unwrap().send(&get).await.unwrap();
    body.trim_matches('"').to_owned()
}

/// Kills the server again and again while each connection adds 1 to a counter of its own.
pub(crate) async fn expect_acknowledged_writes(directory: &Path, size: Size) {
    let (kills, load) = if size.is_long { (10, Duration::from_secs(1)) } else { (2, Duration::from_millis(300)) };
    let mut service = Service::start(directory);
    let mut sums = vec![0; CONNECTIONS];
    for _ in 0..kills {
        assert!(service.is_ready().await, "a service that accepts writes is ready");
        let address = service.edge;
        let writers = (0..CONNECTIONS).map(|number| async move {
            write_until_killed(Client::connect(address).await.unwrap(), FIRST_COUNTER + number).await
        });
        let writers: Vec<_> = writers.map(tokio::spawn).collect();
        let first = sums[0].to_string();
        service.wait_until("the first write", async || sum_of_first(address).await != first).await;
        sleep(load).await;
        service.process.kill().unwrap();
        service.process.wait().unwrap();
        let acknowledged: Vec<u32> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
        assert!(Client::connect(address).await.is_err(), "a killed service answers no probe");
        assert!(acknowledged.iter().sum::<u32>() > 0, "the service was killed under load");

        service = Service::start(directory);
        assert!(service.is_ready().await, "the service is ready after a restart");
        let mut reader = Client::connect(service.edge).await.unwrap();
        for (number, (sum, acknowledged)) in sums.iter_mut().zip(acknowledged).enumerate() {
            let path = format!("/counters/{}", FIRST_COUNTER + number);
            let (status, body) = reader.send(&request("GET", &path, "")).await.unwrap();
            let found: u32 = body.trim_matches('"').parse().unwrap();
            // The last request of a connection may have been executed without a response.
            let expected = *sum + acknowledged..=*sum + acknowledged + 1;
            assert!(status == 200 && expected.contains(&found), "{path}: expected {expected:?}, found {status} {body}");
            *sum = found;
        }
    }
    println!("{} writes survived {kills} kills under load", sums.iter().sum::<u32>());
    service.stop();
}

/// Adds 1 to a counter until the connection ends, and returns the number of acknowledged requests.
async fn write_until_killed(mut client: Client, counter: usize) -> u32 {
    let request = request("POST", &format!("/counters/{counter}"), r#"{"amount":1}"#);
    let mut acknowledged = 0;
    while let Ok((status, body)) = client.send(&request).await {
        assert_eq!(status, 200, "{body}");
        acknowledged += 1;
    }
    acknowledged
}
