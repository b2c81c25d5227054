//! [`Progress`]: the progress of orders, on standard error.

use std::io::{self, IsTerminal, Write};

use es_tool::text::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::domain::OrderId;

/// Number of orders per progress line if standard error is not a terminal.
const LINE_EVERY: u64 = 100;

/// The progress display of an import, or of the fulfilment of orders.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Silent,
    Bar(ProgressBar),
    Lines { done: u64, total: u64 },
    PerOrder,
}

impl Progress {
    /// Shows nothing.
    #[must_use]
    pub const fn silent() -> Self {
        Self(Kind::Silent)
    }

    /// Shows a progress bar on a terminal, or a line for every 100 orders elsewhere.
    #[must_use]
    pub fn bar_or_lines(orders: usize) -> Self {
        Self::bar(orders, "importing {wide_bar} {pos} of {len} orders, {eta} left")
    }

    /// Shows the progress of a fulfilment in the same way.
    #[must_use]
    pub fn fulfilling(orders: usize) -> Self {
        Self::bar(orders, "fulfilling {wide_bar} {pos} of {len} orders, {eta} left")
    }

    fn bar(orders: usize, template: &str) -> Self {
        let total = orders as u64;
        if !io::stderr().is_terminal() {
            return Self(Kind::Lines { done: 0, total });
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(template);
        Self(Kind::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))))
    }

    /// Prints a line for each order when all its events are on disk.
    #[must_use]
    pub const fn per_order() -> Self {
        Self(Kind::PerOrder)
    }

    /// Reports that an order is done.
    pub fn step(&mut self, order: &OrderId) {
        match &mut self.0 {
            Kind::Silent => {}
            Kind::PerOrder => {
                // A closed standard error must not stop the import; the same below.
                let _ = writeln!(io::stderr(), "order {} is done", printable(order.as_str()));
            }
            Kind::Bar(bar) => bar.inc(1),
            Kind::Lines { done, total } => {
                *done += 1;
                if *done % LINE_EVERY == 0 || done == total {
                    let _ = writeln!(io::stderr(), "{done} of {total} orders");
                }
            }
        }
    }

    /// Removes the progress bar.
    pub fn finish(self) {
        if let Kind::Bar(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
