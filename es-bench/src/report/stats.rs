//! Medians, spreads, percentiles and ratios.

use serde::{Deserialize, Serialize};

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    EventsPerSecond,
    SagasPerSecond,
    TransactionsPerSecond,
    Microseconds,
    Bytes,
    /// The last value relative to the first; 1 is flat.
    Flatness,
    /// The share of the limit in the same round; 1 is equal.
    Share,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EventsPerSecond => "events/s",
            Self::SagasPerSecond => "sagas/s",
            Self::TransactionsPerSecond => "transactions/s",
            Self::Microseconds => "µs",
            Self::Bytes => "bytes",
            Self::Flatness => "last/first",
            Self::Share => "of the limit",
        }
    }

    fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::EventsPerSecond | Self::SagasPerSecond | Self::TransactionsPerSecond | Self::Flatness | Self::Share
        )
    }

    /// Returns how a value compares with another: 1 is equal, a greater value is better. `None` unless both are
    /// positive; memory can shrink.
    pub(crate) fn ratio(self, value: f64, to: f64) -> Option<f64> {
        let ratio = if self.more_is_better() { value / to } else { to / value };
        (ratio.is_finite() && ratio > 0.0).then_some(ratio)
    }
}

/// The median and the range of all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Spread {
    pub(crate) fn of(rounds: &[f64]) -> Self {
        Self {
            median: median(rounds),
            lowest: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            highest: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Returns the middle value, or the mean of the two in the middle; NaN without values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (_, _) if sorted.is_empty() => f64::NAN,
        (middle, 1) => sorted[middle],
        (middle, _) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the smallest value that at least this share (0 to 1) of the values does not exceed; NaN without values.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Formats a number with thousands separators, and small numbers with significant digits.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let grouped: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    format!("{sign}{}", grouped.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(
            [0.5, 0.99, 0.999, 1.0, 0.0].map(|share| percentile(&values, share)),
            [500.0, 990.0, 999.0, 1000.0, 1.0]
        );
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_ratio_above_one_is_better_in_every_unit() {
        assert_eq!(Unit::EventsPerSecond.ratio(200.0, 100.0), Some(2.0));
        assert_eq!(Unit::Microseconds.ratio(50.0, 100.0), Some(2.0));
        assert_eq!(Unit::Bytes.ratio(200.0, 100.0), Some(0.5));
        assert_eq!(Unit::Share.ratio(0.5, 0.25), Some(2.0));
        assert_eq!(Unit::EventsPerSecond.ratio(1.0, 0.0), None);
        assert_eq!(Unit::Bytes.ratio(200.0, -8.0), None);
    }

    #[test]
    fn numbers_are_formatted() {
        let written = [1_234_567.8, 999.4, 12.0, 1.234, 0.0, -4321.0, f64::NAN].map(number);
        assert_eq!(written, ["1,234,568", "999", "12", "1.23", "0.00", "-4,321", "–"]);
    }

    #[test]
    fn the_spread_is_from_the_lowest_to_the_highest_round() {
        let spread = Spread::of(&[3.0, 9.0, 5.0]);
        assert_eq!((spread.median, spread.lowest, spread.highest), (5.0, 3.0, 9.0));
    }
}
