//! The server of umadb in this process, and its client: gRPC over the loopback interface.

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use es_bench::{Append, Contender, Failure, Folded, Opened, Role, Seen, Selection, Setup, Task};
use tokio::sync::oneshot;
use umadb_client::AsyncUmaDbClient;
use umadb_dcb::DcbEventStoreAsync;
use umadb_server::{ServerOptions, StorageOptions, start_server_with_options};

use crate::umadb::{fold, offers, query, request, tag_of_stream};
use crate::{failed, version};

pub(crate) struct UmaDbServer;

#[async_trait]
impl Contender for UmaDbServer {
    fn name(&self) -> &'static str {
        "umadb-server"
    }

    fn about(&self) -> String {
        format!("{} in this process, one client, gRPC over the loopback; otherwise as umadb", version("umadb-server"))
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn offers(&self, task: Task) -> Result<(), &'static str> {
        offers(task)
    }

    async fn open(&self, dir: &Path, _: Setup) -> Result<Box<dyn Opened>, Failure> {
        std::fs::create_dir_all(dir).map_err(failed("create a directory"))?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let listen_addr = free.map_err(failed("find a free port"))?.to_string();
        let url = format!("http://{listen_addr}");
        let storage = StorageOptions::default().db_path(dir);
        let options = ServerOptions { listen_addr, tls: None, api_key: None, storage };
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        // Its future is not `Send`.
        let server = std::thread::spawn(move || {
            let served = runtime.block_on(start_server_with_options(options, stopped));
            served.map_err(|error| Failure::new("serve", error))
        });
        let client = AsyncUmaDbClient::connect(url, None, None, None).await.map_err(failed("connect"))?;
        Ok(Box::new(OpenedServer { client, server: Mutex::new(Some((stop, server))) }))
    }
}

type ServerThread = (oneshot::Sender<()>, std::thread::JoinHandle<Result<(), Failure>>);

struct OpenedServer {
    client: AsyncUmaDbClient,
    server: Mutex<Option<ServerThread>>,
}

#[async_trait]
impl Opened for OpenedServer {
    async fn append(&self, append: Append) -> Result<u64, Failure> {
        let (events, condition) = request(append);
        self.client.append(events, Some(condition), None).await.map_err(failed("append"))
    }

    async fn load(&self, stream: u64, _: bool) -> Result<Folded, Failure> {
        let query = query(Selection::Tag(tag_of_stream(stream)));
        let (events, _) = self.client.read_with_head(query, None, false, None).await.map_err(failed("read"))?;
        fold(&events)
    }

    async fn read(&self, selection: Selection) -> Result<u64, Failure> {
        let mut response = self.client.read(query(selection), None, false, None).await.map_err(failed("read"))?;
        let mut events = 0;
        loop {
            let batch = response.next_batch().await.map_err(failed("read"))?;
            if batch.is_empty() {
                return Ok(events);
            }
            events += batch.len() as u64;
        }
    }

    async fn follow(&self, seen: &Seen) -> Result<(), Failure> {
        let mut subscription = self.client.subscribe(None, None).await.map_err(failed("subscribe"))?;
        loop {
            for event in subscription.next_batch().await.map_err(failed("follow"))? {
                seen.record(&event.event.data);
            }
        }
    }

    async fn close(&self) -> Result<(), Failure> {
        self.client.close();
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, server)) = server else { return Ok(()) };
        // An error means that the server has ended already.
        let _ = stop.send(());
        let ended = tokio::task::spawn_blocking(move || server.join()).await.map_err(failed("stop the server"))?;
        ended.unwrap_or_else(|_| Err(Failure::new("stop the server", "it panicked")))
    }
}
