//! The `watch` command.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use es_http::operations::ProjectionReport;
use es_tool::text::{printable, printable_lines};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;
use super::projections::status_output;
use super::remote::Remote;
use super::{IfMissing, with_shop};
use crate::failure::Failure;
use crate::projections::Projections;

/// The interval at which a running service is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Opens the store, and runs the projections and shows their progress until they have caught up.
pub(super) async fn local(data: &Path) -> Result<Output, Failure> {
    with_shop(data, IfMissing::Fail, async |shop| {
        let mut display = Display::new();
        let status = Projections::run(shop.shared_store(), async |projections| {
            projections.wait_until_idle(|status| display.show(status)).await
        });
        let status = status.await;
        display.clear();
        Ok(status_output(&status?))
    })
    .await
}

/// Shows the progress of the projections of a running service until Ctrl-C.
pub(super) async fn remote(service: &Remote) -> Result<Output, Failure> {
    let mut display = Display::new();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let status = service.status().await?;
        display.show(&status);
        tokio::select! {
            _ = &mut interrupted => {
                display.clear();
                return Ok(status_output(&status));
            }
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

/// Shows a progress bar for each projection on a terminal; prints a line for each change elsewhere.
struct Display {
    terminal: Option<MultiProgress>,
    bars: Vec<ProgressBar>,
    printed: Vec<String>,
}

impl Display {
    fn new() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let terminal = is_terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { terminal, bars: Vec::new(), printed: Vec::new() }
    }

    fn show(&mut self, status: &[ProjectionReport]) {
        let lines: Vec<String> = status.iter().map(status_line).collect();
        let Some(terminal) = &self.terminal else {
            for line in lines.iter().filter(|line| !self.printed.contains(line)) {
                // A closed standard error must not stop the command.
                let _ = writeln!(io::stderr(), "{}", printable_lines(line));
            }
            self.printed = lines;
            return;
        };
        let style = ProgressStyle::with_template("{bar:30} {pos:>9} of {len:<9} {wide_msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        while self.bars.len() < status.len() {
            self.bars.push(terminal.add(ProgressBar::new(0)).with_style(style.clone()));
        }
        for ((bar, status), line) in self.bars.iter().zip(status).zip(lines) {
            bar.set_length(status.head.unwrap_or(0));
            bar.set_position(status.rebuild.as_ref().map_or(status.position, |rebuild| rebuild.position).unwrap_or(0));
            bar.set_message(printable(&line).into_owned());
        }
    }

    fn clear(&self) {
        if let Some(terminal) = &self.terminal {
            // The command must not fail if the terminal was closed.
            let _ = terminal.clear();
        }
    }
}

fn status_line(status: &ProjectionReport) -> String {
    let (rate, eta) = match &status.rebuild {
        Some(rebuild) => (rebuild.rate, rebuild.eta_seconds),
        None => (status.rate, status.eta_seconds),
    };
    let state = if status.rebuild.is_some() { "rebuilding" } else { &status.state };
    let mut line = format!("{}: {state}", status.name);
    if status.lag_events > 0 || status.rebuild.is_some() {
        line += &format!(", lag {} events, {rate:.0} events/s", status.lag_events);
        if let Some(seconds) = eta {
            line += &format!(", {seconds:.0} s left");
        }
    }
    if status.parked_keys > 0 {
        line += &format!(", {} parked keys", status.parked_keys);
    }
    line
}
