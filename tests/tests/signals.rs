//! The signals of a service, with a real process.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Far less than the hour that the service has to shut down.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running service. It is killed when the test ends early.
struct Running(Child);

impl Running {
    fn start() -> (Self, Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_signal-child")).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (Self(child), lines)
    }

    fn send(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Waits for the end of the process and returns its exit code.
    fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "the process still runs");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A first signal waits for the components; a second one, of the same or of another kind, ends the process without
/// them.
#[test]
fn a_second_signal_ends_a_service_that_cannot_drain() {
    for second in ["-TERM", "-INT"] {
        let (mut service, mut lines) = Running::start();
        assert_eq!(lines.next().unwrap().unwrap(), "running");
        service.send("-TERM");
        assert_eq!(lines.next().unwrap().unwrap(), "stopping");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(service.0.try_wait().unwrap(), None, "it waits for the intake");
        service.send(second);
        let answer = lines.next().unwrap().unwrap();
        let expected =
            r#"the service did not shut down cleanly; intake "stuck" did not finish; the shutdown was forced"#;
        assert_eq!(answer, expected);
        assert_eq!(service.exit_code(), Some(1));
    }
}
