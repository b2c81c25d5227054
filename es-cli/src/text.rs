//! Formats values for people: times, sizes, counts, shell words.

use std::time::Duration;

use es_core::Timestamp;
use es_tool::text::fit;
pub use es_tool::text::quoted;

/// The maximum length of a stored text, such as a reason, in columns.
const MAX_COLUMNS: usize = 120;

/// Returns the beginning of a stored text for people.
#[must_use]
pub fn excerpt(text: &str) -> String {
    fit(text, MAX_COLUMNS)
}

/// Formats a time in UTC.
#[must_use]
pub fn format_time(time: Timestamp) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Formats a duration of at least a minute in days, hours or minutes, rounded down.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match minutes {
        0..120 => count(minutes, "minute", "minutes"),
        120..2880 => count(minutes / 60, "hour", "hours"),
        _ => count(minutes / 1440, "day", "days"),
    }
}

/// Returns the note for a log whose last event is ahead of the clock.
#[must_use]
pub fn ahead_note(ahead: Duration) -> String {
    format!(
        "the last event was recorded {} ahead of the clock of this machine; until the clock has caught up, events get \
         the time of that event, and rules with --max-age hide events later; check the clock",
        format_duration(ahead)
    )
}

/// Formats a number of bytes in the largest unit that fits.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of a unit as integers, so that rounding does not depend on floating point.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, UNITS[0]);
    for next in UNITS.into_iter().skip(1) {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths / 1024, next);
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Returns a number with its noun: `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_whole_units() {
        let shown = [60, 119, 120, 7199, 7200, 172_799, 172_800, 157_680_000].map(Duration::from_secs);
        let expected =
            ["1 minute", "1 minute", "2 minutes", "119 minutes", "2 hours", "47 hours", "2 days", "1825 days"];
        assert_eq!(shown.map(format_duration), expected);
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        let shown = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 1024 * 1024, u64::MAX].map(format_bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "16383.9 PiB"]);
    }
}
