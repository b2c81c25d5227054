//! The child of the test of signals: a service whose intake does not end when it is asked to. It prints `running` once
//! it takes signals and `stopping` when it is asked to stop. It has an hour to shut down.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use es_core::Service;
use es_core::store::memory::MemoryStore;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let service = Service::new(Arc::new(MemoryStore::new())).shutdown_deadline(Duration::from_secs(3600));
    let mut service = service.start().await.expect("nothing can fail to start");
    service.intake("stuck", |stop| async move {
        print("running");
        stop.requested().await;
        print("stopping");
        std::future::pending::<Result<(), std::io::Error>>().await
    });
    match service.run_until_signal().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("the parent reads");
}
