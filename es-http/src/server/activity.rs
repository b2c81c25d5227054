//! [`Activity`]: what a connection waits for.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::options::ServeOptions;
use super::received::ReceivedBytes;

/// The shortest time between two looks at a connection, for deadlines of zero.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
/// The time without a request after which a connection is closed when a new one lacks a descriptor or a slot.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// What a connection waits for. The stream of the connection and its service change it; [`overdue`](Self::overdue)
/// observes it.
///
/// A change wakes no task: each request makes several, and a task that wakes itself is polled once more for each.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    wait: Wait,
    since: Instant,
    /// Whether data waits for a client that has not read enough.
    is_blocked: bool,
    /// The length of the body of the present request; `None` for a body in chunks.
    body_length: Option<u64>,
    received: ReceivedBytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// For the first byte of the first request.
    FirstRequest,
    /// For the first byte of a further request.
    NextRequest,
    /// For the rest of the head of a request.
    Head,
    /// For the body of a request, which has deadlines of its own.
    Body,
    /// For the response of the service, which has the whole request.
    Response,
}

impl Activity {
    pub(super) fn new() -> Self {
        let (wait, since, received) = (Wait::FirstRequest, Instant::now(), ReceivedBytes::new());
        Self(Mutex::new(State { wait, since, is_blocked: false, body_length: Some(0), received }))
    }

    /// Records that bytes arrived.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        if matches!(state.wait, Wait::FirstRequest | Wait::NextRequest) {
            state.begin(Wait::Head);
        }
        state.received.add(bytes);
    }

    /// Records that the connection can send its first request: the handshake of TLS is complete.
    #[cfg(feature = "tls")]
    pub(super) fn end_handshake(&self) {
        self.state().begin(Wait::FirstRequest);
    }

    /// Records that the service has the head of a request, whose body has this length; `None` for a body in chunks.
    pub(super) fn begin(&self, body_length: Option<u64>) {
        let mut state = self.state();
        // The time of the clock is not needed: neither wait has a deadline here.
        state.wait = if body_length == Some(0) { Wait::Response } else { Wait::Body };
        state.body_length = body_length;
    }

    /// Records that the service has the whole body of a request.
    pub(super) fn end_body(&self) {
        let mut state = self.state();
        if state.wait == Wait::Body {
            state.wait = Wait::Response;
        }
    }

    /// Returns whether the service has a whole request and has not answered it yet.
    pub(super) fn awaits_response(&self) -> bool {
        self.state().wait == Wait::Response
    }

    /// Records that the response is complete. The next request may have begun before.
    pub(super) fn end(&self) {
        let mut state = self.state();
        let has_begun = state.received.has_next_request(state.body_length);
        state.received.end_request(has_begun);
        state.begin(if has_begun { Wait::Head } else { Wait::NextRequest });
    }

    /// Records whether data waits for the client. The time until another request begins when the client has read all.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        let mut state = self.state();
        if matches!(state.wait, Wait::NextRequest | Wait::Head) {
            let wait = state.wait;
            state.begin(wait);
        }
        state.is_blocked = is_blocked;
    }

    /// Waits until a deadline of the client passes. Returns a description of what did not arrive.
    pub(super) async fn overdue(&self, options: &ServeOptions) -> &'static str {
        // No wait that begins after a look ends before the next look.
        let interval = options.header_deadline.min(options.idle_deadline).max(SHORTEST_LOOK);
        loop {
            let State { wait, since, is_blocked, .. } = *self.state();
            let (deadline, missing) = match wait {
                Wait::FirstRequest => (options.header_deadline, "the first request"),
                Wait::NextRequest => (options.idle_deadline, "another request"),
                Wait::Head => (options.header_deadline, "a complete request head"),
                Wait::Body | Wait::Response => (Duration::MAX, ""),
            };
            let (now, end) = (Instant::now(), since.checked_add(deadline));
            // A client that still reads the last response is not idle: the deadline of writes applies to it.
            let is_late = end.is_some_and(|end| end <= now);
            if is_late && !is_blocked {
                return missing;
            }
            match (now.checked_add(interval), end.filter(|_| !is_late)) {
                (Some(look), Some(end)) => sleep_until(look.min(end)).await,
                (Some(look), None) | (None, Some(look)) => sleep_until(look).await,
                (None, None) => std::future::pending().await,
            }
        }
    }

    /// Waits until a new connection lacks a descriptor or a slot while this one is idle. `failed` changes when one
    /// lacks it.
    pub(super) async fn idle_at_failure(&self, mut failed: watch::Receiver<()>) {
        while failed.changed().await.is_ok() {
            if self.is_idle_for(REPLACED_AFTER) {
                return;
            }
        }
        // The server accepts no more connections.
        std::future::pending::<()>().await;
    }

    /// Returns whether the connection has waited for a request at least this long.
    fn is_idle_for(&self, time: Duration) -> bool {
        let State { wait, since, is_blocked, .. } = *self.state();
        !matches!(wait, Wait::Body | Wait::Response) && !is_blocked && since.elapsed() >= time
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, wait: Wait) {
        (self.wait, self.since) = (wait, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_deadline_depends_on_what_the_connection_waits_for() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        let options = ServeOptions::new().header_deadline(short).idle_deadline(long);
        let activity = Activity::new();
        assert_eq!(activity.overdue(&options).await, "the first request");
        activity.received(b"GET / HTTP/1.1\r\n");
        assert_eq!(activity.overdue(&options).await, "a complete request head");
        activity.received(b"\r\n");
        for has_body in [false, true] {
            activity.begin(Some(u64::from(has_body)));
            activity.received(if has_body { b"x" } else { b"" });
            assert_eq!(activity.awaits_response(), !has_body);
            activity.end_body();
            assert!(activity.awaits_response());
            assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "the service has no deadline");
            activity.end();
            activity.end_body();
            assert!(!activity.awaits_response());
            assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "it may be idle for longer");
            activity.received(b"GET / HTTP/1.1\r\n\r\n");
        }
        activity.begin(Some(0));
        activity.received(b"GET");
        activity.end();
        assert_eq!(activity.overdue(&options).await, "a complete request head", "the next request has begun");
        activity.received(b" / HTTP/1.1\r\n\r\n");
        activity.begin(Some(0));
        activity.end();
        assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "no request has begun");
        let options = options.idle_deadline(short);
        assert!(activity.is_idle_for(short) && !activity.is_idle_for(long));
        activity.set_blocked(true);
        assert!(!activity.is_idle_for(Duration::ZERO), "the client reads");
        assert!(timeout(short * 4, activity.overdue(&options)).await.is_err(), "the client reads");
        activity.set_blocked(false);
        assert_eq!(activity.overdue(&options).await, "another request");
    }
}
