//! `serve`

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_core::Service;
use es_rocksdb::Options;
use serde::Serialize;
use tokio::net::TcpListener;

use super::answer::Answer;
use crate::failure::Failure;
use crate::http::{self, Api};
use crate::projections::Projections;
use crate::shop::Shop;
use crate::views;

/// The time that the shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// The state of the log when the service ended.
#[derive(Serialize)]
struct Ended {
    head: Option<u64>,
}

/// Answers requests until the process receives SIGTERM or SIGINT.
pub(super) async fn run(data: &Path, listen: SocketAddr) -> Result<Answer, Failure> {
    // ORDER: the address first, so that no store is created if the address is taken.
    let listener = bind(listen).await?;
    let shop = Shop::new(Arc::new(Options::new().open(data).await?));
    let store = shop.shared_store();
    let service = Service::new(Arc::clone(&store)).projections(views::supervisor()).shutdown_deadline(SHUTDOWN);
    let mut service = service.start().await?;
    let api = Api::new(shop, Projections::of(service.projections(), Arc::clone(&store)));
    service.intake("http", |stop| async move {
        say_listening(&listener);
        http::serve(api, listener, stop.requested()).await
    });
    service.run_until_signal().await?;
    let head = store.watch_head().current().map(es_core::Position::get);
    let shown = head.map_or_else(|| "nothing".to_owned(), |head| format!("{head} events"));
    Ok(Answer::new(format!("ended; the log has {shown}"), &Ended { head }))
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|source| Failure::Io { action: format!("listen on {listen}"), source })
}

/// Prints the address to standard error; scripts wait for this line.
fn say_listening(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        // A closed standard error is no reason to stop.
        let _ = writeln!(io::stderr(), "listening on http://{address}");
    }
}
