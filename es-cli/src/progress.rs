//! [`Bar`]: a progress bar on standard error, hidden if standard error is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error. Dropping it clears the bar.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Creates a bar without a total. [`update`](Self::update) can set one.
    #[must_use]
    pub fn new(step: &str) -> Self {
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {msg} {human_pos}"));
        bar.set_message(step.to_owned());
        Self(bar)
    }

    /// Creates a bar for bytes that are read.
    #[must_use]
    pub fn of_bytes(step: &str, total: Option<u64>) -> Self {
        let bar = Self::new(step);
        if let Some(total) = total {
            bar.0.set_length(total);
            bar.0.set_style(style("{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left"));
        }
        bar
    }

    /// Shows the name of the current step, its progress and its total.
    pub fn update(&self, step: &str, done: u64, total: Option<u64>) {
        if self.0.length() != total {
            match total {
                Some(total) => self.0.set_length(total),
                None => self.0.unset_length(),
            }
            let with_total = "{msg} {wide_bar} {human_pos}/{human_len}, {eta} left";
            self.0.set_style(style(if total.is_some() { with_total } else { "{spinner} {msg} {human_pos}" }));
        }
        if self.0.message() != step {
            self.0.set_message(step.to_owned());
        }
        self.0.set_position(done);
    }

    /// Shows the progress.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
