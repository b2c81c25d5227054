//! A bank: a store with an account, which is a participant over HTTP.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use es_core::prelude::*;
use es_http::ServeOptions;
use es_http::transactions::ParticipantRouter;
use es_rocksdb::RocksDbStore;
use es_transaction::StoreParticipant;
use tokio::net::TcpListener;

use crate::account::{Account, CENTS, Deposit, Open, Withdraw};
use crate::failure::Failure;
use crate::process::message::{Answer, BankStatus, Request};
use crate::process::remote::{CLIENT, COORDINATOR, PATH, TERMINATE_AFTER, TOKEN, remote_bank, tokens};
use crate::process::standard_streams::answer_requests;
use crate::process::steps::StopPoint;

/// The command line of a bank.
#[derive(Debug, clap::Args)]
pub(crate) struct BankArguments {
    /// Name of the bank
    #[arg(long)]
    name: String,
    /// Account of the bank
    #[arg(long)]
    account: String,
    /// Directory of the store
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Port on which it answers
    #[arg(long)]
    port: u16,
    /// Name of the other bank
    #[arg(long)]
    peer: String,
    /// Port of the other bank
    #[arg(long)]
    peer_port: u16,
    /// Stop at this step, and wait to be killed
    #[arg(long, value_name = "N")]
    stop_at: Option<u64>,
    /// Secret of all services
    #[arg(long, env = TOKEN, hide_env_values = true)]
    token: String,
}

/// Runs a bank until its standard input ends.
pub(crate) async fn run(arguments: BankArguments) -> Result<(), Failure> {
    let BankArguments { name, account, store, port, peer, peer_port, stop_at, token } = arguments;
    let durable = RocksDbStore::open(store).await?;
    let store: Arc<dyn EventStore> = Arc::new(durable.clone());
    let accounts = Arc::new(Repository::<Account>::new(Arc::clone(&store)));
    // A transaction that is in doubt may have locked an open account.
    if accounts.load(&account).await?.state.cents.is_none() {
        accounts.execute(&account, Open { cents: CENTS }).await?;
    }
    let participant = StoreParticipant::new(&name, store)
        .command::<Account, Deposit>("deposit", &accounts)
        .command::<Account, Withdraw>("withdraw", &accounts)
        .peer(remote_bank(&peer, peer_port, &token)?)
        .terminate_after(TERMINATE_AFTER);
    // It ends three-phase commits if the coordinator is down.
    let _running = participant.start();

    let routes = ParticipantRouter::new(Arc::new(participant.clone())).tokens(tokens(&token)?);
    let routes = routes.coordinator(COORDINATOR, CLIENT).build()?;
    let traffic = Arc::new(Traffic { requests: AtomicU64::new(0), stop: StopPoint::new(stop_at) });
    let routes = routes.layer(from_fn_with_state(Arc::clone(&traffic), count));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let served =
        es_http::serve(listener, Router::new().nest(PATH, routes), ServeOptions::new(), std::future::pending());

    let status = async |_: Request| -> Result<Answer, Failure> {
        // ORDER: an account whose transaction was not in doubt any more is not seen as locked.
        let prepared = participant.prepared(10).await?.len();
        let loaded = accounts.load(&account).await?;
        Ok(Answer::Bank(BankStatus {
            cents: loaded.state.cents.unwrap_or_default(),
            is_locked: loaded.locked_by().is_some(),
            prepared,
            requests: traffic.requests.load(Ordering::Relaxed),
            syncs: durable.stats().syncs,
        }))
    };
    tokio::select! {
        _ = served => Ok(()),
        ended = answer_requests(status) => ended,
    }
}

/// The requests of a bank.
struct Traffic {
    /// The number of answered requests.
    requests: AtomicU64,
    stop: StopPoint,
}

/// Counts a request, and stops before or after it.
async fn count(State(traffic): State<Arc<Traffic>>, request: HttpRequest, next: Next) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let operation = path.split('/').next().unwrap_or_default();
    traffic.stop.reach(|| format!("before {operation}"));
    let response = next.run(request).await;
    // The answer waits for the syncs of the request, so they are counted before it.
    traffic.requests.fetch_add(1, Ordering::Relaxed);
    traffic.stop.reach(|| format!("after {operation}"));
    response
}
