//! The program `es`: see `es --help`. The library is `es_cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    es_cli::main()
}
