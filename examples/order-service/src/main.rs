//! `order-service`: see `order-service --help`, and the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    order_service::cli::main()
}
