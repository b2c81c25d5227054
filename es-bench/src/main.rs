//! The project's stores and the limits; with peers, see the crate beside this one. `cargo xtask bench` runs either.

use std::process::ExitCode;

fn main() -> ExitCode {
    es_bench::main(Vec::new())
}
