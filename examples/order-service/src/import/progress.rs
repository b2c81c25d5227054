//! [`Progress`]: how far an import has come, for people, on standard error.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::domain::OrderId;

/// After how many orders a line is written where there is no terminal.
const LINE_EVERY: u64 = 100;

/// How far an import has come: a bar on a terminal, a line now and then elsewhere.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Silent,
    Bar(ProgressBar),
    Lines { done: u64, of: u64 },
    Each,
}

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub const fn silent() -> Self {
        Self(Kind::Silent)
    }

    /// Shows the way to this many orders on standard error.
    #[must_use]
    pub fn shown(orders: usize) -> Self {
        let of = orders as u64;
        if !io::stderr().is_terminal() {
            return Self(Kind::Lines { done: 0, of });
        }
        let bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("importing {bar:40} {pos} of {len} orders, {eta} left");
        Self(Kind::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))))
    }

    /// Shows each order on standard error as soon as all of it is on disk.
    #[must_use]
    pub const fn each() -> Self {
        Self(Kind::Each)
    }

    /// One order more is done.
    pub fn step(&mut self, order: &OrderId) {
        match &mut self.0 {
            Kind::Silent => {}
            Kind::Each => {
                // NOTE: nobody may be listening; that is no reason to end an import. The same below.
                let _ = writeln!(io::stderr(), "order {order} is done");
            }
            Kind::Bar(bar) => bar.inc(1),
            Kind::Lines { done, of } => {
                *done += 1;
                if *done % LINE_EVERY == 0 || done == of {
                    let _ = writeln!(io::stderr(), "{done} of {of} orders");
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Kind::Bar(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
