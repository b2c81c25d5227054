//! Prints the path of the protoc from crates.io, which needs no installation.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output is the path")]

use std::process::ExitCode;

fn main() -> ExitCode {
    match protoc_bin_vendored::protoc_bin_path() {
        Ok(path) => {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: no protoc for this platform: {error}");
            ExitCode::FAILURE
        }
    }
}
