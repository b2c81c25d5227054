//! The arguments of `retain` and `delete`.

use std::time::Duration;

use clap::Args;
use es_core::model::Category;
use es_core::retention::{Note, Scope};
use es_core::{ExpectedRevision, Revision, StreamId};
use es_tool::arguments::whole_number;

use super::of_command::{any_number, expectation};

/// The note of an operator on a change.
#[derive(Debug, Args)]
pub struct NoteArgs {
    /// The reason, stored in the log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The name of the operator, stored in the log
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

impl NoteArgs {
    /// Returns the note that is stored in the log.
    #[must_use]
    pub fn note(&self) -> Note {
        Note { by: self.by.clone(), reason: self.reason.clone() }
    }

    /// Returns the parameters of a request to a service.
    pub(crate) fn query(&self) -> impl Iterator<Item = (&'static str, String)> {
        let by = self.by.clone().map(|by| ("by", by));
        by.into_iter().chain(self.reason.clone().map(|reason| ("reason", reason)))
    }
}

/// The scope of a rule.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ScopeArgs {
    /// The stream
    #[arg(long)]
    pub stream: Option<StreamId>,
    /// The category, with all its streams
    #[arg(long)]
    pub category: Option<Category>,
}

impl ScopeArgs {
    /// Returns the scope; `None` if neither is set, which the command line prevents.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        let stream = self.stream.clone().map(Scope::Stream);
        stream.or_else(|| self.category.clone().map(Scope::Category))
    }
}

/// The rule to set.
#[derive(Debug, Args)]
pub struct RetainSetArgs {
    /// The scope of the rule.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The limits of the rule.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// The note of the operator.
    #[command(flatten)]
    pub note: NoteArgs,
}

/// The limits of a rule.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct LimitArgs {
    /// Keep events that were recorded within this time: a number and ms, s, m, h, d or w
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub max_age: Option<Duration>,
    /// Keep this number of the newest events of each stream
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>(1..=u64::MAX))]
    pub max_count: Option<u64>,
    /// Keep events from this revision on
    #[arg(long, value_name = "REVISION")]
    pub truncate_before: Option<Revision>,
}

/// The rule to clear.
#[derive(Debug, Args)]
pub struct RetainClearArgs {
    /// The scope of the rule.
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// The note of the operator.
    #[command(flatten)]
    pub note: NoteArgs,
}

/// The options of a scavenge.
#[derive(Debug, Args)]
pub struct ScavengeArgs {
    /// Only count the events that would be removed
    #[arg(long, conflicts_with_all = ["pause", "reason", "by"])]
    pub dry_run: bool,
    /// The pause after each write, in milliseconds; a service accepts at most 10000
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = any_number())]
    pub pause: u64,
    /// The note of the operator.
    #[command(flatten)]
    pub note: NoteArgs,
}

/// The stream to delete.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The stream
    pub stream: StreamId,
    /// Hard delete: the stream cannot be written again; if it is replicated, it is erased on all nodes
    #[arg(long)]
    pub hard: bool,
    /// Skip the confirmation of --hard
    #[arg(long)]
    pub yes: bool,
    /// The expected state of the stream: any, none, exists, or its last revision; exits with code 3 on a conflict
    #[arg(long, value_name = "EXPECTED", default_value = "any", allow_hyphen_values = true, value_parser = expectation)]
    pub expect: ExpectedRevision,
    /// The note of the operator.
    #[command(flatten)]
    pub note: NoteArgs,
}

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

fn age(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis = UNITS.iter().find(|(name, _)| *name == unit).and_then(|(_, millis)| {
        let number: u64 = any_number()(number).ok()?;
        number.checked_mul(*millis)
    });
    millis.map(Duration::from_millis).ok_or_else(|| "expected a number and ms, s, m, h, d or w, such as 30d".to_owned())
}

/// Formats an age in the largest unit that gives a whole number.
#[must_use]
pub fn format_age(age: Duration) -> String {
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let largest = UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    largest.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for text in ["30d", "1w", "90s", "15ms", "36h"] {
            assert_eq!(age(text).map(format_age).as_deref(), Ok(text));
        }
        assert_eq!(age("14d").map(format_age).as_deref(), Ok("2w"));
        for text in ["", "d", "30", "30y", "-1d", "007d", "+7d", "99999999999999999999d", "18446744073709551615w"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
