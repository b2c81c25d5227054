//! `es`, the command line tool for operators of an [`es_rocksdb`] store.
//!
//! - [`args`]: the command line;
//! - [`command`]: one module for each command;
//! - [`import`]: an idempotent import of such lines;
//! - [`service`]: a client of a running service;
//! - [`store`]: opens a store for writing, in the layout of its directory;
//! - [`answer`], [`failure`], [`progress`]: output, errors with exit codes, progress bars.
//!
//! Read-only commands can run while a service has the store open. Commands that write the directory cannot; with
//! `--url` some of them run in the service.

pub mod answer;
pub mod args;
pub mod bad_line;
pub mod command;
pub mod failure;
pub mod import;
pub mod progress;
pub mod service;
pub mod service_error;
pub mod store;
pub mod text;

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use es_core::model::ErrorChain;
use es_tool::text::{printable_json, printable_lines};
use es_tool::{arguments, process};

use args::Cli;

/// Runs the command line of this process, and prints an error to standard error.
///
/// Exit codes: 0 success, 1 failure, 2 usage error, 3 conflict, 4 damage found.
#[must_use]
pub fn main() -> ExitCode {
    let (cli, matches) = arguments::parse::<Cli>();
    cli.check_target(&matches);
    process::raise_file_limit();
    if cli.command.writes_a_store() {
        // ORDER: before the first thread, so that all files of the store are affected.
        process::restrict_new_files();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: could not start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command::run(&cli)) {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let message = ErrorChain(&failure).to_string();
            let text = if cli.json {
                let error = serde_json::json!({ "error": message, "exit_code": failure.exit_code() }).to_string();
                printable_json(&error).into_owned()
            } else if is_coloured(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()) {
                format!("\u{1b}[1;31merror\u{1b}[0m: {}", printable_lines(&message))
            } else {
                format!("error: {}", printable_lines(&message))
            };
            // If standard error cannot be written, the exit code still reports the failure.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Returns whether error messages are coloured: on a terminal, unless `NO_COLOR` is set.
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    // An empty value counts as unset (no-color.org).
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_coloured_on_a_terminal_unless_no_color_is_set() {
        let coloured = |is_terminal, no_color: Option<&str>| is_coloured(is_terminal, no_color.map(OsStr::new));
        assert!(coloured(true, None) && coloured(true, Some("")));
        assert!(!coloured(true, Some("1")) && !coloured(false, None) && !coloured(false, Some("")));
    }
}
