//! `serve`

use es_core::EventStore;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use es_rocksdb::Options;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::Answer;
use crate::failure::Failure;
use crate::http::{self, Service};
use crate::projections::Projections;
use crate::shop::Shop;

/// How long the projections may take to finish what they have in hand.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a service says when it has ended.
#[derive(Serialize)]
struct Ended {
    head: Option<u64>,
}

/// Answers requests until the process is asked to end.
pub(super) async fn run(data: &Path, listen: SocketAddr) -> Result<Answer, Failure> {
    // ORDER: the address first, so that nothing is created where it is taken.
    let listener = bind(listen).await?;
    let end = asked_to_end()?;
    let store = Options::new().open(data).await?;
    let shop = Shop::new(Arc::new(store.clone()));
    let projections = Projections::start(&shop.shared_store())?;
    let service = Service::new(shop, projections);
    say_listening(&listener);
    let served = http::serve(Arc::clone(&service), listener, end).await;
    let head = service.shop().store().head().await?;
    service.end(PATIENCE).await;
    let closed = store.close().await;
    served?;
    closed?;
    let shown = head.map_or_else(|| "nothing".to_owned(), |head| format!("{head} events"));
    Ok(Answer::new(format!("ended; the log has {shown}"), &Ended { head: head.map(es_core::Position::get) }))
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(listen).await;
    bound.map_err(|source| Failure::Io { action: format!("listen on {listen}"), source })
}

/// Ready when the process is asked to end.
fn asked_to_end() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let hear = |kind| signal(kind).map_err(|source| Failure::Io { action: "hear signals".into(), source });
    let (mut interrupt, mut terminate) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Says where requests are answered, on standard error; scripts wait for this line.
fn say_listening(listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        // NOTE: that nobody listens on standard error is no reason to stop.
        let _ = writeln!(io::stderr(), "listening on http://{address}");
    }
}
