//! `es`: see `es --help`, and the library `es_cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    es_cli::main()
}
