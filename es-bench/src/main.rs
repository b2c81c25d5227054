//! The benchmark without peers. `es-bench/peers` is the benchmark with peers; `cargo xtask bench` runs either.

use std::process::ExitCode;

fn main() -> ExitCode {
    es_bench::main(Vec::new())
}
