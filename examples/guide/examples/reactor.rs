//! How do I send one mail for each order, although the process can be killed at any time?
//!
//! ```text
//! cargo run -p es-examples --example reactor
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use es_core::consumer::reactor::{DeliveryKey, ReactError, Reactor, ReactorContext, ReactorRunner, StartAt};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_examples::order::{Order, OrderEvent, Place};

/// A mail server that drops a mail whose key it knows. Its connection fails after the first mail arrived.
#[derive(Clone, Default)]
struct MailServer {
    mails: Arc<Mutex<HashMap<DeliveryKey, String>>>,
    calls: Arc<Mutex<u32>>,
}

impl MailServer {
    fn send(&self, key: DeliveryKey, to: &str) -> Result<(), std::io::Error> {
        self.mails.lock().expect("no panic").entry(key).or_insert_with(|| to.to_owned());
        let mut calls = self.calls.lock().expect("no panic");
        *calls += 1;
        if *calls == 1 { Err(std::io::Error::other("connection lost")) } else { Ok(()) }
    }
}

struct Confirmations {
    server: MailServer,
}

#[async_trait]
impl Reactor for Confirmations {
    type Source = Order;
    const NAME: &'static str = "confirmations";

    async fn react(&self, event: &OrderEvent, context: &ReactorContext) -> Result<(), ReactError> {
        let OrderEvent::Placed { customer, .. } = event else { return Ok(()) };
        // Each attempt has the same key, also after a crash. An error is retried after a pause.
        Ok(self.server.send(context.key(), customer)?)
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let server = MailServer::default();
    let runner = ReactorRunner::new(Confirmations { server: server.clone() }).start_at(StartAt::Beginning);
    let running = runner.start(Arc::clone(&store)).await?;

    let orders = Repository::<Order>::new(store);
    orders.execute(&1, Place { customer: "ada".into(), cents: 500 }).await?;
    let placed = orders.execute(&2, Place { customer: "bob".into(), cents: 700 }).await?;
    running.wait_for(placed.position, Duration::from_secs(10)).await?;
    running.shutdown(Duration::from_secs(10)).await?;

    let mut mails: Vec<_> = server.mails.lock().expect("no panic").values().cloned().collect();
    mails.sort();
    assert_eq!(mails, ["ada", "bob"]); // one each, although one was sent twice
    assert_eq!(*server.calls.lock().expect("no panic"), 3);
    println!("mails to {mails:?}");
    Ok(())
}
