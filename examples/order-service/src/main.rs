//! The `order-service` program; see `order-service --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    order_service::cli::main()
}
