//! What can be asked of `retain` and `delete`.

use std::time::Duration;

use clap::Args;
use es_core::model::Category;
use es_core::retention::{Note, Scope};
use es_core::{ExpectedRevision, Revision, StreamId};

use super::of_command::expectation;

/// Who and why.
#[derive(Debug, Args)]
pub struct NoteArgs {
    /// Why, for those who read the log later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

impl NoteArgs {
    /// The same for the log.
    #[must_use]
    pub fn note(&self) -> Note {
        Note { by: self.by.clone(), reason: self.reason.clone() }
    }
}

/// For what.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// For this stream
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// For every stream of this category
    #[arg(long)]
    pub category: Option<Category>,
}

impl ScopeArgs {
    /// The same for the store; `None` is not possible on a command line.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        let stream = self.stream.clone().map(Scope::Stream);
        stream.or_else(|| self.category.clone().map(Scope::Category))
    }
}

/// The rule to set.
#[derive(Debug, Args)]
pub struct RetainSetArgs {
    /// For what.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Which events are kept.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Who and why.
    #[command(flatten)]
    pub note: NoteArgs,
}

/// Which events are kept.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct LimitArgs {
    /// Keep those recorded no longer ago than this: a number and ms, s, m, h, d or w
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub max_age: Option<Duration>,
    /// Keep the newest, so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_count: Option<u64>,
    /// Keep those from this revision on
    #[arg(long, value_name = "REVISION")]
    pub truncate_before: Option<Revision>,
}

/// The rule to clear.
#[derive(Debug, Args)]
pub struct RetainClearArgs {
    /// For what.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Who and why.
    #[command(flatten)]
    pub note: NoteArgs,
}

/// How to scavenge.
#[derive(Debug, Args)]
pub struct ScavengeArgs {
    /// Only say how much would be removed
    #[arg(long, conflicts_with_all = ["pause", "reason", "by"])]
    pub dry_run: bool,
    /// Pause so many milliseconds after each part
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub pause: u64,
    /// Who and why.
    #[command(flatten)]
    pub note: NoteArgs,
}

/// The stream to delete.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The stream
    pub stream: StreamId,
    /// For ever: nothing can be written to it again
    #[arg(long)]
    pub hard: bool,
    /// Do not ask whether --hard is meant
    #[arg(long)]
    pub yes: bool,
    /// Only if the stream is like this (any, none, exists, or the revision of its last event); otherwise exit code 3
    #[arg(long, value_name = "EXPECTED", default_value = "any", allow_hyphen_values = true, value_parser = expectation)]
    pub expect: ExpectedRevision,
    /// Who and why.
    #[command(flatten)]
    pub note: NoteArgs,
}

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

fn age(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = UNITS.iter().find(|(name, _)| *name == unit).and_then(|(_, millis)| {
        let number: u64 = number.parse().ok()?;
        number.checked_mul(*millis)
    });
    millis.map(Duration::from_millis).ok_or_else(|| "expected a number and ms, s, m, h, d or w, such as 30d".to_owned())
}

/// An age in the largest unit in which it is a whole number.
#[must_use]
pub fn shown_age(age: Duration) -> String {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let fitting = UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    fitting.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for text in ["30d", "1w", "90s", "15ms", "36h"] {
            assert_eq!(age(text).map(shown_age).as_deref(), Ok(text));
        }
        assert_eq!(age("14d").map(shown_age).as_deref(), Ok("2w"));
        for text in ["", "d", "30", "30y", "-1d", "99999999999999999999d", "18446744073709551615w"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
