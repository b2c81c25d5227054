//! The command line: reads what is asked, opens the store, asks the shop, says what came of it.

mod answer;
mod args;
mod import;
mod order;
mod product;
mod report;
mod serve;
mod show;

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
use args::{Cli, Command, ProductCommand, ShopCommand};

/// Does what the command line asks. Exit codes: 0 done, 1 not done, 2 not understood, 3 somebody else was faster.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    match run(cli).and_then(|answer| answer.print(json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // NOTE: where even this cannot be said, the exit code still says it.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

#[tokio::main]
async fn run(cli: Cli) -> Result<Answer, Failure> {
    let data = cli.data();
    match cli.command {
        Command::Import(args) => import::run(&data, &args).await,
        Command::Serve { listen } => serve::run(&data, listen).await,
        Command::OnShop(command) => {
            let creates = matches!(command, ShopCommand::Place(_) | ShopCommand::Product(ProductCommand::Register(_)));
            with_shop(&data, creates, async |shop| ask(shop, command).await).await
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

async fn ask(shop: &Shop, command: ShopCommand) -> Result<Answer, Failure> {
    match command {
        ShopCommand::Place(args) => order::execute(shop, &args.id.clone(), args.command()?, &args.how).await,
        ShopCommand::Approve(args) => order::execute(shop, &args.id, Approve, &args.how).await,
        ShopCommand::Ship(args) => order::execute(shop, &args.id, Ship, &args.how).await,
        ShopCommand::Deliver(args) => order::execute(shop, &args.id, Deliver, &args.how).await,
        ShopCommand::Cancel(args) => order::execute(shop, &args.id, Cancel { reason: args.reason }, &args.how).await,
        ShopCommand::Show(args) => show::order(shop, &args).await,
        ShopCommand::History { id } => show::history(shop, &id).await,
        ShopCommand::Report => report::report(shop).await,
        ShopCommand::Product(command) => ask_about_product(shop, command).await,
    }
}

async fn ask_about_product(shop: &Shop, command: ProductCommand) -> Result<Answer, Failure> {
    match command {
        ProductCommand::Register(args) => product::execute(shop, &args.id.clone(), args.command(), &args.how).await,
        ProductCommand::Receive(args) => {
            product::execute(shop, &args.id, Receive { quantity: args.quantity }, &args.how).await
        }
        ProductCommand::Withdraw(args) => {
            product::execute(shop, &args.id, Withdraw { quantity: args.quantity }, &args.how).await
        }
        ProductCommand::Show { id } => product::show(shop, &id).await,
        ProductCommand::List => product::list(shop).await,
    }
}
