//! [`serve_until_signal`]: a server that drains at a signal.

use std::io;

use axum::Router;
use tokio::net::TcpListener;

use super::{Drained, ServeOptions, serve};

/// Serves requests until the process receives SIGTERM or SIGINT (Ctrl-C), then drains as [`serve`] does. A second
/// signal ends the drain at once: the result is `None`.
///
/// It is for a program without an es-core [`Service`](es_core::Service), which handles signals for all its components.
///
/// # Errors
/// An error of the operating system if the signal handlers cannot be installed.
pub async fn serve_until_signal(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
) -> io::Result<Option<Drained>> {
    let mut signals = Signals::new()?;
    let (first, stop) = tokio::sync::oneshot::channel();
    let serving = serve(listener, router, options, async {
        // An error means that this function has ended.
        let _ = stop.await;
    });
    let second = async {
        signals.next().await;
        let _ = first.send(());
        signals.next().await;
    };
    tokio::select! {
        drained = serving => Ok(Some(drained)),
        () = second => Ok(None),
    }
}

struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "the Unix version can fail")]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
