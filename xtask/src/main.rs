//! The project's own commands, run as `cargo xtask <command>`.
//!
//! Each command first sees to it that RocksDB can be built ([`prerequisites`]) and then hands over
//! to cargo. This program depends on nothing that needs a C++ compiler, so that it can say so when
//! there is none.
//!
//! **One profile, one feature set.** RocksDB takes nine minutes to compile, and cargo compiles it again whenever the
//! profile, the features of anything its build script uses, or one of a few environment variables
//! changes. Therefore the calls of cargo made here take the whole workspace with the features that
//! the tests need (see [`workspace`]), or a package that has the same ones, and no call sets a variable that is not needed.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program is there to talk to the person at the terminal"
)]

mod bench;
mod check;
mod cli;
mod demo;
mod failure;
mod fuzz;
mod package;
mod prerequisites;
mod run;
mod sample;
mod say;
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
            if !failure.is_said() {
                say::failure(&failure);
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let permission = Permission::from_flag(cli.no_install);
    let workspace = || Workspace::find(prerequisites::ensure(permission)?);
    match cli.command {
        Command::Setup { print_env } => setup(permission, print_env),
        Command::Demo => demo::run(&workspace()?),
        Command::Test { args } => test(&workspace()?, args),
        Command::Soak(args) => soak::run(&workspace()?, permission, &args),
        Command::Fuzz { seconds, targets } => fuzz::run(&workspace()?, permission, seconds, &targets),
        Command::Bench { args } => bench::run(&workspace()?, args),
        Command::Check => check::run(&workspace()?),
        Command::Package => package::run(&workspace()?, Store::Memory),
        Command::Ci => {
            let workspace = workspace()?;
            check::run(&workspace)?;
            package::run(&workspace, Store::Memory)?;
            test(&workspace, Vec::new())
        }
    }
}

/// Looks for what is needed, and says which variables cargo has to be given, if any.
fn setup(permission: Permission, print_env: bool) -> Result<(), Failure> {
    let variables = prerequisites::ensure(permission)?;
    if print_env {
        for (name, value) in &variables {
            println!("export {name}={}", run::quoted(value));
        }
    } else {
        say::note("everything that building RocksDB needs is there");
        if !variables.is_empty() {
            say::note("to call cargo yourself: eval \"$(cargo xtask setup --print-env)\"");
        }
    }
    Ok(())
}

/// All tests, with the doctests. Whether they pass or not, the test runner has the last word.
fn test(workspace: &Workspace, args: Vec<String>) -> Result<(), Failure> {
    say::heading("tests");
    workspace.announce_rocksdb();
    workspace.cargo(["test", "--workspace"]).args(args).hand_over()
}
