//! [`Activity`]: what a connection waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::options::ServeOptions;

/// What a connection waits for. The stream of the connection and its service change it; [`overdue`](Self::overdue)
/// observes it.
#[derive(Debug)]
pub(super) struct Activity {
    wait: watch::Sender<Wait>,
    /// Whether data waits for a client that has not read enough.
    is_blocked: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For the first byte of the first request.
    FirstRequest,
    /// For the first byte of a further request.
    NextRequest,
    /// For the rest of the head of a request.
    Head,
    /// For the response of the service. The deadlines of the body apply.
    Response,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { wait: watch::Sender::new(Wait::FirstRequest), is_blocked: AtomicBool::new(false) }
    }

    /// Records that bytes arrived.
    pub(super) fn received(&self) {
        self.wait.send_if_modified(|wait| {
            let begins = matches!(wait, Wait::FirstRequest | Wait::NextRequest);
            if begins {
                *wait = Wait::Head;
            }
            begins
        });
    }

    /// Records that the service has the head of a request.
    pub(super) fn begin(&self) {
        self.wait.send_replace(Wait::Response);
    }

    /// Records that the response is complete.
    pub(super) fn end(&self) {
        self.wait.send_replace(Wait::NextRequest);
    }

    /// Records whether data waits for the client.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Release);
    }

    /// Waits until a deadline of the client passes. Returns a description of what did not arrive.
    pub(super) async fn overdue(&self, options: &ServeOptions) -> &'static str {
        let mut changes = self.wait.subscribe();
        loop {
            let wait = *changes.borrow_and_update();
            let (deadline, missing) = match wait {
                Wait::FirstRequest => (options.header_deadline, "the first request"),
                Wait::NextRequest => (options.idle_deadline, "another request"),
                Wait::Head => (options.header_deadline, "a complete request head"),
                Wait::Response => (Duration::MAX, ""),
            };
            let is_late = timeout(deadline, changes.changed()).await.is_err();
            // A client that still reads the last response is not idle: the deadline of writes applies to it.
            if is_late && !self.is_blocked.load(Ordering::Acquire) {
                return missing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_deadline_depends_on_what_the_connection_waits_for() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        let options = ServeOptions::new().header_deadline(short).idle_deadline(long);
        let activity = Activity::new();
        assert_eq!(activity.overdue(&options).await, "the first request");
        activity.received();
        assert_eq!(activity.overdue(&options).await, "a complete request head");
        for _ in 0..2 {
            activity.begin();
            activity.received();
            assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "the service has no deadline");
            activity.end();
            assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "it may be idle for longer");
        }
        let options = options.idle_deadline(short);
        activity.set_blocked(true);
        assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "the client reads");
        activity.set_blocked(false);
        assert_eq!(activity.overdue(&options).await, "another request");
    }
}
