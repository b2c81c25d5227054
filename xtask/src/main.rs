//! The commands of the project, run as `cargo xtask <command>`.
//!
//! A command installs the prerequisites of RocksDB ([`prerequisites`]) and then runs cargo. This program has no
//! dependency that needs a C++ compiler, so that it can report a missing one.
//!
//! **One profile, one set of features.** RocksDB takes nine minutes to compile. cargo compiles it again whenever the
//! profile, a feature of a crate that its build script uses, or one of a few environment variables changes. The cargo
//! calls of this program therefore select the whole workspace with the features that the tests need (see
//! [`workspace`]), or a package with the same features, and set no variable without need.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output is for the user at the terminal")]

mod bench;
mod check;
mod cli;
mod command_line;
mod console;
mod demo;
mod failure;
mod fuzz;
mod messages;
mod mutants;
mod package;
mod prerequisites;
mod sample;
mod soak;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use failure::Failure;
use package::Store;
use prerequisites::Permission;
use workspace::Workspace;

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_reported() {
                console::error(&failure);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let permission = Permission::from_flag(cli.no_install);
    prerequisites::ensure(permission)?;
    let workspace = Workspace::find()?;
    match cli.command {
        Command::Setup => {
            console::note("all prerequisites of RocksDB are installed");
            Ok(())
        }
        Command::Demo => demo::run(&workspace),
        Command::Test { args } => test(&workspace, args),
        Command::Soak(args) => soak::run(&workspace, permission, &args),
        Command::Mutants(args) => mutants::run(&workspace, &args),
        Command::Fuzz { seconds, targets } => fuzz::run(&workspace, permission, seconds, &targets),
        Command::Bench { args } => bench::run(&workspace, args),
        Command::Check => check::run(&workspace),
        Command::Package { store } => package::run(&workspace, store),
        Command::Ci => {
            check::run(&workspace)?;
            package::run(&workspace, Store::Memory)?;
            test(&workspace, Vec::new())
        }
    }
}

/// Runs all tests of the workspace, including doctests; without arguments, also the tests of optional features.
fn test(workspace: &Workspace, args: Vec<String>) -> Result<(), Failure> {
    console::heading("tests");
    workspace.announce_rocksdb_build();
    let is_complete = args.is_empty();
    workspace.cargo(["test", "--workspace"]).args(args).run_self_reporting()?;
    if is_complete {
        console::heading("tests of the features of es-http");
        workspace.cargo(["test", "--package", "es-http", "--all-features"]).run_self_reporting()?;
    }
    Ok(())
}
