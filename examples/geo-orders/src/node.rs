//! A node: a store on disk, a server for the other nodes, and a link to each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::ErrorChain;
use es_core::prelude::*;
use es_core::{EventId, LogRead};
use es_replication::{Link, Peer, Replica, ReplicaOptions, Server, ServerOptions, TlsConfig, TlsPeer};
use es_rocksdb::{Options, RocksDbStore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::message::{Answer, Request, Start};
use crate::order::{AddLine, LineId, Order, OrderEvent, OrderId};

/// How long a node that opens waits for the answers of the others.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

struct Node {
    store: Arc<dyn EventStore>,
    replica: Replica,
    orders: Repository<Order>,
}

/// Runs a node until its standard input ends.
///
/// # Errors
/// If the node cannot start, or its standard streams break.
pub(crate) async fn run() -> Result<(), Box<dyn Error>> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let Some(start) = lines.next_line().await? else { return Ok(()) };
    let start: Start = serde_json::from_str(&start)?;
    let files = |name: &str| start.certificates.join(name);
    let (certificate, key) = (format!("{}.pem", start.name), format!("{}.key", start.name));
    let tls = TlsConfig::load(files(&certificate), files(&key), files("ca.pem"))?;

    let options = ReplicaOptions::new(start.name.clone()).with_confirm_timeout(CONFIRM_TIMEOUT);
    let mut options = options.aggregate::<Order>()?;
    let mut peers: Vec<Arc<dyn Peer>> = Vec::new();
    for (name, address) in &start.peers {
        let peer: Arc<dyn Peer> = Arc::new(TlsPeer::new(name, address, tls.clone())?);
        options = options.member(Arc::clone(&peer));
        peers.push(peer);
    }
    let store = RocksDbStore::open_with(&start.directory, Options::new().hook(options.hook())).await?;
    let store: Arc<dyn EventStore> = Arc::new(store);
    let replica = Replica::new(Arc::clone(&store))?;
    let server =
        Server::bind("127.0.0.1:0", replica.source(), tls, start.peers.keys().cloned(), ServerOptions::new()).await?;
    let links: Vec<Link> = peers.into_iter().map(|peer| Link::start(replica.clone(), peer)).collect();

    let origin = replica.origin().await?.to_string();
    answer(&Answer::Started { port: server.local_addr().port(), origin }).await?;
    let node = Node { orders: Repository::new(Arc::clone(&store)), store, replica };
    while let Some(line) = lines.next_line().await? {
        let request: Request = serde_json::from_str(&line)?;
        let result = node.answer(request).await;
        answer(&result.unwrap_or_else(|error| Answer::Failed(ErrorChain(&*error).to_string()))).await?;
    }
    for link in links {
        link.stop().await;
    }
    server.stop().await;
    Ok(node.store.close().await?)
}

async fn answer(answer: &Answer) -> Result<(), Box<dyn Error>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut output = tokio::io::stdout();
    output.write_all(&line).await?;
    Ok(output.flush().await?)
}

impl Node {
    async fn answer(&self, request: Request) -> Result<Answer, Box<dyn Error>> {
        match request {
            Request::Add { order, line, quantity } => self.add(order, line, quantity).await,
            Request::Status => {
                let knowledge = self.replica.knowledge().await?;
                let dots = knowledge.iter().map(|dot| (dot.origin.to_string(), dot.sequence.get()));
                Ok(Answer::Status { knowledge: dots.collect() })
            }
            Request::Orders => self.orders().await,
            Request::Check => self.check().await,
        }
    }

    /// Adds a line. The number of the line is the command id, so a repeat on any node has no second effect.
    async fn add(&self, order: OrderId, line: LineId, quantity: u32) -> Result<Answer, Box<dyn Error>> {
        let after = self.store.read_log(LogRead::all().backward().limit(1)).await?.next().await?;
        let after = after.map(|event| event.data.id);
        let add = self.orders.execute(&order, AddLine { line, quantity, after });
        add.with_id(CommandId::new(format!("line-{line}"))?).await?;
        Ok(Answer::Added)
    }

    async fn orders(&self) -> Result<Answer, Box<dyn Error>> {
        let (mut orders, mut after) = (BTreeMap::new(), None);
        loop {
            let streams = self.store.streams("order-", after.as_ref(), 1_000).await?;
            for (stream, _) in &streams {
                if let Some(id) = Order::id_of(stream) {
                    orders.insert(id, self.orders.load(&id).await?.state);
                }
            }
            match streams.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(Answer::Orders(orders)),
            }
        }
    }

    async fn check(&self) -> Result<Answer, Box<dyn Error>> {
        let mut seen = BTreeSet::<EventId>::new();
        let mut violations = Vec::new();
        let mut events = self.store.read_log(LogRead::category(Order::category()?)).await?;
        while let Some(record) = events.next().await? {
            for event in OrderEvent::decode((&record).into())? {
                let OrderEvent::LineAdded { after, .. } = event;
                if after.is_some_and(|after| !seen.contains(&after)) {
                    violations.push(record.data.id);
                }
            }
            seen.insert(record.data.id);
        }
        Ok(Answer::Checked { events: seen.len(), violations })
    }
}
