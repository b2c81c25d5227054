//! [`LogLines`]: the log of a test.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::{DefaultGuard, NoSubscriber};

/// The lines that this thread logs as JSON, as long as the value lives.
pub(crate) struct LogLines {
    written: Written,
    _second: tracing::Dispatch,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogLines {
    pub(crate) fn collect() -> Self {
        let written = Written::default();
        let writer = written.clone();
        // While a process has a single subscriber, tracing asks that of the thread which reaches a callsite first. The
        // thread of another test has none, and the callsite would be disabled for this test, too.
        let second = tracing::Dispatch::new(NoSubscriber::new());
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        Self { written, _second: second, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Returns the text of the lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.written.0.lock().unwrap().clone()).unwrap()
    }
}
