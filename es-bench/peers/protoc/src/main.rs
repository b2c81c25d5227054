//! Prints the path of a protoc that came from crates.io, so that nothing has to be installed on the machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is all it does")]

use std::process::ExitCode;

fn main() -> ExitCode {
    match protoc_bin_vendored::protoc_bin_path() {
        Ok(path) => {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: there is no protoc for this platform: {error}");
            ExitCode::FAILURE
        }
    }
}
