//! [`Bar`]: what is seen of long work. Nothing, where standard error is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on standard error. It is gone when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar for something whose length will be known later, or not at all.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {msg} {human_pos}"));
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// A bar for bytes that are read.
    #[must_use]
    pub fn of_bytes(what: &str, total: Option<u64>) -> Self {
        let bar = Self::new(what);
        if let Some(total) = total {
            bar.0.set_length(total);
            bar.0.set_style(style("{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left"));
        }
        bar
    }

    /// So far has it come, with something, of so many.
    pub fn at(&self, what: &str, done: u64, total: Option<u64>) {
        if self.0.length() != total {
            match total {
                Some(total) => self.0.set_length(total),
                None => self.0.unset_length(),
            }
            let known = "{msg} {wide_bar} {human_pos}/{human_len}, {eta} left";
            self.0.set_style(style(if total.is_some() { known } else { "{spinner} {msg} {human_pos}" }));
        }
        if self.0.message() != what {
            self.0.set_message(what.to_owned());
        }
        self.0.set_position(done);
    }

    /// So far has it come.
    pub fn to(&self, done: u64) {
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
