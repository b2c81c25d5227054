//! `es`, the operator's tool for a store of [`es_rocksdb`]: look into it, append, import and export, verify,
//! back up, repair.
//!
//! - [`args`]: what can be asked;
//! - [`command`]: what is done, one module for each command;
//! - [`line`](mod@line): an event as a line of JSON, the form of import, export and every listing with `--json`;
//! - [`import`]: lines into a store, so that a repeat adds nothing twice;
//! - [`answer`], [`failure`], [`progress`]: what is said of it, and how the process ends.
//!
//! What only looks opens the store for reading and works beside a running service. What writes needs the store for itself.

pub mod answer;
pub mod args;
pub mod bad_line;
pub mod command;
pub mod failure;
pub mod import;
pub mod line;
pub mod progress;
pub mod text;

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use es_core::model::ErrorChain;

use args::Cli;

/// Does what the command line asks. Exit codes: 0 well, 1 failed, 2 not understood, 3 conflict, 4 damage found.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command::run(&cli)) {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            let text = if cli.json {
                serde_json::json!({ "error": ErrorChain(&failure).to_string(), "exit_code": failure.exit_code() })
                    .to_string()
            } else if is_coloured(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref()) {
                format!("\u{1b}[1;31merror\u{1b}[0m: {}", ErrorChain(&failure))
            } else {
                format!("error: {}", ErrorChain(&failure))
            };
            // NOTE: where even this cannot be said, the exit code still says it.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Whether what is said to people has colours: on a terminal, unless NO_COLOR asks for none.
fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    // NOTE: set but empty is as if it were not set (no-color.org).
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_and_for_those_who_want_them() {
        let coloured = |is_terminal, no_color: Option<&str>| is_coloured(is_terminal, no_color.map(OsStr::new));
        assert!(coloured(true, None) && coloured(true, Some("")));
        assert!(!coloured(true, Some("1")) && !coloured(false, None) && !coloured(false, Some("")));
    }
}
