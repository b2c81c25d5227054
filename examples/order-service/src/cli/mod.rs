//! The command line: parses the arguments, opens the store, runs the command and prints its result.

pub(crate) mod args;
#[cfg(test)]
mod deploy;
mod fulfil;
pub(crate) mod fulfilment_args;
mod import;
mod note_args;
mod order;
mod output;
pub(crate) mod process_args;
mod processes;
mod product;
mod projections;
mod provider;
mod remote;
mod report;
mod sagas;
mod serve;
pub(crate) mod service_args;
mod show;
pub(crate) mod transactions;
mod watch;

use es_core::EventStore;
use es_core::model::ErrorChain;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use es_rocksdb::Options;
use es_tool::text::printable_lines;
use es_tool::{arguments, process};

use crate::domain::order::{Approve, Cancel, Deliver, Ship};
use crate::domain::product::{Receive, Withdraw};
use crate::failure::Failure;
use crate::shop::Shop;
use args::{Cli, Command, ProductCommand, ShopCommand};
use fulfilment_args::FulfilmentCommand;
use output::{Format, Output};
use remote::Remote;
use service_args::ServiceArgs;

/// Runs the command line. Exit codes: 0 success, 1 failure, 2 usage error, 3 conflict.
#[must_use]
pub fn main() -> ExitCode {
    let (cli, matches) = arguments::parse::<Cli>();
    process::raise_file_limit();
    // ORDER: before the first thread, so that all files of the store are affected.
    process::restrict_new_files();
    let format = if cli.json { Format::Json } else { Format::Text };
    match run(&cli, &matches).and_then(|output| output.print(format)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed standard error must not hide the exit code.
            let message = ErrorChain(&failure).to_string();
            let _ = writeln!(io::stderr(), "error: {}", printable_lines(&message));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The time in which work of the store that blocks a thread must end after the command. A store is safe without it.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(1);

fn run(cli: &Cli, matches: &ArgMatches) -> Result<Output, Failure> {
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|source| Failure::Io { action: "start the runtime".to_owned(), source })?;
    let output = runtime.block_on(run_command(cli, matches));
    // Without a limit, the process would wait for a scavenge that a second signal has left.
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    output
}

async fn run_command(cli: &Cli, matches: &ArgMatches) -> Result<Output, Failure> {
    match cli.command {
        Command::Import(ref args) => import::run(&cli.data(), args).await,
        Command::Serve(ref args) => {
            let matches = matches.subcommand_matches("serve").unwrap_or(matches);
            serve::run(cli.data.clone(), args, matches).await
        }
        Command::Projections { service: ref args @ ServiceArgs { url: Some(ref url), .. }, ref command } => {
            projections::remote(&Remote::new(url, args)?, command).await
        }
        Command::Watch { service: ref args @ ServiceArgs { url: Some(ref url), .. } } => {
            watch::remote(&Remote::new(url, args)?).await
        }
        Command::Fulfilment(ref command) => run_fulfilment(cli, command).await,
        Command::Projections { ref command, .. } => projections::local(&cli.data(), command).await,
        Command::Watch { .. } => watch::local(&cli.data()).await,
        Command::OnShop(ref command) => {
            let if_missing = match command {
                ShopCommand::Place(_) | ShopCommand::Product(ProductCommand::Register(_)) => IfMissing::Create,
                _ => IfMissing::Fail,
            };
            with_shop(&cli.data(), if_missing, async |shop| run_on_shop(shop, command).await).await
        }
    }
}

/// The behaviour of a command if the store does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfMissing {
    Create,
    Fail,
}

/// Opens the store, runs `command`, and closes the store, also after a failure.
async fn with_shop(
    data: &Path,
    if_missing: IfMissing,
    command: impl AsyncFnOnce(&Shop) -> Result<Output, Failure>,
) -> Result<Output, Failure> {
    let store = Options::new().create_if_missing(if_missing == IfMissing::Create).open(data).await?;
    let shop = Shop::new(Arc::new(store.clone()));
    let output = command(&shop).await;
    shop.settle().await;
    let closed = store.close().await;
    let output = output?;
    closed?;
    Ok(output)
}

async fn run_fulfilment(cli: &Cli, command: &FulfilmentCommand) -> Result<Output, Failure> {
    match command {
        FulfilmentCommand::Fulfil(args) => fulfil::run(&cli.data(), args).await,
        FulfilmentCommand::Provider(args) => provider::run(args).await,
        FulfilmentCommand::Sagas { service: args @ ServiceArgs { url: Some(url), .. }, command } => {
            sagas::remote(&Remote::new(url, args)?, command).await
        }
        FulfilmentCommand::Sagas { command, .. } => sagas::local(&cli.data(), command).await,
        FulfilmentCommand::Processes { service: args @ ServiceArgs { url: Some(url), .. }, command } => {
            processes::remote(&Remote::new(url, args)?, command).await
        }
        FulfilmentCommand::Processes { command, .. } => processes::local(&cli.data(), command).await,
        FulfilmentCommand::Transactions { service: args @ ServiceArgs { url: Some(url), .. }, command } => {
            transactions::remote(&Remote::new(url, args)?, command).await
        }
        FulfilmentCommand::Transactions { command, .. } => transactions::local(&cli.data(), command).await,
    }
}

async fn run_on_shop(shop: &Shop, command: &ShopCommand) -> Result<Output, Failure> {
    match command {
        ShopCommand::Place(args) => order::execute(shop, &args.id, args.command()?, &args.options).await,
        ShopCommand::Approve(args) => order::execute(shop, &args.id, Approve, &args.options).await,
        ShopCommand::Ship(args) => order::execute(shop, &args.id, Ship, &args.options).await,
        ShopCommand::Deliver(args) => order::execute(shop, &args.id, Deliver, &args.options).await,
        ShopCommand::Cancel(args) => {
            order::execute(shop, &args.id, Cancel { reason: args.reason.clone() }, &args.options).await
        }
        ShopCommand::Show(args) => show::order(shop, args).await,
        ShopCommand::History { id } => show::history(shop, id).await,
        ShopCommand::Report { verify } => report::report(shop, *verify).await,
        ShopCommand::Product(command) => run_on_product(shop, command).await,
    }
}

async fn run_on_product(shop: &Shop, command: &ProductCommand) -> Result<Output, Failure> {
    match command {
        ProductCommand::Register(args) => product::execute(shop, &args.id, args.command(), &args.options).await,
        ProductCommand::Receive(args) => {
            product::execute(shop, &args.id, Receive { quantity: args.quantity }, &args.options).await
        }
        ProductCommand::Withdraw(args) => {
            product::execute(shop, &args.id, Withdraw { quantity: args.quantity }, &args.options).await
        }
        ProductCommand::Move(args) => product::move_stock(shop, args).await,
        ProductCommand::Show { id } => product::show(shop, id).await,
        ProductCommand::List => product::list(shop).await,
    }
}
