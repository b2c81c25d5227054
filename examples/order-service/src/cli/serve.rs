//! The `serve` command.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use es_core::Service;
use es_core::model::ErrorChain;
use es_core::service::{RunningService, StopSignal};
use es_http::operations::{Operations, OperationsAddress, OperationsListener};
use es_http::{Health, Metrics, Spans, Tokens};
use es_rocksdb::Options;
use serde::Serialize;
use tokio::net::TcpListener;

use super::args::{self, ServeArgs};
use super::output::Output;
use crate::config::{ConfigError, MergedSettings, PartialSettings, SettingOrigin, Settings};
use crate::failure::Failure;
use crate::fulfilment::{ProviderClient, RunningFulfilment};
use crate::http::{self, Api, Front};
use crate::projections::Projections;
use crate::shop::Shop;
use crate::{transactions, views};

/// The time after the drain of the server in which projections and the store must end.
const SHUTDOWN: Duration = Duration::from_secs(10);
/// The interval at which the samples of histograms are compacted.
const UPKEEP: Duration = Duration::from_secs(5);

/// The JSON output: the state of the log at shutdown.
#[derive(Serialize)]
struct StoppedJson {
    head: Option<u64>,
}

/// Serves requests until the process receives SIGTERM or SIGINT.
pub(super) async fn run(data: Option<PathBuf>, args: &ServeArgs, matches: &ArgMatches) -> Result<Output, Failure> {
    let merged = merge(data, args, matches)?;
    if args.print_config {
        return Ok(Output::new(merged.to_toml(), &merged.to_json()));
    }
    let settings = merged.settings()?;
    let data = settings.data.clone().unwrap_or_else(|| args::no_directory());
    let spans = settings.install_logs()?;
    let (options, tokens) = (settings.serve_options()?, settings.tokens()?);
    let participant_tokens = tokens.clone();
    let (edge, metrics) = (settings.edge(tokens.clone())?, Metrics::install().map_err(ConfigError::from)?);
    let coordinators = settings.coordinators()?;
    warn_if_open(&settings);
    // ORDER: bind the addresses first, so that no store is created if one is in use.
    let listener = bind(&settings).await?;
    let operators = bind_operations(&settings.operations()?, tokens).await?;
    let shop = Shop::new(Arc::new(Options::new().open(&data).await?));
    let store = shop.shared_store();
    let service = Service::new(Arc::clone(&store)).projections(views::supervisor());
    let mut service = service.shutdown_deadline(settings.drain_deadline() + SHUTDOWN).start().await?;
    let health = health(&service, &store, data, settings.min_free);
    let provider = settings.provider.as_deref().map(ProviderClient::new);
    let fulfilment = match &provider {
        Some(provider) => Some(RunningFulfilment::start(&store, provider, settings.payment_deadline()).await?),
        None => None,
    };
    let projections = Projections::of(service.projections(), Arc::clone(&store));
    let api = match &fulfilment {
        Some(fulfilment) => Api::fulfilling(shop, projections, fulfilment.saga().clone()),
        None => Api::new(shop, projections),
    };
    let participant = transactions::participant(api.shop());
    let participant = Settings::participant_routes(coordinators, participant, participant_tokens)?;
    let front = Front { edge, health, metrics: metrics.clone(), participant };
    let operations = Operations::new(Arc::clone(&store))
        .projections(service.projections().cloned())
        .merge(http::operator_router(Shop::new(Arc::clone(&store)), provider));
    let scheme = settings.scheme();
    let operators_options = match settings.operations()? {
        OperationsAddress::Tcp(_) => options.clone(),
        OperationsAddress::Unix(_) => settings.limits(),
    };
    let operators_line = operations_line(&operators, scheme);
    service.intake("operations", |stop| async move {
        operations.serve(operators, operators_options, stop.requested()).await;
        Ok::<(), Failure>(())
    });
    service.intake("http", |stop| async move {
        print_addresses(operators_line.as_deref(), &listener, scheme);
        http::serve(api, listener, front, options, stop.requested()).await;
        Ok::<(), Failure>(())
    });
    if let Some(fulfilment) = fulfilment {
        let deadline = settings.drain_deadline();
        service.intake("sagas", move |stop| async move {
            stop.requested().await;
            fulfilment.shutdown(deadline).await;
            Ok::<(), Failure>(())
        });
    }
    service.intake("metrics", |stop| upkeep(metrics, stop));
    service.run_until_signal().await?;
    if let Some(spans) = spans {
        end_spans(spans).await;
    }
    let head = store.watch_head().current().map(es_core::Position::get);
    let events = head.unwrap_or_default();
    Ok(Output::new(format!("stopped; the log has {events} events"), &StoppedJson { head }))
}

/// Merges the settings of all sources.
fn merge(data: Option<PathBuf>, args: &ServeArgs, matches: &ArgMatches) -> Result<MergedSettings, ConfigError> {
    let file = args.config.as_deref().map(PartialSettings::read).transpose()?;
    let mut command_line = args.settings.clone();
    command_line.data = data;
    let origin_of = |key: &str| match matches.value_source(&key.replace('-', "_")) {
        Some(ValueSource::EnvVariable) => SettingOrigin::Environment,
        _ => SettingOrigin::Flag,
    };
    MergedSettings::new(&command_line, origin_of, file.as_ref())
}

/// Warns the operator on standard error and in the log.
fn warn_if_open(settings: &Settings) {
    if settings.is_open_to_all() {
        let listen = settings.listen;
        let warning = format!("every client that reaches {listen} may do everything; give --tokens FILE");
        // A closed standard error must not stop the service.
        let _ = writeln!(io::stderr(), "warning: {warning}");
        tracing::warn!(%listen, "{warning}");
    }
}

/// Returns the checks of the service.
fn health(
    service: &RunningService,
    store: &Arc<dyn es_core::EventStore>,
    data: PathBuf,
    minimum_free_bytes: u64,
) -> Health {
    let health = Health::new().store(Arc::clone(store)).disk_space(data, minimum_free_bytes);
    service.projections().fold(health, |health, projection| health.projection(projection.clone()))
}

/// Compacts the samples of histograms until the service stops.
async fn upkeep(metrics: Metrics, stop: StopSignal) -> Result<(), Failure> {
    let stopped = stop.requested();
    tokio::pin!(stopped);
    while tokio::time::timeout(UPKEEP, &mut stopped).await.is_err() {
        metrics.upkeep();
    }
    Ok(())
}

/// Sends the last spans. A collector that does not answer is no failure of the service.
async fn end_spans(spans: Spans) {
    if let Err(error) = spans.shutdown().await {
        tracing::warn!(error = %ErrorChain(&error), "last spans not sent");
    }
}

/// Listens for operators. Without tokens, only clients of this machine can be operators.
async fn bind_operations(address: &OperationsAddress, tokens: Option<Tokens>) -> Result<OperationsListener, Failure> {
    Ok(match tokens {
        Some(tokens) => OperationsListener::authenticated(address, tokens).await?,
        None => OperationsListener::local(address).await?,
    })
}

async fn bind(settings: &Settings) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(settings.listen).await;
    bound.map_err(|source| Failure::Io { action: format!("listen on {}", settings.listen), source })
}

/// Returns the line with the address of the operations.
fn operations_line(listener: &OperationsListener, scheme: &str) -> Option<String> {
    Some(match listener.address().ok()? {
        OperationsAddress::Tcp(address) => format!("operations on {scheme}://{address}"),
        unix @ OperationsAddress::Unix(_) => format!("operations on {unix}"),
    })
}

/// Prints the addresses to standard error; scripts wait for the last line.
fn print_addresses(operations: Option<&str>, listener: &TcpListener, scheme: &str) {
    let address = listener.local_addr().ok().map(|address| format!("listening on {scheme}://{address}"));
    for line in [operations, address.as_deref()].into_iter().flatten() {
        // A closed standard error must not stop the service.
        let _ = writeln!(io::stderr(), "{line}");
    }
}
