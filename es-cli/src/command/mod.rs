//! The commands, one module for each.

mod append;
mod backup;
mod compact;
mod delete;
mod export;
mod import;
mod info;
mod read;
mod repair;
mod retag;
mod retain;
mod snapshots;
mod stats;
mod streams;
mod verify;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Command, RetainCommand, SnapshotsCommand};
use crate::failure::Failure;

/// Runs a command and returns its exit code.
///
/// # Errors
/// [`Failure`]: the command failed.
pub async fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let result = dispatch(cli).await;
    result.map_err(|failure| match cli.command {
        // These commands use other directories, or none.
        Command::Restore { .. } | Command::Backup { .. } | Command::Repair(_) | Command::Completions { .. } => failure,
        _ => failure.in_store(&cli.store()),
    })
}

async fn dispatch(cli: &Cli) -> Result<ExitCode, Failure> {
    let json = cli.json;
    let store = || cli.store();
    match &cli.command {
        Command::Info => info::run(&store(), json).await?,
        Command::Stats => stats::run(&store(), json).await?,
        Command::Streams(args) => streams::run(&store(), args, json).await?,
        Command::Read(args) => read::stream(&store(), args, json).await?,
        Command::Log(args) => read::log(&store(), args, json).await?,
        Command::Append(args) => append::run(&store(), args, json).await?,
        Command::Import(args) => import::run(&store(), args, json).await?,
        Command::Export(args) => export::run(&store(), args, json).await?,
        Command::Verify => return verify::run(&store(), json).await,
        Command::Backup { dir } => return backup::create(&store(), dir, json).await,
        Command::Restore { dir, to, number } => return backup::restore(dir, to, *number, json).await,
        Command::Repair(args) => return repair::run(&store(), args, json).await,
        Command::Retag(args) => retag::run(&store(), args, json).await?,
        Command::Compact => compact::run(&store(), json).await?,
        Command::Snapshots(SnapshotsCommand::List(args)) => snapshots::list(&store(), args, json).await?,
        Command::Snapshots(SnapshotsCommand::Drop(args)) => snapshots::drop(&store(), args, json).await?,
        Command::Retain(RetainCommand::Set(args)) => retain::set(&store(), args, json).await?,
        Command::Retain(RetainCommand::Clear(args)) => retain::clear(&store(), args, json).await?,
        Command::Retain(RetainCommand::List) => retain::list(&store(), json).await?,
        Command::Retain(RetainCommand::Scavenge(args)) => retain::scavenge(&store(), args, json).await?,
        Command::Delete(args) => delete::run(&store(), args, json).await?,
        Command::Completions { shell } => completions(*shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "es", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script).map_err(Failure::output)
}

/// The size of a store on disk.
struct DiskUsage {
    bytes: u64,
    files: u64,
}

/// Returns the size of the files in a directory.
fn disk_usage(directory: &Path) -> Result<DiskUsage, Failure> {
    let failed = |source| Failure::io("read the directory", directory, source);
    let (mut bytes, mut files) = (0, 0);
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        // A service may remove the file after it was listed.
        if let Ok(metadata) = entry.map_err(failed)?.metadata()
            && metadata.is_file()
        {
            bytes += metadata.len();
            files += 1;
        }
    }
    Ok(DiskUsage { bytes, files })
}
