//! The `serve` command.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::Service;
use es_rocksdb::Options;
use serde::Serialize;
use tokio::net::TcpListener;

use super::output::Output;
use crate::failure::Failure;
use crate::http::{self, Api};
use crate::projections::Projections;
use crate::shop::Shop;
use crate::views;

/// The deadline of a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// The JSON output: the state of the log at shutdown.
#[derive(Serialize)]
struct StoppedJson {
    head: Option<u64>,
}

/// Serves requests until the process receives SIGTERM or SIGINT.
pub(super) async fn run(data: &Path, listen: SocketAddr) -> Result<Output, Failure> {
    // ORDER: bind the address first, so that no store is created if the address is in use.
    let listener = bind(listen).await?;
    let shop = Shop::new(Arc::new(Options::new().open(data).await?));
    let store = shop.shared_store();
    let service = Service::new(Arc::clone(&store)).projections(views::supervisor()).shutdown_deadline(SHUTDOWN);
    let mut service = service.start().await?;
    let api = Api::new(shop, Projections::of(service.projections(), Arc::clone(&store)));
    service.intake("http", |stop| async move {
        print_address(&listener);
        http::serve(api, listener, stop.requested()).await
    });
    service.run_until_signal().await?;
    let head = store.watch_head().current().map(es_core::Position::get);
    let events = head.unwrap_or_default();
    Ok(Output::new(format!("stopped; the log has {events} events"), &StoppedJson { head }))
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|source| Failure::Io { action: format!("listen on {listen}"), source })
}

/// Prints the address to standard error; scripts wait for this line.
fn print_address(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        // A closed standard error must not stop the service.
        let _ = writeln!(io::stderr(), "listening on http://{address}");
    }
}
