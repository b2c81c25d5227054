//! Formats values for people: times, sizes, counts, shell words.

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
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        let shown = [0, 1023, 1024, 1536, 1024 * 1024 - 1, 1024 * 1024, u64::MAX].map(format_bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "16383.9 PiB"]);
    }
}
