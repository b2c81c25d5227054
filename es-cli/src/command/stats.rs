//! The command `stats`.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{Datelike, NaiveDate};
use es_core::{EventReader, LogRead, RecordedEvent, Revision};
use es_rocksdb::ReadOnlyStore;
use es_tool::text::table;
use serde::Serialize;

use crate::answer::print;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::text::{count, format_bytes};

/// The maximum number of categories and types in text output. JSON output has all.
const MAX_SHOWN: usize = 20;
/// The maximum number of years in text output.
const YEARS: usize = 5;

#[derive(Default, Serialize)]
struct Stats {
    events: u64,
    streams: u64,
    payload_bytes: u64,
    bytes_on_disk: u64,
    categories: BTreeMap<String, Count>,
    types: BTreeMap<String, Count>,
    tagged_events: u64,
    /// The number of events by day of occurrence, in UTC.
    days: BTreeMap<NaiveDate, u64>,
}

#[derive(Default, Clone, Copy, Serialize)]
struct Count {
    events: u64,
    payload_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<u64>,
}

pub(super) async fn run(directory: &Path, json: bool) -> Result<(), Failure> {
    let store = ReadOnlyStore::open(directory).await?;
    let total = store.head().await?.map(es_core::Position::get);
    let bar = Bar::new("stats");
    let mut stats = Stats { bytes_on_disk: store.info().await?.bytes_on_disk.unwrap_or_default(), ..Stats::default() };
    let mut log = store.read_log(LogRead::all()).await?;
    while let Some(batch) = log.next_batch().await? {
        for event in &batch {
            // Each stream has one first event, so that no set of stream names is needed to count the streams. Without
            // any rule, tombstones can precede it.
            let is_first =
                event.revision == Revision::FIRST || store.retained(&event.stream).await?.first == event.revision;
            stats.add(event, is_first);
        }
        bar.update("stats", stats.events, total);
    }
    drop(bar);
    print(json, || to_text(&stats), &stats)
}

impl Stats {
    fn add(&mut self, event: &RecordedEvent, is_first: bool) {
        let payload = event.data.payload.len() as u64;
        let is_new = u64::from(is_first);
        self.events += 1;
        self.streams += is_new;
        self.payload_bytes += payload;
        self.tagged_events += u64::from(!event.data.tags.is_empty());
        let category = entry(&mut self.categories, event.stream.category_str());
        category.add(payload);
        category.streams = Some(category.streams.unwrap_or_default() + is_new);
        entry(&mut self.types, event.data.event_type.as_str()).add(payload);
        *self.days.entry(event.occurred_at.date_naive()).or_default() += 1;
    }
}

fn entry<'a>(counts: &'a mut BTreeMap<String, Count>, name: &str) -> &'a mut Count {
    counts.entry(name.to_owned()).or_default()
}

impl Count {
    fn add(&mut self, payload: u64) {
        self.events += 1;
        self.payload_bytes += payload;
    }
}

fn to_text(stats: &Stats) -> String {
    let summary = format!(
        "{} in {}, {} of payload, {} on disk",
        count(stats.events, "event", "events"),
        count(stats.streams, "stream", "streams"),
        format_bytes(stats.payload_bytes),
        format_bytes(stats.bytes_on_disk)
    );
    if stats.events == 0 {
        return summary;
    }
    let categories = table(
        ["category", "events", "streams", "payload"],
        1,
        largest(&stats.categories).map(|(name, count)| {
            [
                name,
                count.events.to_string(),
                count.streams.unwrap_or_default().to_string(),
                format_bytes(count.payload_bytes),
            ]
        }),
    );
    let types = table(
        ["type", "events", "payload"],
        1,
        largest(&stats.types).map(|(name, count)| [name, count.events.to_string(), format_bytes(count.payload_bytes)]),
    );
    let more = |counts: &BTreeMap<_, _>| match counts.len().saturating_sub(MAX_SHOWN) {
        0 => String::new(),
        more => format!("\nand {more} more; see --json"),
    };
    let (more_categories, more_types) = (more(&stats.categories), more(&stats.types));
    format!("{summary}\n\n{categories}{more_categories}\n\n{types}{more_types}\n\n{}", plot(&stats.days))
}

/// Returns the counts with the most events, in descending order.
fn largest(counts: &BTreeMap<String, Count>) -> impl Iterator<Item = (String, Count)> {
    let mut counts: Vec<_> = counts.iter().map(|(name, count)| (name.clone(), *count)).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.events));
    counts.into_iter().take(MAX_SHOWN)
}

/// The bar of a day with more events than the scale has.
const OUTLIER: char = '↑';

/// Returns the number of events that the highest bar shows: the maximum of all days without outliers. An outlier has
/// more than four times as many events as nine of ten days; it would flatten all other bars.
fn scale(days: &BTreeMap<NaiveDate, u64>) -> u64 {
    let mut counts: Vec<u64> = days.values().copied().filter(|events| *events > 0).collect();
    counts.sort_unstable();
    let usual = counts.get(counts.len().saturating_sub(1) * 9 / 10).copied().unwrap_or(1);
    let limit = usual.saturating_mul(4);
    counts.into_iter().rfind(|events| *events <= limit).unwrap_or(1)
}

/// Plots one line for each month of the last years, with a bar for each day.
fn plot(days: &BTreeMap<NaiveDate, u64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (scale, most) = (scale(days), days.values().copied().max().unwrap_or(1));
    let mut months: BTreeMap<(i32, u32), [u64; 31]> = BTreeMap::new();
    for (day, events) in days {
        let month = months.entry((day.year(), day.month())).or_insert([0; 31]);
        if let Some(count) = month.get_mut(day.day0() as usize) {
            *count = *events;
        }
    }
    let mut text = format!("events per day of occurrence (UTC), at most {scale}");
    if most > scale {
        text += &format!("; {OUTLIER} marks a day with more, at most {most}");
    }
    for ((year, month), days) in months.iter().rev().take(YEARS * 12).rev() {
        let bars: String = days
            .iter()
            .map(|events| {
                if *events > scale {
                    return OUTLIER;
                }
                let height = (u128::from(*events) * 8).div_ceil(u128::from(scale));
                let height = usize::try_from(height).unwrap_or(8);
                height.checked_sub(1).and_then(|height| BARS.get(height)).copied().unwrap_or(' ')
            })
            .collect();
        let sum: u64 = days.iter().sum();
        text += &format!("\n{year}-{month:02} {bars} {sum:>10}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_a_bar_of_its_height_in_the_line_of_its_month() {
        let day = |month, day| NaiveDate::from_ymd_opt(2026, month, day).unwrap();
        let days = BTreeMap::from([(day(1, 1), 8), (day(1, 3), 1), (day(3, 31), 4)]);
        let plot = plot(&days);
        let lines: Vec<&str> = plot.lines().collect();
        assert_eq!(lines[1], format!("2026-01 █ ▁{}          9", " ".repeat(28)));
        assert_eq!(lines[2], format!("2026-03 {}▄          4", " ".repeat(30)));
        assert_eq!(lines.len(), 3);
    }

    /// Regression: one day with a million events made all other bars as low as possible.
    #[test]
    fn an_outlier_is_marked_and_does_not_flatten_the_other_days() {
        let day = |day| NaiveDate::from_ymd_opt(2026, 1, day).unwrap();
        let mut days: BTreeMap<_, _> = (1..=16).map(|number| (day(number), u64::from(number))).collect();
        days.insert(day(20), 1_000_000);
        let plot = plot(&days);
        let lines: Vec<&str> = plot.lines().collect();
        assert!(lines[0].ends_with(", at most 16; ↑ marks a day with more, at most 1000000"), "{plot}");
        assert_eq!(lines[1], format!("2026-01 ▁▁▂▂▃▃▄▄▅▅▆▆▇▇██   ↑{}    1000136", " ".repeat(11)));
        assert_eq!(super::plot(&BTreeMap::from([(day(1), u64::MAX)])).lines().count(), 2);
    }
}
