//! The command line: reads what is asked, opens the store, asks the shop, says what came of it.

mod answer;
mod args;
mod import;
mod order;
mod product;
mod projections;
mod remote;
mod report;
mod serve;
mod show;
mod watch;

use es_core::EventStore;
use es_core::model::ErrorChain;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use es_rocksdb::Options;

use crate::domain::order::{Approve, Cancel, Deliver, Ship};
use crate::domain::product::{Receive, Withdraw};
use crate::failure::Failure;
use crate::shop::Shop;
use answer::Answer;
use args::{Cli, Command, ProductCommand, ShopCommand, Where};
use remote::Remote;

/// Does what the command line asks. Exit codes: 0 done, 1 not done, 2 not understood, 3 somebody else was faster.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(&cli).and_then(|answer| answer.print(json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // NOTE: where even this cannot be said, the exit code still says it.
            let _ = writeln!(io::stderr(), "error: {}", ErrorChain(&failure));
            ExitCode::from(failure.exit_code())
        }
    }
}

#[tokio::main]
async fn run(cli: &Cli) -> Result<Answer, Failure> {
    match cli.command {
        Command::Import(ref args) => import::run(&cli.data(), args).await,
        Command::Serve { listen } => serve::run(&cli.data(), listen).await,
        Command::Projections { at: Where { url: Some(ref url) }, ref command } => {
            projections::ask(&Remote::new(url), command).await
        }
        Command::Watch { at: Where { url: Some(ref url) } } => watch::remote(&Remote::new(url)).await,
        Command::Projections { ref command, .. } => projections::here(&cli.data(), command).await,
        Command::Watch { .. } => watch::here(&cli.data()).await,
        Command::OnShop(ref command) => {
            let creates = matches!(command, ShopCommand::Place(_) | ShopCommand::Product(ProductCommand::Register(_)));
            with_shop(&cli.data(), creates, async |shop| ask(shop, command).await).await
        }
    }
}

/// Opens the store, asks, and closes the store whatever came of it.
async fn with_shop(
    data: &Path,
    create_if_missing: bool,
    ask: impl AsyncFnOnce(&Shop) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let store = Options::new().create_if_missing(create_if_missing).open(data).await?;
    let shop = Shop::new(Arc::new(store.clone()));
    let answer = ask(&shop).await;
    shop.settle().await;
    let closed = store.close().await;
    let answer = answer?;
    closed?;
    Ok(answer)
}

async fn ask(shop: &Shop, command: &ShopCommand) -> Result<Answer, Failure> {
    match command {
        ShopCommand::Place(args) => order::execute(shop, &args.id, args.command()?, &args.how).await,
        ShopCommand::Approve(args) => order::execute(shop, &args.id, Approve, &args.how).await,
        ShopCommand::Ship(args) => order::execute(shop, &args.id, Ship, &args.how).await,
        ShopCommand::Deliver(args) => order::execute(shop, &args.id, Deliver, &args.how).await,
        ShopCommand::Cancel(args) => {
            order::execute(shop, &args.id, Cancel { reason: args.reason.clone() }, &args.how).await
        }
        ShopCommand::Show(args) => show::order(shop, args).await,
        ShopCommand::History { id } => show::history(shop, id).await,
        ShopCommand::Report { verify } => report::report(shop, *verify).await,
        ShopCommand::Product(command) => ask_about_product(shop, command).await,
    }
}

async fn ask_about_product(shop: &Shop, command: &ProductCommand) -> Result<Answer, Failure> {
    match command {
        ProductCommand::Register(args) => product::execute(shop, &args.id, args.command(), &args.how).await,
        ProductCommand::Receive(args) => {
            product::execute(shop, &args.id, Receive { quantity: args.quantity }, &args.how).await
        }
        ProductCommand::Withdraw(args) => {
            product::execute(shop, &args.id, Withdraw { quantity: args.quantity }, &args.how).await
        }
        ProductCommand::Move(args) => product::move_stock(shop, args).await,
        ProductCommand::Show { id } => product::show(shop, id).await,
        ProductCommand::List => product::list(shop).await,
    }
}
