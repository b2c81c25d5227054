//! `watch`

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::answer::Answer;
use super::projections::list;
use super::remote::Remote;
use super::with_shop;
use crate::failure::Failure;
use crate::projections::{Projections, ShownStatus};

/// How often a running service is asked.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the projections here and shows them until they have caught up.
pub(super) async fn here(data: &Path) -> Result<Answer, Failure> {
    with_shop(data, false, async |shop| {
        let mut bars = Bars::new();
        let store = shop.shared_store();
        let settled = Projections::run(store, async |projections| projections.settle(|status| bars.show(status)).await);
        let settled = settled.await;
        bars.clear();
        Ok(list(&settled?))
    })
    .await
}

/// Shows those of a running service until Ctrl-C.
pub(super) async fn remote(service: &Remote) -> Result<Answer, Failure> {
    let mut bars = Bars::new();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let status = service.status().await?;
        bars.show(&status);
        tokio::select! {
            _ = &mut interrupted => {
                bars.clear();
                return Ok(list(&status));
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// A bar for each projection on a terminal; a line for each change elsewhere.
struct Bars {
    all: Option<MultiProgress>,
    each: Vec<ProgressBar>,
    said: Vec<String>,
}

impl Bars {
    fn new() -> Self {
        let all = io::stderr().is_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { all, each: Vec::new(), said: Vec::new() }
    }

    fn show(&mut self, status: &[ShownStatus]) {
        let words: Vec<String> = status.iter().map(in_words).collect();
        let Some(all) = &self.all else {
            for line in words.iter().filter(|line| !self.said.contains(line)) {
                // NOTE: that nobody listens is no reason to stop.
                let _ = writeln!(io::stderr(), "{line}");
            }
            self.said = words;
            return;
        };
        let style = ProgressStyle::with_template("{bar:30} {pos:>9} of {len:<9} {msg}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        while self.each.len() < status.len() {
            self.each.push(all.add(ProgressBar::new(0)).with_style(style.clone()));
        }
        for ((bar, status), words) in self.each.iter().zip(status).zip(words) {
            bar.set_length(status.head.unwrap_or(0));
            bar.set_position(status.rebuild.as_ref().map_or(status.position, |rebuild| rebuild.position).unwrap_or(0));
            bar.set_message(words);
        }
    }

    fn clear(&self) {
        if let Some(all) = &self.all {
            // NOTE: a terminal that is gone needs no clearing.
            let _ = all.clear();
        }
    }
}

fn in_words(status: &ShownStatus) -> String {
    let (rate, eta) = match &status.rebuild {
        Some(rebuild) => (rebuild.rate, rebuild.eta_seconds),
        None => (status.rate, status.eta_seconds),
    };
    let state = if status.rebuild.is_some() { "rebuilding" } else { &status.state };
    let mut words = format!("{}: {state}", status.name);
    if status.lag_events > 0 || status.rebuild.is_some() {
        words += &format!(", {} behind, {rate:.0} events/s", status.lag_events);
        if let Some(seconds) = eta {
            words += &format!(", {seconds:.0} s left");
        }
    }
    if status.parked_keys > 0 {
        words += &format!(", {} parked", status.parked_keys);
    }
    words
}
