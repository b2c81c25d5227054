//! The signals of a service, in a child process.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Much shorter than the shutdown deadline of the service, which is one hour.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The running service. Killed on drop.
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

    /// Waits until the process exits and returns its exit code.
    fn exit_code(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < TIMEOUT, "the process still runs");
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

/// The first signal waits for the components; a second one, of the same or another kind, stops the process without
/// waiting.
#[test]
fn a_second_signal_stops_a_service_whose_component_does_not_stop() {
    for second in ["-TERM", "-INT"] {
        let (mut service, mut lines) = Running::start();
        assert_eq!(lines.next().unwrap().unwrap(), "running");
        service.send("-TERM");
        assert_eq!(lines.next().unwrap().unwrap(), "stopping");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(service.0.try_wait().unwrap(), None, "the service waits for the intake");
        service.send(second);
        let answer = lines.next().unwrap().unwrap();
        let expected =
            r#"the service did not shut down cleanly; intake "stuck" did not finish; the shutdown was forced"#;
        assert_eq!(answer, expected);
        assert_eq!(service.exit_code(), Some(1));
    }
}
