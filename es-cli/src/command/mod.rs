//! The commands, one module for each.

mod administer;
mod append;
mod backup;
mod compact;
mod delete;
mod export;
mod import;
mod info;
mod job;
mod projections;
mod read;
mod repair;
mod replication;
mod retag;
mod retain;
mod snapshots;
mod stats;
mod streams;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Command, RetainCommand, SnapshotsCommand};
use crate::failure::Failure;
use crate::service::Target;

/// Runs a command and returns its exit code.
///
/// # Errors
/// [`Failure`]: the command failed.
pub async fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let result = if cli.is_remote() { in_service(cli).await } else { dispatch(cli, &cli.command).await };
    result.map_err(|failure| match cli.command {
        _ if cli.is_remote() => failure,
        // These commands use other directories, or none.
        Command::Restore { .. } | Command::Backup { .. } | Command::Repair(_) | Command::Completions { .. } => failure,
        _ => failure.in_store(&cli.store()),
    })
}

/// Runs a command in a service. Refuses the commands that need the directory.
async fn in_service(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Stats => Err(needs_directory("stats")),
        Command::Append(_) => Err(needs_directory("append")),
        Command::Import(_) => Err(needs_directory("import")),
        Command::Export(_) => Err(needs_directory("export")),
        Command::Verify => Err(needs_directory("verify")),
        Command::Backup { .. } => Err(needs_directory("backup")),
        Command::Restore { .. } => Err(needs_directory("restore")),
        Command::Repair(_) => Err(needs_directory("repair")),
        Command::Retag(_) => Err(needs_directory("retag")),
        command => dispatch(cli, command).await,
    }
}

/// Returns the error of a command that does not run in a service.
fn needs_directory(command: &str) -> Failure {
    let message = format!("`es {command}` needs the directory of the store: give --store DIR in place of --url");
    Failure::Usage(message)
}

async fn dispatch(cli: &Cli, command: &Command) -> Result<ExitCode, Failure> {
    let json = cli.json;
    let store = || cli.store();
    match command {
        Command::Info => info::run(&cli.target()?, json).await?,
        Command::Stats => stats::run(&store(), json).await?,
        Command::Streams(args) => streams::run(&cli.target()?, args, json).await?,
        Command::Read(args) => read::stream(&cli.target()?, args, json).await?,
        Command::Log(args) => read::log(&cli.target()?, args, json).await?,
        Command::Append(args) => append::run(&store(), args, json).await?,
        Command::Import(args) => import::run(&store(), args, json).await?,
        Command::Export(args) => export::run(&store(), args, json).await?,
        Command::Verify => return verify::run(&store(), json).await,
        Command::Backup { dir } => return backup::create(&store(), dir, json).await,
        Command::Restore { dir, to, number } => return backup::restore(dir, to, *number, json).await,
        Command::Repair(args) => return repair::run(&store(), args, json).await,
        Command::Retag(args) => retag::run(&store(), args, json).await?,
        Command::Compact => compact::run(&cli.target()?, json).await?,
        Command::Snapshots(SnapshotsCommand::List(args)) => snapshots::list(&cli.target()?, args, json).await?,
        Command::Snapshots(SnapshotsCommand::Drop(args)) => snapshots::drop(&cli.target()?, args, json).await?,
        Command::Retain(RetainCommand::Set(args)) => retain::set(&cli.target()?, args, json).await?,
        Command::Retain(RetainCommand::Clear(args)) => retain::clear(&cli.target()?, args, json).await?,
        Command::Retain(RetainCommand::List) => retain::list(&cli.target()?, json).await?,
        Command::Retain(RetainCommand::Scavenge(args)) => retain::scavenge(&cli.target()?, args, json).await?,
        Command::Delete(args) => delete::run(&cli.target()?, args, json).await?,
        Command::Projections(command) => match cli.target()? {
            Target::Service(service) => projections::run(&service, command, json).await?,
            Target::Directory(_) => {
                let message = "`es projections` needs a running service: give --url URL in place of --store";
                return Err(Failure::Usage(message.to_owned()));
            }
        },
        Command::Replication(command) => replication::run(&cli.target()?, command, json).await?,
        Command::Completions { shell } => completions(*shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "es", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script).map_err(Failure::output)
}
